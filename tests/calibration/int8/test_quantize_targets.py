"""The search for a target's INT8 graph, on a net of four products: what is written, tried, told and refused."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
pytest.importorskip("sympy", reason="sympy is not installed (pip install 'edgepress[quantize]')")
import edgepress.calibration.int8.quantize  # noqa: E402
from edgepress.calibration.int8.finished import Finished  # noqa: E402
from edgepress.calibration.int8.qdq import float_products  # noqa: E402
from edgepress.calibration.int8.quantize import STEPS, quantize  # noqa: E402
from edgepress.calibration.int8.search import Allowed, Score, Search  # noqa: E402
from edgepress.multilabel.errors import EngineUnavailableError, InputError  # noqa: E402
from edgepress.multilabel.plural import plural  # noqa: E402
from edgepress.multilabel.ratio import Ratio  # noqa: E402
from tests.calibration.int8.small_graph import PICTURES, PRODUCTS, small_graph  # noqa: E402

GOOD = Score(1.0, 20.0, 0.0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    """A file written to a wrong place is not found there by another test."""
    monkeypatch.chdir(tmp_path)


def search(
    folder: Path,
    target: str = "onnxruntime",
    evaluate: Callable[[Path], Score] = lambda _: GOOD,
    out: str = "int8.onnx",
    **settings,
) -> Search:
    folder.mkdir(exist_ok=True)
    onnx.save(small_graph(), folder / "float.onnx")
    return quantize(
        folder / "float.onnx",
        folder / out,
        PICTURES,
        target=target,
        evaluate=evaluate,
        float_map=1.0,
        finished=Finished(folder / ".work", "inputs"),
        **{"allowed": Allowed(0.005, 0.2), **settings},
    )


def worse_each_time(first: float = 0.9) -> Callable[[Path], Score]:
    values = iter(np.linspace(first, 0.1, 30))
    return lambda _: Score(float(next(values)), 20.0, 0.0)


class Paper:
    """In place of NNCF, which takes seconds: its files hold the float model's folder, the method and what is kept."""

    made: list[tuple[str, int]]

    def __init__(self, model: Path, images: np.ndarray, weight_bits: int) -> None:
        assert onnx.load(model).graph.node
        assert images is PICTURES
        self.name = model.parent.name
        self.names = {name: name for name in PRODUCTS}
        self.made.append((self.name, weight_bits))

    def write(self, out: Path, method: str, kept: tuple[str, ...]) -> bool:
        out.with_suffix(".bin").write_text("weights of " + self.name)
        out.write_text("\n".join([f"{self.name} {method}", *kept]))
        return method != "smooth-quant"

    @staticmethod
    def float_nodes(quantized: Path, products: list[str]) -> tuple[str, ...]:
        assert products == PRODUCTS
        return tuple(quantized.read_text().splitlines()[1:])

    @staticmethod
    def structure(quantized: Path) -> tuple:
        return tuple(quantized.read_text().splitlines()[1:])


@pytest.fixture
def paper(monkeypatch) -> type[Paper]:
    Paper.made = []
    monkeypatch.setitem(edgepress.calibration.int8.quantize._OWN, "openvino", Paper)
    return Paper


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_every_step_is_tried_and_the_best_is_written(tmp_path, target):
    seen: list[bytes] = []

    def evaluate(file: Path) -> Score:
        seen.append(file.read_bytes())
        assert file.name == "int8.onnx"
        return Score(0.999 if len(seen) == 3 else 0.9, 20.0, 0.0)

    found = search(tmp_path, target, evaluate)
    assert found.planned == len(STEPS[target]) == 9
    tried = [trial.candidate for trial in found.tried]
    assert tried[:2] == list(STEPS[target][:2])
    assert {touch for candidate in tried for touch in candidate.touches} == {"equalised", "rounded", "corrected"}
    assert (tmp_path / "int8.onnx").read_bytes() == seen[2] == found.best.file.read_bytes()
    assert len(seen) == len(tried)
    assert seen[2] not in seen[:2]
    assert all(trial.int8_share == 1 for trial in found.tried)
    assert [noise.node for noise in found.sensitivity] != PRODUCTS
    assert {noise.node for noise in found.sensitivity} == set(PRODUCTS)


