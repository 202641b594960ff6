"""What a teacher can teach: a graph its logits, a torch model everything; asked for more, it is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import ON_EMBEDDINGS, ON_LOGITS, ON_MAPS, TERMS
from edgepress.compress.teachable import can_teach, require_teachable, with_terms_for
from edgepress.compress.teacher_sources import GivenTeacher
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.manifest import Kind


def teacher(kind: Kind) -> GivenTeacher:
    return GivenTeacher(Path(kind), kind, LabelSpace(("a",)))


@pytest.mark.parametrize("term", TERMS)
def test_a_graph_teaches_the_terms_on_logits_and_a_torch_model_every_one(term):
    config = DistillConfig(**{"review_kd": 0.0, term: 1.0})
    assert can_teach(config, [teacher("torch")])
    assert can_teach(config, [teacher("onnx")]) == (term in ON_LOGITS)
    # Terms inside of a teacher look into the first alone; label-wise embeddings are those of all.
    assert can_teach(config, [teacher("torch"), teacher("onnx")]) == (term not in (*ON_EMBEDDINGS, *ON_MAPS))
    if term not in ON_LOGITS:
        with pytest.raises(InputError, match=f"onnx: an ONNX graph .* but {term} needs what is inside it"):
            require_teachable(config, [teacher("onnx")])


def test_the_default_gives_way_and_what_was_asked_for_does_not():
    taken = with_terms_for(DistillConfig(size=64), [teacher("onnx")])
    assert (taken.terms, taken.mld, taken.size, taken.inherit_head) == (("mld",), 4.0, 64, "no")
    assert with_terms_for(taken, [teacher("onnx")]) is taken
    asked = (
        DistillConfig(review_kd=0.2),
        DistillConfig(review_kd=0.1),
        DistillConfig(simkd=4.0),
        DistillConfig(cd=1.0),
    )
    for one in (*asked, DistillConfig(preset="at"), DistillConfig(preset="review_kd+simkd")):
        assert with_terms_for(one, [teacher("onnx")]) is one
    assert with_terms_for(DistillConfig(), [teacher("torch")]) == DistillConfig()


@pytest.mark.parametrize(
    ("given", "terms", "head"),
    [
        ({}, {"review_kd": 0.1, "simkd": 4.0}, "auto"),
        ({"inherit_head": "no", "hint": 0}, {"review_kd": 0.1, "simkd": 4.0}, "no"),
        ({"review_kd": 0}, {"simkd": 4.0}, "auto"),
        ({"simkd": 0.0}, {"review_kd": 0.1}, "auto"),
        ({"review_kd": 0.1}, {"review_kd": 0.1}, "no"),
        ({"mld": 4.0}, {"mld": 4.0}, "no"),
        ({"preset": "alone"}, {}, "no"),
    ],
)
def test_a_term_with_a_weight_replaces_the_default_and_one_without_is_left_out_of_it(given, terms, head):
    config = DistillConfig.parse(given, "recipe")
    assert ({name: getattr(config, name) for name in config.terms}, config.inherit_head) == (terms, head)
    assert DistillConfig.parse(config.model_dump(), "again") == config
    assert config.by_default == (len(terms) == 2)


def test_the_default_is_what_the_help_says():
    fields = DistillConfig.model_fields
    said = {name: fields[name].default for name in (*TERMS, "inherit_head")}
    assert said == {name: getattr(DistillConfig(), name) for name in said}
    # A recipe of what was set keeps the head with the terms.
    assert DistillConfig().model_dump(exclude_unset=True) == {"review_kd": 0.1, "simkd": 4.0, "inherit_head": "auto"}
