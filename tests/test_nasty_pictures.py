"""The corpus of nasty pictures through everything that reads pictures: each is used, or named with a reason."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.calibration.int8.embeddings import embed
from edgepress.calibration.int8.subset import choose_calibration_set
from edgepress.compress.augmentation import Augmentation
from edgepress.compress.loader import batches, make_loader
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.errors import InputError
from tests.conftest import TINY_LABELS, tiny_picture
from tests.nasty import write_corpus


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> tuple[Path, dict[Path, str | None]]:
    """A data set of folders whose training pictures of one label are the corpus; and the corpus by path."""
    root, rng = tmp_path_factory.mktemp("nasty") / "data", np.random.default_rng(0)
    rgb = tiny_picture(np.array([1, 0, 1, 1, 0], bool), rng)
    corpus = write_corpus(root / "train" / "red", rgb)
    (root / "labels.txt").write_text("".join(f"{label}\n" for label in TINY_LABELS))
    for split in ("train", "val", "test"):
        for label in TINY_LABELS:
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / "plain-0.png"), tiny_picture(np.eye(5, dtype=bool)[0], rng))
    corpus[root / "train" / "red" / "plain-0.png"] = None
    return root, corpus


@pytest.fixture
def train(nasty) -> MultiLabelDataset:
    return load_dataset(nasty[0], "train")


def rows(data: MultiLabelDataset, corpus: dict[Path, str | None], broken: bool) -> np.ndarray:
    """Where the corpus's pictures that are broken, or are not, stand in a split."""
    return np.array([row for row, path in enumerate(data.paths) if (corpus.get(path) is not None) == broken])


def test_the_data_report_reads_or_names_each(edgepress, nasty):
    root, corpus = nasty
    answer = edgepress("data", root, "--split", "train", "--json")
    assert answer.code == 0, answer.err
    report = answer.json["splits"]["train"]
    assert report["pictures"] == len(corpus) + 4  # one of each other label
    told = {Path(one["path"]): one["reason"] for one in report["broken"]}
    assert {path.name for path in told} == {path.name for path, why in corpus.items() if why}
    for path, reason in told.items():
        assert corpus[path] in reason


def test_training_reads_the_whole_ones_and_names_each_broken_one(onnx_bundle, nasty, train):
    whole = train.subset(rows(train, nasty[1], broken=False))
    whole.check_pictures()
    varied = Augmentation(augment="randaugment", flip=0.5, cutout=0.5, seed=0)
    loader = make_loader(whole, [onnx_bundle.preprocess], batch_size=8, workers=0, augmentation=varied, in_order=True)
    images = [batch.images for batch in batches(loader, 0, loader)]
    assert sum(map(len, images)) == len(whole)
    assert all(some.shape[1:] == (64, 64, 3) for some in images)
    for row in rows(train, nasty[1], broken=True):
        alone, path = train.subset(np.array([row])), train.paths[row]
        for read in (alone.check_pictures, lambda alone=alone: alone.picture(0)):
            with pytest.raises(InputError) as caught:
                read()
            assert str(caught.value).startswith(str(InputError(str(path))))
            assert nasty[1][path] in str(caught.value)


@pytest.mark.parametrize("choice", ["covering", "k-centre"])
def test_a_calibration_set_is_chosen_of_the_whole_ones(onnx_bundle, nasty, train, choice):
    whole = train.subset(rows(train, nasty[1], broken=False))
    others = [load_dataset(nasty[0], split) for split in ("val", "test")]
    seen = onnx_bundle.preprocess
    chosen = choose_calibration_set(
        whole, others, 12, choice=choice, embed=lambda data: embed(onnx_bundle.model_path, data.paths, seen.load)
    )
    assert len(set(chosen)) == 12


@pytest.mark.parametrize("verb", ["teach", "quantize", "export", "shard"])
def test_what_learns_or_measures_stops_at_one_that_is_broken(edgepress, nasty, student, onnx_bundle, tmp_path, verb):
    root, corpus = nasty
    out = ("--out", tmp_path / "out")
    arguments = {
        "teach": (root, "--weights", "none"),
        "quantize": (onnx_bundle.path, "--data", root, "--target", "onnxruntime"),
        "export": (student.path, "--data", root, "--split", "train"),
        "shard": (root, "--splits", "train"),
    }[verb]
    answer = edgepress("--quiet", verb, *arguments, *out)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    named = {str(InputError(str(path))): why for path, why in corpus.items() if why}
    (reason,) = [why for path, why in named.items() if answer.err.startswith(f"edgepress: {path}: ")]
    assert reason in answer.err


def test_predict_tags_or_names_each(edgepress, onnx_bundle, nasty):
    root, corpus = nasty
    answer = edgepress("predict", onnx_bundle.path, root / "train" / "red", "--json")
    assert answer.code == 0, answer.err
    lines = [json.loads(line) for line in answer.out.splitlines()]
    assert len(lines) == len(corpus)
    for line in lines:
        reason = corpus[Path(line["file"])]
        assert reason in line["error"] if reason else "tags" in line
    assert not any(char != "\n" and not char.isprintable() for char in answer.err)


def test_predict_of_broken_ones_alone_is_bad_input(edgepress, onnx_bundle, nasty, tmp_path):
    for name in ("loop.jpg", "bomb.webp", "zero.jpg"):
        shutil.copy2(nasty[0] / "train" / "red" / name, tmp_path / name, follow_symlinks=False)
    answer = edgepress("predict", onnx_bundle.path, tmp_path)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 3


def test_a_name_that_is_no_text(edgepress, onnx_bundle, nasty, tmp_path):
    """Linux takes any bytes: `predict` tags the picture, and a data set, whose names must be text, names it."""
    folder = tmp_path / "data" / "test" / "red"
    folder.mkdir(parents=True)
    name = os.fsdecode(b"\xff\xfe.png")
    shutil.copyfile(nasty[0] / "train" / "red" / "plain-0.png", folder / name)
    answer = edgepress("predict", onnx_bundle.path, folder, "--json")
    assert (answer.code, len(answer.out.splitlines())) == (0, 1)
    assert "tags" in json.loads(answer.out)
    answer = edgepress("--quiet", "data", tmp_path / "data")
    assert (answer.code, answer.out) == (2, "")
    assert "\\udcff\\udcfe.png" in answer.err


def test_unlabelled_pictures_are_not_passed_over(nasty, train):
    root, corpus = nasty
    found = load_unlabelled(root / "train" / "red", train.labels)
    assert set(found.paths) == set(corpus)
    with pytest.raises(InputError, match=r"train/red"):
        found.hashes()