def test_touches_add_up_and_a_correction_is_made_for_each_way_to_set_ranges(tmp_path):
    values = iter(np.linspace(0.5, 0.9, 30))  # each is better than the last, so that each step builds on all before
    found = search(tmp_path, evaluate=lambda _: Score(float(next(values)), 20.0, 0.0))
    assert found.tried[-1].candidate.touches == ("equalised", "rounded", "corrected")
    folders = {file.parent.name for file in (tmp_path / ".work" / "models").glob("*/float.onnx")}
    plain = "plain+equalised+rounded"
    last = ("percentile-99.99", "percentile-99.999", "least-squares", "percentile-99.9", "entropy")
    assert folders == {"plain", "plain+equalised", plain} | {f"{plain}+corrected-{method}" for method in last}
    weights = {}
    for name in ("plain", "plain+equalised", plain, f"{plain}+corrected-entropy"):
        model = onnx.load(tmp_path / ".work" / "models" / name / "float.onnx")
        weights[name] = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    equal, rounded = weights["plain+equalised"]["deep.w"], weights[plain]["deep.w"]
    step = np.abs(equal).max(axis=(1, 2, 3), keepdims=True) / 127
    assert 0 < (np.abs(rounded - equal) / step).max() <= 1 + 1e-5  # of what was equalised, and no more
    assert np.abs(weights["plain"]["deep.w"] - equal).max() > 10 * step.min()
    assert np.array_equal(weights[f"{plain}+corrected-entropy"]["deep.w"], rounded)
    assert not np.array_equal(weights[f"{plain}+corrected-entropy"]["deep.b"], weights[plain]["deep.b"])


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_what_is_handed_out_was_checked_for_its_target(tmp_path, target, monkeypatch):
    checked = []
    monkeypatch.setattr(edgepress.calibration.int8.quantize, "check_qdq", lambda *asked: checked.append(asked))
    search(tmp_path, target, time_limit=0.0)
    assert checked == [(tmp_path / "int8.onnx", target)]


def test_a_touch_that_changes_nothing_is_no_candidate(tmp_path, monkeypatch):
    monkeypatch.setattr(edgepress.calibration.int8.quantize, "touched", lambda *_: None)
    found = search(tmp_path)
    assert [trial.candidate for trial in found.tried] == [step for step in STEPS["onnxruntime"] if not step.touches]
    assert found.planned == 9


def test_the_time_limit_leaves_one_candidate_and_says_so(tmp_path, caplog):
    caplog.set_level(logging.INFO, "edgepress")
    assert len(search(tmp_path, time_limit=0.0).tried) == 1
    assert "  convolutions with a DequantizeLinear on both inputs: 3 of 3" in caplog.messages
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_miss_of_the_allowed_drop_is_told_in_points(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "edgepress")
    search(tmp_path, evaluate=lambda _: Score(0.99, 20.0, 0.0), time_limit=0.0)
    assert caplog.messages == [
        "int8 for onnxruntime: val mAP drops by 1.00 points, 0.5 are allowed, with 0 nodes in float"
    ]
    caplog.clear()
    search(tmp_path, evaluate=lambda _: Score(0.99, 20.0, 0.0), time_limit=0.0, allowed=Allowed(0.02, 0.2))
    assert caplog.messages == []


def test_too_many_changed_decisions_are_told(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "edgepress")
    search(tmp_path, evaluate=lambda _: Score(1.0, 20.0, 0.25), time_limit=0.0)
    assert caplog.messages == [
        "int8 for onnxruntime: 0.250 decisions change per predicted positive, 0.2 are allowed, with 0 nodes in float"
    ]


