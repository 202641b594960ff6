"""Methods of distillation: the terms that a teacher teaches by, what each asks of a teacher, and presets of weights."""

from __future__ import annotations

from typing import Literal

TERMS = (
    *("mld", "cd", "id", "hint", "mse", "ps", "kd", "rkd", "pkt", "review_kd", "at", "fitnet"),
    *("label_map", "simkd", "soft_bce", "dist", "refined", "prototypes"),
)
"""A teacher's terms: each is a field of DistillConfig, its weight."""
ON_LOGITS = ("mld", "kd", "mse", "ps", "soft_bce", "dist", "refined")
"""Terms that need only a teacher's logits."""
ON_EMBEDDINGS = ("cd", "id", "hint", "prototypes")
"""Terms on label-wise embeddings."""
ON_MAPS = ("label_map",)
"""Terms on a score for each label and region of the picture."""
ON_MEMORY = ("simkd",)
"""Terms on what the head reads."""
ON_POOLED = ("rkd", "pkt")
"""Terms on the mean of a backbone's last features."""
ON_FEATURE_MAPS = ("review_kd", "at", "fitnet")
"""Terms on feature maps."""
INSIDE = (*ON_POOLED, *ON_FEATURE_MAPS)
"""Terms on what lies between the pixels and the head."""
PROJECTED = ("review_kd", "fitnet", "simkd", "prototypes")
"""Terms with parameters of their own, which are trained beside the student and not part of it."""
NOT_FINETUNED = (*PROJECTED, *ON_MAPS)
"""Terms that a finished student is not fine-tuned by: their projections would start random, or they follow what the
head computes within, which INT8 graphs do not have."""
Preset = Literal[
    "alone",
    "mse",
    "ps",
    "kd",
    "rkd",
    "pkt",
    "review_kd",
    "review_kd+warmup",
    "at",
    "fitnet",
    "label_map",
    "simkd",
    "review_kd+simkd",
    "soft_bce",
    "dist",
    "refined",
    "prototypes",
    "review_kd+auxiliary",
    "mld",
    "mld+cd",
    "mld+id",
    "l2d",
]


def _only(**weights: float | int | str) -> dict[str, float | int | str]:
    return {**dict.fromkeys(TERMS, 0.0), "inherit_head": "no", **weights}


def _published(**weights: float) -> dict[str, float | int | str]:
    # The weights hold for sums over batches of 64. (Their teacher's training stopped at epoch 30.)
    training = {"width": 768, "size": 224, "epochs": 80, "batch_size": 64, "lr": 1e-4, "pct_start": 0.2}
    return _only(reduction="published", **training, augment="randaugment", cutout=0.5, **weights)


DEFAULT_TERMS = {"review_kd": 0.1, "simkd": 4.0}
"""The terms of a student for which nobody chose any."""
DEFAULT: dict[str, float | str] = {**DEFAULT_TERMS, "inherit_head": "auto"}
"""Their settings, which are the values of their fields. A term that is given 0 is left out of them."""
NO_DEFAULT: dict[str, float | str] = {**dict.fromkeys(DEFAULT_TERMS, 0.0), "inherit_head": "no"}
"""What replaces the default where a term is given a weight."""
ALONE = _only()
"""No teacher's term."""
PRESETS: dict[Preset, dict[str, float | int | str]] = {
    "alone": ALONE,
    "mse": _only(mse=1.0),
    "ps": _only(ps=0.1),
    "kd": _only(kd=1.0),
    "rkd": _only(rkd=0.01),
    "pkt": _only(pkt=1.0),
    "review_kd": _only(review_kd=0.1),
    "review_kd+warmup": _only(review_kd=0.1, review_kd_warmup=20 / 240),
    "at": _only(at=10.0),
    "fitnet": _only(fitnet=0.1),
    "label_map": _only(label_map=4.0),
    "simkd": _only(simkd=4.0, mld=4.0, inherit_head="auto"),
    "review_kd+simkd": _only(review_kd=0.1, simkd=4.0, inherit_head="auto"),
    "soft_bce": _only(task=0.1, soft_bce=0.9, mixup=0.3),
    "dist": _only(dist=1.0),
    "refined": _only(refined=4.0),
    "prototypes": _only(mld=4.0, prototypes=0.5),
    "review_kd+auxiliary": _only(review_kd=0.1, mld=4.0, auxiliary="mld"),
    "mld": _published(mld=10.0),
    "mld+cd": _published(mld=10.0, cd=100.0),
    "mld+id": _published(mld=10.0, id=1000.0),
    "l2d": _published(mld=10.0, cd=100.0, id=1000.0),
}
"""Methods by name: the weights of their terms; those with `simkd` inherit the teacher's head. `l2d` is the paper's
objective and training, of which `mld`, `mld+cd` and `mld+id` are the parts."""
