"""calibrate: fit probabilities that match frequencies, and a threshold for each label."""

from __future__ import annotations

import logging
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING, Annotated, Any

from edgepress.cli.flags import Flags, FlagsOf
from edgepress.cli.options import BundlePath, Data, DataFlags, Device, Json, Out, Split, print_json
from edgepress.multilabel.bundle import Bundle, require_replaceable
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import SILENT, Decisions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.folder_kinds import refuse_swapped
from edgepress.multilabel.lock import only_writer
from edgepress.report.terminal import print_table, stdout
from edgepress.run.recipe import DecisionsConfig

if TYPE_CHECKING:
    from edgepress.calibration.decide.criterion import Criterion

log = logging.getLogger("edgepress")


def verb(
    bundle: BundlePath,
    data: Data,
    out: Out,
    reader: DataFlags,
    split: Split = "val",
    device: Device = "cpu",
    json: Json = False,
    *,
    flags: Annotated[Flags, FlagsOf(DecisionsConfig)],
) -> None:
    """Calibrate a bundle's probabilities and thresholds.

    Give pictures that it neither learnt from nor is verified on. The table says of every label what its probability and
    its threshold are worth on pictures that they were not fitted on (in five parts, each judged by a fit on the other
    four); so does the reliability diagram in plots/ beside the bundle.

    --thresholds takes f1, recall=R, precision=P and fixed=T, which hold on the given pictures, and promises for
    new ones: recall=0.9@95%, precision=0.8@95% and fpr=0.01@95% (false-positive rate) hold for each label with 95 %
    confidence; with :all at the end, for all labels at once.
    """
    config = DecisionsConfig.parse(flags, FLAGS)
    from edgepress.calibration.decide.criterion import Criterion
    from edgepress.calibration.decide.label_scores import label_rows, told_choice
    from edgepress.calibration.decide.thresholds import cross_fitted
    from edgepress.run.build import calibrate_bundle, write_decision_plots

    refuse_swapped("calibrate {bundle} --data {data} --out DIR", bundle, data)
    opened = Bundle.open(bundle)
    require_replaceable(out, opened.manifest.kind, opened.manifest.precision, opened.manifest.role)
    (pictures,) = reader.checked(data, split)
    pictures = pictures.in_order_of(opened.labels, f"the bundle {bundle}", f"the data set {data}")
    _refuse_verified(opened, pictures)
    _require_promise(criterion := Criterion.parse(config.thresholds), pictures)
    with only_writer(out):
        made, logits = calibrate_bundle(opened, pictures, out, config, device)
    decisions, method = made.decisions, made.decisions.calibrator.method
    cells = decisions.scores(logits), pictures.targets, pictures.ignore
    unseen = cross_fitted(*cells, method, criterion, decisions.grouped)
    write_decision_plots(made, decisions, logits, unseen[0], pictures)
    rows = label_rows(decisions, logits, unseen, pictures)
    _tell_few(pictures)
    if json:
        print_json({**_about(made), "labels": [asdict(row) for row in rows]})
        return
    always_one = {
        name for group in decisions.groups.one_of for name in group
    }  # the most probable is yes, whatever the threshold
    print_table(
        stdout(),
        ("label", "positives", "threshold", "F1 at 0.5", "F1", "precision", "recall", "ECE before", "ECE after"),
        [
            [label, f"{positives:g}", "" if label in always_one else _threshold(threshold), *map(_number, numbers)]
            for label, positives, threshold, *numbers in map(astuple, rows)
        ],
        title=f"{made.name}: {method}, {config.thresholds}",
        spare=("F1 at 0.5", "ECE before", "precision"),
        caption=f"{told_choice(decisions, logits, unseen[0], pictures)}\n{_caption(decisions)}",
    )
    print(made.path)


def _caption(decisions: Decisions) -> str:
    """How the table's figures were found, what its thresholds mean, and what they promise."""
    said = (
        "F1, precision, recall and ECE after are cross-fitted: each of five parts of the pictures is judged by a fit "
        "on the other four, as new pictures are. The thresholds are fitted on all pictures, on which they reach more.\n"
        "A threshold is on the calibrated probability: a low one is no fault. It says that pictures of that "
        "probability are answered yes, because the goal is met there."
    )
    promise = decisions.fit.promise if decisions.fit is not None else None
    if promise is None:
        return said
    return f"{said}\nPromised for new pictures of the same kind: a {promise} ({promise.method})."


def _about(made: Bundle) -> dict[str, Any]:
    """The first keys of the JSON."""
    fit = made.decisions.fit
    promise = {} if fit is None or fit.promise is None else {"promise": fit.promise.model_dump(mode="json")}
    return {"bundle": str(made.path), "method": made.decisions.calibrator.method, **promise}


def _require_promise(criterion: Criterion, pictures: MultiLabelDataset) -> None:
    """Stop where the pictures cannot give a promise, and caution about those that the bundle may have learnt from: it
    does not know which these were, so only the name of a split tells.

    Raises:
        InputError: see `require_enough`.
    """
    from edgepress.calibration.decide.promises import require_enough

    if criterion.promise is not None:
        require_enough(criterion.promise, pictures, f"{pictures.root}, split {pictures.split!r}")
    if "train" not in pictures.split.lower():
        return
    lost = " and a promise does not hold on new ones" if criterion.promise is not None else ""
    log.warning(
        "caution: the split is called %s, and the bundle does not know which pictures it learnt from: on those its "
        "probabilities are too sure%s; give pictures that it did not learn from (--split val)",
        *(pictures.split, lost),
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _threshold(value: float | None) -> str:
    return "never" if value == SILENT else _number(value)


def _tell_few(pictures: MultiLabelDataset) -> None:
    """Say which labels have too few positive pictures for a fit of their own."""
    from edgepress.calibration.decide.probabilities import SHRINKAGE

    positives = ((pictures.targets == 1) & ~pictures.ignore).sum(axis=0)
    few = [name for name, count in zip(pictures.labels, positives, strict=True) if count < SHRINKAGE]
    if few:
        log.warning(
            "caution: %d of %d labels have fewer than %g positive pictures in %s, so all labels together decide their "
            "probability more than they do: %s",
            *(len(few), len(positives), SHRINKAGE, pictures.split, shown(few)),
        )


def _refuse_verified(bundle: Bundle, pictures: MultiLabelDataset) -> None:
    """Stop before decisions are fitted on pictures that a bundle is verified on; the verification would mean nothing.

    Raises:
        InputError: there are such pictures; names the first and says how many there are.
    """
    from edgepress.deploy.build.reference import REFERENCE, Reference

    if REFERENCE not in bundle.manifest.files:
        return  # a torch bundle is what others are verified against
    verified = set(Reference.load(bundle.path / REFERENCE).hashes)
    shared = [path for path, name in zip(pictures.paths, pictures.hashes(), strict=True) if name in verified]
    if shared:
        raise InputError(
            f"{shared[0]}: one of {len(shared)} pictures of the split {pictures.split!r} that {bundle.path} is "
            f"verified on, which would prove nothing once its decisions were fitted there; expected a split that it "
            f"neither learnt from nor is verified on (--split val)"
        )
