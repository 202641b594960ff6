"""Label maps: their mean is the logit, a region's score is what the label gathers there, whoever returns them."""

from __future__ import annotations

import copy

import pytest
import torch

from edgepress.compress.config import DistillConfig
from edgepress.compress.heads import LinearHead, MLDecoderHead
from edgepress.compress.label_maps import REGIONS, averages, mirrored, regions_within, side_of, with_label_maps
from edgepress.compress.lesson import load_teacher
from edgepress.compress.mapped import MappedTeacher
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.teacher import Ensemble, map_labels
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_map import match_labels
from edgepress.multilabel.labels import LabelSpace
from tests.compress.losses.loss_batches import exact, normal

pytestmark = pytest.mark.usefixtures("one_thread")
LABELS = LabelSpace(("a", "b", "c", "d"))


def decoder(seed: int = 0) -> MLDecoderHead:
    """Trained so far that norms and biases are not at their beginning."""
    torch.manual_seed(seed)
    head = MLDecoderHead(12, 5, 32).double().eval()
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return head


@pytest.mark.parametrize("head", [decoder(), LinearHead(12, 5).double(), LinearHead(12, 5, 8).double()])
@pytest.mark.parametrize("side", [1, 2, 3, 4, 7])
def test_the_whole_picture_s_score_is_the_logit_and_grids_average_to_it(head, side):
    tokens = 3 * normal(3, side * side, 12)
    expected = head(tokens)
    logits, embeddings, maps = with_label_maps(head, tokens, averages(side), label_wise=True)
    torch.testing.assert_close(logits, expected[0], **exact)
    torch.testing.assert_close(embeddings, expected[1], **exact)
    assert maps.shape == (3, 5, REGIONS)
    for grid in maps[..., :1], maps[..., 1:5], maps[..., 5:]:
        torch.testing.assert_close(grid.mean(dim=2), logits, rtol=1e-6, atol=1e-6)


def test_a_linear_head_scores_each_place_by_itself():
    head, tokens = LinearHead(12, 5).double(), normal(2, 16, 12)
    maps = with_label_maps(head, tokens, averages(4), label_wise=False)[2]
    for place in range(16):
        torch.testing.assert_close(maps[..., 5 + place], head.logits(tokens[:, place : place + 1]), **exact)
    torch.testing.assert_close(maps[..., 2], head.logits(tokens[:, [2, 3, 6, 7]]), rtol=1e-6, atol=1e-6)


def test_ml_decoder_s_scores_are_what_the_logit_gains_by_each_place():
    """By autograd: the slope of the logit in the gathered values, with the norms' statistics held."""
    head, tokens = decoder(), normal(1, 4, 12)
    maps = with_label_maps(head, tokens, averages(2), label_wise=True)[2]
    query, attention, values = head.attended(tokens)
    context = (attention @ values).transpose(1, 2).flatten(2).detach().requires_grad_()

    def held(norm, rows):
        """The norm with its mean and deviation as they are; centring passes the gradient."""
        deviation = (rows.var(dim=-1, keepdim=True, correction=0) + norm.eps).sqrt().detach()
        return norm.weight * (rows - rows.mean(dim=-1, keepdim=True)) / deviation + norm.bias

    x = held(head.norm2, query + head.to_out(context))
    logits = head.score(held(head.norm3, x + head.feed_forward(x)))
    for label in range(5):
        (slope,) = torch.autograd.grad(logits[0, label], context, retain_graph=True)
        by_head = slope[0, label].unflatten(0, (8, 4))
        gains = torch.stack([(attention[0, :, label, s, None] * values[0, :, s] * by_head).sum() for s in range(4)])
        expected = logits[0, label] - gains.sum() + 4 * gains
        torch.testing.assert_close(maps[0, label, 1:5], expected.detach(), rtol=1e-6, atol=1e-6)


