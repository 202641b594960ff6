"""The goals of thresholds as people write them: read, or refused with what was expected."""

from __future__ import annotations

import pytest

from edgepress.calibration.decide.criterion import Criterion
from edgepress.calibration.decide.promises import Wanted
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import DataOptions
from edgepress.multilabel.errors import InputError
from edgepress.run.recipe import DecisionsConfig

MALFORMED = (
    *("recall=0.9@95", "recall=0.9@0.95", "@0.95", "fpr=0.1", "fpr", "recall=0.9@95%:"),
    *("f1@95%", "recall=0.9@95%:some", "recall=0..9@95%", "fixed=0.5@95%", "recall=0.9@9.5.1%", "recall=@95%"),
)


def test_a_criterion_is_read_or_refused():
    assert Criterion.parse("f1") == ("f1", 0, None)
    assert Criterion.parse("recall=0.9") == ("recall", 0.9, None)
    assert Criterion.parse("fixed=0") == ("fixed", 0, None)
    for text in ("f2", "recall", "recall=", "recall=0", "precision=1.2", "precision=nan", "fixed=-1", "f1=0.5"):
        with pytest.raises(InputError, match="expected f1, recall=R, precision=P or fixed=T"):
            Criterion.parse(text)


def test_a_promise_is_read_with_its_confidence_and_its_scope():
    assert Criterion.parse("recall=0.9@95%").promise == Wanted("recall", 0.9, 0.95, "each")
    assert Criterion.parse("precision=0.8@90%:all").promise == Wanted("precision", 0.8, 0.9, "all")
    assert Criterion.parse("fpr=1e-2@99.5%:each").promise == Wanted("fpr", 0.01, 0.995, "each")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(
            (text, "expected KIND=LEVEL@CONFIDENCE%")
            for text in ("recall=0.9@95", "recall=0.9@0.95", "@0.95", "fpr=0.1")
        ),
        *((text, "expected KIND=LEVEL@CONFIDENCE%") for text in MALFORMED),
        *((text, "from 50 % to below 100 %") for text in ("recall=0.9@150%", "recall=0.9@100%", "precision=0.9@5%")),
        *((text, "no number of pictures shows") for text in ("recall=1@95%", "fpr=0@95%", "precision=-1@95%")),
    ],
)
def test_what_is_no_promise_is_refused_with_what_was_received_and_expected(text, said):
    with pytest.raises(InputError, match=said) as refused:
        Criterion.parse(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        *(("recal=0.9", "recall=0.9"), ("Recall=0.9", "recall=0.9"), ("F1", "f1"), ("max_f1", "f1"), ("f2", "f1")),
        *((f"recall{sign}", "recall=0.9") for sign in (":0.9", " 0.9", "0.9", "=0,9", "=90%", "=90", "==0.9", ">=0.9")),
        *(("precison=0.8@95%", "precision=0.8@95%"), ("recall=0.9@95", "recall=0.9@95%"), ("fpr=0.01", "fpr=0.01@95%")),
        *(("recall=0.9@0.95", "recall=0.9@95%"), ("recall=90%@95%", "recall=0.9@95%"), ("fix=0.3", "fixed=0.3")),
        *(("recall=0.9@95%:al", "recall=0.9@95%:all"), ("fixed=0.5@95%", "fixed=0.5"), ("f1@95%", "f1")),
        *((text, None) for text in ("recall", "fpr", "best", "recall=1@95%", "recall=0.9@5%", "precision=-1", "=", "")),
    ],
)
def test_a_goal_that_was_mistyped_is_told_with_the_one_that_was_meant(typed, meant):
    with pytest.raises(InputError) as refused:
        Criterion.parse(typed)
    assert str(refused.value).count(typed) >= 1
    assert str(refused.value).endswith(f"; did you mean {meant!r}?") == (meant is not None)
    assert ("did you mean" in str(refused.value)) == (meant is not None)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("fixed=2", "'fixed=0.02' or 'fixed=0.2'"),
        ("recall=1.5", "'recall=0.015' or 'recall=0.15'"),
        ("precision=8@95%", "'precision=0.08@95%' or 'precision=0.8@95%'"),
        ("fpr=1.5%", "'fpr=0.015@95%'"),
        ("fixed=2%", "'fixed=0.02'"),
        ("recall=90", "'recall=0.9'"),
    ],
)
def test_a_number_that_may_be_two_shares_is_told_with_both(typed, meant):
    with pytest.raises(InputError) as refused:
        Criterion.parse(typed)
    assert str(refused.value).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("config", "name", "typed"),
    [(DecisionsConfig, "thresholds", "recal=0.75"), (DataOptions, "values", "yes=1,no")],
)
def test_a_value_is_named_once(config, name, typed):
    for where, named in ((FLAGS, f"--{name} {typed}: "), ("recipe.yaml", f"recipe.yaml: {name} is {typed!r}: ")):
        with pytest.raises(InputError) as refused:
            config.parse({name: typed}, where)
        assert str(refused.value).startswith(named)
        assert str(refused.value).count(typed) == 1
