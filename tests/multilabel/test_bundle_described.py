"""docs/bundle.md names every field of a manifest and of the stored answers, and every file of a bundle."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.golden_answers import ANSWERS, DECODED, GOLDEN, GoldenAnswers
from edgepress.multilabel.manifest import FORMAT, Manifest

PAGE = (Path(__file__).parents[2] / "docs" / "bundle.md").read_text()
NAMED = set(re.findall(r"`([^`]+)`", PAGE))


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models_in(part)


def fields_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """The names of all fields of a model and of those in it."""
    if model in seen:
        return
    seen.add(model)
    for name, field in model.model_fields.items():
        yield name
        for inner in models_in(field.annotation):
            yield from fields_of(inner, seen)


FIELDS = sorted({*fields_of(Manifest, set()), *fields_of(GoldenAnswers, set()), "digest"})


def test_the_walk_reaches_the_innermost_fields():
    assert {"knots", "implies", "driver_cuda", "sqnr", "fake_quantized_val_mAP", "prepared_sha256"} <= set(FIELDS)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_described(field):
    assert field in NAMED


def test_every_file_is_described(onnx_bundle: Bundle):
    for name in onnx_bundle.manifest.files:
        assert re.sub(r"/[0-7]\.jpg", "/N.jpg", name) in NAMED
    assert {GOLDEN, DECODED, ANSWERS, "manifest.json"} <= NAMED
    assert f"describes format {FORMAT}," in PAGE.replace("\n", " ")
