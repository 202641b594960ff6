"""FeatureTaps: the maps inside any timm backbone, from the forward pass that is made anyway.

    with FeatureTaps(model.backbone, size=model.config.size) as taps:
        logits, embeddings = model(images)
        tokens, maps = taps.take()

The model's computation, parameters and state dict are unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgepress.multilabel.errors import InputError


class Features(NamedTuple):
    """What one forward pass of a backbone yields."""

    tokens: Tensor
    """`[B, S, features]`, the backbone's last features, which the head sees."""
    maps: list[Tensor]
    """`[B, C, H, W]` per tap, shallow to deep."""

    def pooled(self) -> Tensor:
        """`[B, features]`: the tokens' mean, for the losses on pooled features."""
        return self.tokens.mean(dim=1)


TAPS = 4
"""How many maps the terms on feature maps compare, where both backbones have as many."""


def stages_of(backbone: nn.Module) -> list[dict[str, Any]]:
    """What timm says of the maps inside a backbone, shallow to deep; empty where it says nothing."""
    info = getattr(backbone, "feature_info", None)
    return list(getattr(info, "info", info) or [])


class FeatureTaps:
    """Taps on a timm backbone, removed by `close` or at the end of a `with` block.

    If timm's `feature_info` names modules that return maps, forward hooks take them. If these return tokens, whose
    order only the model knows (ViT, Hiera), or are not modules (MViT), `forward_intermediates` replaces
    `forward_features`. A copy of the model (such as its moving average) is not tapped.

    Args:
        backbone: a timm model, with one set of taps at a time.
        count: number of maps: the deepest of each resolution, counted from the deepest one; if there are fewer
            resolutions, evenly spaced blocks.
        size: side of the square pictures of the dry run, which the backbone must accept.

    Raises:
        InputError: the backbone has no such maps, or fewer than `count`.
        ValueError: count is below 1, or the backbone is tapped already.
    """

    def __init__(self, backbone: nn.Module, count: int = TAPS, *, size: int = 224) -> None:
        if count < 1:
            raise ValueError(f"received count {count}; expected at least 1")
        if isinstance(backbone.__dict__.get("forward_features"), _Tapped):
            raise ValueError("the backbone is tapped already; close its taps first")
        info = stages_of(backbone)
        self.backbone = backbone
        self._indices = _choose([stage.get("reduction") for stage in info], count, _name(backbone))
        self._stages: list[dict[str, Any]] = [info[index] for index in self._indices]
        self._maps: dict[int, Tensor] = {}
        self._tokens: Tensor | None = None
        self._handles: list[Any] = []
        self._recording = False
        self._channels_last = [False] * count
        self._hooked = True
        self._original = backbone.forward_features
        backbone.forward_features = _Tapped(self, backbone)
        try:
            self._channels = self._dry_run(size)
        except BaseException:
            self.close()
            raise

    def channels(self) -> list[int]:
        """Width of each map, shallow to deep."""
        return list(self._channels)

    def __call__(self, pixels: Tensor) -> Features:
        """Compute the features of normalised pixels `[B, 3, H, W]`, in one pass."""
        self.backbone.forward_features(pixels)
        return self.take()

    def take(self) -> Features:
        """Return the features of the backbone's last forward pass, once: they hold its graph, so they are not kept.

        Raises:
            RuntimeError: there was no forward pass since the last call.
        """
        if self._tokens is None or len(self._maps) != len(self._stages):
            raise RuntimeError("no features to take: expected one forward pass of the tapped backbone before each take")
        features = Features(self._tokens, [self._maps[position] for position in range(len(self._stages))])
        self._clear()
        return features

    def close(self) -> None:
        """Remove the taps; the backbone is then as it was."""
        self._remove_hooks()
        self.backbone.__dict__.pop("forward_features", None)
        self._clear()

    def __enter__(self) -> FeatureTaps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _clear(self) -> None:
        self._maps, self._tokens = {}, None

    def _run(self, *args: Any, **kwargs: Any) -> Tensor:
        """Run in place of the backbone's `forward_features`."""
        self._clear()
        if self._hooked:
            # Only now, because checkpointed blocks run again in the backward pass, and model copies have the hooks too.
            self._recording = True
            try:
                features = self._original(*args, **kwargs)
            finally:
                self._recording = False
        else:
            features, maps = self.backbone.forward_intermediates(
                *args, **kwargs, indices=self._indices, output_fmt="NCHW"
            )
            self._maps = dict(enumerate(maps))
        self._tokens = tokens_of(self.backbone, features)
        return features

    def _hook(self, position: int):
        def record(module: nn.Module, args: tuple, output: Any) -> None:
            if self._recording:
                self._maps[position] = output.permute(0, 3, 1, 2) if self._channels_last[position] else output

        return record

    def _remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _dry_run(self, size: int) -> list[int]:
        """Determine how the maps are taken, and return their widths."""
        parameter = next(self.backbone.parameters())
        pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(parameter)
        training = {module: module.training for module in self.backbone.modules()}
        self.backbone.eval()
        try:
            with torch.no_grad():
                if not self._hooks_serve(pixels):
                    self._intermediates_serve(pixels)
        finally:
            for module, was in training.items():
                module.training = was
        return [tensor.shape[1] for tensor in self.take().maps]

    def _hooks_serve(self, pixels: Tensor) -> bool:
        modules = dict(self.backbone.named_modules())
        if not all(stage.get("module") in modules for stage in self._stages):
            return False
        for position, stage in enumerate(self._stages):
            self._handles.append(modules[stage["module"]].register_forward_hook(self._hook(position)))
        self.backbone.forward_features(pixels)
        by_channel = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
        for position, stage in enumerate(self._stages):
            output, width = self._maps.get(position), stage["num_chs"]
            if not isinstance(output, Tensor) or output.ndim != 4 or width not in (output.shape[1], output.shape[3]):
                self._remove_hooks()
                return False
            # If both sides fit the width, the backbone decides.
            first, last = output.shape[1] == width, output.shape[3] == width
            self._channels_last[position] = by_channel if first and last else last
        self.backbone.forward_features(pixels)
        return True

    def _intermediates_serve(self, pixels: Tensor) -> None:
        name, self._hooked = _name(self.backbone), False
        if not hasattr(self.backbone, "forward_intermediates"):
            raise InputError(f"{name} gives no maps: its stages are no modules with maps, and it has no other way")
        expected = self._original(pixels)
        if not torch.allclose(self.backbone.forward_features(pixels), expected, rtol=1e-3, atol=1e-4):
            raise InputError(f"{name} gives no maps beside its features: forward_intermediates computes something else")
        for position, stage in enumerate(self._stages):
            output = self._maps.get(position)
            if output is None or output.ndim != 4 or output.shape[1] != stage["num_chs"]:
                received = None if output is None else list(output.shape)
                raise InputError(f"{name}, map {position}: received {received}; expected [1, {stage['num_chs']}, H, W]")


