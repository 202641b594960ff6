"""Facts: what was measured while a bundle's model was made, as its manifest stores it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

Role = Literal["teacher", "student"]
GROUPS = "_groups"


class Stored(BaseModel):
    """A part of a manifest: unknown fields of newer versions are kept, and only the given fields are written."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}


class Architecture(Stored):
    """From what a torch module is built that the weights fit; `compress.config.ModelConfig` checks it."""

    backbone: str
    """Any model name that timm knows."""
    head: str
    fused: bool = False
    """Whether the branches of its convolutions are merged."""


class Parent(Stored):
    """A bundle that another comes from: the name of its folder, which is beside the other, and its digest."""

    name: str
    digest: str


class DecisionsChanged(Stored):
    """The shares of the decisions on val in which an INT8 model differs from its float model."""

    val_changed_kept: float
    """With the thresholds of the float model."""
    val_changed_refitted: float
    """With the thresholds that were fitted to the INT8 model."""


class Epoch(Stored):
    """An epoch of a training. Its further fields are the weighted loss terms by name, and by `NAME_groups` the number
    of groups per step that taught such a term."""

    __pydantic_extra__: dict[str, float]

    loss: float
    """The sum of the terms."""
    val_mAP: float
    seconds: float

    @property
    def terms(self) -> dict[str, float]:
        """The weighted loss terms by name."""
        return {name: value for name, value in self.__pydantic_extra__.items() if not name.endswith(GROUPS)}


class Evaluated(Stored):
    """A student's val mAP in float, and as its INT8 graph computes."""

    val_mAP: float
    fake_quantized_val_mAP: float


class QuantizeAware(Stored):
    """How a student was fine-tuned, and its val mAP before and after."""

    config: dict[str, Any]
    """The settings, as `compress.config.QuantizeAwareConfig` reads them."""
    before: Evaluated
    after: Evaluated


class Facts(Stored):
    """What was measured while a model was made. A field that does not apply to a model's kind is not set."""

    role: Role | None = None
    """What a torch model was trained for."""
    weights: str | None = None
    """The weights that it began with, in words."""
    pictures: int | None = None
    """How many labelled pictures taught it."""
    unlabelled_pictures: int | None = None
    teachers: tuple[Parent, ...] = ()
    teacher_val_mAP: float | None = None
    """val mAP of the teachers together."""
    teacher_calibration: str | None = None
    """How their logits were fitted to val before they taught: none, temperature or platt."""
    untaught: tuple[str, ...] = ()
    """Labels that they did not teach, because they lack them or know them too badly."""
    inherited: tuple[str, ...] = ()
    """Names of the head's tensors that came from the teacher."""
    val_prevalence: float | None = None
    """The val mAP of random scores."""
    val_mAP: float | None = None
    best_epoch: int | None = None
    """The epoch whose weights are kept; the first is 1."""
    history: tuple[Epoch, ...] = ()
    training: dict[str, Any] | None = None
    """The settings, as `compress.config.TeachConfig` or `DistillConfig` reads them."""
    quantize_aware: QuantizeAware | None = None

    backbone: str | None = None
    """What an exported graph was made from."""
    head: str | None = None
    attention: bool = False
    """Whether the graph has a second output, the attention of each label."""
    calibrated_from: str | None = None
    """The digest of the bundle whose decisions were fitted again."""
    decisions: DecisionsChanged | None = None

    convolutions: int | None = None
    """The number of convolutions in a TensorRT network."""
    quantized_convolutions: int | None = None
    layers: int | None = None
    products: dict[str, int] | None = None
    """The number of convolutions and matrix products of a TensorRT network, by precision."""
    types: dict[str, int] | None = None
    """The number of its layers, by precision."""
    dla_layers: int | None = None
    """How many of its layers can run on the deep learning accelerator, according to the builder."""
