"""A file of answers is read whole or refused in one line: which picture, which label, what is expected."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.metrics import logit, sigmoid
from edgepress.multilabel.stored_answers import StoredAnswers, write_answers

LABELS = ("dog", "cat", "sofa")
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (4, 3)).astype(np.float32)
PICTURES = ["train/a.jpg", "train/b.jpg", "train/c.jpg", "val/a.jpg"]


def npz(path: Path, **changes) -> Path:
    arrays = {"pictures": np.array(PICTURES), "labels": np.array(LABELS), "logits": LOGITS, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.fixture(scope="module")
def train(tiny_data) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_what_is_written_is_read(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed; it reads Parquet")
    made = write_answers(tmp_path / f"answers{suffix}", LabelSpace(LABELS), PICTURES, LOGITS)
    assert (made.labels.names, list(made.pictures), made.scale) == (LABELS, PICTURES, "logits")
    np.testing.assert_array_equal(made.logits, LOGITS)
    assert not made.by_hash
    assert made.as_parent.name == f"answers{suffix}"


def test_a_table_of_pandas_is_read(tmp_path):
    """As `df.to_parquet` writes a column of dicts, such as those that `predict --json` prints."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed; it reads Parquet")
    import pyarrow.parquet as pq

    p = sigmoid(LOGITS.astype(np.float64))
    rows = [dict(zip(LABELS, map(float, row), strict=True)) for row in p]
    pq.write_table(pa.table({"picture": PICTURES, "probabilities": rows, "own": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    made = StoredAnswers.read(tmp_path / "a.parquet")
    assert made.scale == "probabilities"
    np.testing.assert_allclose(made.logits, LOGITS, atol=1e-4)


def test_probabilities_become_logits_that_are_finite(tmp_path):
    p = np.array([[0, 1, 0.5], [0.25, 1e-12, 1 - 1e-12]] * 2, np.float32)
    made = StoredAnswers.read(npz(tmp_path / "a.npz", logits=None, probabilities=p))
    assert np.isfinite(made.logits).all()
    np.testing.assert_allclose(made.logits[1, 0], np.log(1 / 3), rtol=1e-6)
    np.testing.assert_array_equal(made.logits, logit(p))
    assert made.logits[0, :2].tolist() == pytest.approx([-16.1, 16.0], abs=0.1)


def test_scores_of_no_scale_are_taken_as_such(tmp_path):
    scores = np.linspace(0.1, 0.3, 12).reshape(4, 3)
    assert StoredAnswers.read(npz(tmp_path / "a.npz", logits=None, scores=scores)).scale == "scores"


NAN = LOGITS.copy()
NAN[2, 1] = np.nan
OUTSIDE = sigmoid(LOGITS)
OUTSIDE[1, 2] = 1.7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"logits": NAN}, r"logits has nan for 'train/c.jpg', 'cat' \(1 picture has such\); expected finite numbers"),
        (
            {"logits": None, "probabilities": OUTSIDE},
            r"probabilities has 1.7 for 'train/b.jpg', 'sofa' .*; expected numbers within 0..1; are they logits\?",
        ),
        (
            {"logits": LOGITS - np.log(np.exp(LOGITS).sum(axis=1, keepdims=True))},
            r"its logits are logarithms of probabilities that add up to 1, as a LogSoftmax gives them: store the prob",
        ),
        ({"logits": sigmoid(LOGITS)}, r"all logits are within 0..1, as probabilities are: call them probabilities if"),
        ({"pictures": np.array(PICTURES[:3] + PICTURES[:1])}, r"1 picture occurs twice \(train/a.jpg\)"),
        ({"pictures": np.array([*PICTURES[:3], "0" * 64])}, r"1 of 4 pictures are named by a sha256; expected all, or"),
        ({"labels": np.array(("dog", "cat", "dog"))}, r"label 'dog' occurs twice"),
        ({"labels": np.array(LABELS[:2])}, r"logits are float32 \[4, 3\] for 4 pictures and 2 labels"),
        ({"pictures": np.array(PICTURES[:3])}, r"logits are float32 \[4, 3\] for 3 pictures and 3 labels"),
        ({"logits": LOGITS.astype(int)}, r"logits are int64 \[4, 3\].*expected floating-point numbers"),
        ({"probabilities": sigmoid(LOGITS)}, r"holds .*; expected the arrays pictures, labels and one of logits, pro"),
        ({"logits": None}, r"holds pictures, labels; expected the arrays"),
        ({"pictures": None, "files": np.array(PICTURES)}, r"expected the arrays pictures, labels and one of"),
        ({"labels": None}, r"not a file of stored answers \(.*labels"),
        ({"labels": np.arange(3)}, r"labels is int64 \[3\]; expected a list of text"),
        ({"pictures": np.array(PICTURES, object)}, r"not a file of stored answers \(Object arrays cannot be loaded"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, changes, words):
    file = npz(tmp_path / "answers.npz", **changes)
    with pytest.raises(InputError, match=words) as error:
        StoredAnswers.read(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["answers.npz", "answers.parquet"])
def test_what_is_no_file_of_answers_is_refused(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed; it reads Parquet")
    with pytest.raises(InputError, match="answers"):
        StoredAnswers.read(tmp_path / name)
    (tmp_path / name).write_bytes(b"PK no archive")
    with pytest.raises(InputError, match=r"not a (file of stored answers|Parquet file)"):
        StoredAnswers.read(tmp_path / name)
    np.save(tmp_path / "x.npy", LOGITS)
    (tmp_path / "x.npy").rename(tmp_path / "x.npz")
    with pytest.raises(InputError, match="not a file of stored answers"):
        StoredAnswers.read(tmp_path / "x.npz")


def answers(pictures: list[str]) -> StoredAnswers:
    count = len(pictures)
    return StoredAnswers(
        path=Path("answers.npz"),
        labels=LabelSpace(LABELS),
        pictures=tuple(pictures),
        logits=np.arange(count * 3, dtype=np.float32).reshape(count, 3),
        scale="logits",
        digest="d",
    )


@pytest.mark.parametrize("by_hash", [False, True])
def test_pictures_are_found_by_their_path_or_their_content(train, by_hash):
    names = train.hashes() if by_hash else [path.relative_to(train.root).as_posix() for path in train.paths]
    found = answers(names[::-1])
    assert found.by_hash == by_hash
    assert found.rows(train).tolist() == list(range(len(train)))[::-1]
    assert found.has(train) == len(train)


def test_the_pictures_without_an_answer_are_named(train):
    names = [path.relative_to(train.root).as_posix() for path in train.paths]
    lacking = answers([name for row, name in enumerate(names) if row not in (3, 7, 20)])
    assert lacking.has(train) == 21
    with pytest.raises(InputError, match=r"answers for 21 of 24 pictures of 'train'; missing ") as error:
        lacking.rows(train)
    assert all(str(train.paths[row]) in str(error.value) for row in (3, 7, 20))
    other = r"answers for 0 of 24 pictures.*; its pictures are named such as 'a.jpg', the data set's 'train/00000.jpg'"
    with pytest.raises(InputError, match=other):
        answers(["a.jpg"]).rows(train)


def test_pictures_in_shards_have_no_path(train, tmp_path):
    from edgepress.multilabel.shards import write_shards

    write_shards([train], tmp_path / "shards", shard_bytes=1_000_000)
    packed = load_dataset(tmp_path / "shards", "train")
    with pytest.raises(InputError, match="are in shards: name sha256"):
        answers(["train/00000.jpg"]).rows(packed)
    assert answers(train.hashes()).rows(packed).tolist() == list(range(24))


def test_copies_of_a_picture_share_its_answer(train):
    twice = replace(train, paths=[train.paths[0], *train.paths[:-1]])
    assert answers(train.hashes()).rows(twice).tolist() == [0, *range(23)]