def test_what_is_just_allowed_is_no_miss(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "edgepress")
    search(tmp_path, evaluate=lambda _: Score(0.5, 20.0, 0.0), time_limit=0.0, allowed=Allowed(0.5, 0.2))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("latency", "told", "where"),
    [((1.5, 1.4, 1.6), True, {}), ((0.5, 0.4, 0.6), False, {}), ((1.5, 1.4, 1.6), True, {"where": "on Cortex-A76"})],
)
def test_slower_than_float_is_told_with_where(tmp_path, caplog, latency, told, where):
    caplog.set_level(logging.WARNING, "edgepress")
    measured: list[str] = []

    def measure(file: Path) -> Ratio:
        measured.append(file.name)
        return Ratio(ratio=latency[0], low=latency[1], high=latency[2])

    found = search(tmp_path, time_limit=0.0, measure=measure, **where)
    assert found.best.latency == Ratio(ratio=latency[0], low=latency[1], high=latency[2])
    assert set(measured) == {"int8.onnx"}
    place = where.get("where", "here")
    expected = [f"int8 for onnxruntime: slower than fp32 {place} (1.50 times, 1.40 to 1.60): the gate fails"]
    assert caplog.messages == (expected if told else [])


@pytest.mark.parametrize(
    ("faster", "said"),
    [(1, "1 graph is not slower, but loses more on val"), (2, "2 graphs are not slower, but lose more on val")],
)
def test_graphs_that_are_not_slower_but_lose_too_much_are_counted(tmp_path, caplog, monkeypatch, faster, said):
    """The graph with corrected biases has a structure of its own, and thus a time."""
    steps = STEPS["onnxruntime"]
    corrected = next(step for step in steps if "corrected" in step.touches)
    monkeypatch.setitem(STEPS, "onnxruntime", (*steps[:faster], corrected))
    scores = iter([*[Score(0.9, 20.0, 0.0)] * faster, *[GOOD] * 9])
    times = iter([Ratio(ratio=0.5, low=0.4, high=0.6), *[Ratio(ratio=1.5, low=1.4, high=1.6)] * 9])
    search(tmp_path, evaluate=lambda _: next(scores), measure=lambda _: next(times))
    assert caplog.messages[-1].endswith(f": the gate fails; {said} than is allowed")


def test_the_limit_is_a_minute(tmp_path, monkeypatch):
    now = itertools.count(0, 30.25)
    monkeypatch.setattr("edgepress.calibration.int8.search.time.monotonic", lambda: next(now))
    assert len(search(tmp_path).tried) == 2  # begun after 0 and 30.25 seconds; the next would be after 60.5


def test_weight_bits_reach_the_graph(tmp_path):
    sizes = {}
    for bits, setting in ((8, {}), (7, {"weight_bits": 7})):
        search(tmp_path / str(bits), time_limit=0.0, **setting)
        graph = onnx.load(tmp_path / str(bits) / "int8.onnx").graph
        weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if "_quantized" in tensor.name]
        sizes[bits] = max(int(np.abs(w.astype(int)).max()) for w in weights if w.dtype == np.int8)
    assert sizes == {8: 127, 7: 64}


def test_a_search_that_was_interrupted_goes_on(tmp_path):
    calls = 0

    def interrupted(file: Path) -> Score:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise MemoryError
        return Score(0.99, 20.0, 0.0)

    with pytest.raises(MemoryError):
        search(tmp_path, evaluate=interrupted)
    (tmp_path / ".work" / "models" / "stray").write_text("what the killed one left")
    more = []
    found = search(tmp_path, evaluate=lambda file: more.append(file) or Score(0.99, 20.0, 0.0))
    assert len(more) == len(found.tried) - 2
    assert not (tmp_path / ".work" / "models" / "stray").exists()


@pytest.mark.parametrize(
    "error", [InputError("told"), OSError("told"), MemoryError("told"), EngineUnavailableError("told")]
)
def test_what_says_itself_what_is_wrong_is_told_as_it_is(tmp_path, error):
    def fails(_: Path) -> Score:
        raise error

    with pytest.raises(type(error), match=r"^told$"):
        search(tmp_path, evaluate=fails)
    assert not (tmp_path / "int8.onnx").exists()


