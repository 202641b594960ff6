"""MultiLabelModel: turns raw pixels into logits and label-wise embeddings."""

from __future__ import annotations

import difflib
import glob
import math

import numpy as np
import timm
import torch
from timm.layers import PatchEmbed
from timm.utils import reparameterize_model
from torch import Tensor, nn

from edgepress.compress.config import ModelConfig
from edgepress.compress.features import tokens_of
from edgepress.compress.weights import load_backbone_weights
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess


class MLDecoderHead(nn.Module):
    """One query per label attends to the picture's tokens; its output is the label-wise embedding.

    Ridnik et al., "ML-Decoder", WACV 2023 (arXiv 2111.12933), with one group per label, frozen random queries and one
    layer, as in the published distillation recipe: the width is 768 with a feed-forward of 2,048 (6.5 M parameters on
    1,280 input features); other widths keep that ratio.
    """

    HEADS = 8

    def __init__(self, in_features: int, num_classes: int, width: int, dropout: float = 0.1) -> None:
        super().__init__()
        hidden = -(-2048 * width // 768 // 64) * 64
        self.embed = nn.Linear(in_features, width)
        self.queries = nn.Parameter(torch.randn(num_classes, width), requires_grad=False)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query, self.to_key = nn.Linear(width, width), nn.Linear(width, width)
        self.to_value, self.to_out = nn.Linear(width, width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.dropout = nn.Dropout(dropout)
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(num_classes, width)))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def embeddings(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into label-wise embeddings `[B, C, width]`."""
        return self._attend(tokens)[0]

    def _attend(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Label-wise embeddings `[B, C, width]` and the weights that gathered them, `[B, HEADS, C, S]`."""
        memory = self.embed(tokens).relu()
        query = self.norm1(self.queries)
        # The queries do not depend on the picture, so their side of the attention is computed only once.
        q = self._split(self.to_query(query)[None]) * (query.shape[1] // self.HEADS) ** -0.5
        attention = (q @ self._split(self.to_key(memory)).transpose(-1, -2)).softmax(dim=-1)
        context = (attention @ self._split(self.to_value(memory))).transpose(1, 2).flatten(2)
        x = self.norm2(query + self.dropout(self.to_out(context)))
        return self.norm3(x + self.dropout(self.feed_forward(x))), attention

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.HEADS, x.shape[2] // self.HEADS)).transpose(1, 2)

    def logits(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into logits `[B, C]`."""
        return self._score(self.embeddings(tokens))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and label-wise embeddings `[B, C, width]`."""
        embeddings = self.embeddings(tokens)
        return self._score(embeddings), embeddings

    def with_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and the attention of each label's query `[B, C, S]`, as a mean over its heads."""
        embeddings, attention = self._attend(tokens)
        return self._score(embeddings), attention.mean(dim=1)

    def _score(self, embeddings: Tensor) -> Tensor:
        # A dot product per label, as a batched product: OpenVINO 2026.4 on a CPU fuses a multiplication by [C, width]
        # into the preceding norm and answers wrongly for every batch above 1.
        return (embeddings.unsqueeze(2) @ self.weight.unsqueeze(2)).flatten(1) + self.bias


class LinearHead(nn.Module):
    """The smallest head: a mean over positions and one weight vector per label.

    Its label-wise embedding is what label c looks at, e[i,c] = Σ_s softmax_s(w_c · f_s) f_s, computed only in training.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_classes, in_features), std=0.02))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def logits(self, tokens: Tensor) -> Tensor:
        """Turn tokens `[B, S, in_features]` into logits `[B, C]`."""
        return nn.functional.linear(tokens.mean(dim=1), self.weight, self.bias)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and label-wise embeddings `[B, C, in_features]`."""
        logits, attention = self.with_attention(tokens)
        return logits, attention @ tokens

    def with_attention(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `[B, C]` and the softmax over positions of each label's score there, `[B, C, S]`."""
        scores = nn.functional.linear(tokens, self.weight)
        return self.logits(tokens), scores.softmax(dim=1).transpose(1, 2)


class MultiLabelModel(nn.Module):
    """A timm backbone with a label-wise head, for raw pixels.

    Args:
        config: backbone, head and input size.
        labels: one output per name.
        preprocess: the size that pictures must have, and the mean and std that the graph applies.

    Raises:
        InputError: timm does not know the backbone, the backbone does not accept the size, or its features are not a
            map of positions; the message says what to choose instead, if that is known.
    """

    mean: Tensor
    scale: Tensor
    fused = False
    """Whether branches that only training needs are already one convolution; see `fuse`."""

    def __init__(self, config: ModelConfig, labels: LabelSpace, preprocess: Preprocess) -> None:
        super().__init__()
        self.config, self.labels, self.preprocess = config, labels, preprocess
        self.backbone = _create_backbone(config)
        self.register_buffer("mean", torch.tensor(preprocess.mean) * 255, persistent=False)
        self.register_buffer("scale", 1 / (torch.tensor(preprocess.std) * 255), persistent=False)
        # The gradient of such a convolution ends the process with torch 2.14.1 on a CPU without AVX-512, where the
        # pictures lie in memory as they come, channels last (RepVGG, MobileOne).
        self._strided_pixels = any(
            isinstance(module, nn.Conv2d)
            and module.in_channels == 3
            and (module.kernel_size, module.stride) == ((1, 1), (2, 2))
            for module in self.backbone.modules()
        )
        in_features = self._in_features()
        self.head: MLDecoderHead | LinearHead
        if config.head == "ml_decoder":
            self.head = MLDecoderHead(in_features, len(labels), config.width)
        else:
            self.head = LinearHead(in_features, len(labels))

    @property
    def embedding_dim(self) -> int:
        """Width of the label-wise embeddings."""
        return self.head.weight.shape[1]

    def tokens(self, images: Tensor) -> Tensor:
        """Turn uint8 RGB `[B, size, size, 3]` into the backbone's features as tokens `[B, S, features]`."""
        return tokens_of(self.backbone, self._features(images))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Turn uint8 RGB `[B, size, size, 3]` into logits `[B, C]` and label-wise embeddings `[B, C, dim]`."""
        return self.head(self.tokens(images))

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
        head = LinearHead(self.head.weight.shape[1], len(columns))
        head.load_state_dict({"weight": self.head.weight[columns], "bias": self.head.bias[columns]})
        self.head, self.labels = head.train(self.training), labels

    def _features(self, images: Tensor) -> Tensor:
        # TensorRT's parser expects this order (cast, subtract, multiply, transpose) for uint8 input.
        pixels = ((images.to(self.mean.dtype) - self.mean) * self.scale).permute(0, 3, 1, 2)
        if self.training and self._strided_pixels:
            pixels = pixels.contiguous()
        return self.backbone.forward_features(pixels)

    def _in_features(self) -> int:
        """Width of the backbone's features, measured on one black picture."""
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
        return tokens_of(self.backbone, features).shape[2]


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
    # Its letters do not make a family's name alone similar to its members.
    family = timm.list_models(f"{glob.escape(name)}*")[:3] if name else []
    close = family or difflib.get_close_matches(name, timm.list_models(), n=3)
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
    return backbone


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
