"""What a manifest stores about how its model was made: only what was given, and what newer versions add."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgepress.multilabel.facts import Facts, Parent


def test_only_what_was_given_is_written_and_it_is_read_back():
    facts = Facts(role="student", teachers=(Parent(name="teacher", digest="ab"),), val_mAP=0.5)
    stored = facts.model_dump(mode="json")
    assert stored == {"role": "student", "teachers": [{"name": "teacher", "digest": "ab"}], "val_mAP": 0.5}
    assert Facts.model_validate(stored) == facts
    changed = facts.model_copy(update={"calibrated_from": "cd"})
    assert changed.model_dump(mode="json") == {**stored, "calibrated_from": "cd"}


def test_what_a_newer_version_adds_is_kept():
    stored = {"role": "student", "colour": {"of": "the sky"}}
    assert Facts.model_validate(stored).model_dump(mode="json") == stored


def test_a_fact_of_another_type_is_refused():
    with pytest.raises(ValidationError, match="val_mAP"):
        Facts.model_validate({"val_mAP": "high"})


def test_an_epoch_knows_its_terms_whatever_their_names():
    stored = {"loss": 0.7, "bce": 0.5, "cd": 0.2, "val_mAP": 0.3, "seconds": 2.0, "cd_groups": 4.0}
    (epoch,) = Facts.model_validate({"history": [stored]}).history
    assert (epoch.loss, epoch.val_mAP, epoch.seconds) == (0.7, 0.3, 2.0)
    assert list(epoch.terms.items()) == [("bce", 0.5), ("cd", 0.2)]
    assert epoch.model_dump(mode="json") == stored
    with pytest.raises(ValidationError, match="cd"):
        Facts.model_validate({"history": [stored | {"cd": "high"}]})
