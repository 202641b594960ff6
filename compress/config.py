"""What a model is and how it is trained; each class is a section of a recipe and the flags of a verb."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from edgepress.compress.methods import (
    DEFAULT,
    DEFAULT_TERMS,
    INSIDE,
    NO_DEFAULT,
    ON_EMBEDDINGS,
    ON_MAPS,
    ON_MEMORY,
    PRESETS,
    TERMS,
    Preset,
)
from edgepress.multilabel.config import Config
from edgepress.multilabel.plural import plural
from edgepress.multilabel.preprocess import Resize
from edgepress.multilabel.resampling import Interpolation


def _no_fraction(gamma: float) -> float:
    if 0 < gamma < 1:
        raise ValueError("expected 0, or at least 1: between, the gradient has no bound")
    return gamma


Gamma = Annotated[float, Field(ge=0), AfterValidator(_no_fraction)]


class ModelConfig(Config):
    """A timm backbone with a label-wise head."""

    backbone: str
    """Any model name that timm knows."""
    stages: int | None = Field(default=None, ge=1, le=64)
    """The first stages of the backbone alone, with their pretrained weights: a smaller model where no smaller backbone
    has weights. By default all stages."""
    head: Literal["ml_decoder", "linear"] = "ml_decoder"
    """ml_decoder: one query per label; linear: the smallest, one weight vector per label."""
    width: int = Field(default=256, ge=8, le=4096, multiple_of=8)
    """Width of an ml_decoder head; 768 as published. Its parameters count: 6.5 M at 768, 1.0 M at 256."""
    query_groups: int | None = Field(default=None, ge=1, le=10_000)
    """ml_decoder: the number of queries that all labels share, for labels by the hundred; by default one per label."""
    bottleneck: int | None = Field(default=None, ge=8, le=4096)
    """linear: the width of a factorised head, for labels by the thousand; by default that of the features."""
    size: int = Field(default=224, ge=32, le=2048)
    """Side of the square input, in pixels."""
    resize: Resize = "squash"
    """How a picture becomes square: squash stretches it, crop cuts out its middle, letterbox puts it between black
    bars."""
    crop_fraction: float = Field(default=0.875, gt=0, le=1)
    """crop: side of the middle as a share of the picture's shorter side."""
    interpolation: Interpolation = "area-cubic"
    """How scaled pixels are computed: area-cubic (OpenCV's), bilinear-aa and bicubic-aa (Pillow's), or bilinear (no
    antialiasing, as canvases and hardware scalers do it)."""
    weights: str = "auto"
    """Backbone weights: a .safetensors file, 'none' for random, or 'auto': an installed package, else timm's hub."""

    @model_validator(mode="after")
    def _of_this_head(self) -> ModelConfig:
        for name, head in (("query_groups", "ml_decoder"), ("bottleneck", "linear")):
            if getattr(self, name) is not None and self.head != head:
                raise ValueError(f"{name} is for head {head}, and head is {self.head}: leave out either")
        return self


