"""quantize: make the INT8 bundle of a target from an fp32 ONNX bundle, with the results of the search."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edgepress.calibration.decide.thresholds import align_decisions
from edgepress.calibration.int8.embeddings import embed
from edgepress.calibration.int8.finished import Finished
from edgepress.calibration.int8.quantize import STEPS, quantize
from edgepress.calibration.int8.search import (
    CHOSEN_BY,
    MOST_FLOAT,
    MOST_FLOAT_WEIGHTS,
    TOLERANCE,
    Score,
    Search,
    Trial,
)
from edgepress.calibration.int8.subset import calibration_hash, choose_calibration_set, missing_labels
from edgepress.deploy.bench.against import compare_latency
from edgepress.deploy.build.compile import IR, ONNX, built_for_openvino, derived_bundle
from edgepress.deploy.build.litert import TFLITE, built_for_litert
from edgepress.deploy.build.ncnn import PARAM, built_for_ncnn
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.golden import GOLDEN, Golden
from edgepress.deploy.engines.table import ENGINES, EngineSpec
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.verify.verification import predict_split
from edgepress.multilabel.bundle import (
    Bundle,
    inputs_hash,
    require_replaceable,
    rewrite_bundle,
    up_to_date,
    write_bundle,
)
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions, changed_share
from edgepress.multilabel.durable import sync
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import DecisionsChanged, Facts
from edgepress.multilabel.litert_model import require_converter
from edgepress.multilabel.manifest import BuiltFor, Kind, Quantization, Target, Tried
from edgepress.multilabel.metrics import average_precision, mean_average_precision
from edgepress.multilabel.ncnn_model import require_pnnx
from edgepress.multilabel.noise import signal_to_noise
from edgepress.multilabel.plural import plural
from edgepress.multilabel.ratio import Ratio
from edgepress.multilabel.saturation import weight_bits_here
from edgepress.report.plots import draw_int8, write_plot
from edgepress.run.recipe import QuantizeConfig
from edgepress.run.splits import Splits

log = logging.getLogger("edgepress")
_FILES: dict[Kind, str] = {"onnx": ONNX, "openvino": IR, "litert": TFLITE, "ncnn": PARAM}
"""The file that holds the model, by the kind of bundle."""
_PACKAGES: dict[Target, tuple[str, ...]] = {
    "onnxruntime": ("onnx", "onnxruntime"),
    "tensorrt": ("onnx", "onnxruntime"),
    "openvino": ("openvino", "nncf", "onnxruntime"),
    "litert": ("onnx", "onnxruntime", "onnx2tf", "litert-quantizer", "ai-edge-litert"),
    "ncnn": ("onnx", "onnxruntime", "pnnx", "ncnn"),
}
"""The packages on whose versions an INT8 model depends."""
_PASSPORTS: dict[Target, Callable[[Bundle], BuiltFor]] = {
    "openvino": built_for_openvino,
    "litert": built_for_litert,
    "ncnn": built_for_ncnn,
}


def require_quantizer(target: Target) -> None:
    """Stop if the packages that quantise for a target are not installed here.

    Raises:
        EngineUnavailableError: says which extra is.
    """
    for module in ("onnx", "onnxruntime", "sympy", *(("openvino", "nncf") if target == "openvino" else ())):
        require(module, "quantize")
    if target == "litert":
        require_converter()
    if target == "ncnn":
        require_pnnx()


def quantize_bundle(parent: Bundle, splits: Splits, target: Target, out: Path, config: QuantizeConfig) -> Bundle:
    """The INT8 bundle of an fp32 ONNX bundle for one target; see `calibration.int8.quantize`.

    Only the file hashes of test are used, to refuse leaks. Where decisions were fitted for the parent, they are aligned
    to the INT8 model on val; see `align_decisions`. An interrupted search continues where it stopped.

    Raises:
        InputError: the parent is no fp32 ONNX bundle, its labels are not the data set's, or the calibration set leaks.
        EngineUnavailableError: a package that quantises for the target is not installed.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    _require_float(parent)
    splits = splits.in_order_of(parent.labels, f"the bundle {parent.path}")
    require_quantizer(target)
    pictures = _calibration_set(parent, splits, config)
    spec = next(spec for spec in ENGINES.values() if spec.target == target)
    bits = (config.weight_bits or weight_bits_here()) if spec.runtime.saturates else 8
    tools = {name: version(name) for name in (*_PACKAGES[target], "edgepress")}
    inputs = _inputs(parent, target, pictures, splits.val, config, bits, tools)
    if (made := up_to_date(out, inputs)) is not None:
        return made if made.manifest.parent == parent.as_parent else _aligned_again(made, parent, splits.val)
    require_replaceable(out, spec.quantized_kind, "int8")
    log.info("quantising for %s on %s", target, plural(len(pictures), "picture"))
    with _workplace(out, inputs) as finished:
        candidates = _Candidates(parent, splits.val, spec, finished.folder)
        graph = finished.folder / candidates.model
        found = quantize(
            parent.model_path,
            graph,
            np.stack([parent.preprocess(pictures.picture(row)) for row in range(len(pictures))]),
            target=target,
            evaluate=candidates.score,
            float_map=candidates.float_map,
            finished=finished,
            measure=candidates.latency if spec.graph is None else None,
            allowed=config.budget / 100,
            time_limit=config.time_limit,
            weight_bits=bits,
        )
        logits, golden = candidates.logits(graph), Golden.of(parent)
        decisions, facts = _aligned(parent, candidates.reference, logits, splits.val)
        with derived_bundle(
            parent,
            out,
            kind=candidates.kind,
            precision="int8",
            model=candidates.model,
            calibration=_record(found, pictures, candidates.float_map, config, bits, target),
            built_for=_PASSPORTS[target](parent) if target in _PASSPORTS else None,
            decisions=decisions,
            facts=facts,
            tools=tools,
            inputs=inputs,
        ) as folder:
            _copy_graph(graph, folder / candidates.model)
            if golden is not None and spec.graph is None:  # TensorRT's engine is built from this graph later
                replace(golden, answers=candidates.logits(graph, golden.pictures)).save(folder / GOLDEN)
    made = Bundle.open(out)
    _plot(made, candidates.reference, logits, splits.val)
    return made