def test_what_a_quantiser_raises_is_told_in_one_line(tmp_path):
    def fails(_: Path) -> Score:
        raise RuntimeError("no such\n  operator " + "x" * 1000)

    with pytest.raises(InputError) as caught:
        search(tmp_path, "tensorrt", fails)
    assert (
        str(caught.value) == f"{tmp_path}/float.onnx: cannot be quantised for tensorrt: no such operator " + "x" * 283
    )
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_openvino_gets_every_float_model_and_both_files(tmp_path, paper):
    found = search(tmp_path, "openvino", out="int8.xml")
    assert found.planned == len(STEPS["openvino"]) == 7
    methods = [trial.candidate.method for trial in found.tried]
    assert methods[0] == "nncf"
    assert "smooth-quant" not in methods  # it said that there is nothing to change
    # One quantiser a float model, however many graphs it gives.
    assert len(paper.made) == len(set(paper.made))
    assert {name for name, _ in paper.made} >= {"plain", "plain+equalised"}
    assert {bits for _, bits in paper.made} == {8}
    assert (tmp_path / "int8.xml").read_text() == found.best.file.read_text()
    assert (tmp_path / "int8.bin").read_text() == found.best.file.with_suffix(".bin").read_text()
    assert not (tmp_path / "int8.onnx").exists()


def test_openvino_has_no_rounding_for_seven_bits(tmp_path, paper):
    found = search(tmp_path, "openvino", out="int8.xml", weight_bits=7)
    assert found.planned == 6
    assert {bits for _, bits in paper.made} == {7}
    assert not [name for name, _ in paper.made if "rounded" in name]
    assert search(tmp_path / "other", "onnxruntime", weight_bits=7, time_limit=0.0).planned == 9


def test_nodes_go_to_float_for_openvino_by_the_noise_of_min_max(tmp_path, paper, monkeypatch):
    """And what its graph has in float is read off its own files."""
    monkeypatch.setattr("edgepress.calibration.int8.search.MOST_FLOAT", 0.5)
    monkeypatch.setattr("edgepress.calibration.int8.search.MOST_FLOAT_WEIGHTS", 1.0)
    found = search(tmp_path, "openvino", worse_each_time(), out="int8.xml", time_limit=0.0)
    assert [len(trial.float_nodes) for trial in found.tried] == [0, 1, 2]
    assert found.tried[1].float_nodes == (found.sensitivity[0].node,)
    assert 0 < found.tried[1].int8_share < 1


def test_nodes_go_to_float_by_the_noise_of_the_method_chosen(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "edgepress")
    asked = []

    def rank(quantizer, method, advance, nodes):
        asked.append((quantizer.prepared.parent.name, method))
        advance()
        return rank_nodes(quantizer, method, advance, nodes)

    from edgepress.calibration.int8.sensitivity import rank_nodes

    monkeypatch.setattr("edgepress.calibration.int8.sensitivity.rank_nodes", rank)
    monkeypatch.setattr("edgepress.calibration.int8.search.MOST_FLOAT", 0.5)
    monkeypatch.setattr("edgepress.calibration.int8.search.MOST_FLOAT_WEIGHTS", 1.0)
    scores = {2: 0.95}
    calls: list[Path] = []

    def evaluate(file: Path) -> Score:
        calls.append(file)
        return Score(scores.get(len(calls), 0.9 if len(calls) <= 9 else 0.96), 20.0, 0.0)

    found = search(tmp_path, evaluate=evaluate)
    assert asked == [("plain", "percentile-99.99")]
    kept = found.best.candidate.kept
    assert kept
    assert float_products(tmp_path / "int8.onnx") == found.best.float_nodes
    assert set(found.best.float_nodes) == set(kept)
    assert f"0.5 are allowed, with {plural(len(kept), 'node')} in float" in caplog.text
