"""A finished tagger in a folder that transformers wrote: an image classifier, or a pair of encoders.

Only local files are read, and no code of the folder is executed.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from torch import Tensor, nn

from edgepress.compress.finished import FinishedModule, Stated, named_in, require_labels
from edgepress.compress.foreign_weights import read_checkpoint
from edgepress.compress.measured_preprocessing import Measured, measure
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.model_files import TRANSFORMERS_CONFIG
from edgepress.multilabel.preprocess import Preprocess

PROCESSOR = "preprocessor_config.json"
_LOCAL = {"local_files_only": True, "trust_remote_code": False}
_NAMELESS = re.compile(r"LABEL_\d+")
"""What transformers calls a label that was not given a name."""


class _Scores(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(pixel_values=images).logits


def load_huggingface_tagger(folder: Path, config: Any, labels: LabelSpace | None, stated: Stated) -> FinishedModule:
    """Load an image classifier that transformers' `save_pretrained` wrote, in evaluation mode.

    Args:
        config: what `read_config` returns of the folder.
        labels: the names of its outputs, in their order; by default its config's id2label.
        stated: what is stated takes the place of preprocessor_config.json and of problem_type.

    Raises:
        InputError: transformers does not know the model as a classifier; weights are missing; the outputs have no
            names; its problem is not multi_label_classification and no activation is stated; or its preprocessing
            cannot be taken over.
    """
    model = load_pretrained(folder, transformers.AutoModelForImageClassification, config)
    named = tuple(str(config.id2label[number]) for number in sorted(config.id2label or {}))
    if labels is None and named and not any(_NAMELESS.fullmatch(name) for name in named):
        labels = named_in(folder / TRANSFORMERS_CONFIG, "id2label", named)
    if stated.activation is None and config.problem_type != "multi_label_classification":
        raise InputError(
            f"{folder}: its problem_type is {config.problem_type or 'not given'}, so its scores may be a choice of one "
            f"label: say --activation softmax if it is, or none if every output is a logit of its own"
        )
    found = preprocessing(folder, stated)
    return FinishedModule(
        module=_Scores(model),
        preprocess=found.preprocess,
        labels=require_labels(labels, folder),
        name=folder.resolve().name,
        colors=stated.colors or found.colors,
        activation=stated.activation or "none",
    )


def read_config(folder: Path) -> Any:
    """The model's configuration, a transformers.PretrainedConfig.

    Raises:
        InputError: it cannot be read, or asks for code of its own.
    """
    for name in (TRANSFORMERS_CONFIG, PROCESSOR):
        if not (folder / name).is_file():
            continue
        try:
            fields = json.loads((folder / name).read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise InputError(f"{folder / name}: not a configuration ({error})") from None
        if isinstance(fields, dict) and "auto_map" in fields:
            raise InputError(
                f"{folder}: {name} asks for code of its own to be executed (auto_map), which is not done: export the "
                f"model to ONNX where it was made and adopt that"
            )
    return called(folder, transformers.AutoConfig.from_pretrained, folder)


def load_pretrained(folder: Path, auto: Any, config: Any) -> nn.Module:
    """A model with the folder's weights, in evaluation mode and float32.

    Args:
        auto: transformers' class that chooses the model, such as AutoModel.

    Raises:
        InputError: transformers does not know the model, or tensors are missing or of another shape.
    """
    safe = any(folder.glob("*.safetensors"))
    pickled = sorted(folder.glob("pytorch_model*.bin"))
    if not safe and not pickled:
        raise InputError(f"{folder}: no weights in it; expected model.safetensors")
    for file in () if safe else pickled:
        read_checkpoint(file)  # so that one which holds code is refused by name
    model, info = called(
        folder,
        auto.from_pretrained,
        folder,
        use_safetensors=safe,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        # torch's exporter cannot trace Swin's windows through the fused attention; the plain one answers alike.
        attn_implementation="eager",
    )
    missing = {str(name) for name in info["missing_keys"] if not str(name).endswith("num_batches_tracked")}
    other = {str(name): (list(theirs), list(ours)) for name, theirs, ours in info["mismatched_keys"]}
    if missing or other:
        odd = [f"{name} ({theirs} instead of {ours})" for name, (theirs, ours) in sorted(other.items())]
        odd += [f"{name} (missing)" for name in sorted(missing - set(other))]
        count = len(model.state_dict())
        raise InputError(
            f"{folder}: {count - len(odd)} of {count} tensors fit the {config.model_type} of {TRANSFORMERS_CONFIG}; "
            f"not {', '.join(odd[:3])}{' and more' if len(odd) > 3 else ''}"
        )
    return model.float().eval()


def preprocessing(folder: Path, stated: Stated) -> Measured:
    """How the folder's own image processor prepares pictures, changed where something else is stated.

    Raises:
        InputError: there is no processor, and not all is stated; or its way cannot be taken over (see `measure`).
    """
    if None not in (stated.size, stated.mean, stated.std, stated.resize):
        return Measured(stated.over(Preprocess(size=224), folder), "rgb")
    if not (folder / PROCESSOR).is_file():
        raise InputError(f"{folder}: no {PROCESSOR} in it: say --size, --mean, --std and --resize")
    processor = called(folder, transformers.AutoImageProcessor.from_pretrained, folder)

    def prepare(picture: np.ndarray) -> np.ndarray:
        return (
            _answered(folder, lambda: processor(images=picture, return_tensors="pt"))["pixel_values"][0].float().numpy()
        )

    found = measure(prepare, f"{folder / PROCESSOR}", _fractions(processor))
    return found._replace(preprocess=stated.over(found.preprocess, folder))


def _fractions(processor: Any) -> list[float]:
    """Shares of the shorter side that a processor's settings name."""
    shortest = getattr(getattr(processor, "size", None), "shortest_edge", None)
    cut = getattr(getattr(processor, "crop_size", None), "height", None)
    return [cut / shortest] if cut and shortest and cut <= shortest else []


def called(folder: Path, call: Any, *arguments: Any, **options: Any) -> Any:
    """A call of transformers that reads local files alone."""
    return _answered(folder, lambda: call(*arguments, **_LOCAL, **options))


def _answered(folder: Path, call: Callable[[], Any]) -> Any:
    """What transformers answers, without a word from it; every failure is one of the folder's."""
    try:
        with _quiet():
            return call()
    except ModuleNotFoundError:
        raise
    except Exception as error:  # OSError, ValueError, RuntimeError, ImportError and types of its own
        said = " ".join(str(error).split())[:240]
        raise InputError(f"{folder}: transformers {transformers.__version__} cannot read it: {said}") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging = transformers.utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
