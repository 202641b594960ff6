"""MultiLabelModel: turns raw pixels into logits and label-wise embeddings."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import timm
import torch
from timm.layers import PatchEmbed
from timm.utils import reparameterize_model
from torch import Tensor, nn

from edgepress.compress.config import ModelConfig
from edgepress.compress.features import tokens_of
from edgepress.compress.heads import LinearHead, MLDecoderHead
from edgepress.compress.label_maps import averages, side_of, with_label_maps
from edgepress.compress.near_backbones import near_backbones
from edgepress.compress.weights import load_backbone_weights
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess


class MultiLabelModel(nn.Module):
    """A timm backbone with a label-wise head, for raw pixels.

    Args:
        config: backbone, head and input size.
        labels: one output per name.
        preprocess: the size that pictures must have, and the mean and std that the graph applies.

    Raises:
        InputError: timm does not know the backbone, the backbone does not accept the size, its features are not a map
            of positions, or there are more query groups than labels; the message says what to choose instead, if that
            is known.
    """

    mean: Tensor
    scale: Tensor
    regions: Tensor | None
    """float32 `[REGIONS, positions]`: which places make up each region, if `forward` computes label maps."""
    label_wise = True
    """Whether `forward` computes label-wise embeddings; otherwise they have a width of 0. Where labels are many they
    take far more memory than all else."""
    keeps_memory = False
    """Whether each pass keeps what its head reads for `take_memory`."""
    seen: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor] | None = None
    """Tokens of pictures, of which it lets the backbone compute what it does not know; see `compress.frozen`."""
    fused = False
    """Whether branches that only training needs are already one convolution; see `fuse`."""

    def __init__(self, config: ModelConfig, labels: LabelSpace, preprocess: Preprocess) -> None:
        super().__init__()
        require_queries(config, labels)
        self.config, self.labels, self.preprocess = config, labels, preprocess
        self.register_buffer("regions", None, persistent=False)
        self.backbone = _create_backbone(config)
        self.register_buffer("mean", torch.tensor(preprocess.mean) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(preprocess.std) * 255), persistent=False)
        # The gradient of such a convolution ends the process with torch 2.14.1 on a CPU without AVX-512, where the
        # pictures lie in memory as they come, channels last (RepVGG, MobileOne).
        self.strided_pixels = any(
            isinstance(module, nn.Conv2d)
            and module.in_channels == 3
            and (module.kernel_size, module.stride) == ((1, 1), (2, 2))
            for module in self.backbone.modules()
        )
        self._memory: Tensor | None = None
        self.positions, in_features = self._token_shape()
        self.head: MLDecoderHead | LinearHead
        if config.head == "ml_decoder":
            self.head = MLDecoderHead(in_features, len(labels), config.width, query_groups=config.query_groups)
        else:
            self.head = LinearHead(in_features, len(labels), config.bottleneck)

    @property
    def embedding_dim(self) -> int:
        """Width of the label-wise embeddings; 0 for labels that share queries, which have none."""
        return self.head.embedding_dim

    def tokens(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into the backbone's features as tokens `[B, S, features]`."""
        return self._tokens(images) if self.seen is None else self.seen(images, self._tokens)

    @property
    def memory_dim(self) -> int:
        """Width of what the head reads of each place."""
        return self.head.memory_dim

    def take_memory(self) -> Tensor:
        """Return what the head read in the last pass, `[B, S, memory_dim]`, once: it holds the pass's graph.

        Raises:
            RuntimeError: there was no pass since the last call, or it was made without `keeps_memory`.
        """
        if self._memory is None:
            raise RuntimeError("no memory to take: expected keeps_memory and one forward pass before each take")
        taken, self._memory = self._memory, None
        return taken

    @property
    def map_side(self) -> int:
        """Places on each side of the label maps; 0 for positions that are no square map, or labels that share queries,
        which have none."""
        return side_of(self.positions) if self.config.query_groups is None else 0

    def map_labels(self) -> None:
        """From now on, let `forward` return label maps as well.

        Raises:
            InputError: there are none.
        """
        if not self.map_side:
            shared = self.config.query_groups is not None
            why = "labels that share queries" if shared else f"{self.positions} positions, which are no square map"
            raise InputError(f"{self.config.backbone!r} has {why}: there is no score of a label at a place (label_map)")
        self.regions = averages(self.map_side).to(self.mean)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and label-wise embeddings `[B, C, dim]`.

        After `map_labels`, label maps `[B, C, REGIONS]` follow; see `compress.label_maps`.
        """
        return self._headed(self.tokens(images))

    def _headed(self, tokens: Tensor) -> tuple[Tensor, ...]:
        if self.keeps_memory:
            self._memory = self.head.memory(tokens)
        if self.regions is not None:
            return with_label_maps(self.head, tokens, self.regions, self.label_wise)
        if self.label_wise:
            return self.head(tokens)
        logits = self.head.logits(tokens)
        return logits, logits.new_zeros((*logits.shape, 0))

    def logits(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` alone."""
        return self.head.logits(self.tokens(images))

    @torch.inference_mode()
    def answer(self, images: np.ndarray) -> np.ndarray:
        """Logits float32 `[B, C]` of RGB pictures `[B, size, size, 3]`, uint8 or float32 in 0..255, on the CPU."""
        return self.logits(torch.from_numpy(images)).numpy()

    def with_attention(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and what each label sees, `[B, C, rows, columns]`.

        Raises:
            InputError: the backbone's positions are not a square map.
        """
        logits, attention = self.head.with_attention(self.tokens(images))
        side = math.isqrt(attention.shape[2])
        if side * side != attention.shape[2]:
            raise InputError(
                f"{self.config.backbone!r} gives {attention.shape[2]} positions, which are no square map: "
                "attention cannot be shown over the picture"
            )
        return logits, attention.unflatten(2, (side, side))

    def keep(self, columns: list[int], labels: LabelSpace) -> None:
        """Keep these columns of a linear head, in place, as the outputs of `labels`."""
        assert isinstance(self.head, LinearHead)
        head = LinearHead(self.head.in_features, len(columns), self.config.bottleneck)
        kept = {"weight": self.head.weight[columns], "bias": self.head.bias[columns]}
        head.load_state_dict({**self.head.state_dict(), **kept})
        self.head, self.labels = head.train(self.training), labels

    def _tokens(self, images: Tensor) -> Tensor:
        return tokens_of(self.backbone, self._features(images))

    def _features(self, images: Tensor) -> Tensor:
        # TensorRT's parser expects this order (cast, subtract, multiply, transpose) for uint8 input.
        pixels = ((images.to(self.mean.dtype) - self.mean) * self.scale).permute(0, 3, 1, 2)
        if self.training and self.strided_pixels:
            pixels = pixels.contiguous()
        return self.backbone.forward_features(pixels)

    def _token_shape(self) -> tuple[int, int]:
        """Number and width of the backbone's features, measured on one black picture."""
        config, training = self.config, self.training
        black = torch.zeros(1, config.size, config.size, 3, dtype=torch.uint8)
        try:
            with torch.no_grad():
                features = self.eval()._features(black)
        except (AssertionError, AttributeError, RuntimeError, ValueError, TypeError, IndexError) as error:
            raise _size_refused(config, error) from error
        self.train(training)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            shape = f"the shape {list(features.shape)}" if isinstance(features, Tensor) else type(features).__name__
            raise InputError(
                f"{config.backbone!r} gives no feature map: received {shape} of one picture; expected one map "
                f"[1, features, rows, columns] or tokens [1, positions, features]; choose another backbone"
            )
        _, positions, width = tokens_of(self.backbone, features).shape
        return positions, width


def channels_last(module: nn.Module, device: torch.device) -> None:
    """Lay the weights of convolutions out in place as pixels are stored, channels last, as their kernels on a CPU or a
    GPU want them; the numbers and the names are the same."""
    strided = any(isinstance(part, MultiLabelModel) and part.strided_pixels for part in module.modules())
    if device.type == "cuda" or (device.type == "cpu" and not strided):
        module.to(memory_format=torch.channels_last)


def make_model(config: ModelConfig, labels: LabelSpace) -> tuple[MultiLabelModel, str]:
    """Make a model with the backbone weights that its config asks for; also returns their source.

    Raises:
        InputError: the backbone is unknown, or the weights are not available.
    """
    cfg = pretrained_cfg(config.backbone)
    scaled = config.model_dump(include={"size", "resize", "crop_fraction", "interpolation"})
    preprocess = Preprocess(**scaled, mean=cfg.mean, std=cfg.std)
    model = MultiLabelModel(config, labels, preprocess)
    source = load_backbone_weights(model.backbone, config.backbone, config.weights, _timm_arguments(config))
    return model, source


def require_weights(config: ModelConfig) -> None:
    """Raise an error if a model cannot have the backbone weights that its config asks for: it is given them once.

    Raises:
        InputError: as for `make_model`.
    """
    backbone, arguments = _create_backbone(config), _timm_arguments(config)
    load_backbone_weights(backbone, config.backbone, config.weights, arguments, caution=False)


def require_queries(config: ModelConfig, labels: LabelSpace) -> None:
    """Raise an error if labels are to share more queries than there are labels.

    Raises:
        InputError: says how many there are.
    """
    if config.query_groups is not None and config.query_groups > len(labels):
        raise InputError(
            f"query_groups is {config.query_groups} for {len(labels)} labels; expected fewer, or leave it out for a "
            "query per label"
        )


def fuse(model: MultiLabelModel) -> MultiLabelModel:
    """Merge branches that only training needs into one convolution (RepVGG, RepViT, MobileOne), as on export.

    Returns a copy, or the model itself if it has no such branches.
    """
    fused = reparameterize_model(model)
    if fused.state_dict().keys() == model.state_dict().keys():
        return model
    fused.fused = True
    return fused


def pretrained_cfg(name: str):
    """Return timm's configuration of a backbone: mean, std, and whether its input size is fixed.

    Raises:
        InputError: timm does not know the name; the message lists similar ones.
    """
    if not timm.is_model(name.split(".")[0]):
        raise InputError(f"timm {timm.__version__} knows no model {name!r}; {_meant(name)}")
    try:
        cfg = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:  # it does not know the tag behind the dot
        renamed = timm.models.get_deprecated_models().get(name)
        if renamed is not None:
            raise InputError(f"timm {timm.__version__} has renamed {name!r}: give {renamed}") from error
        near = did_you_mean(name, timm.list_pretrained(f"{name.split('.')[0]}.*"))
        raise InputError(f"timm {timm.__version__} knows no model {name!r}: {error}{near}") from error
    if cfg is None:
        raise InputError(f"timm {timm.__version__} has no configuration for {name!r}")
    return cfg


def _meant(name: str) -> str:
    """Suggest what to use instead of a name that timm does not know."""
    source, _, bare = name.rpartition("/")
    weights = "for weights of your own give the model's name and their .safetensors file as weights"
    if name.startswith("local-dir:"):
        return weights
    if source:
        known = timm.is_model(bare.split(".")[0])
        return (
            f"give the part behind the slash alone: {bare}" if known else f"expected a name without a slash; {weights}"
        )
    close = near_backbones(name)
    return f"did you mean {' or '.join(close)}?" if close else "expected a name such as resnet50 (timm.list_models())"


def _timm_arguments(config: ModelConfig) -> dict[str, int]:
    # Position embeddings and windows are made for one input size; convolutions accept any.
    fixed = {"img_size": config.size} if pretrained_cfg(config.backbone).fixed_input_size else {}
    return {"num_classes": 0, **fixed}


def _create_backbone(config: ModelConfig) -> nn.Module:
    try:
        backbone = timm.create_model(config.backbone, pretrained=False, **_timm_arguments(config))
    except (AssertionError, TypeError, ValueError, RuntimeError) as error:
        raise _size_refused(config, error) from error
    if not hasattr(backbone, "forward_features"):
        raise InputError(f"{config.backbone!r} gives no feature map (no forward_features); choose another backbone")
    _require_whole_patches(backbone, config)
    if config.stages is not None:
        _keep_stages(backbone, config.backbone, config.stages)
    return backbone


def _keep_stages(backbone: nn.Module, name: str, count: int) -> None:
    """Remove what lies behind the first stages, in place, with timm's own means; the rest keeps its names."""
    info = getattr(backbone, "feature_info", None)
    stages = list(getattr(info, "info", info) or [])
    if not hasattr(backbone, "prune_intermediate_layers"):
        raise InputError(
            f"stages is {count}, and timm {timm.__version__} cannot cut {name!r}: update timm, or leave it out"
        )
    if count >= len(stages):
        raise InputError(f"stages is {count}, and {name!r} has {len(stages)}: give fewer, or leave it out for all")
    # The last norm is as wide as the last stage, which goes.
    backbone.prune_intermediate_layers([count - 1], prune_norm=True, prune_head=True)
    backbone.feature_info = stages[:count]


def _require_whole_patches(backbone: nn.Module, config: ModelConfig) -> None:
    """Refuse a size that a transformer without padding would silently crop because it fills no whole patch."""
    embed = getattr(backbone, "patch_embed", None)
    if not isinstance(embed, PatchEmbed) or embed.dynamic_img_pad:
        return
    side = embed.feat_ratio()
    unseen = config.size % side
    if unseen:
        raise InputError(
            f"{config.backbone!r} does not take pictures of {config.size} px: it cuts them into patches of {side} px "
            f"and would not see the last {unseen}; choose {config.size - unseen + side} or another multiple of {side}"
        )


def _size_refused(config: ModelConfig, error: Exception) -> InputError:
    # Some of timm's checks have no message.
    reason = " ".join(str(error).split()).rstrip(".") or "its layers do not fit that size"
    own = pretrained_cfg(config.backbone).input_size[-1]
    choose = f"; choose {own}, the size it was made for" if own != config.size else ""
    return InputError(f"{config.backbone!r} does not take pictures of {config.size} px: {reason}{choose}")
