"""Manifest: the typed contents of a bundle's manifest; `multilabel.bundle` reads and writes it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.facts import Architecture, Facts, Parent, Role
from edgepress.multilabel.labels import LabelName
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.ratio import Ratio

Kind = Literal["torch", "onnx", "openvino", "tensorrt", "litert", "ncnn"]
Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["onnxruntime", "tensorrt", "openvino", "litert", "ncnn"]
"""The engine that an INT8 model is quantised for."""
MANIFEST = "manifest.json"


FORMAT: Literal[1] = 1
"""It is raised where an older version would misread a bundle. Merely additional facts are new fields, which older
versions keep and ignore. `preprocess` and `decisions` cannot have such fields: each of theirs changes the answers."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _says_nothing(cls, values: Any) -> Any:
        """A field without a value is not an unknown field: another version wrote it, and it carries no fact."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if value is not None or name in cls.model_fields}


class BuiltForOpenVino(_Frozen):
    """An OpenVINO model: newer releases read it on any machine, and it is compiled for a device when it is opened."""

    runtime: Literal["openvino"] = "openvino"
    version: str = Field(pattern=r"^\d{1,9}\.\d{1,9}")
    onnx_sha256: str
    """sha256 of the ONNX file that it was made from."""
    platform: str
    """Operating system and processor, such as `linux-x86_64`."""


class BuiltForTensorRt(_Frozen):
    """What a TensorRT plan needs to be opened: one version of the runtime and one compute capability."""

    runtime: Literal["tensorrt", "tensorrt_rtx"]
    version: str
    onnx_sha256: str
    platform: str
    compute_capability: str = Field(pattern=r"^SM\d{2,3}$")
    max_batch: int = Field(ge=1, lt=1_000_000)
    cuda_graph: bool = False
    dla: int | None = Field(default=None, ge=0, le=9)
    """Core of a Jetson's deep learning accelerator (DLA)."""
    driver_cuda: str = "none"
    """CUDA version that the driver of the building machine supports, such as `13.0`."""
    flags: str = "none"
    """The builder's flags, separated by commas."""


class BuiltForLiteRt(_Frozen):
    """A LiteRT model: a release reads it, on any machine, if it has the versions of the operators in it."""

    runtime: Literal["litert"] = "litert"
    version: str = Field(pattern=r"^\d{1,9}\.\d{1,9}")
    """Of ai-edge-litert, with which it was proven equal to the ONNX file."""
    onnx_sha256: str
    """sha256 of the ONNX file that it was made from."""


class BuiltForNcnn(_Frozen):
    """An ncnn model: a release reads it, on any machine, if it has the layers in it."""

    runtime: Literal["ncnn"] = "ncnn"
    version: str = Field(pattern=r"^\d{1,9}\.\d{1,9}")
    """Of ncnn, with which it was proven equal to the ONNX file."""
    onnx_sha256: str
    """sha256 of the ONNX file that it was made from."""


BuiltFor = Annotated[
    BuiltForOpenVino | BuiltForTensorRt | BuiltForLiteRt | BuiltForNcnn, Field(discriminator="runtime")
]
"""What a compiled engine runs on, by its runtime; `deploy.engines.passport` compares it with the machine."""


class NodeNoise(_Frozen):
    """The share of one node in the noise of an INT8 model."""

    node: str
    sqnr: float
    """Signal to quantisation noise of the logits, in dB, if only this node is quantised; lower is worse. It is measured
    in ONNX Runtime for every target, for OpenVINO, LiteRT and ncnn on a Q/DQ graph of the same model."""
    macs: float
    """Share of the model's multiply-accumulates."""


class Tried(_Frozen):
    """A candidate in the search for an INT8 graph, and what it reached on val."""

    candidate: str
    val_mAP: float
    drop_points: float
    """Drop against the fp32 model, in points of val mAP."""
    sqnr: float
    """Signal to quantisation noise of the logits, in dB."""
    flips: float | None = None
    """Decisions that differ from the fp32 model's per predicted positive of it; None where the model's decisions were
    fitted again after the search, and in bundles of earlier versions."""
    latency: Ratio | None
    """Latency against the fp32 model in the same runtime; None for a target that does not run on this machine."""
    int8_share: float
    """Share of the multiply-accumulates that are in INT8."""
    kept: int
    """Nodes that are in float on purpose."""


