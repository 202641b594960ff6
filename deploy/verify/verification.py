"""verify: check on real pictures, against the model's own logits, that an engine is still the model it came from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field

from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.engines.base import Ran
from edgepress.deploy.engines.golden import first_answer
from edgepress.deploy.verify.agreement import ALLOWED_DROP, Agreement, beyond_allowed
from edgepress.deploy.verify.callers import Prepare, as_caller
from edgepress.deploy.verify.cautions import label_checks, other_groups, weak_proof
from edgepress.deploy.verify.comparison import Answered, Comparison, FrequencyRow, GroupRow, LabelRow
from edgepress.deploy.verify.decision_gate import BOUNDS, Bounds, DecisionGate
from edgepress.deploy.verify.divergence import Stage, first_beyond, walk_stages
from edgepress.deploy.verify.executed import int8_caution
from edgepress.deploy.verify.layers import Inspection, inspect_layers
from edgepress.deploy.verify.promises import PromiseKept
from edgepress.deploy.verify.references import find_reference, float_parent
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.cells import CellWriter, require_space, scratch_folder
from edgepress.multilabel.confidence import doubt, moved
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.judgement import Judgement, Reason, Verdict, judge
from edgepress.multilabel.manifest import Precision
from edgepress.multilabel.metrics import F1Scores, labels_counted

_BYTES_A_CELL = 12
"""What is kept in files of large splits: the logits of both, the reference's labels, and the answers of both."""
_OTHER_PIXELS = "prepare pictures as the bundle does, train with this program's scaling (docs/pixels.md), or allow more"
"""What is to be done about answers that another program's pixels move."""
_COMPARED = 200
"""Pictures whose pixels are compared between a caller and the bundle."""


