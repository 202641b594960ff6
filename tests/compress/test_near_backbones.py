"""Names of backbones that timm does not know, and what is meant by them."""

from __future__ import annotations

import pytest
import timm

from edgepress.compress.near_backbones import near_backbones


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("mobilenet_v4", "mobilenetv4_conv_small"),
        ("mobilenetv4", "mobilenetv4_conv_small"),
        ("MobileNet-V4-Small", "mobilenetv4_conv_small"),
        ("mobilenet_v3_small", "mobilenetv3_small_100"),
        ("efficientnetlite0", "tf_efficientnet_lite0"),
        ("tf_efficientnet_lit0", "tf_efficientnet_lite0"),
        ("ResNet 50", "resnet50"),
        ("vit_b_16", "vit_base_patch16_224"),
        ("swin_t", "swin_tiny_patch4_window7_224"),
        ("eva02", "eva02_tiny_patch14_224"),
    ],
)
def test_other_separators_cases_and_words_for_a_size_are_no_obstacle(given, meant):
    near = near_backbones(given)
    assert meant in near
    assert all(timm.is_model(name) for name in near)


@pytest.mark.parametrize("given", ["", "_", "[a-z]*", "(", "nothing like it"])
def test_what_is_no_name_has_none_near(given):
    assert near_backbones(given) == []
