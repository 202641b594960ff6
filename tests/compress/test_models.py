"""MultiLabelModel: shapes over unlike backbones, the heads against plain loops, normalisation by hand."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from edgepress.compress.checkpoint import load_model, save_model
from edgepress.compress.config import ModelConfig
from edgepress.compress.features import FeatureTaps
from edgepress.compress.heads import LinearHead, MLDecoderHead
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess

LABELS = LabelSpace(("cat", "dog", "tree"))
SWIN = "swin_tiny_patch4_window7_224"


def model_of(backbone: str = "test_efficientnet", head: str = "ml_decoder", size: int = 64) -> MultiLabelModel:
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, head=head, width=32, size=size, weights="none")
    return make_model(config, LABELS)[0].eval()


def pictures(count: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def parameters_of(head: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in head.parameters())


@pytest.mark.parametrize(
    ("backbone", "features", "positions"),
    [("test_efficientnet", 256, 4), ("test_vit", 64, 16), ("test_convnext", 64, 4), (SWIN, 768, 4)],
)
def test_shapes_over_unlike_backbones(backbone, features, positions):
    images = pictures(2, 64)
    for head, dim in (("ml_decoder", 32), ("linear", features)):
        model = model_of(backbone, head)
        with torch.no_grad():
            assert model.tokens(images).shape == (2, positions, features)
            logits, embeddings = model(images)
        assert logits.shape == (2, 3)
        assert embeddings.shape == (2, 3, dim)
        assert logits.dtype == embeddings.dtype == torch.float32
        if backbone == SWIN:
            assert model.backbone.output_fmt == "NHWC"


def test_a_vit_s_class_token_is_no_position():
    model = model_of("test_vit")
    images = pictures(1, 64)
    with torch.no_grad():
        pixels = ((images.float() - model.mean) * model.scale).permute(0, 3, 1, 2)
        everything = model.backbone.forward_features(pixels)
        assert model.backbone.num_prefix_tokens == 1
        assert torch.equal(model.tokens(images), everything[:, 1:])


@pytest.mark.parametrize("head", ["ml_decoder", "linear"])
@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit"])
def test_logits_alone_are_the_forward_s_first(head, backbone):
    model, images = model_of(backbone, head), pictures(3, 64)
    with torch.no_grad():
        assert torch.equal(model.logits(images), model(images)[0])


@pytest.mark.parametrize("head", ["ml_decoder", "linear"])
def test_a_picture_s_answer_does_not_depend_on_its_batch(head):
    model, images = model_of(head=head), pictures(3, 64)
    with torch.no_grad():
        together = model(images)
        alone = [model(images[i : i + 1]) for i in range(3)]
    for part in range(2):
        one_by_one = torch.cat([result[part] for result in alone])
        torch.testing.assert_close(together[part], one_by_one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("width", "millions", "tolerance"), [(768, 6.5, 0.02), (256, 1.0, 0.05)])
def test_ml_decoder_parameter_count(width, millions, tolerance):
    """Published: 6.5 M at 768 on 1,280 features. The rows that are each label's own come on top."""
    count = parameters_of(MLDecoderHead(1280, 1, width))
    assert count == pytest.approx(millions * 1e6, rel=tolerance)
    assert parameters_of(MLDecoderHead(1280, 81, width)) - count == 80 * (2 * width + 1)


def test_ml_decoder_attends_as_torch_s_own_attention():
    """Against nn.MultiheadAttention holding the same weights."""
    torch.manual_seed(0)
    head, tokens = MLDecoderHead(24, 3, 32).eval(), torch.randn(2, 5, 24)
    attention = torch.nn.MultiheadAttention(32, MLDecoderHead.HEADS, batch_first=True).eval()
    projections = (head.to_query, head.to_key, head.to_value)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([layer.weight for layer in projections]))
        attention.in_proj_bias.copy_(torch.cat([layer.bias for layer in projections]))
        attention.out_proj.load_state_dict(head.to_out.state_dict())
        memory = head.embed(tokens).relu()
        query = head.norm1(head.queries).expand(2, -1, -1)
        x = head.norm2(query + attention(query, memory, memory)[0])
        expected = head.norm3(x + head.feed_forward(x))
        logits, embeddings = head(tokens)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits, (expected * head.weight).sum(2) + head.bias, atol=1e-5, rtol=1e-5)


def test_ml_decoder_does_not_see_the_order_of_positions():
    torch.manual_seed(0)
    head, tokens = MLDecoderHead(24, 3, 32).eval(), torch.randn(2, 7, 24)
    with torch.no_grad():
        torch.testing.assert_close(head.embeddings(tokens), head.embeddings(tokens.flip(1)), atol=1e-5, rtol=1e-5)


def test_queries_are_frozen_and_the_rest_is_trained():
    head = model_of().head
    frozen = [name for name, parameter in head.named_parameters() if not parameter.requires_grad]
    assert frozen == ["queries"]
    head.train()
    before = head.queries.clone()
    logits, embeddings = head(torch.randn(2, 4, 256))
    (logits.sum() + embeddings.square().sum()).backward()
    assert head.queries.grad is None
    assert torch.equal(head.queries, before)
    assert all(parameter.grad is not None for parameter in head.parameters() if parameter.requires_grad)


