"""Recipe: every setting of a run, as a YAML file and as flags."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from edgepress.calibration.decide.criterion import Criterion
from edgepress.calibration.int8.subset import Choice
from edgepress.compress.config import DistillConfig, QuantizeAwareConfig, TeachConfig, TeacherOptions
from edgepress.deploy.engines.table import DEFAULT_ENGINES, ENGINES
from edgepress.deploy.verify.agreement import ALLOWED_DROP
from edgepress.deploy.verify.decision_gate import BOUNDS, Bounds
from edgepress.multilabel.bundle import Precision
from edgepress.multilabel.config import FLAGS, Config
from edgepress.multilabel.datasets import DataOptions
from edgepress.multilabel.errors import InputError, did_you_mean
from edgepress.multilabel.yaml_files import settings_of
from edgepress.run.durations import TimeLimit, milliseconds

ALL_ENGINES = tuple(ENGINES)
if TYPE_CHECKING:
    EngineName = str
else:
    EngineName = Literal[ALL_ENGINES]  # flags and messages list the names


class QuantizeConfig(Config):
    """How INT8 models are made."""

    pictures: int = Field(default=256, ge=8)
    """Pictures of the calibration set, drawn from train."""
    seed: int = Field(default=0, ge=0)
    """Which pictures are drawn."""
    choice: Choice = "covering"
    """How they are chosen: so that every label is shown, at random, or as different as the fp32 model sees them."""
    budget: float = Field(default=0.5, ge=0)
    """The allowed drop on val: mAP points, of which `verify` allows 1 on test; up to a tenth of the nodes stay in float
    for it."""
    flips: float = Field(default=BOUNDS["int8"].flips, ge=0)
    """Most decisions that may change on val, per predicted positive of fp32; nodes stay in float as for the drop."""
    time_limit: TimeLimit = Field(default=60.0, ge=0)
    """Time per target, in seconds or as in 90s and 10min, after which no further candidate is begun, except that nodes
    are left in float while the losses are not allowed."""
    weight_bits: int | None = Field(default=None, ge=7, le=8)
    """Bits of INT8 weights for onnxruntime and openvino: 7 where products saturate, on x86 without VNNI; by default
    what this machine needs. The engines called -7bit have 7 in any case."""


class CompileConfig(Config):
    """What engines are compiled for."""

    sm: int | None = Field(default=None, ge=50)
    """Compute capability of the TensorRT device: 86 for SM86, 87 for Jetson Orin; by default that of the GPU here, else
    86."""
    max_batch: int = Field(default=64, ge=1)
    """Most pictures per call that a TensorRT engine takes."""
    cuda_graph: bool = False
    """Replay a CUDA graph in TensorRT engines instead of launching each kernel, which takes less of the host's time."""
    dla: int | None = Field(default=None, ge=0, le=9)
    """A Jetson's DLA core that takes the layers it can, the GPU the rest; not fp32, and max_batch 1."""

    @model_validator(mode="after")
    def _one_picture_on_dla(self) -> CompileConfig:
        if self.dla is not None and self.max_batch != 1:
            raise ValueError(f"dla takes one picture a call: give max_batch 1 as well (it is {self.max_batch})")
        return self


class DecisionsConfig(Config):
    """How logits become probabilities, and probabilities a yes or no; fitted on val."""

    thresholds: str = "f1"
    """What each label's threshold is chosen for: f1, recall=R (the highest with at least that recall), precision=P (the
    lowest with at least that precision), or fixed=T. With @C% it holds on new pictures with that confidence:
    recall=0.9@95%, precision=0.8@95%, fpr=0.01@95% (false-positive rate), for each label, or with :all for all labels
    at once."""
    probabilities: Literal["auto", "none", "temperature", "platt", "isotonic"] = "auto"
    """How each label's probability is calibrated; auto takes what fits best the pictures that it was not fitted on."""

    @field_validator("thresholds")
    @classmethod
    def _are_known(cls, thresholds: str) -> str:
        Criterion.parse(thresholds)
        return thresholds


class FlipsConfig(Config):
    """Decisions that may change per predicted positive of the reference, by the engine's precision."""

    fp32: float = Field(default=BOUNDS["fp32"].flips, ge=0)
    """Per predicted positive: 0.01 is 1 in 100."""
    fp16: float = Field(default=BOUNDS["fp16"].flips, ge=0)
    """Per predicted positive."""
    int8: float = Field(default=BOUNDS["int8"].flips, ge=0)
    """Per predicted positive."""


class NetFlipsConfig(Config):
    """How many more or fewer times an engine may answer yes, per predicted positive of the reference, by precision."""

    fp32: float = Field(default=BOUNDS["fp32"].net_flips, ge=0)
    """Per predicted positive."""
    fp16: float = Field(default=BOUNDS["fp16"].net_flips, ge=0)
    """Per predicted positive."""
    int8: float = Field(default=BOUNDS["int8"].net_flips, ge=0)
    """Per predicted positive."""


