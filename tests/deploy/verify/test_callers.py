"""Callers: each decodes and scales as the program that it is named after, and verify judges what that costs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image
from torchvision.io import decode_image
from torchvision.transforms import v2

from edgepress.deploy.verify.callers import CALLERS, as_caller
from edgepress.deploy.verify.verification import verify
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.preprocess import Preprocess

OWN = Preprocess(size=40)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two pictures of noise, the second with an EXIF orientation that turns it."""
    root = tmp_path_factory.mktemp("callers")
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    (root / "test").mkdir()
    Image.fromarray(noise).save(root / "test" / "a.png")
    Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 2)).save(root / "test" / "b.jpg", quality=95, exif=turned)
    (root / "test.csv").write_text("path,cat,dog\ntest/a.png,1,0\ntest/b.jpg,0,1\n")
    return load_dataset(root, "test")


def by_pillow(path):
    return np.asarray(Image.open(path).convert("RGB").resize((40, 40)))


def by_torchvision(path):
    return v2.Resize((40, 40), antialias=True)(decode_image(str(path))).permute(1, 2, 0).numpy()


def by_opencv(path):
    return cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (40, 40)), cv2.COLOR_BGR2RGB)


def by_skia(path):
    """Four nearest pixels of the picture as it is stored; benchmarks/skia_scaling.py compares with Skia itself."""
    stored = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return cv2.cvtColor(cv2.resize(stored, (40, 40)), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize(
    ("name", "theirs", "most"),
    [
        ("pil", by_pillow, 0),
        ("torchvision", by_torchvision, 1),
        ("opencv-linear", by_opencv, 1),
        ("android", by_skia, 1),
    ],
)
def test_pixels_are_those_of_the_program(pictures, name, theirs, most):
    prepare = as_caller(name, OWN)
    for row, path in enumerate(pictures.paths):
        assert np.abs(prepare(pictures, row).astype(int) - theirs(path)).max() <= most


def test_a_caller_keeps_the_part_of_the_picture(pictures):
    cut = Preprocess(size=40, resize="crop", crop_fraction=1.0)
    image = np.asarray(Image.open(pictures.paths[0]))[:, 20:110]
    expected = np.asarray(Image.fromarray(image).resize((40, 40)))
    np.testing.assert_array_equal(as_caller("pil", cut)(pictures, 0), expected)


def test_a_caller_of_video_keeps_grey_and_blurs_colours(pictures):
    video, plain = (as_caller(name, OWN)(pictures, 0).astype(int) for name in ("nvinfer", "opencv-linear"))
    assert np.ptp(video, axis=2).mean() < 0.7 * np.ptp(plain, axis=2).mean()
    grey = [pixels @ (0.299, 0.587, 0.114) for pixels in (video, plain)]
    assert np.abs(grey[0] - grey[1]).mean() < 8


def test_a_name_that_no_caller_has_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=f"no caller 'torchvison'; did you mean 'torchvision'.*{', '.join(CALLERS)}"):
        as_caller("torchvison", OWN)


def test_verify_judges_the_answers_to_a_callers_pixels(onnx_bundle, tiny_data, edgepress):
    data = load_dataset(tiny_data, "test")
    found = verify(onnx_bundle, data, caller="browser")
    assert (found.caller, found.stages) == ("browser", None)
    assert found.caller_moves is not None
    own, prepare = onnx_bundle.preprocess, as_caller("browser", onnx_bundle.preprocess)
    moved = [np.abs(prepare(data, row).astype(int) - own(data.picture(row))).mean() for row in range(len(data))]
    assert found.caller_moves == pytest.approx(np.mean(moved))
    assert found.caller_moves > 0
    assert found.max_abs_diff is not None
    assert found.max_abs_diff > 0
    assert not any("a logit differs" in reason.text for reason in found.judgement.reasons)
    again = edgepress("verify", onnx_bundle.path, "--data", tiny_data, "--as", "browser", "--json")
    assert again.json["caller_moves"] == found.caller_moves
    table = edgepress("verify", onnx_bundle.path, "--data", tiny_data, "--as", "browser")
    assert "pixels as browser" in table.out
    assert ("browser scales by bilinear: distill --interpolation bilinear" in table.out) == (table.code == 1)


def test_an_engine_with_a_callers_interpolation_answers_it_as_itself(pictures):
    own = OWN.model_copy(update={"interpolation": CALLERS["browser"].interpolation})
    for row in range(2):
        np.testing.assert_array_equal(as_caller("browser", own)(pictures, row), own(pictures.picture(row)))


def test_stages_are_not_walked_with_a_callers_pictures(edgepress, onnx_bundle, tiny_data):
    for arguments, said in (
        (("pil", "--layers"), "leave out what a caller does to pictures"),
        (("pi",), "--as is 'pi'; expected one of pil"),
    ):
        answer = edgepress("verify", onnx_bundle.path, "--data", tiny_data, "--as", *arguments)
        assert answer.code == 2
        assert said in answer.err