class Verification(Agreement):
    """What was compared, how far apart it was, and the judgement."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    engine: str
    precision: Precision
    reference: str
    """Whose logits the engine's were compared with."""
    judgement: Judgement
    """`pass`; `fail` beyond what is allowed; `unproven` if the drop is allowed but not its whole interval, or it has
    none."""
    cautions: tuple[str, ...] = ()
    """Why these pictures are a weak proof, and INT8 that mostly does not run in INT8 here."""
    num_images: int
    labels_counted: int
    drop_interval: tuple[float, float] | None
    """95 % interval of `drop_points` over pictures; None if a logit is not finite or there are too few pictures."""
    budget_points: float
    """The allowed drop."""
    gate: DecisionGate | None = None
    """How far the decisions are from the reference's, and may be; None in records of earlier versions."""
    promise: PromiseKept | None = None
    """Whether the promise of the bundle's thresholds held; None without one, and where a logit is not finite."""
    ran: Ran
    """What really executed, with how many products in which precision."""
    labels: tuple[LabelRow, ...]
    """AP of every label before and after, the one that moved most first."""
    groups: tuple[GroupRow, ...] = ()
    """The accuracy of every group of labels that exclude each other, before and after."""
    by_frequency: tuple[FrequencyRow, ...] = ()
    """mAP of the most frequent third of the labels, of the middle, and of the rarest; none where labels are few."""
    f1: dict[Answered, F1Scores] | None = None
    """The engine's F1 by how labels are answered yes; None where a logit is not finite, and in records of earlier
    versions."""
    stages: tuple[Stage, ...] | None = None
    """Every step from the model to the engine; None if the stages were not compared."""
    diverged_at: str | None = None
    """The first stage beyond what is allowed for it."""
    layers: Inspection | None = None
    """The comparison layer by layer; None where it was not asked for."""
    caller: str | None = None
    """The program whose decoding and scaling the pictures had, one of `CALLERS`; None for the bundle's own."""
    caller_moves: float | None = None
    """Mean difference of its pixels from the bundle's own, in grey levels of 255."""
    logits: np.ndarray | None = Field(default=None, repr=False, exclude=True)
    """The engine's own logits, float32 `[N, C]`, in the data set's order of labels; not in JSON, so None when read from
    it."""

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON, with its subject and the verdict first."""
        about = {"engine": self.engine, "precision": self.precision, "reference": self.reference}
        return {**about, **self.judgement.as_dict(), **self.model_dump(mode="json", exclude={"judgement"})}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Verification:
        """Read what `as_dict` wrote, among other keys.

        Raises:
            ValidationError: it is something else; pydantic names the first mistake.
        """
        return cls.model_validate({**record, "judgement": Judgement.from_dict(record)})


def verify(
    bundle: Bundle | str | Path,
    data: MultiLabelDataset,
    device: str = "cpu",
    budget: float | None = None,
    *,
    bounds: Bounds | None = None,
    threads: int | None = None,
    stages: bool = False,
    layers: bool = False,
    caller: str | None = None,
) -> Verification:
    """Run a bundle's engine over a split and compare it with the model it came from.

    The reference is `reference.npz` where it covers every picture of the split; elsewhere the fp32 ONNX among the
    bundle's parents (for that ONNX itself, its torch parent). Where the verdict is not `pass`, the bundles that it was
    made from are run too and the first that went wrong is named.

    Args:
        bundle: the bundle, or its folder.
        budget: the allowed drop in points of mAP; by default `ALLOWED_DROP` of the bundle's precision.
        bounds: what its decisions may lose; by default `BOUNDS` of the bundle's precision.
        threads: of the engine that is proven, as `open_engine` takes them.
        stages: walk the stages whatever the verdict.
        layers: compare the tensors inside the graph as well; see `deploy.verify.layers`.
        caller: one of `CALLERS`: how far the answers move if that program decodes and scales the pictures.

    Raises:
        InputError: the budget is negative, there is no such caller, the data set has other labels, a picture cannot be
            read, or there is no reference for it.
        EngineUnavailableError: this machine cannot run the engine.

    Example:
        >>> from edgepress import Bundle, load_dataset, verify
        >>> found = verify(Bundle.open("runs/mine/onnx-fp32"), load_dataset("my-pictures", "test"))
        >>> found.verdict
        'pass'
    """
    require_budget(budget)
    if not isinstance(data, MultiLabelDataset) or not isinstance(bounds, Bounds | None):
        raise InputError(
            f"verify: received {type(data).__name__} and the bounds {bounds!r}; expected verify(bundle, data), where "
            f"data is what load_dataset returns, and Bounds or None"
        )
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    if caller is not None and (stages or layers):
        raise InputError("stages and layers compare engines with each other; leave out what a caller does to pictures")
    prepare = None if caller is None else as_caller(caller, bundle.preprocess)
    columns, folder = _columns(bundle, data), scratch_folder(bundle.path)
    require_space(folder, data.targets.size, _BYTES_A_CELL, "verify")
    reference = find_reference(bundle, data, lambda one: _answers(one, data, folder), folder)
    with open_engine(bundle, device, threads=threads, unproven=True) as engine:  # this is the proof
        # From here on everything is in the data set's order of labels, matched by name.
        logits, ran = predict_split(engine, data, prepare=prepare, columns=columns, folder=folder), engine.ran
    result = compare(
        bundle,
        logits,
        reference.logits,
        data,
        reference_name=reference.name,
        reference_targets=reference.targets,
        reference_ignore=reference.ignore,
        budget=budget,
        bounds=bounds,
        ran=ran,
        same_pixels=caller is None,
    )
    if prepare is not None:
        return result.model_copy(update={"caller": caller, "caller_moves": _moved(bundle, data, prepare)})
    if stages or result.verdict != "pass":
        known = {bundle.digest: logits} | ({reference.digest: reference.logits} if reference.digest else {})
        walked = walk_stages(
            bundle,
            data,
            known,
            lambda one: _answers(one, data, folder),
            stored=None if reference.digest else (reference.name, reference.logits),
            budget=result.budget_points,
            bounds=bounds or BOUNDS[result.precision],
            folder=folder,
        )
        result = result.model_copy(update={"stages": tuple(walked), "diverged_at": first_beyond(walked)})
    if layers:
        result = result.model_copy(update={"layers": inspect_layers(bundle, float_parent(bundle), data)})
    return result


def require_budget(budget: float | None) -> None:
    """Refuse an allowed drop that is none. An engine that must be better than its model is no engine of that model.

    Raises:
        InputError: it is negative, or no finite number.
    """
    if budget is not None and not (isinstance(budget, int | float) and math.isfinite(budget) and budget >= 0):
        raise InputError(f"budget is {budget!r}; expected the mAP points that may be lost: a number of at least 0")


def compare(
    bundle: Bundle,
    logits: np.ndarray,
    reference: np.ndarray,
    data: MultiLabelDataset,
    *,
    reference_name: str,
    reference_targets: np.ndarray,
    reference_ignore: np.ndarray,
    budget: float | None,
    ran: Ran,
    same_pixels: bool = True,
    bounds: Bounds | None = None,
) -> Verification:
    """The verdict on logits `[N, C]` against a reference `[N, C]`, both in the data set's order of labels."""
    precision = bundle.manifest.precision
    budget = ALLOWED_DROP[precision] if budget is None else budget
    folder = scratch_folder(bundle.path)
    found = Comparison(logits, reference, data, bundle.decisions, reference_targets, reference_ignore, folder)
    gate = found.gate(bounds or BOUNDS[precision])
    checks = label_checks(bundle, data, reference_targets, reference_ignore)
    checks += checks_of(found, gate, precision, budget, same_pixels=same_pixels)
    kept = found.promise_kept
    cautions = [*weak_proof(data, logits), gate.caution(), None if kept is None else kept.caution()]
    cautions += [other_groups(bundle, data), int8_caution(bundle.manifest.calibration, ran)]
    return Verification(
        **dict(found.agreement),
        engine=bundle.name,
        precision=precision,
        reference=reference_name,
        judgement=judge(checks),
        cautions=tuple(filter(None, cautions)),
        num_images=len(data),
        labels_counted=labels_counted(data.targets, data.ignore),
        drop_interval=found.drop_interval,
        budget_points=budget,
        gate=gate,
        promise=kept,
        ran=ran,
        labels=found.labels(),
        groups=found.groups(),
        by_frequency=found.by_frequency(),
        f1=found.f1(),
        logits=logits,
    )


