"""Data sets: what is read, what is refused, and how the refusal reads."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.multilabel.datasets import DataOptions, load_dataset, refuse_leaks
from edgepress.multilabel.errors import InputError
from tests.conftest import write_tiny_data
from tests.multilabel import layouts

ROWS = [
    {"file_name": "b.png", "labels": ["dog", "cat"]},
    {"file_name": "a.png", "labels": [], "ignore": ["sky"]},
    {"file_name": "more/c.png", "labels": ["sky"]},
]


@pytest.fixture
def root(tmp_path):
    """Three labels, three pictures in the split `test`, in an order that is not the alphabet's."""
    root = tmp_path / "set"
    (root / "test" / "more").mkdir(parents=True)
    (root / "labels.txt").write_text("dog\ncat\nsky\n")
    for shade, row in enumerate(ROWS):
        cv2.imwrite(str(root / "test" / row["file_name"]), np.full((4, 4, 3), shade, np.uint8))
    write(root, ROWS)
    return root


def write(root, rows, split="test") -> None:
    (root / split).mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (root / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")


def refusal(root, split="test", **options) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(root, split, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("format", ["auto", "imagefolder"])
def test_a_split_is_read_in_its_own_order(root, format):
    dataset = load_dataset(str(root), "test", format=format)
    assert len(dataset) == 3
    assert dataset.split == "test"
    assert dataset.labels.names == ("dog", "cat", "sky")
    assert dataset.paths == [root / "test" / row["file_name"] for row in ROWS]
    assert dataset.targets.dtype == np.uint8
    np.testing.assert_array_equal(dataset.targets, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert dataset.ignore.dtype == bool
    np.testing.assert_array_equal(dataset.ignore, [[0, 0, 0], [0, 0, 1], [0, 0, 0]])


def test_empty_lines_are_passed_over_and_still_counted(root):
    write(root, [ROWS[0], "", "  ", {"file_name": "a.png", "labels": ["fish"]}])
    assert "metadata.jsonl, line 4" in refusal(root)
    write(root, [ROWS[0], "", ROWS[1]])
    assert len(load_dataset(root)) == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"file_name": "a.png", "labels": ["cat", "fish"]}, "label 'fish' is not in labels.txt"),
        ({"file_name": "a.png", "labels": [], "ignore": ["fish"]}, "label 'fish' is not in labels.txt"),
        ({"file_name": "a.png", "labels": ["cat"], "ignore": ["cat"]}, "label 'cat' is both in labels and in ignore"),
        ({"file_name": "b.png", "labels": []}, "'b.png' occurs twice (first on line 1)"),
        ({"file_name": "none.png", "labels": []}, "test/none.png: no such file"),
        ({"file_name": "more", "labels": []}, "test/more: no such file"),
        ({"file_name": "../x.jpg", "labels": []}, "'../x.jpg' leaves the data set's folder"),
        ({"file_name": "more/../../labels.txt", "labels": []}, "leaves the data set's folder"),
        ({"file_name": "..\\x.jpg", "labels": []}, "leaves the data set's folder"),
        ({"file_name": "/etc/hostname", "labels": []}, "(written as '/etc/hostname'); looked for by its last parts"),
        ({"file_name": "a\0.png", "labels": []}, "leaves the data set's folder"),
        ({"file_name": "", "labels": []}, "expected an object with a file_name"),
        ({"file_name": 3, "labels": []}, "expected an object with a file_name"),
        ({"labels": []}, "expected an object with a file_name"),
        ({"file_name": "a.png"}, "labels of 'a.png' is None"),
        ({"file_name": "a.png", "labels": "cat"}, "labels of 'a.png' is 'cat'; expected a list"),
        ({"file_name": "a.png", "labels": [3]}, "label number 3; there are 3 names, from 0 on"),
        ({"file_name": "a.png", "labels": [1.5]}, "labels of 'a.png' is [1.5]; expected a list"),
        ({"file_name": "a.png", "labels": [], "ignore": "cat"}, "ignore of 'a.png' is 'cat'; expected a list"),
        ("[]", "expected an object"),
        ("{'file_name': 'a.png'}", "not JSON"),
        ('{"file_name": "a.png", "labels": ["cat"]', "not JSON"),
        ("[" * 200_000, "not JSON"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_line(root, row, said):
    (root / "x.jpg").write_bytes(b"outside the split")
    write(root, [ROWS[0], row])
    message = refusal(root)
    assert said in message
    assert f"{root / 'test' / 'metadata.jsonl'}, line 2" in message


def test_an_empty_an_unknown_and_a_foreign_split_are_refused(root):
    write(root, [], split="train")
    assert "the split 'train' is empty" in refusal(root, "train")
    assert re.search(r"no split 'val'.*splits here: test, train$", refusal(root, "val"))
    for split in ("..", "../set/test", str(root / "test"), "", "."):
        assert "leaves the data set's folder" in refusal(root, split)


def test_the_folder_of_a_split_is_told_the_data_set_that_it_belongs_to(root):
    write(root, ROWS)
    write(root, ROWS, split="train")
    told = f"; {root} is a data set with that split: give that folder"
    assert refusal(root / "test", "test").endswith(f"splits here: train{told}")
    assert "is a data set" not in refusal(root / "test", "val")
    (root / "val").mkdir()  # a folder, but no split
    assert "is a data set" not in refusal(root / "test", "val")


def test_what_is_no_data_set_is_refused(root, tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    assert "not recognised" in refusal(tmp_path / "bare")
    assert "format is 'yolo': input should be 'auto', 'imagefolder'" in refusal(root, format="yolo")


def test_files_that_are_not_utf8_are_refused_by_name(root):
    (root / "test" / "metadata.jsonl").write_bytes('{"file_name": "é.png", "labels": []}\n'.encode("latin-1"))
    assert f"{root / 'test' / 'metadata.jsonl'}: not UTF-8" in refusal(root)
    (root / "labels.txt").write_bytes(b"dog\ncaf\xe9\n")
    assert f"{root / 'labels.txt'}: not UTF-8" in refusal(root)


def test_line_separators_inside_json_and_a_byte_order_mark_are_no_line_ends(tmp_path):
    root = tmp_path / "d"
    (root / "test").mkdir(parents=True)
    (root / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\ndog\n")
    (root / "test" / "a\u2028b.jpg").write_bytes(b"x")
    (root / "test" / "metadata.jsonl").write_text(
        '{"file_name": "a\u2028b.jpg", "labels": ["cat"]}\n', encoding="utf-8"
    )
    data = load_dataset(root, "test")
    assert data.labels.names == ("cat", "dog")
    assert data.targets.tolist() == [[1, 0]]


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "\\ud800.jpg"])
def test_names_that_no_file_can_have_are_refused(tmp_path, name):
    root = tmp_path / "d"
    (root / "test").mkdir(parents=True)
    (root / "labels.txt").write_text("cat\n")
    (root / "test" / "metadata.jsonl").write_text(f'{{"file_name": "{name}", "labels": []}}\n')
    with pytest.raises(InputError) as caught:
        load_dataset(root, "test")
    str(caught.value).encode()


def test_one_picture_under_two_spellings_stands_twice(tmp_path):
    root = tmp_path / "d"
    (root / "test").mkdir(parents=True)
    (root / "labels.txt").write_text("cat\n")
    (root / "test" / "x.jpg").write_bytes(b"x")
    lines = [f'{{"file_name": "{name}", "labels": []}}\n' for name in ("x.jpg", "./x.jpg")]
    (root / "test" / "metadata.jsonl").write_text("".join(lines))
    with pytest.raises(InputError, match="twice"):
        load_dataset(root, "test")


@pytest.mark.parametrize(("key", "meant"), [("ignored", "ignore"), ("Ignore", "ignore"), ("ignores", "ignore")])
def test_a_misspelt_key_is_told_and_other_keys_are_left_alone(tmp_path, key, meant):
    root = write_tiny_data(tmp_path / "data")
    listing = root / "val" / "metadata.jsonl"
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    rows[3] |= {"caption": "anything", "width": 48}
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(load_dataset(root, "val")) == len(rows)
    rows[3][key] = ["circle"]
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InputError, match=f"metadata.jsonl, line 4: unknown key '{key}'; did you mean '{meant}'"):
        load_dataset(root, "val")


def test_parts_of_a_split_are_all_of_it_and_share_nothing(tiny_data):
    whole = load_dataset(tiny_data, "train")
    parts = [load_dataset(tiny_data, f"train[{part}]") for part in (":30%", "30%:70%", "70%:")]
    paths = [path for part in parts for path in part.paths]
    assert sorted(paths) == sorted(whole.paths)
    assert len(set(paths)) == len(paths)
    assert all(0.1 < len(part) / len(whole) < 0.7 for part in parts)
    first = parts[0]
    rows = [whole.paths.index(path) for path in first.paths]
    assert rows == sorted(rows)
    assert np.array_equal(first.targets, whole.targets[rows])
    assert first.split == "train[:30%]"
    assert first.hashes() == whole.subset(np.array(rows)).hashes()


def test_copies_of_a_picture_are_in_one_part_and_others_do_not_move(tiny_data, tmp_path):
    root = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    before = {part: load_dataset(root, f"train[{part}]") for part in (":50%", "50%:")}
    listing = root / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in listing.read_text().splitlines()]
    for row in list(rows):
        shutil.copyfile(root / "train" / row["file_name"], root / "train" / f"copy-{row['file_name']}")
        rows.append({**row, "file_name": f"copy-{row['file_name']}"})
    listing.write_text("".join(json.dumps(row) + "\n" for row in rows))
    after = {part: load_dataset(root, f"train[{part}]") for part in before}
    for part, data in after.items():
        assert data.paths[: len(before[part])] == before[part].paths
        assert len(data) == 2 * len(before[part])
    refuse_leaks(after[":50%"], [after["50%:"]])


