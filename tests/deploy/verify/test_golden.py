"""verify --golden: names the step that a machine does otherwise, from a picture's file to its decisions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.deploy.engines.golden import Golden
from edgepress.deploy.verify import golden as room
from edgepress.deploy.verify.golden import GoldenVerification, verify_golden
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.golden_answers import ANSWERS, FOLDER, GOLDEN
from edgepress.multilabel.preprocess import Preprocess


def altered(bundle: Bundle, path: Path, change: Callable[[Path], None], without: str = "no file") -> Bundle:
    """A bundle of the same files, some of which are changed before they are hashed."""
    fields = {name: value for name, value in bundle.manifest if name not in ("files", "created")}
    with write_bundle(path, **fields) as folder:
        for name in bundle.manifest.files:
            if not name.startswith(without):
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(bundle.path / name, folder / name)
        change(folder)
    return Bundle.open(path)


def states(found: GoldenVerification) -> list[bool | None]:
    return [one.differs for one in found.steps]


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-fp16", "onnx-int8-onnxruntime", "openvino-fp32"])
def test_the_machine_that_made_it_passes_every_step(build, onnx_bundle, name):
    found = verify_golden(onnx_bundle if name == "onnx-fp32" else build(name))
    assert (found.verdict, found.first_different) == ("pass", None)
    assert states(found) == [False] * 4
    assert (found.pictures, found.decisions) == (9, 9 * len(onnx_bundle.labels))
    assert found.changed == 0 or name == "onnx-fp16"
    assert GoldenVerification.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_another_decoder_is_named(onnx_bundle, monkeypatch):
    real = room.decode_picture

    def other(data: bytes, name: str) -> np.ndarray:
        return np.clip(real(data, name).astype(int) + (2 if name.endswith("2.jpg") else 0), 0, 255).astype(np.uint8)

    monkeypatch.setattr(room, "decode_picture", other)
    found = verify_golden(onnx_bundle)
    assert (found.verdict, found.first_different, states(found)) == ("fail", "decode", [True, False, False, False])
    assert found.steps[0].largest == 2
    assert "golden/2.jpg differs by up to 2 of 255, in " in found.judgement.reasons[0].text


def test_a_decoder_that_does_not_turn_and_one_that_cannot_read(onnx_bundle, monkeypatch):
    real = room.decode_picture

    def unturned(data: bytes, name: str) -> np.ndarray:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[:, :, ::-1]

    monkeypatch.setattr(room, "decode_picture", unturned)
    found = verify_golden(onnx_bundle)
    assert found.first_different == "decode"
    assert "golden/3.jpg" in found.steps[0].text

    def none(data: bytes, name: str) -> np.ndarray:
        if name.endswith("png"):
            raise InputError(f"{name}: this OpenCV was built without PNG")
        return real(data, name)

    monkeypatch.setattr(room, "decode_picture", none)
    assert "built without PNG" in verify_golden(onnx_bundle).steps[0].text


def test_another_resize_is_named(onnx_bundle, monkeypatch):
    def linear(self: Preprocess, image: np.ndarray) -> np.ndarray:
        return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_LINEAR)

    monkeypatch.setattr(Preprocess, "__call__", linear)
    found = verify_golden(onnx_bundle)
    assert (found.first_different, states(found)) == ("resize", [False, True, False, False])


def test_another_model_is_named(onnx_bundle, tmp_path):
    golden = Golden.of(onnx_bundle)
    assert golden is not None
    moved = replace(golden, logits=golden.logits + np.float32(1))
    other = altered(onnx_bundle, tmp_path / "b", lambda folder: moved.save(folder / GOLDEN))
    found = verify_golden(other)
    assert (found.verdict, found.first_different, states(found)) == ("fail", "model", [False, False, True, False])
    assert "a logit differs by 1 from torch's; 0.05 is allowed" in found.steps[2].text


def test_another_threshold_is_named(onnx_bundle, monkeypatch):
    own = onnx_bundle.manifest.model_copy(update={"decisions": Decisions.plain(onnx_bundle.labels.names, [0.0] * 5)})
    found = verify_golden(Bundle(onnx_bundle.path, own, onnx_bundle.digest))
    assert (found.first_different, states(found)) == ("threshold", [False, False, False, True])
    assert "decisions differ for the stored logits" in found.steps[3].text
    real = Decisions.probabilities
    monkeypatch.setattr(Decisions, "probabilities", lambda self, logits: real(self, logits) * (1 - 1e-7))
    found = verify_golden(onnx_bundle)
    assert (found.first_different, found.changed) == ("threshold", 0)


def test_a_bundle_of_before_proves_its_model_alone_and_says_what_to_do(onnx_bundle, tmp_path, edgepress):
    before = altered(onnx_bundle, tmp_path / "before", lambda folder: None, without=f"{FOLDER}/")
    assert set(before.manifest.files) == {"model.onnx", "reference.npz", GOLDEN}
    found = verify_golden(before)
    assert (found.verdict, states(found), found.changed) == ("unproven", [None, None, False, None], None)
    answer = edgepress("verify", before.path, "--golden")
    assert answer.code == 1
    assert "unproven: decode, resize and threshold could not be checked: export the model again" in answer.out
    none = altered(onnx_bundle, tmp_path / "none", lambda folder: None, without="golden")
    answer = edgepress("--quiet", "verify", none.path, "--golden")
    assert answer.code == 2
    assert "has no golden pictures (golden.npz); export its model again" in answer.err


def test_a_changed_file_is_named_before_anything_runs(onnx_bundle, tmp_path, edgepress):
    copy = Path(shutil.copytree(onnx_bundle.path, tmp_path / "copy"))
    data = bytearray((copy / FOLDER / "2.jpg").read_bytes())
    data[-40] ^= 1
    (copy / FOLDER / "2.jpg").write_bytes(data)
    answer = edgepress("--quiet", "verify", copy, "--golden")
    assert answer.code == 2
    assert "golden/2.jpg: changed since the bundle was made (sha256 differs)" in answer.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "golden/9.jpg"}, "9 is not a file in the archive"),
        ({"file": "golden/x.jpg"}, "invalid literal"),
        ({"width": 3}, r"golden/0.jpg: uint8 \[48, 48, 3\]"),
        ({"file": "golden/0.tif"}, "names golden/0.tif, which is not among the bundle's files"),
        ({"logits": [1.0]}, "expected a logit and a probability per label"),
    ],
)
def test_answers_that_edgepress_did_not_write_are_refused(onnx_bundle, tmp_path, monkeypatch, change, said):
    told = json.loads((onnx_bundle.path / ANSWERS).read_text())
    told["pictures"][0] |= change
    data, read = json.dumps(told).encode(), Bundle.read
    monkeypatch.setattr(Bundle, "read", lambda self, name: data if name == ANSWERS else read(self, name))
    with pytest.raises(InputError, match=said):
        verify_golden(onnx_bundle)


def test_the_verb_prints_the_steps_and_takes_no_data_set(onnx_bundle, edgepress, tiny_data):
    answer = edgepress("verify", onnx_bundle.path, "--golden")
    assert answer.code == 0
    assert answer.out.splitlines()[-1] == "onnx-fp32: pass"
    assert "decode     same" in answer.out
    assert "0 of 45 decisions on 9 files differ" in answer.out
    told = edgepress("verify", onnx_bundle.path, "--golden", "--json").json
    assert (told["verdict"], told["first_different"], len(told["steps"])) == ("pass", None, 4)
    answer = edgepress("--quiet", "verify", onnx_bundle.path, "--golden", "--data", tiny_data)
    assert (answer.code, answer.out) == (2, "")
    assert "without a data set" in answer.err
    answer = edgepress("--quiet", "verify", onnx_bundle.path)
    assert answer.code == 2
    assert "verify needs --data DIR, or --golden" in answer.err
