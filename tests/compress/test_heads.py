"""Heads for many labels: shared queries and a factorised matrix, by hand, exported, and without embeddings."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig, ModelConfig, TeachConfig
from edgepress.compress.distill import distill, require_makeable
from edgepress.compress.heads import LinearHead, MLDecoderHead
from edgepress.compress.lesson import inherit_head
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.deploy.build.traced import traced
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from tests.compress.lessons import STUDENT, updated

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"backbone": "test_efficientnet", "size": 32, "weights": "none"}


def names(count: int) -> LabelSpace:
    return LabelSpace(tuple(f"label {number}" for number in range(count)))


def model(count: int = 7, **settings) -> MultiLabelModel:
    torch.manual_seed(0)
    return make_model(ModelConfig(**{**SMALL, **settings}), names(count))[0].eval()


def test_a_query_answers_for_the_next_labels_by_a_matrix_of_its_own():
    head, tokens = MLDecoderHead(24, 7, 32, query_groups=3).eval(), torch.randn(2, 5, 24)
    outputs = head.embeddings(tokens)
    assert (head.each, outputs.shape) == (3, (2, 3, 32))
    logits, embeddings = head(tokens)
    for label in range(7):
        expected = outputs[:, label // 3] @ head.weight[label // 3, :, label % 3] + head.bias[label]
        torch.testing.assert_close(logits[:, label], expected)
    assert embeddings.shape == (2, 7, 0)
    _, attention = head.with_attention(tokens)
    assert attention.shape == (2, 7, 5)
    assert (attention[:, 0] == attention[:, 2]).all()
    assert (attention[:, 2] != attention[:, 3]).any()


def test_as_many_groups_as_labels_are_the_usual_head():
    torch.manual_seed(0)
    usual = MLDecoderHead(24, 5, 32).eval()
    torch.manual_seed(0)
    shared, tokens = MLDecoderHead(24, 5, 32, query_groups=5).eval(), torch.randn(2, 4, 24)
    torch.testing.assert_close(shared.logits(tokens), usual.logits(tokens))


def test_the_time_and_memory_of_queries_do_not_grow_with_the_labels():
    def counted(head: MLDecoderHead) -> int:
        return sum(parameter.numel() for parameter in head.parameters())

    few, many = (MLDecoderHead(24, labels, 32, query_groups=10) for labels in (100, 10_000))
    assert few.queries.shape == many.queries.shape
    assert counted(many) - counted(few) == 9_900 * (32 + 1)


def test_a_factorised_head_is_the_product_of_two_matrices():
    head, tokens = LinearHead(12, 5, 8), torch.randn(3, 4, 12)
    whole = LinearHead(12, 5)
    whole.load_state_dict({"weight": head.weight @ head.project.weight, "bias": head.bias})
    torch.testing.assert_close(head.logits(tokens), whole.logits(tokens))
    torch.testing.assert_close(head.with_attention(tokens)[1], whole.with_attention(tokens)[1])
    assert head(tokens)[1].shape == (3, 5, 8)


@pytest.mark.parametrize("settings", [{"width": 32, "query_groups": 3}, {"head": "linear", "bottleneck": 8}])
def test_it_is_exported_with_a_free_batch_and_answers_as_torch(settings, tmp_path):
    import onnxruntime

    made = model(**settings)

    class Logits(torch.nn.Module):
        def forward(self, images):
            return made.logits(images)

    graph = traced(Logits().eval(), torch.zeros(2, 32, 32, 3, dtype=torch.uint8), ["logits"], "test")
    onnx.save(graph, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    assert found == pytest.approx(made.answer(images), abs=1e-4)


def test_without_label_wise_embeddings_the_logits_are_the_same():
    for settings in ({"width": 32}, {"head": "linear"}):
        made, images = model(**settings), torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
        logits, embeddings = made(images)
        assert embeddings.shape[2] > 0
        made.label_wise = False
        again, none = made(images)
        torch.testing.assert_close(again, logits)
        assert none.shape == (2, 7, 0)


@pytest.mark.parametrize("settings", [{"width": 32, "query_groups": 2}, {"head": "linear", "bottleneck": 8}])
def test_a_student_is_trained_saved_and_loaded(teacher, splits, tmp_path, settings):
    config = updated(STUDENT, **{"mld": 1.0, "cd": 0.0, "id": 0.0, **settings})
    made = distill(*splits, teacher, config, tmp_path / "student")
    loaded = load_model(made.path)
    assert (loaded.config.query_groups, loaded.config.bottleneck) == (config.query_groups, config.bottleneck)
    assert made.manifest.facts.val_mAP > 0


def test_what_does_not_fit_is_refused_before_training():
    with pytest.raises(ValueError, match="query_groups is for head ml_decoder, and head is linear"):
        ModelConfig(**SMALL, head="linear", query_groups=3)
    with pytest.raises(ValueError, match="bottleneck is for head linear, and head is ml_decoder"):
        ModelConfig(**SMALL, bottleneck=8)
    with pytest.raises(ValueError, match="cd compares an embedding per label, and with query_groups"):
        DistillConfig(**SMALL, query_groups=3, cd=1.0)
    with pytest.raises(InputError, match="query_groups is 100 for 7 labels; expected fewer"):
        model(width=32, query_groups=100)
    with pytest.raises(InputError, match="query_groups is 100 for 7 labels; expected fewer"):
        require_makeable(TeachConfig(**SMALL, query_groups=100), names(7))


def test_nothing_is_inherited_between_shared_queries():
    assert inherit_head(model(width=32, query_groups=3), model(width=32)) == []