class _Tapped:
    """A tapped backbone's `forward_features`. A deep copy of the backbone gets the method of its class back."""

    def __init__(self, taps: FeatureTaps, backbone: nn.Module) -> None:
        self.taps, self.backbone = taps, backbone

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.taps._run(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # Requested only while the backbone itself is copied, which is then in memo.
        copied = memo[id(self.backbone)]
        return type(self.backbone).forward_features.__get__(copied)


def tokens_of(backbone: nn.Module, features: Tensor) -> Tensor:
    """Convert the result of timm's `forward_features` to tokens `[B, S, features]` without class or register tokens."""
    if features.ndim == 4:
        if getattr(backbone, "output_fmt", "NCHW") == "NHWC":
            return features.flatten(1, 2)
        return features.flatten(2).transpose(1, 2)
    return features[:, getattr(backbone, "num_prefix_tokens", 0) :]


def _choose(reductions: list[int | None], count: int, name: str) -> list[int]:
    """Indices of the stages to tap, shallow to deep."""
    total = len(reductions)
    if total < count:
        raise InputError(
            f"{name} names {total} feature maps; expected at least {count}: choose another backbone, or leave out the "
            f"terms on what is inside it (review_kd, at, fitnet, rkd, pkt)"
        )
    deepest = sorted({reduction: index for index, reduction in enumerate(reductions)}.values())
    if len(deepest) >= count:
        return deepest[-count:]
    return [-(-(step + 1) * total // count) - 1 for step in range(count)]


def _name(backbone: nn.Module) -> str:
    config = getattr(backbone, "pretrained_cfg", None) or {}
    return repr(config.get("architecture") or type(backbone).__name__)
