"""verify --golden: check a device without a data set, by the pictures that are stored in the bundle, step by step.

Each step gets what was stored of the step before it, so that a step that differs is at fault itself:

    a picture's file ─ decode ─▶ pixels ─ resize ─▶ what the model takes ─ model ─▶ logits ─ threshold ─▶ decisions
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.engines.base import Ran
from edgepress.deploy.engines.golden import Golden, disagreement, first_answer
from edgepress.deploy.verify.references import require_engine
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.golden_answers import ANSWERS, DECODED, GOLDEN, GoldenAnswers
from edgepress.multilabel.judgement import Judgement, Reason, ReasonKind, Verdict, judge
from edgepress.multilabel.manifest import Precision
from edgepress.multilabel.pictures import decode_picture
from edgepress.multilabel.plural import plural

StepName = Literal["decode", "resize", "model", "threshold"]
PROBABILITY_DIFF = 1e-9
"""Largest difference of a probability that is computed from the same logit: a few roundings of float64."""
_REASONS: dict[StepName, ReasonKind] = {
    "decode": "decode",
    "resize": "resize",
    "model": "logits",
    "threshold": "decisions",
}


class Step(BaseModel):
    """A step from a picture's file to the decisions, on this machine."""

    model_config = ConfigDict(frozen=True)

    step: StepName
    differs: bool | None
    """Whether it differs by more than is allowed; None where the bundle lacks what would show it."""
    largest: float | None = None
    """The largest difference: of a channel's value (0 to 255), a logit, or a probability."""
    text: str
    """What was found, for people."""


