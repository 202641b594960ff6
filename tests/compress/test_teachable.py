"""What a teacher can teach: a graph its logits, a torch model everything; asked for more, it is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import DEFAULT, ON_EMBEDDINGS, ON_LOGITS, ON_MAPS, TERMS
from edgepress.compress.teachable import can_teach, require_teachable, told_terms, with_terms_for
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


def test_the_default_gives_way():
    taken = with_terms_for(DistillConfig(size=64), [teacher("onnx")])
    assert (taken.terms, taken.dist, taken.size, taken.inherit_head) == (("dist",), 1.0, 64, "no")
    assert with_terms_for(taken, [teacher("onnx")]) is taken
    assert with_terms_for(DistillConfig(), [teacher("torch")]) == DistillConfig()


@pytest.mark.parametrize(
    "asked",
    [
        *({"review_kd": 0.2}, {"review_kd": 0.1}, {"simkd": 4.0}, {"cd": 1.0}, {"preset": "at"}),
        *({"preset": "review_kd+simkd"}, {"review_kd": 0.1, "simkd": 4.0}, {"mld": 4.0, "inherit_head": "auto"}),
    ],
)
def test_what_was_asked_for_is_refused_also_where_it_is_the_default(asked):
    config = DistillConfig.parse(asked, "flags")
    assert with_terms_for(config, [teacher("onnx")]) is config
    with pytest.raises(InputError, match=f"but {'inherit_head' if 'mld' in asked else config.terms[0]} needs"):
        require_teachable(config, [teacher("onnx")])


@pytest.mark.parametrize(("off", "instead"), [("simkd", "review_kd"), ("review_kd", "simkd")])
def test_what_is_left_of_the_default_gives_way_like_the_whole(caplog, off, instead):
    caplog.set_level("INFO", "edgepress")
    taken = with_terms_for(DistillConfig.parse({off: 0}, "flags"), [teacher("onnx")])
    assert (taken.terms, taken.dist, taken.inherit_head) == (("dist",), 1.0, "no")
    assert f"dist 1 instead of {instead}, the default" in caplog.text
    require_teachable(taken, [teacher("onnx")])


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
    weighted = any(value for value in given.values() if value != "no")
    assert config.by_default == tuple(name for name in DEFAULT if name not in given and not weighted)


def test_the_default_is_what_the_help_says():
    fields = DistillConfig.model_fields
    said = {name: fields[name].default for name in (*TERMS, "inherit_head")}
    assert said == {name: getattr(DistillConfig(), name) for name in said}
    assert {name: said[name] for name in DEFAULT} == DEFAULT
    assert said == {**dict.fromkeys(TERMS, 0.0), **DEFAULT}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "by bce 1 from the labels, and by review_kd 0.1 and simkd 4 from the teacher (the default)"),
        ({"simkd": 0, "task": 2}, "by bce 2 from the labels, and by review_kd 0.1 from the teacher (the default without"
            " simkd)"),
        ({"review_kd": 0.1, "simkd": 4}, "by bce 1 from the labels, and by review_kd 0.1 and simkd 4 from the teacher"),
        ({"mld": 2.5, "task": 0}, "from the teacher alone, by mld 2.5"),
        ({"preset": "at"}, "by bce 1 from the labels, and by at 10 from the teacher (preset at)"),
        ({"preset": "alone", "task": 0.5}, "by bce 0.5 from the labels alone, without a teacher's terms"),
    ],
)  # fmt: skip
def test_what_a_student_learns_by_is_told_in_one_line(given, said):
    assert told_terms(DistillConfig.parse(given, "flags")) == f"it learns {said}"
