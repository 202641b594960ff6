"""Checkpoints that other programs wrote: read without executing anything, and fitted to a model by name."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgepress.compress.weights import read_safetensors
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.model_files import CHECKPOINTS

log = logging.getLogger("edgepress")
_AVERAGES = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema", "params_ema", "swa_state_dict")
_WITHIN = (*_AVERAGES, "state_dict", "model_state_dict", "model", "net", "weights", "params")
"""Keys of the weights in training scripts' checkpoints; the moving average is first, as in timm."""
_DEPTH = 3
"""Within how many dictionaries the weights are looked for."""
_COUNTER = "num_batches_tracked"
"""Batch normalisation's counter of steps, which evaluation does not use and old checkpoints do not have."""


def read_checkpoint(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name.

    Raises:
        InputError: the file is missing, is no checkpoint, or holds code beside its tensors, which is not executed.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a checkpoint, .safetensors, .pth or .pt")
    if file.suffix == ".safetensors":
        found: Any = read_safetensors(file)
    else:
        _require_no_program(file)
        found = _loaded(file)
    found = _weights(file, found)
    named = found.items() if isinstance(found, Mapping) else ()
    state = {name: value for name, value in named if isinstance(name, str) and isinstance(value, Tensor)}
    if not state:
        raise InputError(f"{file}: holds no tensors by name; expected what torch.save(model.state_dict(), FILE) writes")
    for name, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            kind = "quantised" if value.is_quantized else "complex" if value.is_complex() else "sparse"
            raise InputError(f"{file}: {name} is {kind}; expected tensors of plain numbers: save the float model")
    return state


def require_no_code(file: Path) -> None:
    """Stop where a checkpoint could not be read whatever model it is of.

    Raises:
        InputError: it is damaged, or holds code beside its tensors, which is not executed.
    """
    if file.suffix != ".safetensors":
        _require_no_program(file)
        _loaded(file)


def _weights(file: Path, found: Any) -> Any:
    """The dictionary of a checkpoint that has the weights of one model.

    Raises:
        InputError: there are several, and no usual key says which.
    """
    for _ in range(_DEPTH):
        inside = {name: inner for name, inner in _inner(found) if any(map(_has_weights, _nested(inner)))}
        key = next((name for name in _WITHIN if name in inside), None)
        if not inside or (key is None and _has_weights(found)):
            break
        if key is None and len(inside) > 1:
            raise InputError(
                f"{file}: has the weights of several models ({', '.join(map(repr, inside))}): save those of one where "
                f"it was made, torch.save(checkpoint[{next(iter(inside))!r}], FILE)"
            )
        key = key if key is not None else next(iter(inside))
        others = ", ".join(repr(name) for name in inside if name != key)
        log.info("%s: the weights are its %r%s", file.name, key, f", and not its {others}" if others else "")
        found = inside[key]
    return found


def _inner(found: Any) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    for name, inner in found.items() if isinstance(found, Mapping) else ():
        if isinstance(name, str) and isinstance(inner, Mapping):
            yield name, inner


def _nested(found: Mapping[Any, Any], depth: int = _DEPTH) -> Iterator[Mapping[Any, Any]]:
    yield found
    for _, inner in _inner(found) if depth else ():
        yield from _nested(inner, depth - 1)


def _has_weights(found: Mapping[Any, Any]) -> bool:
    """Whether a dictionary has a model's tensors, which an optimiser's have not."""
    return any(
        isinstance(value, Tensor) and isinstance(name, str) and name.rpartition(".")[2] in ("weight", "bias")
        for name, value in found.items()
    )


def weights_in(folder: Path) -> Path:
    """The file of a folder's weights; safetensors where there are others beside it.

    Raises:
        InputError: there are none, or several.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in CHECKPOINTS)
    preferred = [path for path in files if path.suffix == ".safetensors"] or files
    if len(preferred) != 1:
        found = ", ".join(path.name for path in preferred) or "none"
        raise InputError(f"{folder}: expected one file of weights, found {found}")
    return preferred[0]


def _loaded(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other versions of pickle
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code is None:
            raise InputError(f"{file}: not a checkpoint (its pickle is damaged)") from None
        raise InputError(
            f"{file}: holds more than tensors ({code[1]}), which would have to be executed to be read: save the "
            f"weights alone where it was made, torch.save(model.state_dict(), FILE) or safetensors"
        ) from None
    except Exception as error:  # damaged bytes raise anything
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{file}: not a checkpoint ({said})") from None


def _require_no_program(file: Path) -> None:
    """TorchScript is a program with its weights; running it would be running somebody's code."""
    if not zipfile.is_zipfile(file):
        return
    try:
        with zipfile.ZipFile(file) as inside:
            names = inside.namelist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise InputError(f"{file}: not a checkpoint (a damaged zip: {error})") from None
    if any(name.endswith("/constants.pkl") or name.split("/")[1:2] == ["code"] for name in names):
        raise InputError(
            f"{file}: a TorchScript program, which is not executed here: export it to ONNX where it was made, "
            f"torch.onnx.export(torch.jit.load(FILE), (pictures,), OUT, dynamo=False, "
            f'dynamic_axes={{"NAME": {{0: "batch"}}}}), and adopt that'
        )


def fitted(
    file: Path, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str, classifier: str
) -> dict[str, Tensor]:
    """The tensors that a model wants, by its names for them.

    What wraps a model puts a prefix before every name; the one under which most tensors fit is taken off. A classifier
    that is the only linear layer of a sequence (a dropout, and it) is taken for the linear layer itself.

    Args:
        file: where they come from, for messages.
        wanted: the model's own tensors.
        what: the model, for messages, such as `torchvision's resnet18`.
        classifier: the name of its last linear layer, such as `fc`; empty where it has none.

    Raises:
        InputError: tensors are missing or of another shape: how many fit, and the first three that do not; or the
            classifier has another number of outputs.
    """
    fits = {one: sum(one + name in state for name in wanted) for one in _prefixes(state, wanted)}
    prefix = max(fits, key=fits.__getitem__)
    alike = [one for one in fits if fits[one] == fits[prefix] > len(wanted) / 2]
    if prefix and len(alike) > 1:
        raise InputError(
            f"{file}: has the weights of several models, with the prefixes {' and '.join(map(repr, alike))}: save "
            f"those of one where it was made"
        )
    if prefix:
        log.info("%s: the prefix %r is left out of the names", file.name, prefix)
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    own = _with_classifier(file, own, wanted, classifier)
    for name, value in wanted.items():
        if name.endswith(_COUNTER):
            own.setdefault(name, value)
    odd = [name for name in wanted if name not in own or own[name].shape != wanted[name].shape]
    outputs = f"{classifier}.weight"
    if odd and outputs in own and outputs in wanted and len(own[outputs]) != len(wanted[outputs]):
        raise InputError(
            f"{file}: its classifier {classifier} has {len(own[outputs])} outputs for {len(wanted[outputs])} labels; "
            f"expected one name for each output, in their order"
        )
    if odd:
        said = ", ".join(_of(name, wanted, own) for name in odd[:3])
        more = " and more" if len(odd) > 3 else ""
        count = sum(not name.endswith(_COUNTER) for name in wanted)
        # Position embeddings are made for one input size.
        size = ": say the --size that it was trained with" if all(name in own and "pos" in name for name in odd) else ""
        raise InputError(f"{file}: {count - len(odd)} of {count} tensors fit {what}; not {said}{more}{size}")
    unused = sorted(own.keys() - wanted.keys()) + sorted(name for name in state if not name.startswith(prefix))
    if unused:
        log.warning("%s: %d tensors are not used, such as %s", file.name, len(unused), ", ".join(unused[:3]))
    return {name: own[name].to(wanted[name].dtype) for name in wanted}


def _prefixes(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Iterator[str]:
    """No prefix, and every one that stands before one of the model's first names."""
    yield ""
    first = list(wanted)[:5]
    yield from sorted({key.removesuffix(name) for name in first for key in state if key.endswith(f".{name}")})


def _with_classifier(
    file: Path, own: dict[str, Tensor], wanted: Mapping[str, Tensor], classifier: str
) -> dict[str, Tensor]:
    """The tensors, with those of a classifier inside or around a sequence under the model's own name for it."""
    if not classifier or f"{classifier}.weight" in own:
        return own
    parts = classifier.split(".")
    for scope in (".".join(parts[:count]) for count in range(len(parts), 0, -1)):
        theirs = {name for name in own if name.startswith(f"{scope}.")}
        ours = {name for name in wanted if name.startswith(f"{scope}.")}
        kinds = [{name.rpartition(".")[2] for name in names} for names in (theirs, ours)]
        if not theirs or len(theirs) != len(kinds[0]) or len(ours) != len(kinds[1]) or kinds[0] != kinds[1]:
            continue
        name = next(iter(theirs)).rpartition(".")[0]
        log.info("%s: its layer %s is the classifier; what has no weights beside it is left out", file.name, name)
        moved = {f"{classifier}.{kind}": own[f"{name}.{kind}"] for kind in kinds[0]}
        return {key: value for key, value in own.items() if key not in theirs} | moved
    return own


def _of(name: str, wanted: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    expected = list(wanted[name].shape)
    return f"{name} ({list(own[name].shape)} instead of {expected})" if name in own else f"{name} (missing)"
