"""The third pass: which times of engines against each other are kept, and which are taken again."""

from __future__ import annotations

import pytest

import edgepress.run.relate
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.ratio import Ratio
from edgepress.run.build import Built
from edgepress.run.recipe import Recipe
from edgepress.run.relate import relate
from edgepress.run.result import HeldTo
from edgepress.run.run_report import read_report

AGAIN = Ratio(ratio=0.5, low=0.4, high=0.6)
BUSY = ("busy: other processes used 80% of the machine's processor time while measured",)
SLOWER = Ratio(ratio=1.3, low=1.1, high=1.5)


@pytest.mark.parametrize(
    ("kept", "is_kept"),
    [
        (SLOWER, True),
        (SLOWER.model_copy(update={"cautions": BUSY}), False),
        (Ratio(ratio=1.3, low=0.9, high=1.5, cautions=BUSY), True),  # it passes
    ],
)
def test_a_time_that_a_busy_machine_found_slower_is_taken_again(run_folder, tiny_data, monkeypatch, kept, is_kept):
    """A repeat on an idle machine is what the reason advises."""
    float_bundle = Bundle.open(run_folder / "onnx-fp32")
    given = HeldTo(engine=float_bundle.name, digest=float_bundle.digest, ratio=kept)
    again = given.model_copy(update={"ratio": AGAIN})
    monkeypatch.setattr(edgepress.run.relate, "time_against", lambda *_: again)
    known = {row.engine: row for row in read_report(run_folder).engines}
    int8 = known["onnx-int8-onnxruntime"].model_copy(update={"held_to": given})
    of_int8 = Bundle.open(run_folder / int8.engine)
    built = [
        Built(name="onnx-fp32", precision="fp32", required=False, held_to=(), bundle=float_bundle),
        Built(name=int8.engine, precision="int8", required=False, held_to=("onnx-fp32",), bundle=of_int8),
    ]
    recipe = Recipe.parse({"data": str(tiny_data)}, "recipe")
    _, found = relate(
        [known["onnx-fp32"], int8], {one.name: one for one in built}, recipe, [], load_dataset(tiny_data, "test")
    )
    assert found.held_to == (given if is_kept else again)
