"""A graph of 3,000 tags, a map to 30 labels, a student: each step does to the answers what is done by hand here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

onnx = pytest.importorskip("onnx", reason="onnx is not installed; the teacher is a graph of it")
import cv2  # noqa: E402

from edgepress.multilabel.bundle import Bundle  # noqa: E402
from tests.deploy.build.graphs import saved, tagger, weights  # noqa: E402

TAGS, LABELS, SIDE = 3000, 30, 32
NAMES = [f"label_{number:02d}" for number in range(LABELS)]
QUICK = ("--backbone", "test_efficientnet", "--weights", "none", "--head", "linear", "--size", "32", "--epochs", "1")


def columns(place: int) -> list[int]:
    """The tags of a label: none of the last, two of every fifth, the highest of three of every seventh, else one."""
    if place == LABELS - 1:
        return []
    first = 97 * place + 5
    return [first, first + 1] if place % 5 == 0 else [first, first + 1, first + 2] if place % 7 == 0 else [first]


def taken(place: int) -> str | dict | list | None:
    names = [f"tag {column}" for column in columns(place)]
    if place % 5 == 0 and names:
        return {"noisy-or": names}
    return names if len(names) > 1 else names[0] if names else None


def tags_of(pictures: np.ndarray) -> np.ndarray:
    """The graph's own answers `[N, 3000]` for BGR pictures `[N, side, side, 3]`, in float64."""
    return (pictures[..., ::-1] / 127.5 - 1).mean(axis=(1, 2)) @ weights(TAGS)


def by_hand(tags: np.ndarray) -> np.ndarray:
    """Logits of the tags `[N, 3000]` to probabilities of the labels `[N, 30]`; 0 for the label without a tag."""
    p = 1 / (1 + np.exp(-tags.astype(np.float64)))
    made = np.zeros((len(tags), LABELS))
    for place in range(LABELS - 1):
        own = p[:, columns(place)]
        made[:, place] = 1 - np.prod(1 - own, axis=1) if place % 5 == 0 else own.max(axis=1)
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pictures of one noisy colour each, whose labels are what the teacher finds likely, one in eight turned."""
    root, rng = tmp_path_factory.mktemp("many") / "data", np.random.default_rng(0)
    root.mkdir()
    (root / "labels.txt").write_text("\n".join(NAMES))
    for split, count in (("train", 48), ("val", 40), ("test", 8)):
        (root / split).mkdir()
        noise = rng.integers(-24, 25, (count, SIDE, SIDE, 3))
        pictures = np.clip(rng.integers(0, 256, (count, 1, 1, 3)) + noise, 0, 255).astype(np.uint8)
        answers = by_hand(tags_of(pictures))
        answers[:, -1] = rng.random(count)
        yes = (answers > np.median(answers, axis=0)) ^ (rng.random(answers.shape) < 1 / 8)
        rows = []
        for place, (picture, labels) in enumerate(zip(pictures, yes, strict=True)):
            name = f"{place:03d}.png"
            cv2.imwrite(str(root / split / name), picture)
            rows.append({"file_name": name, "labels": [NAMES[at] for at in np.flatnonzero(labels)]})
        (root / split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def test_tags_are_mapped_examined_masked_and_taught(data, edgepress, tmp_path):
    saved(tagger(outputs=TAGS), tmp_path / "big.onnx")
    (tmp_path / "tags.txt").write_text("\n".join(f"tag {number}" for number in range(TAGS)))
    (tmp_path / "map.yaml").write_text(json.dumps({name: taken(at) for at, name in enumerate(NAMES)}))
    halves = ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--labels", tmp_path / "tags.txt", "--keep-labels")
    adopted = edgepress("adopt", tmp_path / "big.onnx", "--data", data, *halves, "--out", tmp_path / "big")
    assert adopted.code == 0, adopted.err
    assert len(Bundle.open(tmp_path / "big").labels) == TAGS
    lesson = ("--teacher", tmp_path / "big", "--teacher-labels", tmp_path / "map.yaml", "--teacher-calibration", "none")
    done = edgepress("distill", data, *lesson, *QUICK, "--workers", "0", "--out", tmp_path / "student")
    assert done.code == 0, done.err
    student = Bundle.open(tmp_path / "student")
    facts = student.manifest.facts
    assert list(student.labels) == NAMES
    assert NAMES[-1] in facts.untaught
    assert facts.history[0].terms["dist"] > 0
    pictures, targets = [], []
    for line in (data / "val" / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        pictures.append(cv2.imread(str(data / "val" / row["file_name"])))
        targets.append([name in row["labels"] for name in NAMES])
    answers = by_hand(tags_of(np.stack(pictures)))
    expected = average_precision_score(np.array(targets)[:, :-1], answers[:, :-1], average="macro")
    assert facts.teacher_val_mAP == pytest.approx(expected, abs=2e-3)
    assert expected > 0.7
