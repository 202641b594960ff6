"""What a folder is that was given in the place of another, and what the message says to give instead."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.folder_kinds import holds_pictures, layout_of, refuse_swapped
from edgepress.multilabel.golden_answers import FOLDER


def test_a_layout_names_the_bundle_that_it_was_made_from(onnx_bundle, tmp_path):
    shutil.copytree(onnx_bundle.path, tmp_path / "onnx")
    served = tmp_path / "served"
    (served / "models" / "onnx").mkdir(parents=True)
    for name in ("request.json", "README.md", "models/onnx/config.pbtxt"):
        (served / name).touch()
    shutil.copyfile(onnx_bundle.path / "manifest.json", served / "manifest.json")
    said = f"--layout triton wrote for another program, and no bundle; .* was made from, {tmp_path / 'onnx'}"
    with pytest.raises(InputError, match=said):
        Bundle.open(served)
    shutil.rmtree(tmp_path / "onnx")
    with pytest.raises(InputError, match=f"made from, whose digest is {onnx_bundle.digest[:12]}"):
        Bundle.open(served)


def test_a_bundle_that_lacks_a_file_is_no_layout(onnx_bundle, tmp_path):
    shutil.copytree(onnx_bundle.path, tmp_path / "onnx")
    (tmp_path / "onnx" / "golden.npz").unlink()
    (tmp_path / "onnx" / "labels.txt").touch()
    assert layout_of(tmp_path / "onnx") is None
    with pytest.raises(InputError, match=r"golden\.npz: missing from the bundle"):
        Bundle.open(tmp_path / "onnx")


def test_golden_pictures_do_not_make_a_data_set(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "0.jpg").touch()
    assert not holds_pictures(tmp_path)
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "0.JPG").touch()
    assert holds_pictures(tmp_path)


def test_only_what_is_swapped_on_both_sides_is_told_to_be(onnx_bundle, tiny_data, tmp_path):
    right = "bench {bundle} --data {data}"
    with pytest.raises(InputError, match=f"expected edgepress bench {onnx_bundle.path} --data {tiny_data}"):
        refuse_swapped(right, Path(tiny_data), onnx_bundle.path)
    for bundle, data in ((onnx_bundle.path, tiny_data), (tmp_path / "nowhere", onnx_bundle.path), (tiny_data, None)):
        refuse_swapped(right, bundle, data)