class TrainConfig(Config):
    """How a model is trained."""

    epochs: int = Field(default=20, ge=1)
    """Passes over the training split."""
    stop_epoch: int | None = Field(default=None, ge=1)
    """The epoch after which training stops before its schedule ends; by default the last one. Published teachers stop
    at epoch 30 of 80."""
    batch_size: int = Field(default=64, ge=2)
    """Pictures per forward pass, in each process."""
    accumulate: int = Field(default=1, ge=1)
    """Forward passes per step, for a batch larger than memory holds. Terms between pictures see one pass each."""
    lr: float = Field(default=5e-4, gt=0)
    """Peak learning rate of the OneCycle schedule (AdamW)."""
    backbone_lr_scale: float = Field(default=1.0, ge=0)
    """The backbone's learning rate as a multiple of lr. 0 trains the head alone, which suits few pictures: the backbone
    stays as it is, with the statistics of its batch norms. On a CPU it then sees each variation of a picture once, if
    epochs repeat them at least twice; see docs/distillation.md."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """AdamW's weight decay, on weights of two or more dimensions."""
    pct_start: float = Field(default=0.2, gt=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    ema_decay: float = Field(default=0.9997, ge=0, lt=1)
    """Decay of the averaged weights, approached from below in the first steps; these weights are kept."""
    task_loss: Literal["bce", "asl", "focal"] = "bce"
    """What is learnt from the labels. bce: binary cross-entropy; asl: asymmetric loss, for many negatives a positive;
    focal: focal loss with alpha 0.25 and gamma 2. Labels that exclude each other learn by cross-entropy in any case."""
    gamma_neg: Gamma = 4.0
    """asl: how fast easy negatives lose weight; 0, or at least 1."""
    gamma_pos: Gamma = 0.0
    """asl: the same for positives; 0, or at least 1."""
    clip: float = Field(default=0.05, ge=0, lt=1)
    """asl: the margin by which a negative's probability is shifted down."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """s: a target y becomes y(1 - s) + s/2."""
    positive_weights: Literal["none", "balanced"] = "none"
    """balanced: a label's positives count as much as its negatives, by their numbers in the training split; for labels
    that exclude no others."""
    augment: Literal["none", "randaugment"] = "randaugment"
    """randaugment: RandAugment, two operations of magnitude 9."""
    flip: float = Field(default=0.5, ge=0, le=1)
    """Probability of a mirror image; 0 where left and right matter."""
    cutout: float = Field(default=0.5, ge=0, lt=1)
    """Largest side of the grey square laid over a picture, as a share of the picture's side."""
    random_crop: float = Field(default=1.0, gt=0, le=1)
    """Smallest share of a picture's area that is shown: 1 shows all of it, 0.3 a part drawn at random of at least 30 %.
    A teacher sees the same part."""
    mixup: float = Field(default=0.0, ge=0, le=10)
    """alpha of Beta(alpha, alpha), from which the share of another picture is drawn that is laid over each; 0: none.
    A teacher answers for the pictures as they are, by soft_bce alone."""
    resize_jitter: bool = False
    """Scale each picture by an interpolation drawn at random, for callers of the engine that scale in another way."""
    variations: int | None = Field(default=None, ge=1)
    """In how many ways each picture is augmented; the epochs repeat them in turn. By default every epoch has a new one.
    A teacher whose outputs are kept answers only this many epochs, however long its students learn."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of the forward pass; losses stay in float32."""
    torch_compile: bool = False
    """Compile the model with torch.compile; the first steps take long, and a C++ compiler is needed on a CPU."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that read and augment pictures; by default 4 beside a GPU, or fewer where cores are few, and 0 on a
    CPU, where they would fight with torch's threads for the same cores."""
    seed: int = Field(default=0, ge=0)
    """Orders, augmentations and initial weights follow from it."""

    @model_validator(mode="after")
    def _stops_within(self) -> TrainConfig:
        if self.stop_epoch is not None and self.stop_epoch > self.epochs:
            raise ValueError(
                f"stop_epoch is {self.stop_epoch}, and the schedule has {plural(self.epochs, 'epoch')}: leave it out"
            )
        return self

    @property
    def epochs_trained(self) -> int:
        """Passes over the training split that are made: all of the schedule's, or those up to `stop_epoch`."""
        return self.epochs if self.stop_epoch is None else self.stop_epoch


class TeachConfig(ModelConfig, TrainConfig):
    """Fine-tune a large model on the labels: the teacher."""

    backbone: str = "resnet101"
    """Any model name that timm knows."""
    task_loss: Literal["bce", "asl", "focal"] = "asl"
    """bce: binary cross-entropy; asl: asymmetric loss, for many negatives a positive; focal: focal loss."""


class DistillConfig(ModelConfig, TrainConfig):
    """Train a small model on the labels and on the teacher: the student."""

    backbone: str = "tf_efficientnet_lite0"
    """Any model name that timm knows."""
    preset: Preset | None = None
    """A method's weights; what is given beside it wins. l2d: as published, with its size, epochs and learning rate;
    alone: no teacher."""
    reduction: Literal["published", "mean"] = "mean"
    """published: the paper's sums, for batch 64 (weights 10, 100, 1000); mean: independent of the batch's size."""
    task: float = Field(default=1.0, ge=0)
    """Weight of the labels themselves, of task_loss."""
    mld: float = Field(default=0.0, ge=0)
    """Weight of the logits' distillation."""
    cd: float = Field(default=0.0, ge=0)
    """Weight of the class-aware embeddings' distillation."""
    id: float = Field(default=0.0, ge=0)
    """Weight of the instance-aware embeddings' distillation."""
    hint: float = Field(default=0.0, ge=0)
    """Weight of the label-wise embeddings' own distance."""
    mse: float = Field(default=0.0, ge=0)
    """Weight of the mean squared difference of logits."""
    ps: float = Field(default=0.0, ge=0)
    """Weight of the partial softmax over a positive label and all negatives."""
    kd: float = Field(default=0.0, ge=0)
    """Weight of MLD at a temperature."""
    kd_temperature: float = Field(default=4.0, gt=0)
    """kd: the temperature; above 1 the teacher's confident answers differ more visibly from each other."""
    rkd: float = Field(default=0.0, ge=0)
    """Weight of relational distillation of pooled features: 25 times distances and 50 times angles."""
    pkt: float = Field(default=0.0, ge=0)
    """Weight of probabilistic knowledge transfer of pooled features."""
    review_kd: float = Field(default=DEFAULT_TERMS["review_kd"], ge=0)
    """Weight of knowledge review over four feature maps; 0 where only other terms are given a weight."""
    review_kd_warmup: float = Field(default=0.0, ge=0, lt=1)
    """Share of the epochs over which review_kd's weight rises from 0; 0: none. The authors' is 20 of 240."""
    review_kd_width: int = Field(default=128, ge=1)
    """Channels of review_kd's fused maps at most, and never more than the student's deepest map has. The authors' 512
    costs several times as much."""
    at: float = Field(default=0.0, ge=0)
    """Weight of attention transfer over four feature maps."""
    fitnet: float = Field(default=0.0, ge=0)
    """Weight of FitNet hints over four feature maps."""
    label_map: float = Field(default=0.0, ge=0)
    """Weight of the labels' scores in regions of the picture."""
    simkd: float = Field(default=DEFAULT_TERMS["simkd"], ge=0)
    """Weight of the difference of what the two heads read; 0 where only other terms are given a weight. `inherit_head`
    lets one head serve both."""
    soft_bce: float = Field(default=0.0, ge=0)
    """Weight of the cross-entropy with the teacher's probabilities as targets; also of pictures mixed by mixup."""
    dist: float = Field(default=0.0, ge=0)
    """Weight of the correlations of probabilities: over the labels of a picture, and over the pictures of a label."""
    refined: float = Field(default=0.0, ge=0)
    """Weight of MLD with the teacher's answers refined: a positive label wins over it, and positives of which it alone
    is sure count by its precision on val."""
    prototypes: float = Field(default=0.0, ge=0)
    """Weight of the similarities of positive embeddings to the labels' prototypes, averages of the teacher's."""
    auxiliary: Literal["none", "mld", "kd", "mse", "ps", "soft_bce", "dist", "refined"] = "none"
    """The term on logits that teaches a second head instead of the student's own. The second head is linear, shares the
    backbone in training, and is left behind."""
    inherit_head: Literal["auto", "no"] = "auto"
    """auto: the student starts with the teacher's head, where head and width are the same; no: with a random one, as
    where a term is given a weight and this is not."""
    teacher_mirrored: bool = False
    """The teacher's answer is the mean over the picture and its mirror image: better, at twice its time."""
    unlabelled: str | None = None
    """A folder of pictures that nobody labelled: the teacher's terms learn from them as well."""
    unlabelled_share: float = Field(default=0.5, gt=0, lt=1)
    """Their share of each batch."""
    sure: float = Field(default=0.9, gt=0, lt=1)
    """The teacher's probability from which an unlabelled picture has a label, for the terms between positives."""

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("preset"), str):
            return {**PRESETS.get(values["preset"], {}), **values}
        if isinstance(values, dict) and any(values.get(name) for name in TERMS):
            return {**NO_DEFAULT, **values}
        return values  # the fields' own values are the default, and so `by_default` knows what nobody gave

    @model_validator(mode="after")
    def _learn_something(self) -> DistillConfig:
        if not self.taught and (self.preset != "alone" or not self.task):
            raise ValueError("every weight of a teacher's term is 0: nothing would be distilled (preset alone says so)")
        if self.taught and self.preset == "alone":
            given = next(name for name in TERMS if getattr(self, name))
            raise ValueError(f"preset alone has no teacher, but {given} is {getattr(self, given):g}: leave out either")
        if self.mixup and set(self.terms) - {"soft_bce"}:
            given = next(name for name in self.terms if name != "soft_bce")
            raise ValueError(
                f"mixup shows pictures that a teacher has not seen, and {given} compares its answers to them: "
                f"set {given} to 0 and soft_bce above 0, or mixup to 0"
            )
        if self.refined and self.sure < 0.5:
            raise ValueError(
                f"refined needs a teacher that is sure of what it says: sure is {self.sure:g}, expected 0.5 or more"
            )
        if self.auxiliary != "none" and not getattr(self, self.auxiliary):
            raise ValueError(f"auxiliary is {self.auxiliary}, whose weight is 0: give it one, or leave auxiliary out")
        if self.unlabelled is not None and not self.taught:
            raise ValueError("unlabelled pictures teach nothing without a teacher: leave them out with preset alone")
        if self.query_groups is not None and (self.compares_embeddings or self.compares_maps):
            given = next(name for name in (*ON_EMBEDDINGS, *ON_MAPS) if getattr(self, name))
            what = "a score per label and place" if given in ON_MAPS else "an embedding per label"
            raise ValueError(f"{given} compares {what}, and with query_groups labels share theirs")
        return self

    @property
    def terms(self) -> tuple[str, ...]:
        """The teacher's terms that have a weight."""
        return tuple(name for name in TERMS if getattr(self, name))

    @property
    def by_default(self) -> tuple[str, ...]:
        """The settings of the default terms that nobody gave, by a flag, in a recipe or by a preset."""
        return tuple(name for name in DEFAULT if name not in self.model_fields_set)

    @property
    def taught(self) -> bool:
        """Whether a teacher's term has a weight."""
        return bool(self.terms)

    @property
    def compares_embeddings(self) -> bool:
        """Whether a term compares label-wise embeddings, so that each label must have one."""
        return any(getattr(self, name) for name in ON_EMBEDDINGS)

    @property
    def compares_maps(self) -> bool:
        """Whether a term compares label maps."""
        return any(getattr(self, name) for name in ON_MAPS)

    @property
    def looks_inside(self) -> bool:
        """Whether a term compares what lies before the teacher's answers."""
        return any(getattr(self, name) for name in (*INSIDE, *ON_MEMORY))

    @property
    def asks_each_step(self) -> bool:
        """Whether the teacher must run beside the student: what lies inside it takes too much room to be kept where
        pictures are never repeated."""
        return self.looks_inside and self.variations is None


