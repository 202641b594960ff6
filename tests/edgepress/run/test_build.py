"""What the engines of a run have in common while they are built."""

from __future__ import annotations

import numpy as np

from edgepress.multilabel.errors import InputError
from edgepress.run import build
from edgepress.run.recipe import Recipe

REFUSED, FIRST, SECOND, OTHERS = (
    *("onnx-int8-onnxruntime", "onnx-int8-onnxruntime-7bit"),
    *("openvino-int8", "openvino-int8-7bit"),
)


def test_each_calibration_set_is_told_once_by_the_first_engine_that_is_searched(
    monkeypatch, onnx_bundle, splits, micro, tiny_data, tmp_path
):
    told: list[int] = []
    few = {name: splits.train.subset(np.arange(count)) for name, count in ((FIRST, 3), (SECOND, 3), (OTHERS, 2))}

    def quantized(*arguments, tell, **_):
        name = arguments[3].name
        if name == REFUSED:
            raise InputError("it is refused before its search")
        tell(splits.train, few[name])
        return onnx_bundle

    monkeypatch.setattr(build, "quantize_bundle", quantized)
    monkeypatch.setattr(build, "tell_labels", lambda _, pictures: told.append(len(pictures)))
    monkeypatch.setattr(build, "require_buildable", lambda _: None)
    recipe = Recipe.parse({**micro, "data": str(tiny_data), "engines": [REFUSED, FIRST, SECOND, OTHERS]}, "recipe")
    found = build.build_all(onnx_bundle, recipe, splits, tmp_path, None)
    assert [one.bundle is None for one in found] == [True, False, False, False]
    assert told == [3, 2]
