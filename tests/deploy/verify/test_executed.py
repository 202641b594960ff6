"""How much of an INT8 engine runs in INT8 on this machine, against what its manifest recorded."""

from __future__ import annotations

import numpy as np
import pytest

from edgepress.deploy.engines.base import Ran, counted
from edgepress.deploy.verify.executed import int8_caution
from edgepress.deploy.verify.verification import compare, verify
from edgepress.multilabel.manifest import Quantization

MADE = Quantization(pictures=8, sha256="", split="train", method="min-max", products=55, kept_float=("a", "b"))


def ran(**products: int) -> Ran:
    return Ran(runtime="openvino", version="1", provider="CPU", precision="", products=products)


def test_counts_are_told_smallest_precision_first():
    assert counted({"f32": 7, "int8": 49}) == "49 of 56 products in int8, 7 in f32"
    assert counted({"f32": 32, "f16": 2, "int8": 22}) == "22 of 56 products in int8, 2 in f16, 32 in f32"
    assert counted({"f32": 56}) == "56 of 56 products in f32"
    assert counted({}) == ""


@pytest.mark.parametrize(
    ("products", "told"),
    [
        ({"int8": 54, "f32": 2}, False),
        ({"int8": 49, "f32": 7}, False),
        ({"int8": 22, "f16": 2, "f32": 32}, True),
        ({"f32": 56}, True),
        ({}, False),  # the runtime does not report it
    ],
)
def test_a_share_far_from_the_manifests_is_cautioned(products, told):
    said = int8_caution(MADE, ran(**products))
    assert (said is not None) is told
    if said is not None:
        assert counted(products) in said
        assert "its manifest records 53 of 55 in int8" in said


def test_more_in_int8_than_was_made_is_told_too():
    """A runtime that quantises what was left in float on purpose answers otherwise."""
    kept = tuple(str(number) for number in range(20))
    assert int8_caution(MADE.model_copy(update={"kept_float": kept}), ran(int8=56)) is not None


def test_a_float_engine_and_bundles_from_before_the_record_are_not_cautioned():
    assert int8_caution(None, ran(f32=56)) is None
    assert int8_caution(MADE.model_copy(update={"products": None}), ran(f32=56)) is None


@pytest.mark.parametrize("engine", ["onnx-int8-onnxruntime", "openvino-int8", "onnx-fp16", "openvino-fp16"])
def test_a_verdict_has_the_counts_and_the_verb_prints_them(build, splits, tiny_data, edgepress, engine):
    bundle = build(engine)
    found = verify(bundle, splits.test)
    products = found.ran.products
    assert sum(products.values()) > 1
    assert ("int8" in products) is engine.endswith(("onnxruntime", "int8"))
    answer = edgepress("verify", bundle.path, "--data", tiny_data)
    assert counted(products) in " ".join(answer.out.split())


def test_the_verdict_carries_the_caution(build, splits):
    bundle, data = build("onnx-int8-onnxruntime"), splits.test
    logits = np.random.default_rng(0).normal(size=data.targets.shape)
    same = {"reference_name": "r", "reference_targets": data.targets, "reference_ignore": data.ignore, "budget": None}
    found = compare(bundle, logits, logits, data, ran=ran(f32=9), **same)
    assert found.verdict == "pass"
    assert any("9 of 9 products in f32" in caution for caution in found.cautions)