def test_dropout_is_that_of_a_plain_pass():
    head, tokens = decoder().train(), normal(3, 4, 12)
    torch.manual_seed(1)
    expected = head(tokens)[0]
    torch.manual_seed(1)
    logits, _, maps = with_label_maps(head, tokens, averages(2), label_wise=True)
    torch.testing.assert_close(logits, expected, **exact)
    torch.testing.assert_close(maps[..., 0], logits, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(maps[..., 1:5].mean(dim=2), logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 7, 12])
def test_regions_weigh_places_by_what_lies_in_them(side):
    weights = averages(side)
    assert weights.shape == (REGIONS, side * side)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(REGIONS))
    fine = torch.randn(1, 1, 84, 84, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = torch.nn.functional.adaptive_avg_pool2d(fine, side) if 84 % side == 0 else None
    if places is not None:  # where 84 is a multiple, each place covers whole points, and regions may cut it
        image = places.repeat_interleave(84 // side, 2).repeat_interleave(84 // side, 3)
        expected = torch.cat([torch.nn.functional.adaptive_avg_pool2d(image, grid).flatten() for grid in (1, 2, 4)])
        torch.testing.assert_close(weights.double() @ places.flatten(), expected, rtol=1e-5, atol=1e-6)


def test_only_regions_that_a_map_can_tell_apart_are_compared():
    assert [regions_within(side) for side in (0, 1, 2, 3, 4, 7)] == [1, 1, 5, 5, 21, 21]
    assert [side_of(positions) for positions in (1, 2, 4, 49)] == [1, 0, 2, 7]


def tagger(**settings) -> MultiLabelModel:
    torch.manual_seed(len(settings))
    config = DistillConfig(**{"backbone": "test_efficientnet", "size": 64, "width": 32, "weights": "none", **settings})
    return make_model(config, LABELS)[0].eval()


def test_a_mirror_image_s_map_is_the_mirrored_map():
    model = tagger(head="linear")
    model.map_labels()
    tokens = model.tokens(torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8))
    flipped = tokens.unflatten(1, (model.map_side, -1)).flip(2).flatten(1, 2)
    one, other = (with_label_maps(model.head, x, model.regions, label_wise=False)[2] for x in (tokens, flipped))
    torch.testing.assert_close(mirrored(other), one)
    assert not torch.allclose(other, one)


def test_maps_are_asked_for_and_are_no_part_of_the_weights():
    model = tagger()
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    plain, before = model(images), set(model.state_dict())
    assert len(plain) == 2
    model.map_labels()
    logits, embeddings, maps = model(images)
    torch.testing.assert_close(logits, plain[0])
    torch.testing.assert_close(embeddings, plain[1])
    torch.testing.assert_close(maps[..., 0], logits, rtol=1e-4, atol=1e-4)
    assert set(model.state_dict()) == before
    assert copy.deepcopy(model)(images)[2].equal(maps)


def test_several_teachers_of_other_labels_answer_in_regions_as_they_do_as_a_whole():
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    labels = LabelSpace(("b", "x", "a"))
    match = match_labels(labels, LABELS, None, "it")
    first, second = MappedTeacher(tagger(), match, labels), MappedTeacher(tagger(head="linear"), match, labels)
    both = Ensemble([first, second], mirrored=True).eval()
    assert map_labels(both) == 2
    logits, _, maps = both(images)
    assert maps.shape == (2, 3, REGIONS)
    torch.testing.assert_close(maps[..., 0], logits, rtol=1e-4, atol=1e-4)
    parts = []
    for model in first.model, second.model:
        plain, flipped = model(images)[2], mirrored(model(images.flip(2))[2])
        parts.append((plain + flipped) / 2)
    expected = torch.stack(parts).mean(dim=0)
    torch.testing.assert_close(maps[:, 2], expected[:, 0])
    assert (maps[:, 1] == 0).all()


def test_a_model_without_maps_says_so():
    with pytest.raises(InputError, match=r"labels that share queries: .* \(label_map\)"):
        map_labels(tagger(query_groups=2))
    with pytest.raises(ValueError, match="label_map compares a score per label"):
        DistillConfig(query_groups=2, label_map=1.0, review_kd=0.0)


def test_a_trained_teacher_has_maps(teacher):
    model = load_teacher(teacher)
    assert map_labels(model) == 4
