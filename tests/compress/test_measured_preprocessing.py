"""A function that prepares pictures is measured, not read: what it does is taken over, or refused with what it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from edgepress.compress.measured_preprocessing import measure
from edgepress.multilabel.errors import InputError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def prepared(*steps, mean=MEAN, std=STD):
    whole = v2.Compose([*steps, v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    return lambda picture: whole(Image.fromarray(picture)).numpy()


@pytest.mark.parametrize("filter_", [v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC])
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (lambda filter_: [v2.Resize((224, 224), filter_)], ("squash", None)),
        (lambda filter_: [v2.Resize(256, filter_), v2.CenterCrop(224)], ("crop", 0.875)),
        (lambda filter_: [v2.Resize(224, filter_), v2.CenterCrop(224)], ("crop", 1.0)),
    ],
)
def test_the_usual_ways_are_found(steps, expected, filter_):
    found, colors = measure(prepared(*steps(filter_)), "theirs")
    assert (found.size, found.resize, colors) == (224, expected[0], "rgb")
    if expected[1]:
        assert found.crop_fraction == expected[1]
    np.testing.assert_allclose(found.mean, MEAN, atol=1e-5)
    np.testing.assert_allclose(found.std, STD, atol=1e-5)


def test_a_share_that_is_named_is_found():
    prepare = prepared(v2.Resize(292), v2.CenterCrop(224))
    assert measure(prepare, "theirs", [224 / 292]).preprocess.crop_fraction == 224 / 292


def test_bgr_and_raw_pixels_are_found():
    plain = prepared(v2.Resize((64, 64)), mean=[0.0] * 3, std=[1 / 255] * 3)
    found, colors = measure(lambda picture: plain(picture)[::-1], "theirs")
    assert colors == "bgr"
    np.testing.assert_allclose(found.mean, 0, atol=1e-6)
    np.testing.assert_allclose(found.std, 1 / 255, atol=1e-6)


def test_mean_and_std_of_bgr_are_in_the_model_s_order():
    theirs = prepared(v2.Resize((64, 64)), mean=MEAN[::-1], std=STD[::-1])
    found, colors = measure(lambda picture: theirs(np.ascontiguousarray(picture[..., ::-1])), "theirs")
    assert colors == "bgr"
    np.testing.assert_allclose(found.mean, MEAN[::-1], atol=1e-5)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (prepared(v2.Resize(224)), r"pictures become \[3, \d+, \d+\], .*expected squares of one size"),
        (prepared(v2.Resize((256, 256)), v2.CenterCrop(224)), "neither stretches a picture to the square nor cuts out"),
        (prepared(v2.Resize((64, 64)), v2.Grayscale(3)), "it mixes the channels"),
        (prepared(v2.CenterCrop(64)), "neither stretches a picture to the square nor cuts out its middle"),
        (prepared(v2.Resize((64, 64)), v2.Pad(8)), "a picture of one colour gets several"),
        (prepared(v2.Resize((64, 64)), v2.RandomInvert(1.0)), "a white picture is not brighter than a black one"),
    ],
)
def test_another_way_is_refused_by_what_it_does(prepare, said):
    with pytest.raises(InputError, match=said) as error:
        measure(prepare, "theirs")
    assert "say --size, --mean, --std and --resize" in str(error.value)