def test_linear_head_s_embedding_is_the_formula():
    """e[i,c] = Σ_s softmax_s(w_c · f_s) f_s, and the logit is w_c · mean_s f_s + b_c, by plain loops."""
    torch.manual_seed(0)
    head = LinearHead(6, 4).double()
    with torch.no_grad():
        head.weight.copy_(torch.randn(4, 6))
        head.bias.copy_(torch.randn(4))
        tokens = torch.randn(3, 5, 6, dtype=torch.float64)
        logits, embeddings = head(tokens)
        for i in range(3):
            for c in range(4):
                scores = [float(head.weight[c] @ tokens[i, s]) for s in range(5)]
                shares = torch.tensor(scores, dtype=torch.float64).exp()
                shares = shares / shares.sum()
                expected = sum(shares[s] * tokens[i, s] for s in range(5))
                torch.testing.assert_close(embeddings[i, c], expected, atol=1e-12, rtol=1e-12)
                mean = sum(tokens[i, s] for s in range(5)) / 5
                expected = head.weight[c] @ mean + head.bias[c]
                torch.testing.assert_close(logits[i, c], expected, atol=1e-12, rtol=1e-12)


def test_normalisation_inside_is_the_formula():
    """What the backbone receives is (x / 255 − mean) / std, a mean and a std a channel, NCHW."""
    preprocess = Preprocess(size=64, mean=(0.1, 0.5, 0.9), std=(0.2, 0.4, 0.8))
    config = ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none")
    model = MultiLabelModel(config, LABELS, preprocess).eval()
    received = []
    model.backbone.forward_features = lambda pixels: received.append(pixels) or torch.zeros(2, 256, 2, 2)
    images = pictures(2, 64)
    model.tokens(images)
    assert received[0].shape == (2, 3, 64, 64)
    for channel in range(3):
        x = images[..., channel].double()
        expected = (x / 255 - preprocess.mean[channel]) / preprocess.std[channel]
        torch.testing.assert_close(received[0][:, channel].double(), expected, atol=1e-5, rtol=1e-5)


def test_preprocess_is_what_timm_says_of_the_backbone():
    assert model_of("test_efficientnet").preprocess.mean == (0.485, 0.456, 0.406)
    assert model_of("test_vit").preprocess.mean == (0.5, 0.5, 0.5)
    assert model_of("test_vit").preprocess.size == 64


def test_normalisation_is_no_weight():
    assert not {"mean", "scale"} & model_of().state_dict().keys()


def test_an_unknown_backbone_names_close_ones():
    config = ModelConfig(backbone="tf_eficientnet_lite0", weights="none")
    with pytest.raises(InputError, match=r"'tf_eficientnet_lite0'.*tf_efficientnet_lite0"):
        make_model(config, LABELS)
    with pytest.raises(InputError, match="'zzzzzzzz'"):
        make_model(ModelConfig(backbone="zzzzzzzz", weights="none"), LABELS)


def test_making_a_model_leaves_it_in_training_mode_with_clean_statistics():
    torch.manual_seed(0)
    model, source = make_model(ModelConfig(backbone="test_efficientnet", width=32, size=32, weights="none"), LABELS)
    assert source == "none (random)"
    assert model.training
    counters = [tensor for key, tensor in model.state_dict().items() if key.endswith("num_batches_tracked")]
    assert counters
    assert all(counter == 0 for counter in counters)


@pytest.mark.parametrize(("backbone", "stages"), [("test_efficientnet", 3), ("test_resnet", 2), ("test_convnext", 3)])
def test_the_first_stages_have_the_weights_of_the_whole_backbone(tmp_path, backbone, stages):
    whole = model_of(backbone).backbone
    save_file({name: tensor.contiguous() for name, tensor in whole.state_dict().items()}, tmp_path / "w.safetensors")
    config = ModelConfig(backbone=backbone, stages=stages, width=32, size=64, weights=str(tmp_path / "w.safetensors"))
    cut = make_model(config, LABELS)[0].eval()
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = whole.forward_intermediates(pixels, indices=[stages - 1], intermediates_only=True)[0]
        found = cut.backbone.forward_features(pixels)
    torch.testing.assert_close(found, expected)
    assert parameters_of(cut.backbone) < parameters_of(whole)
    save_model(cut, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(again.logits(pictures(1, 64)), cut.logits(pictures(1, 64)))
    with FeatureTaps(again.backbone, count=stages, size=64) as taps:
        assert taps.channels()[-1] == found.shape[1]


def test_as_many_stages_as_there_are_is_refused():
    with pytest.raises(InputError, match="stages is 5, and 'test_efficientnet' has 5: give fewer, or leave it out"):
        make_model(ModelConfig(backbone="test_efficientnet", stages=5, size=64, weights="none"), LABELS)


def test_a_backbone_that_this_timm_cannot_cut_is_named(monkeypatch):
    """Older versions of timm cut fewer of their models."""
    monkeypatch.delattr(timm.models.EfficientNet, "prune_intermediate_layers")
    with pytest.raises(InputError, match=r"stages is 2, and timm .* cannot cut 'test_efficientnet': update timm"):
        make_model(ModelConfig(backbone="test_efficientnet", stages=2, size=64, weights="none"), LABELS)
