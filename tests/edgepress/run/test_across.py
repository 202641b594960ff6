"""Methods over several comparisons: mean ranks, and how far apart chance puts them."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.multilabel.errors import InputError
from edgepress.report.across import across_document
from edgepress.report.blocks import to_markdown
from edgepress.run.across import across, read_comparison
from edgepress.run.compared import MethodComparison, MethodSummary


def comparison(**points):
    rows = [
        MethodSummary(method=name, seeds=1, test_mAP_points=test, deviation=None, val_mAP_points=val)
        for name, (val, test) in points.items()
    ]
    return MethodComparison.model_construct(methods=tuple(rows))


def test_ranks_are_those_within_each_comparison():
    found = across(
        {
            "one": comparison(a=(50, 40), b=(40, 50), c=(30, 30), d=(1, 1)),
            "two": comparison(c=(10, 10), a=(20, 20), b=(20, 20)),
        }
    )
    assert [(row.method, row.val_rank, row.test_rank) for row in found.methods] == [
        ("a", 1.25, 1.75),
        ("b", 1.75, 1.25),
        ("c", 3.0, 3.0),
    ]
    assert found.left_out == ("d",)
    assert found.methods[0].test_mAP_points == (40, 20)
    text = to_markdown(across_document(found))
    assert "Left out, because not all have them: d" in text
    assert "| a | 1.25 | 1.75 | 40.00 | 20.00 |" in text
    assert "So few comparisons cannot tell any two methods apart" in text


def test_the_critical_difference_is_nemenyi_s_where_comparisons_are_many():
    """Nemenyi's q(0.05, 5 methods) √(k(k + 1) / 6N), from the table of Demšar (2006), 2.728."""
    rng = np.random.default_rng(0)
    names = "abcde"
    records = {
        str(at): comparison(
            **{name: (value, value) for name, value in zip(names, rng.permutation(5) * 1.0, strict=True)}
        )
        for at in range(60)
    }
    found = across(records)
    assert found.critical_ranks == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 60)), rel=0.03)


def test_a_method_that_always_wins_is_better_than_the_worst():
    rng = np.random.default_rng(0)
    records = {}
    for at in range(20):
        others = rng.permutation(3) * 1.0
        values = {"best": 9.0, "x": others[0] + 2, "y": others[1] + 2, "worst": 0.0}
        records[str(at)] = comparison(**{name: (value, value) for name, value in values.items()})
    found = across(records)
    assert found.methods[0].method == "best"
    assert "Worse than it: " in " ".join(found.told)
    assert "worst" in next(line for line in found.told if line.startswith("Worse"))


def test_what_cannot_be_ranked_is_refused(tmp_path):
    with pytest.raises(InputError, match="received 1 comparison; expected at least two"):
        across({"one": comparison(a=(1, 1), b=(2, 2))})
    with pytest.raises(InputError, match="have 1 method in common; expected at least two"):
        across({"one": comparison(a=(1, 1), b=(2, 2)), "two": comparison(a=(1, 1), c=(2, 2))})
    with pytest.raises(InputError, match=r"compare.json: no such file; expected the folder of `edgepress compare`"):
        read_comparison(tmp_path)
    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(InputError, match=r"compare.json: not a comparison \(data: Field required\)"):
        read_comparison(tmp_path)