@pytest.mark.parametrize("part", ["train[50%:50%]", "train[90%:10%]", "train[:101%]", "train[:0%]"])
def test_a_part_that_is_none_is_refused(tiny_data, part):
    with pytest.raises(InputError, match=r"expected a part of 0 to 100 %|expected a larger part"):
        load_dataset(tiny_data, part)


@pytest.mark.parametrize(
    ("split", "meant"),
    [
        *(("train[90:]", "train[90%:]"), ("train[:50]", "train[:50%]"), ("train[10:90%]", "train[10%:90%]")),
        *(("train[:1000]", "train[90%:]"), ("train[-10%:]", "train[90%:]"), ("train[]", "train[90%:]")),
        *(("train[:10%]+val", "train[:10%]"), ("val + train[50:]", "train[50%:]")),
    ],
)
def test_a_slice_of_hugging_face_is_told_with_the_part_that_is_like_it(tiny_data, split, meant):
    with pytest.raises(InputError) as caught:
        load_dataset(tiny_data, split)
    assert f"{split!r} is a slice of Hugging Face's datasets, which edgepress does not take" in str(caught.value)
    assert f"a part in percent, such as {meant!r}: " in str(caught.value)
    with pytest.raises(InputError, match=r"'train\+val' adds splits; expected one, or a part of one"):
        load_dataset(tiny_data, "train+val")


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        *(("verify", "--split"), ("calibrate", "--split"), ("bench", "--split"), ("answers", "--splits")),
        *(("quantize", "--train"), ("export", "--split"), ("adopt", "--split")),
    ],
)
def test_every_verb_that_takes_a_split_tells_a_slice(
    edgepress, onnx_bundle, student, tiny_data, tmp_path, verb, option
):
    given = {"adopt": onnx_bundle.model_path, "export": student.path}.get(verb, onnx_bundle.path)
    out = () if verb in ("verify", "bench") else ("--out", tmp_path / "made.npz")
    more = (
        ("--target", "onnxruntime")
        if verb == "quantize"
        else ("--mean", "0,0,0", "--std", "1,1,1")[: 4 * (verb == "adopt")]
    )
    answer = edgepress(verb, given, "--data", tiny_data, option, "train[90:]", *out, *more)
    assert answer.code == 2
    assert "'train[90:]' is a slice of Hugging Face's datasets" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_named_like_a_slice_is_a_split(tiny_data, tmp_path):
    root = Path(shutil.copytree(tiny_data, tmp_path / "data"))
    (root / "val").rename(root / "val[90:]")
    assert len(load_dataset(root, "val[90:]")) == 12