class GoldenVerification(BaseModel):
    """What a machine makes of the stored pictures, and the judgement."""

    engine: str
    precision: Precision
    judgement: Judgement
    steps: tuple[Step, ...]
    pictures: int
    """Number of picture files; 0 in bundles from before they were stored."""
    decisions: int | None
    """Number of decisions on them; None without files."""
    changed: int | None
    """How many of these differ from the stored ones if this machine does every step, from the file on."""
    ran: Ran

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    @property
    def first_different(self) -> StepName | None:
        """The first step that differs by more than is allowed."""
        return next((one.step for one in self.steps if one.differs), None)

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON, with its subject and the verdict first."""
        about = {"engine": self.engine, "precision": self.precision, **self.judgement.as_dict()}
        found = self.model_dump(mode="json", exclude={"judgement"})
        return {**about, "first_different": self.first_different, **found}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> GoldenVerification:
        """Read what `as_dict` wrote, among other keys.

        Raises:
            ValidationError: it is something else; pydantic names the first mistake.
        """
        return cls.model_validate({**record, "judgement": Judgement.from_dict(record)})


@dataclass(frozen=True, eq=False)
class _Stored:
    """The stored pictures of a bundle, one for each file."""

    answers: GoldenAnswers
    decoded: list[np.ndarray]
    rows: list[int]
    """The row of each in `Golden`."""


def verify_golden(bundle: Bundle, device: str = "cpu", *, threads: int | None = None) -> GoldenVerification:
    """Check that this machine decodes, resizes, computes and decides as the one where a bundle was made.

    Raises:
        InputError: the bundle is a torch model, it stores no pictures, or they are not what edgepress writes.
        EngineUnavailableError: this machine cannot run the engine.
    """
    require_engine(bundle)
    golden = Golden.of(bundle)
    if golden is None:
        raise InputError(
            f"{bundle.path}: has no golden pictures ({GOLDEN}); export its model again with this edgepress, or check "
            "it with pictures of your own: edgepress verify BUNDLE --data FOLDER"
        )
    stored = _stored(bundle, golden)
    with open_engine(bundle, device, threads=threads, unproven=True) as engine:
        model, ran = _model(engine, golden), engine.ran
        if stored is None:
            before = "not checked: the bundle was made before golden pictures were stored as files"
            steps = [Step(step="decode", differs=None, text=before), Step(step="resize", differs=None, text=before)]
            steps += [model, Step(step="threshold", differs=None, text=before)]
            changed = None
        else:
            own, decode = _decode(bundle, stored)
            resize, threshold = _resize(bundle, golden, stored), _threshold(bundle, golden, stored)
            steps = [decode, resize, model, threshold]
            changed = _changed(engine, own, stored)
    reasons = [Reason(kind=_REASONS[one.step], text=f"{one.step}: {one.text}") for one in steps if one.differs]
    if stored is None:
        text = "decode, resize and threshold could not be checked: export the model again with this edgepress"
        reasons.append(Reason(kind="pictures", text=text))
    return GoldenVerification(
        engine=bundle.name,
        precision=bundle.manifest.precision,
        judgement=judge(reasons),
        steps=tuple(steps),
        pictures=0 if stored is None else len(stored.rows),
        decisions=None if stored is None else len(stored.rows) * len(bundle.labels),
        changed=changed,
        ran=ran,
    )


def _stored(bundle: Bundle, golden: Golden) -> _Stored | None:
    """The picture files; None in bundles from before they were stored."""
    if ANSWERS not in bundle.manifest.files:
        return None
    answers = GoldenAnswers.parse(bundle.read(ANSWERS), str(bundle.path / ANSWERS))
    where = f"{bundle.path / DECODED}: not a file that edgepress made"
    try:
        with np.load(io.BytesIO(bundle.read(DECODED)), allow_pickle=False) as file:
            rows = [int(one.file.rpartition("/")[2].partition(".")[0]) for one in answers.pictures]
            decoded = [file[str(row)] for row in rows]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{where} ({error})") from None
    for one, pixels in zip(answers.pictures, decoded, strict=True):
        if pixels.dtype != np.uint8 or pixels.shape != (one.height, one.width, 3):
            raise InputError(f"{where} ({one.file}: {pixels.dtype} {list(pixels.shape)})")
        if one.file not in bundle.manifest.files:
            raise InputError(f"{bundle.path / ANSWERS}: names {one.file}, which is not among the bundle's files")
    if answers.labels != bundle.labels.names or not all(0 <= row < len(golden.pictures) for row in rows):
        raise InputError(f"{bundle.path / ANSWERS}: does not belong to this bundle; export the model again")
    return _Stored(answers, decoded, rows)


def _decode(bundle: Bundle, stored: _Stored) -> tuple[list[np.ndarray], Step]:
    """What this machine decodes, in place of which the stored pixels are taken where it cannot."""
    own, worst, said = [], 0.0, ""
    for one, pixels in zip(stored.answers.pictures, stored.decoded, strict=True):
        try:
            mine = decode_picture(bundle.read(one.file), one.file)
        except InputError as error:
            own.append(pixels)
            worst, said = 255.0, str(error)
            continue
        own.append(mine)
        if mine.shape != pixels.shape:
            height, width = mine.shape[:2]
            worst, said = (
                255.0,
                f"{one.file} has {width}x{height} pixels here, and {one.width}x{one.height} by the bundle",
            )
        elif not np.array_equal(mine, pixels) and worst < 255:
            worst, said = _apart(mine, pixels, one.file, worst, said)
    count = plural(len(own), "file")
    return own, Step(step="decode", differs=worst > 0, largest=worst, text=said or f"{count}, every pixel as stored")


def _apart(mine: np.ndarray, stored: np.ndarray, name: str, worst: float, said: str) -> tuple[float, str]:
    """The largest difference so far, and how far two pictures are apart where theirs is it."""
    apart = np.abs(mine.astype(int) - stored)
    if apart.max() <= worst:
        return worst, said
    return float(
        apart.max()
    ), f"{name} differs by up to {apart.max()} of 255, in {(apart > 0).mean():.2%} of its values"


def _resize(bundle: Bundle, golden: Golden, stored: _Stored) -> Step:
    worst, said = 0.0, ""
    for one, row, pixels in zip(stored.answers.pictures, stored.rows, stored.decoded, strict=True):
        mine = bundle.preprocess(pixels)
        if not np.array_equal(mine, golden.pictures[row]):
            worst, said = _apart(mine, golden.pictures[row], one.file, worst, said)
    text = said or f"to {bundle.preprocess.size} pixels, every pixel as stored"
    return Step(step="resize", differs=worst > 0, largest=worst, text=text)


def _model(engine: Engine, golden: Golden) -> Step:
    logits = np.concatenate([first_answer(engine, golden.pictures[:1]), engine(golden.pictures[1:])])
    fault = disagreement(golden, logits, engine.bundle)
    made = golden.logits if golden.answers is None else golden.answers
    if not np.isfinite(logits).all():
        return Step(step="model", differs=True, text=str(fault))
    largest = float(np.abs(logits - made).max())
    whose = "torch's" if golden.answers is None else "those where it was made"
    return Step(
        step="model",
        differs=fault is not None,
        largest=largest,
        text=fault or f"a logit differs by at most {largest:.2g} from {whose}",
    )


def _threshold(bundle: Bundle, golden: Golden, stored: _Stored) -> Step:
    decisions = bundle.decisions
    probabilities = decisions.probabilities(np.array([one.logits for one in stored.answers.pictures]))
    told = np.array([one.probabilities for one in stored.answers.pictures])
    largest = float(np.abs(probabilities - told).max())
    answers = decisions.answers(probabilities)
    changed = int((answers != _tags(stored)).sum())
    if changed:
        text = f"{changed} of {answers.size} decisions differ for the stored logits"
    elif largest > PROBABILITY_DIFF:
        text = f"a probability differs by {largest:.2g} for the same logit"
    else:
        text = f"{answers.size} decisions as stored"
    return Step(step="threshold", differs=bool(changed) or largest > PROBABILITY_DIFF, largest=largest, text=text)


def _tags(stored: _Stored) -> np.ndarray:
    """The stored decisions, bool `[N, C]`."""
    return np.array([[label in one.tags for label in stored.answers.labels] for one in stored.answers.pictures])


def _changed(engine: Engine, own: list[np.ndarray], stored: _Stored) -> int:
    logits = engine(np.stack([engine.preprocess(pixels) for pixels in own]))
    if not np.isfinite(logits).all():
        return _tags(stored).size
    return int((engine.bundle.decisions.decide(logits) != _tags(stored)).sum())