class Quantization(_Frozen):
    """How an INT8 model was made, and on which pictures."""

    pictures: int
    sha256: str
    """sha256 over the sorted content hashes of the pictures."""
    split: str
    target: Target | None = None
    """The engine that the graph was made for; None in bundles from before this was recorded."""
    method: str
    """How ranges are set and what was done to the float model before, separated by commas."""
    kept_float: tuple[str, ...] = ()
    """Names of the convolutions and matrix products that are in float in the graph."""
    products: int | None = None
    """Number of convolutions and matrix products on which INT8 is tried."""
    val_mAP: float | None = None
    val_mAP_float: float | None = None
    """val mAP of the fp32 model."""
    budget: float | None = None
    """The allowed drop: number of points of val mAP that INT8 may lose."""
    val_flips: float | None = None
    """Decisions that differ from the fp32 model's on val per predicted positive of it; None in earlier versions."""
    allowed_flips: float | None = None
    """The most of them that the search looked for."""
    choice: str | None = None
    """How the pictures were chosen."""
    missing_labels: tuple[str, ...] = ()
    """Labels that no picture shows."""
    weight_bits: int = 8
    """7 for x86 processors without VNNI, because their products saturate."""
    int8_share: float | None = None
    """Share of the multiply-accumulates that are in INT8."""
    latency: Ratio | None = None
    """Latency per call at batch 1, against the fp32 model in the same runtime."""
    measured_on: str | None = None
    """Processor on which the latency was measured."""
    on_device: bool = False
    """Whether candidates were timed, and answered val, on a device (`--host`) and not where the model was made."""
    planned: int | None = None
    """Number of candidates that the search would have tried without a time limit."""
    tried: tuple[Tried, ...] = ()
    """Every candidate, in the order of the search."""
    sensitivity: tuple[NodeNoise, ...] = ()
    """Every node, with the worst first."""

    @property
    def _whole(self) -> int:
        return sum(one.kept == self.tried[0].kept for one in self.tried)

    @property
    def untried(self) -> int:
        """Number of planned candidates that were not tried, for want of time or because they would change nothing."""
        return (self.planned or self._whole) - self._whole

    @property
    def tried_told(self) -> str:
        """How many candidates `tried` has, such as `4 of 9 candidates, and 3 with more nodes in float`.

        Those with more nodes in float than the first one are none of the planned: they follow from what it loses. The
        first may have some itself, such as ncnn's layers that are slower in INT8.
        """
        whole, more = self._whole, len(self.tried) - self._whole
        return f"{whole} of {self.planned} candidates" + (f", and {more} with more nodes in float" if more else "")

    @property
    def disturbed(self) -> str | None:
        """A caution where other work on the machine disturbed the latencies that the choice was made by; None where
        nothing did."""
        # Graphs of one structure take the same time, and share the one latency that was measured.
        timed = list(dict.fromkeys(one.latency for one in self.tried if one.latency is not None))
        said = [latency.cautions for latency in timed if latency.cautions]
        if not said:
            return None
        which = "the latency was" if len(timed) == 1 else f"{len(said)} of {len(timed)} latencies were"
        return (
            f"{which} measured on a machine that did not keep still (for example "
            f"{'; '.join(said[0])}): the choice by time may be another on a quiet one"
        )

    @property
    def for_tensorrt(self) -> bool:
        """Whether the graph was made for TensorRT's builder.

        Bundles that were made before `target` was recorded show it by their search, which timed every candidate for the
        other targets and none for TensorRT, whose engines are built from the graph later.
        """
        if self.target is not None:
            return self.target == "tensorrt"
        return bool(self.tried) and all(one.latency is None for one in self.tried)


class Manifest(_Frozen):
    """What a bundle says about itself."""

    format: Literal[1] = FORMAT
    kind: Kind
    precision: Precision
    model: str
    """Name of the file that the runtime opens."""
    files: dict[str, str]
    """sha256 of every file except the manifest."""
    labels: tuple[LabelName, ...]
    preprocess: Preprocess
    decisions: Decisions | None = None
    """Calibrated probabilities and one threshold per label; see `Bundle.decisions`."""
    parent: Parent | None = None
    opset: int | None = None
    calibration: Quantization | None = None
    built_for: BuiltFor | None = None
    """None for models that their runtime opens on any machine."""
    architecture: Architecture | None = None
    facts: Facts = Facts()
    tools: dict[str, str] = {}
    """Versions of the packages that made the bundle."""
    inputs: str = ""
    """sha256 of everything that the bundle was made from; a stage whose inputs are unchanged is not run again."""
    created: str = ""

    @property
    def role(self) -> Role | None:
        """The role that a torch model was trained for, or teacher for a graph that a run learns from; else None."""
        return role_of(self.kind, self.facts)

    @model_validator(mode="after")
    def _says_what_it_needs(self) -> Manifest:
        if self.decisions is not None and self.decisions.labels != self.labels:
            raise ValueError("decisions: expected the manifest's labels, in its order")
        if self.kind == "tensorrt" and not isinstance(self.built_for, BuiltForTensorRt):
            raise ValueError("built_for: a TensorRT engine must say what it was built for")
        return self

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or name == MANIFEST or not path.parts:
                raise ValueError(f"the file name {name!r} leaves the bundle")
        return files


def role_of(kind: Kind, facts: Facts) -> Role | None:
    """The role of a model according to its facts; None for engines, which have none of their own."""
    return facts.role if kind in ("torch", "onnx") else None