@pytest.mark.parametrize(
    ("arguments", "fields", "said"),
    [
        (("test", "voc"), {}, "options is 'voc'; expected DataOptions, or its fields by name, such as format='voc'"),
        (("test", {"format": "voc"}), {}, "options is {'format': 'voc'}; expected DataOptions"),
        (("test", DataOptions()), {"format": "voc"}, "options are given, and format beside them"),
        ((DataOptions(),), {}, "expected the name of a split, such as 'train'"),
        (("test",), {"format": "vok"}, "format is 'vok'"),
        (("test",), {"formt": "voc"}, "unknown key 'formt'; did you mean 'format'?"),
    ],
)  # fmt: skip
def test_options_of_another_type_are_refused_in_words(root, arguments, fields, said):
    with pytest.raises(InputError) as caught:
        load_dataset(root, *arguments, **fields)
    assert said in str(caught.value)


@pytest.mark.parametrize("given", [None, 3, b"data"])
def test_what_is_no_path_is_refused_in_words(given):
    with pytest.raises(InputError, match=rf"the data set is {type(given).__name__}; expected its path"):
        load_dataset(given)


def test_labels_in_a_more_general_format_beside_those_that_are_read_are_told(tmp_path):
    for shade, name in enumerate("ab"):
        layouts.picture(tmp_path / f"{name}.jpg", shade)
    images = [{"id": row, "file_name": f"{name}.jpg"} for row, name in enumerate("ab")]
    coco = {"images": images, "annotations": [{"id": 1, "image_id": 0, "category_id": 1}],
            "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    layouts.write(tmp_path / "annotations/instances_train.json", json.dumps(coco))
    assert load_dataset(tmp_path, "train").notes == ()
    layouts.write(tmp_path / "train.csv", "image,labels", "a.jpg,dog", "b.jpg,cat")
    told = "read as coco; csv, which would be read by --format csv, has labels of train"
    assert load_dataset(tmp_path, "train").notes == (told,)
    assert load_dataset(tmp_path, "train", format="coco").notes == ()
    assert load_dataset(tmp_path, "train", format="csv").labels.names == ("cat", "dog")


@pytest.mark.parametrize("rows", [("file_name,width,height", "a.jpg,640,480"), ("epoch,path,loss", "1,runs/1,0.25")])
def test_a_table_without_labels_beside_those_that_are_read_is_no_other_format(tmp_path, rows):
    layouts.picture(tmp_path / "a.jpg")
    layouts.picture(tmp_path / "b.jpg", 9)
    images = [{"id": row, "file_name": f"{name}.jpg"} for row, name in enumerate("ab")]
    coco = {"images": images, "annotations": [{"id": 1, "image_id": 0, "category_id": 1}],
            "categories": [{"id": 1, "name": "cat"}]}  # fmt: skip
    layouts.write(tmp_path / "annotations/instances_train.json", json.dumps(coco))
    layouts.write(tmp_path / "sizes.csv", *rows)
    assert load_dataset(tmp_path, "train").notes == ()