def checks_of(
    found: Comparison, gate: DecisionGate, precision: Precision, budget: float, *, same_pixels: bool = True
) -> list[Reason]:
    """Everything that speaks against an engine's answers, the reasons for `fail` before those for `unproven`.

    Args:
        budget: the allowed drop in points.
        same_pixels: as for `beyond_allowed`.
    """
    agreement = found.agreement
    checks = beyond_allowed(agreement, precision, budget, same_pixels=same_pixels)
    checks += gate.reasons() if same_pixels else gate.reasons(_OTHER_PIXELS)
    if agreement.drop_points is not None and agreement.drop_points <= budget:
        remedy = {} if same_pixels else {"remedy": _OTHER_PIXELS}
        unproven = doubt(found.drop_interval, budget, len(found.data), **remedy)
        if unproven is not None:
            text = f"mAP {moved(agreement.drop_points)}, which is allowed, but {unproven}"
            checks.append(Reason(kind="interval", text=text))
    return sorted(checks, key=lambda reason: reason.kind == "interval")


def _moved(bundle: Bundle, data: MultiLabelDataset, prepare: Prepare) -> float:
    """The mean difference of a caller's pixels from the bundle's own, in grey levels, of the first pictures."""
    rows = range(min(len(data), _COMPARED))
    own = bundle.preprocess
    return float(np.mean([np.abs(prepare(data, row).astype(int) - own(data.picture(row))).mean() for row in rows]))


def predict_split(
    engine: Engine,
    data: MultiLabelDataset,
    batch: int = 32,
    prepare: Prepare | None = None,
    *,
    columns: list[int] | None = None,
    folder: Path | None = None,
) -> np.ndarray:
    """An engine's float32 logits `[N, C]` on a split, in its order.

    Args:
        prepare: how pictures become pixels; by default as the engine's bundle says.
        columns: the engine's labels in the order in which they are wanted; by default its own.
        folder: where the logits are kept if they are large, as `multilabel.cells` says.

    Raises:
        EngineUnavailableError: see `first_answer`.
        InputError: a picture cannot be read; names it. Or see `first_answer`.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    first_answer(engine, np.zeros((1, engine.preprocess.size, engine.preprocess.size, 3), np.uint8))
    own = prepare or (lambda pictures, row: engine.preprocess(pictures.picture(row)))
    made: CellWriter | None = None
    for start in range(0, len(data), batch):
        rows = range(start, min(start + batch, len(data)))
        logits = engine(np.stack([own(data, row) for row in rows]))
        made = made or CellWriter((len(data), logits.shape[1]), logits.dtype, folder)
        made.append(logits if columns is None else logits[:, columns])
    assert made is not None, "a split holds pictures"
    return made.done()


def predict_pixels(engine: Engine, pixels: np.ndarray, batch: int = 32) -> np.ndarray:
    """An engine's float32 logits `[N, C]` on prepared pictures, uint8 `[N, size, size, 3]`.

    Raises:
        EngineUnavailableError: see `first_answer`.
        InputError: see `first_answer`.
    """
    first_answer(engine, np.zeros((1, *pixels.shape[1:]), np.uint8))
    return np.concatenate([engine(np.array(pixels[at : at + batch])) for at in range(0, len(pixels), batch)])


def _columns(bundle: Bundle, data: MultiLabelDataset) -> list[int]:
    """Index of each of the data set's labels among the bundle's; the two must hold the same names."""
    if set(bundle.labels.names) != set(data.labels.names):
        bundle.labels.require_equal(data.labels, f"the bundle {bundle.path}", f"the data set {data.root}")
    return [bundle.labels.index(name) for name in data.labels.names]


def _answers(bundle: Bundle, data: MultiLabelDataset, folder: Path) -> np.ndarray:
    columns = _columns(bundle, data)
    with open_engine(bundle, unproven=True) as engine:
        return predict_split(engine, data, columns=columns, folder=folder)
