"""What a model is and how it is trained; each class is a section of a recipe and the flags of a verb."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from multilabel.config import Config


class ModelConfig(Config):
    """A timm backbone with a label-wise head."""

    backbone: str
    """Any model name that timm knows."""
    head: Literal["ml_decoder", "linear"] = "ml_decoder"
    """ml_decoder: one query a label; linear: the smallest, one weight vector a label."""
    width: int = Field(default=256, ge=8, le=4096, multiple_of=8)
    """Width of an ml_decoder head; 768 as published. Its parameters count: 6.5 M at 768, 1.0 M at 256."""
    size: int = Field(default=224, ge=32, le=2048)
    """Side of the square input, in pixels."""
    resize: Literal["squash", "crop"] = "squash"
    """How a picture becomes square: stretched, or its shorter side scaled and the middle cut out."""
    weights: str = "auto"
    """Backbone weights: a .safetensors file, 'none' for random, or 'auto': an installed package, else timm's hub."""


class TrainConfig(Config):
    """How a model is trained."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the training split."""
    batch_size: int = Field(default=64, ge=2)
    """Pictures a step, in each process."""
    lr: float = Field(default=5e-4, gt=0)
    """Peak learning rate of the OneCycle schedule (AdamW)."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's weight decay, on weights of two or more dimensions."""
    pct_start: float = Field(default=0.2, gt=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    ema_decay: float = Field(default=0.9997, ge=0, lt=1)
    """Decay of the averaged weights, approached from below in the first steps; these weights are kept."""
    augment: Literal["none", "randaugment"] = "randaugment"
    """randaugment: RandAugment, two operations of magnitude 9."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image; 0 where left and right matter."""
    cutout: float = Field(default=0.5, ge=0, lt=1)
    """Largest side of the grey square laid over a picture, as a share of the picture's side."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of the forward pass; losses stay in float32."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that read and augment pictures; by default 4 beside a GPU and 0 on a CPU, where they would fight with
    torch's threads for the same cores."""
    seed: int = Field(default=0, ge=0)
    """Orders, augmentations and initial weights follow from it."""


class TeachConfig(ModelConfig, TrainConfig):
    """Fine-tune a large model on the labels: the teacher."""

    backbone: str = "resnet101"
    """Any model name that timm knows."""
    width: int = Field(default=768, ge=8, le=4096, multiple_of=8)
    """Width of an ml_decoder head; 768 as published."""
    task_loss: Literal["bce", "asl"] = "asl"
    """bce: binary cross-entropy; asl: asymmetric loss, for many negatives a positive."""


PRESETS: dict[str, dict[str, float | str]] = {
    "alone": {"mld": 0.0, "cd": 0.0, "id": 0.0},
    "mse": {"mse": 1.0, "mld": 0.0, "cd": 0.0, "id": 0.0},
    "ps": {"ps": 0.1, "mld": 0.0, "cd": 0.0, "id": 0.0},
    "kd": {"kd": 1.0, "mld": 0.0, "cd": 0.0, "id": 0.0},
    "mld": {"reduction": "published", "mld": 10.0, "cd": 0.0, "id": 0.0},
    "mld+cd": {"reduction": "published", "mld": 10.0, "cd": 100.0, "id": 0.0},
    "mld+id": {"reduction": "published", "mld": 10.0, "cd": 0.0, "id": 1000.0},
    "l2d": {"reduction": "published", "mld": 10.0, "cd": 100.0, "id": 1000.0},
}
"""Methods by name: the weights of their terms. `l2d` is the published objective, made for batches of 64."""


class DistillConfig(ModelConfig, TrainConfig):
    """Train a small model on the labels and on the teacher: the student."""

    backbone: str = "tf_efficientnet_lite0"
    """Any model name that timm knows."""
    preset: Literal["alone", "mse", "ps", "kd", "mld", "mld+cd", "mld+id", "l2d"] | None = None
    """A method's weights; those that are given beside it win. l2d: as published; alone: no teacher."""
    reduction: Literal["published", "mean"] = "mean"
    """published: the paper's sums, for batch 64 (weights 10, 100, 1000); mean: independent of the batch's size."""
    bce: float = Field(default=1.0, ge=0)
    """Weight of the labels themselves."""
    mld: float = Field(default=1.0, ge=0)
    """Weight of the logits' distillation."""
    cd: float = Field(default=0.1, ge=0)
    """Weight of the class-aware embeddings' distillation."""
    id: float = Field(default=0.1, ge=0)
    """Weight of the instance-aware embeddings' distillation."""
    mse: float = Field(default=0.0, ge=0)
    """Weight of the mean squared difference of logits."""
    ps: float = Field(default=0.0, ge=0)
    """Weight of the partial softmax over a positive label and all negatives."""
    kd: float = Field(default=0.0, ge=0)
    """Weight of MLD at a temperature of 4."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("preset"), str):
            return {**PRESETS.get(values["preset"], {}), **values}
        return values

    @model_validator(mode="after")
    def _learn_something(self) -> DistillConfig:
        taught = self.mld or self.cd or self.id or self.mse or self.ps or self.kd
        if not taught and (self.preset != "alone" or not self.bce):
            raise ValueError("every weight of a teacher's term is 0: nothing would be distilled (preset alone says so)")
        return self