class F1DropConfig(Config):
    """Points of OF1, and of CF1, that an engine may lose at the bundle's thresholds, by its precision."""

    fp32: float = Field(default=BOUNDS["fp32"].f1_drop, ge=0)
    """Points (0 to 100)."""
    fp16: float = Field(default=BOUNDS["fp16"].f1_drop, ge=0)
    """Points (0 to 100)."""
    int8: float = Field(default=BOUNDS["int8"].f1_drop, ge=0)
    """Points (0 to 100)."""


class LabelDropConfig(Config):
    """Points of recall, and of precision, that any one label may lose, by the engine's precision."""

    fp32: float = Field(default=BOUNDS["fp32"].label_drop, ge=0)
    """Points (0 to 100)."""
    fp16: float = Field(default=BOUNDS["fp16"].label_drop, ge=0)
    """Points (0 to 100)."""
    int8: float = Field(default=BOUNDS["int8"].label_drop, ge=0)
    """Points (0 to 100)."""


class VerifyConfig(Config):
    """What an engine may lose on test, by its precision: points of mAP here, decisions in the sections below. It passes
    where the whole 95 % interval is within; the fewer the test pictures, the wider the interval."""

    fp32: float = Field(default=ALLOWED_DROP["fp32"], ge=0)
    """Points that an fp32 engine may lose."""
    fp16: float = Field(default=ALLOWED_DROP["fp16"], ge=0)
    """Points that an fp16 engine may lose."""
    int8: float = Field(default=ALLOWED_DROP["int8"], ge=0)
    """Points that an INT8 engine may lose."""
    flips: FlipsConfig = FlipsConfig()
    net_flips: NetFlipsConfig = NetFlipsConfig()
    f1_drop: F1DropConfig = F1DropConfig()
    label_drop: LabelDropConfig = LabelDropConfig()

    def budget(self, precision: Precision) -> float:
        """The allowed drop of one precision."""
        return {"fp32": self.fp32, "fp16": self.fp16, "int8": self.int8}[precision]

    def bounds(self, precision: Precision) -> Bounds:
        """What the decisions of an engine of one precision may lose."""
        sections = {field.name: getattr(self, field.name) for field in fields(Bounds)}
        return Bounds(**{name: getattr(section, precision) for name, section in sections.items()})


class BenchConfig(Config):
    """How engines are timed."""

    batch: str = "1"
    """Pictures per call; several batch sizes, separated by commas, of which a report's table shows the first."""
    streams: str = "1"
    """Threads that call the engine at once; several numbers, separated by commas."""
    seconds: float = Field(default=3.0, gt=0)
    """Length of each measurement, after warming up until the timing is steady, for at most as long again."""

    @field_validator("batch", "streams", mode="before")
    @classmethod
    def _is_a_list(cls, value: Any) -> Any:
        """A recipe may say 8 or [1, 8]."""
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    @model_validator(mode="after")
    def _counts(self) -> BenchConfig:
        for name in ("batch", "streams"):
            given = getattr(self, name)
            if not all(part.strip().isdecimal() and int(part) >= 1 for part in given.split(",")):
                raise ValueError(f"{name} is {given}; expected whole numbers of at least 1, by commas")
        return self

    @property
    def batches(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(int(part) for part in self.batch.split(",")))

    @property
    def stream_counts(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(int(part) for part in self.streams.split(",")))


Duplicates = Literal["refuse", "leave_out"]


class TrainRecipe(DataOptions, TeacherOptions):
    """What `run` and `compare` share: the pictures, and how a teacher and a student are made."""

    data: str
    """The data set's folder, or a URL of shards."""
    out: str = "runs/edgepress"
    """Folder of the run; finished stages in it are kept while their inputs are unchanged."""
    train: str = "train"
    """The split to learn on; the calibration set of INT8 is a part of it."""
    val: str = "val"
    """The split that chooses: epochs, thresholds, quantisation."""
    test: str = "test"
    """The split that reports, once."""
    duplicates: Duplicates = "refuse"
    """What happens where a picture of train is in val or test as well, or one of val in test. refuse: nothing is
    learnt; leave_out: train and val lose it, with a word, so that a published test split stays whole."""
    teach: TeachConfig = TeachConfig()
    distill: DistillConfig = DistillConfig()

    @property
    def data_options(self) -> DataOptions:
        """How the data set is read, alone."""
        return DataOptions(**{name: getattr(self, name) for name in DataOptions.model_fields})

    @property
    def teacher_options(self) -> TeacherOptions:
        """The finished teachers and how they are read, alone."""
        return TeacherOptions(**{name: getattr(self, name) for name in TeacherOptions.model_fields})