def _require_float(parent: Bundle) -> None:
    if (parent.manifest.kind, parent.manifest.precision) != ("onnx", "fp32"):
        raise InputError(f"{parent.path}: {parent.manifest.kind}, {parent.manifest.precision}; expected onnx, fp32")
    require_logits_alone(parent)


def _inputs(
    parent: Bundle,
    target: Target,
    pictures: MultiLabelDataset,
    val: MultiLabelDataset,
    config: QuantizeConfig,
    bits: int,
    tools: dict[str, str],
) -> str:
    """The hash of everything that an INT8 graph is made from."""
    return inputs_hash(
        {
            "parent": parent.model_digest,
            "target": target,
            "calibration": calibration_hash(pictures),
            "val": val.fingerprint(),
            "search": [STEPS[target], CHOSEN_BY, TOLERANCE, MOST_FLOAT, MOST_FLOAT_WEIGHTS],
            "settings": [config.choice, config.budget, config.time_limit, bits],
            "tools": tools,
        }
    )


def split_logits(bundle: Bundle, data: MultiLabelDataset, device: str = "cpu", *, unproven: bool = False) -> np.ndarray:
    """An engine's logits `[N, C]` on a split, in its order; arguments as `open_engine`."""
    with open_engine(bundle, device, unproven=unproven) as engine:
        return predict_split(engine, data)


def _calibration_set(parent: Bundle, splits: Splits, config: QuantizeConfig) -> MultiLabelDataset:
    def embedded(pictures: MultiLabelDataset) -> np.ndarray:
        rows = {path: row for row, path in enumerate(pictures.paths)}
        return embed(parent.model_path, pictures.paths, lambda path: parent.preprocess(pictures.picture(rows[path])))

    chosen = choose_calibration_set(
        splits.train,
        [splits.val, splits.test],
        config.pictures,
        config.seed,
        config.choice,
        embedded,
    )
    return splits.train.subset(chosen)


@contextlib.contextmanager
def _workplace(out: Path, inputs: str) -> Iterator[Finished]:
    """The hidden folder of a search; it stays only if the search was interrupted."""
    # Latencies of another machine do not count for this one.
    here = inputs_hash({"inputs": inputs, "processor": describe_machine().processor})
    finished = Finished(out.parent / f".{out.name}.quantizing", here)
    try:
        yield finished
    except InputError:  # another try would end the same way
        finished.remove()
        raise
    finished.remove()


