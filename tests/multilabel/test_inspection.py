"""The data report: numbers by hand, planted duplicates and conflicts found, and nothing that was not planted."""

from __future__ import annotations

import io
import json
import time
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.datasets.passed_over import in_one_line, passed_over
from edgepress.multilabel.duplicates import NEAR_BITS, difference_hash, near_pairs
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.inspection import LabelPair, inspect_dataset, labels_left_out, too_poor, unions
from edgepress.multilabel.labels import LabelSpace
from edgepress.report.summary import print_data
from tests.multilabel.layouts import picture, write

LABELS = ("cat", "dog", "sky", "sea")


def scene(seed: int, size: int = 96) -> np.ndarray:
    """Soft blobs of colour, as different from one another as photographs are."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (7, 7, 3)).astype(np.uint8), (size, size), interpolation=cv2.INTER_CUBIC)


def save(path: Path, image: np.ndarray, quality: int = 95) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


def split(root: Path, name: str, rows: list[tuple[Path, str, str]], labels=LABELS) -> MultiLabelDataset:
    """Rows of path, labels and ignored labels, both as words."""
    space = LabelSpace(labels)
    return MultiLabelDataset(
        root=root,
        split=name,
        labels=space,
        paths=[path for path, _, _ in rows],
        targets=np.stack([space.encode(words.split()) for _, words, _ in rows]),
        ignore=np.stack([space.encode(words.split()) for _, _, words in rows]).astype(bool),
    )


@pytest.fixture
def train(tmp_path) -> MultiLabelDataset:
    words = [("cat dog", ""), ("cat dog", "sky"), ("cat sky", ""), ("cat", "dog sky"), ("", "")]
    rows = [(save(tmp_path / f"{i}.jpg", scene(i)), *row) for i, row in enumerate(words)]
    return split(tmp_path, "train", rows)


def test_the_numbers_of_a_split(train):
    report = inspect_dataset({"train": train}).splits["train"]
    assert (report.pictures, report.unlabelled, report.most_labels) == (5, 1, 2)
    assert report.labels_a_picture == pytest.approx(7 / 5)
    assert report.counts == {"cat": 4, "dog": 2, "sky": 1, "sea": 0}
    assert report.imbalance == 4
    assert report.labels_without_positive == ("sea",)
    assert report.ignored == 3
    assert report.broken == ()
    assert report.pairs == (LabelPair("cat", "dog", 2, 0.5, 1.0), LabelPair("cat", "sky", 1, 0.25, 1.0))
    assert len(inspect_dataset({"train": train}, top_pairs=1).splits["train"].pairs) == 1


def test_a_split_without_any_label(train, tmp_path):
    report = inspect_dataset({"a": split(tmp_path, "a", [(train.paths[0], "", "cat")])}).splits["a"]
    assert (report.imbalance, report.pairs, report.unlabelled) == (None, (), 1)


def test_a_split_that_joins_others_is_told_and_no_leak(train):
    assert len(train) > 3
    parts = {"train": train.subset(np.arange(2)), "val": train.subset(np.arange(2, len(train)))}
    assert unions({**parts, "trainval": train}) == {"trainval": ["train", "val"]}
    assert unions({"train": parts["train"], "trainval": train}) == {}  # something in it is in no other
    assert unions({"train": train, "again": train}) == {}  # that is a leak


def test_no_split_is_refused():
    with pytest.raises(InputError, match="no split"):
        inspect_dataset({})


def test_broken_pictures_are_findings_with_a_reason(tmp_path):
    good = save(tmp_path / "good.jpg", scene(1))
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-40])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    rows = [(tmp_path / f"{name}.jpg", "cat", "") for name in ("good", "cut", "empty", "text", "gone")]
    report = inspect_dataset({"test": split(tmp_path, "test", rows)})
    assert report.refusal() == "teach and run refuse this data set: 4 pictures are broken"
    broken = report.splits["test"].broken
    assert [Path(picture.path).stem for picture in broken] == ["cut", "empty", "text", "gone"]
    reasons = [picture.reason for picture in broken]
    for reason, said in zip(
        reasons, ("truncated JPEG", "file is empty", "not a picture", "cannot be read"), strict=True
    ):
        assert reason.startswith(said) or said in reason
        assert str(tmp_path) not in reason


def test_transparency_bits_that_are_not_used_and_further_pictures_are_counted(tmp_path):
    image, rows = scene(1), []
    for name, made in (
        ("plain", image),
        ("alpha", np.dstack([image, image[:, :, 0]])),
        ("twelve", image.astype(np.uint16) << 4),
        ("twelve_too", scene(2).astype(np.uint16) << 4),
        ("sixteen", image.astype(np.uint16) << 8),
    ):
        cv2.imwrite(str(tmp_path / f"{name}.png"), made)
        rows.append((tmp_path / f"{name}.png", "cat", ""))
    first, second = Image.fromarray(image), Image.fromarray(scene(3))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[second])
    rows.append((tmp_path / "pages.tif", "cat", ""))
    report = inspect_dataset({"test": split(tmp_path, "test", rows)})
    assert report.splits["test"].with_alpha == 1
    assert report.splits["test"].several == 1
    assert report.splits["test"].deep == {12: 2, 16: 1}
    with io.StringIO() as text:
        print_data(report, Console(file=text, width=200))
        shown = text.getvalue()
    assert "1 picture has transparency, which is left out" in shown
    assert "1 file holds several pictures, of which the first is read" in shown
    assert "2 pictures of 16 bits a channel use 12 of them" in shown


def test_planted_duplicates_are_found_and_nothing_else(tmp_path):
    def place(name: str, image: np.ndarray, quality: int = 95) -> tuple[Path, str, str]:
        return save(tmp_path / name, image, quality), "cat", ""

    train = [place(f"train/{i}.jpg", scene(i)) for i in range(30)]
    test = [place(f"test/{i}.jpg", scene(100 + i)) for i in range(10)]
    test.append(place("test/copy.jpg", scene(3)))
    test.append(place("test/again.jpg", scene(4), quality=60))
    test.append(place("test/small.jpg", cv2.resize(scene(5), (48, 48), interpolation=cv2.INTER_AREA)))
    train.append(place("train/twice.jpg", scene(6)))
    report = inspect_dataset({"train": split(tmp_path, "train", train), "test": split(tmp_path, "test", test)})

    def names(groups):
        return [[str(Path(p.path).relative_to(tmp_path)) for p in group.pictures] for group in groups]

    assert names(report.exact_duplicates) == [["train/3.jpg", "test/copy.jpg"], ["train/6.jpg", "train/twice.jpg"]]
    assert [group.across for group in report.exact_duplicates] == [True, False]
    assert names(report.near_duplicates) == [["train/4.jpg", "test/again.jpg"], ["train/5.jpg", "test/small.jpg"]]
    assert report.conflicts == ()
    assert report.exact_duplicates[0].pictures[0].labels == ("cat",)
    assert report.refusal() == "teach and run refuse this data set: 1 picture is in several splits"
    assert inspect_dataset({"train": split(tmp_path, "train", train)}).refusal() is None


def test_exact_copies_join_the_group_of_their_near_duplicate(tmp_path):
    paths = [save(tmp_path / f"{i}.jpg", scene(1), quality) for i, quality in enumerate((95, 95, 50))]
    report = inspect_dataset({"a": split(tmp_path, "a", [(path, "", "") for path in paths])})
    assert [len(group.pictures) for group in report.exact_duplicates] == [2]
    assert [len(group.pictures) for group in report.near_duplicates] == [3]


def test_small_things_on_white_and_blank_pictures_are_no_duplicates(tmp_path):
    images = []
    for colour in [(255, 0, 0), (0, 0, 255), (0, 160, 0), (0, 0, 0)]:
        image = np.full((96, 96, 3), 255, np.uint8)
        cv2.circle(image, (48, 48), 9, colour, -1)
        images.append(image)
    hashes = [difference_hash(image) for image in images]
    assert len(near_pairs(np.array(hashes, np.uint64))) == 6  # the hash alone calls all of them the same
    images += [np.full((96, 96, 3), 60 * i, np.uint8) for i in range(4)]
    assert [difference_hash(image) for image in images[4:]] == [None] * 4
    rows = [(save(tmp_path / f"{i}.jpg", image), "", "") for i, image in enumerate(images)]
    assert inspect_dataset({"a": split(tmp_path, "a", rows)}).near_duplicates == ()


def test_conflicts_are_between_what_is_known(tmp_path):
    image = [save(tmp_path / f"{i}.jpg", scene(i // 2)) for i in range(8)]
    rows = [
        (image[0], "cat", ""), (image[1], "dog", ""),  # differ
        (image[2], "cat", ""), (image[3], "cat", "dog"),  # one does not know
        (image[4], "cat", ""), (image[5], "", "cat"),
        (image[6], "cat", ""), (image[7], "cat", ""),  # the same
    ]  # fmt: skip
    report = inspect_dataset({"a": split(tmp_path, "a", rows[::2]), "b": split(tmp_path, "b", rows[1::2])})
    assert len(report.exact_duplicates) == 4
    assert [[p.labels for p in group.pictures] for group in report.conflicts] == [[("cat",), ("dog",)]]


def test_conflicts_are_looked_for_in_labels_that_all_splits_have(tmp_path):
    paths = [save(tmp_path / f"{i}.jpg", scene(0)) for i in range(2)]
    one = split(tmp_path, "a", [(paths[0], "cat dog", "")], ("cat", "dog"))
    assert not inspect_dataset({"a": one, "b": split(tmp_path, "b", [(paths[1], "sky", "")], ("sky",))}).conflicts
    other = split(tmp_path, "b", [(paths[1], "cat", "")], ("dog", "cat"))
    assert len(inspect_dataset({"a": one, "b": other}).conflicts) == 1


def test_progress_is_told_to_the_end_and_threads_change_nothing(tiny_data):
    splits = {name: load_dataset(tiny_data, name) for name in ("train", "val", "test")}
    told: list[tuple[int, int]] = []
    report = inspect_dataset(splits, progress=lambda done, total: told.append((done, total)), workers=1)
    assert told[-1] == (48, 48)
    assert inspect_dataset(splits, workers=3) == report
    assert json.loads(json.dumps(report.as_dict()))["splits"]["train"]["pictures"] == 24


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.sets(st.integers(0, 63), max_size=4)), max_size=20),
    st.integers(0, 3),
)
def test_near_pairs_are_all_pairs(hashes, flips, bits):
    """Against the plain loop, with hashes made near on purpose."""
    hashes = hashes + [hashes[i % len(hashes)] ^ sum(1 << bit for bit in flipped) for i, flipped in flips]
    expected = [[a, b] for a, b in combinations(range(len(hashes)), 2) if bin(hashes[a] ^ hashes[b]).count("1") <= bits]
    assert near_pairs(np.array(hashes, np.uint64), bits).tolist() == expected


@pytest.mark.parametrize(("entropy", "share"), [(64, 0.2), (20, 1)])
def test_near_pairs_take_a_share_of_the_time_of_a_loop_over_all_pairs(entropy, share):
    """In processor time, against one hash after another held to all others; of 20 bits there are 70,000 pairs."""
    hashes = np.random.default_rng(0).integers(0, 2**63, 20_000, dtype=np.uint64) >> np.uint64(64 - entropy)
    hashes = np.unique(hashes)
    started = time.process_time()
    near_pairs(hashes)
    taken = time.process_time() - started
    started = time.process_time()
    for one in hashes[:1000]:
        np.flatnonzero(np.bitwise_count(hashes ^ one) <= NEAR_BITS)
    assert taken < share * (time.process_time() - started) * len(hashes) / 1000


def test_a_difference_hash_is_that_of_the_definition():
    ramp = np.repeat(np.linspace(0, 240, 9).astype(np.uint8)[None, :, None], 3, axis=2).repeat(8, axis=0)
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(np.ascontiguousarray(ramp[:, ::-1])) == 0
    upper = ramp.copy()
    upper[1:] = ramp[1:, ::-1]
    assert difference_hash(upper) == 0xFF << 56


def test_labels_that_map_leaves_out_are_named_and_a_split_of_them_alone_is_too_poor(tmp_path):
    rows = ["a.jpg,1,1,0", "b.jpg,,0,0", "c.jpg,1,1,0"]
    for number, name in enumerate("abc"):
        picture(tmp_path / f"{name}.jpg", number)
    write(tmp_path / "val.csv", "path,No Finding,Edema,Mass", *rows)
    data = load_dataset(tmp_path, "val")
    said = labels_left_out(data)
    assert said == "mAP counts 1 of 3 labels; 1 without a known positive: Mass; 1 without a known negative: No Finding"
    assert too_poor(data) is None
    split = inspect_dataset({"val": data}).splits["val"]
    assert (split.labels_without_negative, split.labels_counted) == (("No Finding",), 1)
    assert [str(value) for value in split.values] == [
        "1: 4 cells, taken for yes", "0: 4 cells, taken for no", "empty: 1 cell, taken for unknown"]  # fmt: skip
    poor = load_dataset(tmp_path, "val", label_columns=("No Finding", "Mass"))
    assert (why := too_poor(poor)) is not None
    assert "split 'val': mAP counts 0 of 2 labels" in why
    assert labels_left_out(load_dataset(tmp_path, "val", label_columns=("Edema",))) is None


def test_pictures_that_no_split_has_are_counted_by_reason(tmp_path):
    for name in ("a.jpg", "b.jpg", "more/c.png", ".hidden/d.jpg", "._a.jpg"):
        picture(tmp_path / name)
    (tmp_path / "e.heic").write_bytes(b"x")
    write(tmp_path / "train.csv", "path,cat,dog", "a.jpg,1,0")
    found = passed_over(tmp_path, [load_dataset(tmp_path, "train")])
    assert [(one.pictures, one.example) for one in found] == [(2, "b.jpg"), (1, "e.heic"), (2, "._a.jpg")]
    assert in_one_line(found) == (
        "pictures passed over: 2 that train does not list (such as b.jpg); "
        "1 with a suffix that is not read (such as e.heic); 2 hidden (such as ._a.jpg)"
    )
    assert in_one_line([]) is None
    (tmp_path / "f.mpo").write_bytes((tmp_path / "a.jpg").read_bytes())
    write(tmp_path / "train.csv", "path,cat,dog", "a.jpg,1,0", "f.mpo,0,1")
    found = passed_over(tmp_path, [load_dataset(tmp_path, "train")])  # which a table names is not passed over
    assert [one.example for one in found if "suffix" in one.reason] == ["e.heic"]


def test_copies_in_several_label_folders_are_not_passed_over(tmp_path):
    for name in ("train/boat/a.jpg", "train/crane/a.jpg", "val/boat/b.jpg"):
        picture(tmp_path / name, len(name.split("/")[0]))
    train, val = (load_dataset(tmp_path, split) for split in ("train", "val"))
    assert [len(train), passed_over(tmp_path, [train, val])] == [1, []]
    (found,) = passed_over(tmp_path, [train])
    assert str(found) == "1 that train does not list (such as val/boat/b.jpg)"