class Recipe(TrainRecipe):
    """Everything that `edgepress run` needs to know."""

    engines: tuple[EngineName, ...] = Field(default=DEFAULT_ENGINES, min_length=1)
    """What to build, verify and time."""
    required: tuple[str, ...] = ()
    """Engines that must run here and pass; any other may be impossible on this machine."""
    attention: bool = False
    """Also export onnx-fp32-attention, which gives the demo what each label looks at."""
    ablation: bool = False
    """Also train the student without its teacher, and report what distillation, INT8 and thresholds each change."""
    generated_pictures: bool = False
    """Store generated golden pictures in the bundles, and not eight test pictures, which whoever gets a bundle gets."""
    decisions: DecisionsConfig = DecisionsConfig()
    quantize: QuantizeConfig = QuantizeConfig()
    finetune: QuantizeAwareConfig = QuantizeAwareConfig()
    """How the student is fine-tuned where INT8 loses more on val than is allowed."""
    compile: CompileConfig = CompileConfig()
    verify: VerifyConfig = VerifyConfig()
    bench: BenchConfig = BenchConfig()
    latency_budget: str | None = None
    """The latency budget: the most milliseconds (p50) that an engine may take for one picture, such as 8ms. The first
    of students that keeps it is trained, and the best engine that keeps it is the one to ship."""
    students: tuple[str, ...] = ()
    """Backbones that timm knows, the best first, for a latency budget; by default distill's."""
    host: str | None = None
    """Where every engine is verified and timed, INT8 is searched, and the latency budget holds: a machine that ssh
    reaches, such as user@jetson; by default here."""
    host_python: str | None = None
    """The Python there that edgepress is installed for; by default python3."""
    ssh_option: tuple[str, ...] = ()
    """A value of ssh's -o, such as Port=2222."""

    @field_validator("latency_budget", mode="before")
    @classmethod
    def _is_a_time(cls, value: Any) -> Any:
        """A program and a recipe may give the number 8; text has its unit, as in 8ms or 8.5 ms."""
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return f"{milliseconds(f'{value}ms' if is_number else str(value)):g}ms"

    @model_validator(mode="after")
    def _ablates_something(self) -> Recipe:
        if self.ablation and not self.distill.taught:
            raise ValueError("ablation compares the student with one that learns alone, and distill has no teacher")
        if self.ablation and not self.distill.task:
            raise ValueError("ablation trains a student on the labels alone, and distill.task is 0: give it a weight")
        return self

    @model_validator(mode="after")
    def _budget_fits(self) -> Recipe:
        if self.students and self.latency_budget is None:
            raise ValueError("students is for a latency budget: give latency_budget as well")
        given = [name for name in ("host_python", "ssh_option") if getattr(self, name)]
        if given and self.host is None:
            raise ValueError(f"{given[0]} says how to reach a host: give host as well")
        if self.latency_budget is not None and self.bench.batches[0] != 1:
            raise ValueError("a latency budget is for one picture a call: bench.batch must begin with 1")
        named = "backbone" in self.distill.model_fields_set
        if named and self.students and self.distill.backbone not in self.students:
            raise ValueError(f"distill.backbone is {self.distill.backbone!r}, which is not among students")
        return self

    @property
    def latency_budget_ms(self) -> float | None:
        return None if self.latency_budget is None else float(self.latency_budget.removesuffix("ms"))

    @field_validator("required")
    @classmethod
    def _are_built(cls, required: tuple[str, ...], info: Any) -> tuple[str, ...]:
        built = info.data.get("engines", required)
        if missing := [name for name in required if name not in built]:
            unknown = [name for name in missing if name not in ENGINES]
            how = did_you_mean(unknown[0], built) if unknown else "; or add it to engines"
            raise ValueError(
                f"required, but not among engines: {', '.join(missing)}; expected some of {', '.join(built)}{how}"
            )
        return required

    @field_validator("engines")
    @classmethod
    def _in_the_tables_order(cls, engines: tuple[str, ...]) -> tuple[str, ...]:
        """Each once: the order in which they are named changes nothing."""
        return tuple(name for name in ENGINES if name in engines)


class CompareRecipe(Recipe):
    """A recipe whose distill section is trained by several methods."""

    methods: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Methods of your own: a name, and what it changes in the distill section; terms that it does not name have weight
    0."""


_R = TypeVar("_R", bound=Recipe)


def load_recipe(path: Path | None, flags: dict[str, Any], kind: type[_R]) -> _R:
    """A recipe file with flags laid over it.

    Args:
        flags: nested as the file is; what a flag gives wins.
        kind: `Recipe`, or one with more sections.

    Raises:
        InputError: the file is missing or no YAML mapping, a key is unknown, a value is wrong; names it.
    """
    values: dict[str, Any] = {}
    where = FLAGS
    if path is not None:
        where = str(path)
        loaded = settings_of(path, "a recipe (YAML)")
        if not isinstance(loaded, dict):
            raise InputError(f"{path}: holds {type(loaded).__name__}; expected keys and values")
        if "ssh_option" in loaded:  # some of them are commands, and a recipe may come from anyone
            raise InputError(f"{where}: ssh_option is not taken from a file; give --ssh-option, or use ~/.ssh/config")
        values = loaded
    for key, value in flags.items():
        section = values.get(key)
        values[key] = {**section, **value} if isinstance(value, dict) and isinstance(section, dict) else value
    if "data" not in values:
        raise InputError(
            "no data set given; expected --data DIR" + ("" if path is None else f", or the key data in {path}")
        )
    return kind.parse(values, where, flags)