class _Candidates:
    """Runs candidates as the engines they would become: on val for accuracy, and in turn with fp32 for the time."""

    def __init__(self, parent: Bundle, val: MultiLabelDataset, spec: EngineSpec, folder: Path) -> None:
        self.parent, self.val, self.runtime, self.folder = parent, val, spec.runtime, folder
        self.kind, self.model = spec.quantized_kind, _FILES[spec.quantized_kind]
        self.pixels = self._decode()
        self.reference = self._run(parent, self.pixels)
        self.float_map = mean_average_precision(val.targets, val.scores(self.reference), val.ignore)
        self._float: Bundle | None = parent if spec.runtime.builder is None else None

    def score(self, file: Path) -> Score:
        logits = self.logits(file)
        return Score(
            mean_average_precision(self.val.targets, self.val.scores(logits), self.val.ignore),
            signal_to_noise(self.reference, logits),
        )

    def latency(self, file: Path) -> Ratio:
        if self._float is None:
            self._float = self.runtime.build(self.parent, self.folder / "fp32", "fp32")
        with self._candidate(file) as bundle:
            return compare_latency(bundle, self._float, self.pixels[:64], unproven=True)

    def logits(self, file: Path, pixels: np.ndarray | None = None) -> np.ndarray:
        """A candidate's logits `[N, C]` for prepared pictures; by default those of val."""
        with self._candidate(file) as bundle:
            return self._run(bundle, self.pixels if pixels is None else pixels)

    def _run(self, bundle: Bundle, pixels: np.ndarray, batch: int = 32) -> np.ndarray:
        with open_engine(bundle, unproven=True) as engine:  # this run is the proof
            parts = [engine(pixels[at : at + batch]) for at in range(0, len(pixels), batch)]
        return np.concatenate(parts)

    def _decode(self) -> np.ndarray:
        """Decode val's pictures once into a file: every candidate reads it, and memory need not hold them."""
        size = self.parent.preprocess.size
        pixels = np.lib.format.open_memmap(
            self.folder / "val.npy", mode="w+", dtype=np.uint8, shape=(len(self.val), size, size, 3)
        )
        for row in range(len(self.val)):
            pixels[row] = self.parent.preprocess(self.val.picture(row))
        return pixels

    @contextlib.contextmanager
    def _candidate(self, file: Path) -> Iterator[Bundle]:
        path, parent = self.folder / "candidate", self.parent
        with write_bundle(
            path,
            kind=self.kind,
            precision="int8",
            model=self.model,
            labels=parent.manifest.labels,
            preprocess=parent.preprocess,
        ) as folder:
            _copy_graph(file, folder / self.model)
        try:
            yield Bundle.open(path)
        finally:
            shutil.rmtree(path)


def _copy_graph(file: Path, copy: Path) -> None:
    """Copy the file or, in OpenVINO's and ncnn's formats, the two files of a graph."""
    for suffix in (file.suffix, ".bin") if file.suffix in (".xml", ".param") else (file.suffix,):
        sync(file.with_suffix(suffix))  # the kept result of a candidate must not outlast its file
        shutil.copyfile(file.with_suffix(suffix), copy.with_suffix(suffix))


def _record(
    found: Search, pictures: MultiLabelDataset, float_map: float, config: QuantizeConfig, bits: int, target: Target
) -> Quantization:
    best = found.best
    return Quantization(
        pictures=len(pictures),
        sha256=calibration_hash(pictures),
        split=pictures.split,
        target=target,
        choice=config.choice,
        missing_labels=missing_labels(pictures),
        method=str(best.candidate._replace(kept=())),
        kept_float=best.float_nodes,
        products=len(found.sensitivity),
        val_mAP=best.score.mAP,
        val_mAP_float=float_map,
        budget=config.budget,
        weight_bits=bits,
        int8_share=best.int8_share,
        latency=best.latency,
        measured_on=None if best.latency is None else describe_machine().processor,
        planned=found.planned,
        tried=tuple(_row(trial, float_map) for trial in found.tried),
        sensitivity=tuple(found.sensitivity),
    )


def _row(trial: Trial, float_map: float) -> Tried:
    return Tried(
        candidate=str(trial.candidate),
        val_mAP=trial.score.mAP,
        drop_points=100 * (float_map - trial.score.mAP),
        sqnr=trial.score.sqnr,
        latency=trial.latency,
        int8_share=trial.int8_share,
        kept=len(trial.candidate.kept),
    )


def _aligned(
    parent: Bundle, reference: np.ndarray, logits: np.ndarray, val: MultiLabelDataset
) -> tuple[Decisions | None, Facts]:
    """The parent's decisions aligned to the INT8 model, and how many change on val with the alignment and without.

    None, and nothing, where none were fitted for the parent.
    """
    before = parent.manifest.decisions
    if before is None:
        return None, Facts()
    after, theirs = align_decisions(before, reference, logits), before.decide(reference)
    changed = DecisionsChanged(
        val_changed_kept=changed_share(theirs, before.decide(logits), val.ignore),
        val_changed_refitted=changed_share(theirs, after.decide(logits), val.ignore),
    )
    log.info(
        "  decisions changed on val: %.2f %% as they were, %.2f %% fitted to INT8",
        100 * changed.val_changed_kept,
        100 * changed.val_changed_refitted,
    )
    return after, Facts(decisions=changed)


def _aligned_again(made: Bundle, parent: Bundle, val: MultiLabelDataset) -> Bundle:
    """A finished INT8 bundle with decisions aligned to those that its parent has now."""
    log.info("%s: aligning its decisions to those of %s", made.path, parent.path)
    # As in the search, whatever the processor: decisions are fitted to the answers that the engine gives here.
    reference, logits = (split_logits(bundle, val, unproven=True) for bundle in (parent, made))
    decisions, facts = _aligned(parent, reference, logits, val)
    return rewrite_bundle(made, made.path, parent=parent.as_parent, decisions=decisions, facts=facts)


def _plot(bundle: Bundle, reference: np.ndarray, logits: np.ndarray, val: MultiLabelDataset) -> None:
    """Write `int8-NAME.svg` in the folder `plots` beside the bundle."""
    precisions = [average_precision(val.targets, val.scores(values), val.ignore) for values in (reference, logits)]
    write_plot(bundle, "int8", draw_int8(bundle, *precisions))
