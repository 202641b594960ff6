"""FeatureTaps over unlike backbones with random weights: maps beside the usual features, from one pass, then gone."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from edgepress.compress.config import ModelConfig
from edgepress.compress.features import FeatureTaps, tokens_of
from edgepress.compress.models import make_model
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace

BACKBONES = {
    # name: (size, widths, sides, the hooks serve)
    "tf_efficientnet_lite0": (64, [24, 40, 112, 320], [16, 8, 4, 2], True),
    "mobilenetv3_large_100": (64, [24, 40, 112, 960], [16, 8, 4, 2], True),
    "repvit_m0_9": (64, [48, 96, 192, 384], [16, 8, 4, 2], True),
    "swin_tiny_patch4_window7_224": (64, [96, 192, 384, 768], [16, 8, 4, 2], True),
    "vit_tiny_patch16_224": (64, [192] * 4, [4] * 4, False),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    fixed = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    return timm.create_model(name, num_classes=0, **fixed)


def pixels(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def count_runs(backbone: nn.Module) -> list[int]:
    """How often the first convolution ran."""
    runs: list[int] = []
    first = next(module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_hook(lambda *_: runs.append(1))
    return runs


@pytest.mark.parametrize("name", BACKBONES)
def test_maps_come_beside_the_same_features_in_one_pass_and_gradient_flows(name):
    size, widths, sides, hooked = BACKBONES[name]
    backbone, images = make(name, size).eval(), pixels(2, size)
    with torch.no_grad():
        expected = backbone.forward_features(images)
        reference = backbone.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
    keys = list(backbone.state_dict())
    with FeatureTaps(backbone, 4, size=size) as taps:
        assert taps.channels() == widths
        assert taps._hooked == hooked
        runs = count_runs(backbone)
        tokens, maps = taps(images)
        assert len(runs) == 1
        assert [list(tensor.shape) for tensor in maps] == [
            [2, width, side, side] for width, side in zip(widths, sides, strict=True)
        ]
        torch.testing.assert_close(tokens, tokens_of(backbone, expected))
        # timm's own maps of the same stages: every block of the ViT, of which every third is tapped.
        theirs = reference[2::3] if len(reference) == 12 else reference[-4:]
        for mine, other in zip(maps, theirs, strict=True):
            torch.testing.assert_close(mine, other)
        sum(tensor.square().mean() for tensor in maps).backward()
        gradients = [parameter.grad for parameter in backbone.parameters() if parameter.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert next(iter(backbone.parameters())).grad.abs().sum() > 0
        assert list(backbone.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(backbone.forward_features(images), expected)
    assert taps._maps == {}


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_the_whole_model_is_tapped_through_its_usual_call(name):
    config = ModelConfig(backbone=name, width=32, size=64, weights="none")
    model, _ = make_model(config, LabelSpace(("cat", "dog")))
    model.eval()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, tokens = model(images), model.tokens(images)
        with FeatureTaps(model.backbone, 3, size=64) as taps:
            logits, embeddings = model(images)
            features = taps.take()
    assert torch.equal(logits, expected[0])
    assert torch.equal(embeddings, expected[1])
    assert torch.equal(features.tokens, tokens)
    assert torch.equal(features.pooled(), tokens.mean(dim=1))
    assert len(features.maps) == 3


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_training_leaves_the_same_weights_with_and_without_taps(name):
    plain, tapped = make(name, 64).train(), make(name, 64).train()
    images = pixels(4, 64)
    with FeatureTaps(tapped, 3, size=64) as taps:
        for backbone in (plain, tapped):
            torch.manual_seed(3)
            backbone.forward_features(images).square().mean().backward()
            torch.optim.SGD(backbone.parameters(), lr=0.1).step()
        assert all(module.training for module in tapped.modules())
        taps.take()
    for (key, mine), theirs in zip(tapped.state_dict().items(), plain.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs), key


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_a_copy_of_the_model_is_its_own_and_not_tapped(name):
    backbone, images = make(name, 64).eval(), pixels(1, 64)
    with FeatureTaps(backbone, 3, size=64) as taps, torch.no_grad():
        twin = copy.deepcopy(backbone)
        for parameter in twin.parameters():
            parameter.mul_(1.5)
        assert not torch.allclose(twin.forward_features(images), backbone.forward_features(images))
        before = taps.take().maps
        backbone.forward_features(images)
        twin.forward_features(images)
        for mine, again in zip(taps.take().maps, before, strict=True):
            assert torch.equal(mine, again)
    assert "forward_features" not in backbone.__dict__


def test_frozen_parts_stay_frozen_in_the_dry_run():
    backbone = make("test_efficientnet", 64).train()
    backbone.bn1.eval()
    FeatureTaps(backbone, 2, size=64).close()
    assert backbone.training
    assert not backbone.bn1.training
    assert not any(len(module._forward_hooks) for module in backbone.modules())


def test_blocks_that_run_again_for_the_gradient_leave_nothing_behind():
    backbone = make("test_efficientnet", 64).train()
    backbone.set_grad_checkpointing()
    with FeatureTaps(backbone, 3, size=64) as taps:
        _, maps = taps(pixels(2, 64))
        maps[-1].sum().backward()
        assert taps._maps == {}


def test_mistakes_are_named():
    backbone = make("test_efficientnet", 64)
    with pytest.raises(ValueError, match="received count 0"):
        FeatureTaps(backbone, 0, size=64)
    with pytest.raises(InputError, match="'test_efficientnet' names 5 feature maps; expected at least 9"):
        FeatureTaps(backbone, 9, size=64)
    with pytest.raises(InputError, match="names 0 feature maps"):
        FeatureTaps(Featureless(), 1, size=64)
    with FeatureTaps(backbone, 2, size=64) as taps:
        with pytest.raises(ValueError, match="tapped already"):
            FeatureTaps(backbone, 2, size=64)
        with pytest.raises(RuntimeError, match="no features to take"):
            taps.take()
        taps(pixels(1, 64))
        with pytest.raises(RuntimeError, match="no features to take"):
            taps.take()


def test_a_backbone_whose_stages_give_no_maps_is_refused_and_left_as_it_was():
    backbone = Featureless()
    backbone.feature_info = [{"module": "inner", "num_chs": 8, "reduction": 1}]
    with pytest.raises(InputError, match="'Featureless' gives no maps: its stages are no modules with maps"):
        FeatureTaps(backbone, 1, size=4)
    assert "forward_features" not in backbone.__dict__
    assert not backbone.inner._forward_hooks


class Featureless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(48, 8)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(images.flatten(1))
