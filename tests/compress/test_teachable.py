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
    assert (taken.terms, taken.mld, taken.size) == (("mld",), 4.0, 64)
    assert with_terms_for(taken, [teacher("onnx")]) is taken
    for asked in (DistillConfig(), DistillConfig(review_kd=0.2), DistillConfig(preset="at"), DistillConfig(cd=1.0)):
        kept = with_terms_for(asked, [teacher("torch" if asked == DistillConfig() else "onnx")])
        assert kept is asked
