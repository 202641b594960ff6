"""Where candidates run and what they are scored by: a place that answers otherwise in float is refused before."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgepress.calibration.decide.thresholds import align_decisions
from edgepress.deploy.engines.table import ENGINES
from edgepress.multilabel.bundle import rewrite_bundle
from edgepress.multilabel.decisions import flips_per_yes
from edgepress.multilabel.errors import InputError
from edgepress.run.candidates import Candidates, Here
from edgepress.run.quantize import weight_bits
from edgepress.run.recipe import QuantizeConfig

INT8 = ENGINES["onnx-int8-onnxruntime"]


class Device(Here):
    """This machine as if it were another, whose logits are shifted."""

    on_device = True

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift

    def answers(self, bundle, pictures):
        return super().answers(bundle, pictures) + np.float32(self.shift)


def test_a_device_that_answers_otherwise_in_float_is_refused(onnx_bundle, splits, tmp_path):
    with pytest.raises(InputError, match=r"logits on val differ by 0\.1 from those here, and 0\.05 is allowed"):
        Candidates(onnx_bundle, splits.val, INT8, tmp_path, Device(0.1))


def test_what_is_sent_to_a_device_has_no_reference(onnx_bundle, splits, tmp_path):
    class Recording(Device):
        seen: tuple[str, ...] = ()

        def answers(self, bundle, pictures):
            self.seen = tuple(bundle.manifest.files)
            return super().answers(bundle, pictures)

    device = Recording(0.0)
    made = Candidates(onnx_bundle, splits.val, INT8, tmp_path, device)
    assert device.seen == ("model.onnx",)
    assert made.float_map == pytest.approx(Candidates(onnx_bundle, splits.val, INT8, tmp_path, Here()).float_map)
    score = made.score(onnx_bundle.model_path)
    assert score.mAP == made.float_map
    assert score.sqnr > 60
    assert score.flips == 0
    assert 0.3 < made.latency(onnx_bundle.model_path).ratio < 3


def test_the_device_decides_the_bits():
    device = Device(0.0)
    device.weight_bits = 7
    assert weight_bits(QuantizeConfig(), device) == 7
    assert weight_bits(QuantizeConfig(weight_bits=7), device) == 7
    with pytest.raises(InputError, match="saturate"):
        weight_bits(QuantizeConfig(weight_bits=8), device)
    device.weight_bits = 8
    assert weight_bits(QuantizeConfig(weight_bits=8), device) == 8
    assert weight_bits(QuantizeConfig(), device) == 8


def test_flips_are_counted_with_the_decisions_that_a_candidate_would_get(onnx_bundle, splits, tmp_path):
    """A model whose logits are all higher by 8: fitted decisions are aligned to it, and 0.5 is not."""
    graph, shifted = onnx.load(onnx_bundle.model_path), tmp_path / "shifted.onnx"
    (output,) = graph.graph.output
    for node in graph.graph.node:
        node.output[:] = ["before" if name == output.name else name for name in node.output]
    graph.graph.initializer.append(numpy_helper.from_array(np.float32(8), "eight"))
    graph.graph.node.append(helper.make_node("Add", ["before", "eight"], [output.name]))
    onnx.save(graph, shifted)
    plain = Candidates(onnx_bundle, splits.val, INT8, tmp_path, Here())
    decided = plain.parent.decisions
    higher = plain.reference + 8
    before, ignore = decided.decide(plain.reference), splits.val.ignore
    kept, aligned = decided.decide(higher), align_decisions(decided, plain.reference, higher).decide(higher)
    assert plain.score(shifted).flips == flips_per_yes(before, kept, ignore)
    fitted = rewrite_bundle(onnx_bundle, tmp_path / "fitted", decisions=decided)
    found = Candidates(fitted, splits.val, INT8, tmp_path, Here()).score(shifted).flips
    assert found == flips_per_yes(before, aligned, ignore) != flips_per_yes(before, kept, ignore)