TeacherCalibration = Literal["auto", "none", "temperature", "platt"]
Weak = Literal["mask", "stop", "keep"]


class TeacherOptions(Config):
    """Finished teachers, and how their answers are read."""

    teacher: tuple[str, ...] = ()
    """A finished teacher: a bundle of kind torch or onnx (`edgepress adopt` makes one of a model from elsewhere), or a
    .safetensors file of edgepress; several answer as one. `teach` is skipped."""
    teacher_labels: tuple[str, ...] = ()
    """A YAML map from the data set's labels to the teacher's, where their names differ; one for each teacher."""
    teacher_features: tuple[str, ...] = ()
    """Tensors in the graph of an ONNX teacher, the first: feature maps [pictures, channels, rows, columns], shallow
    ones first, for review_kd, at, fitnet, rkd and pkt; label-wise embeddings [pictures, labels, width] for cd, id and
    hint."""
    teacher_calibration: TeacherCalibration = "auto"
    """How the teacher's probabilities are fitted to val before it teaches. auto: not at all, unless that lowers their
    log loss clearly."""
    teacher_weak: Weak = "mask"
    """What happens to labels whose AP on val is at or below prevalence. mask: they are not taught; stop: nothing is;
    keep: they are taught all the same."""

    @field_validator("teacher", "teacher_labels", "teacher_features", mode="before")
    @classmethod
    def _may_be_one(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else () if given is None else given


class QuantizeAwareConfig(Config):
    """Fine-tune a student so that INT8 keeps its mAP, under the terms it was trained by."""

    epochs: int = Field(default=2, ge=1)
    """Passes over the training split."""
    lr: float | None = Field(default=None, gt=0)
    """Peak learning rate; by default a tenth of the student's own."""
    pictures: int = Field(default=256, ge=8)
    """Training pictures on which the ranges of activations are measured first."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that read and augment pictures; by default 4 beside a GPU, or fewer where cores are few, and 0 on a
    CPU."""
    seed: int | None = Field(default=None, ge=0)
    """Orders, augmentations and the pictures of the ranges follow from it; by default the student's own."""
