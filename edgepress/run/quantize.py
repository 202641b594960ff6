"""quantize: make the INT8 bundle of a target from an fp32 ONNX bundle, with the results of the search."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.calibration.decide.thresholds import align_decisions
from edgepress.calibration.int8.embeddings import embed
from edgepress.calibration.int8.finished import Finished
from edgepress.calibration.int8.quantize import STEPS, quantize
from edgepress.calibration.int8.search import MOST_FLOAT, MOST_FLOAT_WEIGHTS, TOLERANCE, Score, Search, Trial
from edgepress.calibration.int8.subset import calibration_hash, choose_calibration_set, missing_labels
from edgepress.deploy.bench.against import compare_latency
from edgepress.deploy.build.compile import IR, ONNX, built_for_openvino, compile_openvino, derived_bundle
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.golden import GOLDEN, Golden
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.verify.verification import predict_split
from edgepress.multilabel.bundle import Bundle, inputs_hash, up_to_date, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import changed_share
from edgepress.multilabel.durable import sync
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.manifest import Calibration, Target, Tried
from edgepress.multilabel.metrics import average_precision, mean_average_precision
from edgepress.multilabel.noise import signal_to_noise
from edgepress.multilabel.ratio import Ratio
from edgepress.multilabel.saturation import weight_bits_here
from edgepress.report.plots import draw_int8, write_plot
from edgepress.run.recipe import QuantizeConfig
from edgepress.run.splits import Splits

log = logging.getLogger("edgepress")


def require_quantizer(target: Target) -> None:
    """Stop if the packages that quantise for a target are not installed here.

    Raises:
        EngineUnavailableError: says which extra is.
    """
    for module in ("onnx", "onnxruntime", "sympy", *(("openvino", "nncf") if target == "openvino" else ())):
        require(module, "quantize")


def quantize_bundle(parent: Bundle, splits: Splits, target: Target, out: Path, config: QuantizeConfig) -> Bundle:
    """The INT8 bundle of an fp32 ONNX bundle for one target; see `calibration.int8.quantize`.

    Only the file hashes of test are used, to refuse leaks. Where decisions were fitted for the parent, they are aligned
    to the INT8 model on val; see `align_decisions`. An interrupted search continues where it stopped.

    Raises:
        InputError: the parent is no fp32 ONNX bundle, its labels are not the data set's, or the calibration set leaks.
        EngineUnavailableError: a package that quantises for the target is not installed.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    if (parent.manifest.kind, parent.manifest.precision) != ("onnx", "fp32"):
        raise InputError(f"{parent.path}: {parent.manifest.kind}, {parent.manifest.precision}; expected onnx, fp32")
    require_logits_alone(parent)
    parent.labels.require_equal(splits.train.labels, f"the bundle {parent.path}", f"the data set {splits.train.root}")
    require_quantizer(target)
    pictures = _calibration_set(parent, splits, config)
    bits = 8 if target == "tensorrt" else config.weight_bits or weight_bits_here()
    names = ("openvino", "nncf", "onnxruntime") if target == "openvino" else ("onnx", "onnxruntime")
    tools = {name: version(name) for name in (*names, "edgepress")}
    inputs = inputs_hash(
        {
            "parent": parent.digest,
            "target": target,
            "calibration": calibration_hash(pictures),
            "val": splits.val.fingerprint(),
            "search": [STEPS[target], TOLERANCE, MOST_FLOAT, MOST_FLOAT_WEIGHTS],
            "settings": [config.choice, config.budget, config.time_limit, bits],
            "tools": tools,
        }
    )
    if (made := up_to_date(out, inputs)) is not None:
        return made
    log.info("quantising for %s on %d pictures", target, len(pictures))
    # Latencies of another machine do not count for this one.
    with _workplace(out, inputs_hash({"inputs": inputs, "processor": describe_machine()["processor"]})) as finished:
        judge = _Judge(parent, splits.val, target, finished.folder)
        fields: dict[str, Any] = {
            "kind": judge.kind,
            "precision": "int8",
            "model": judge.model,
            "inputs": inputs,
            "tools": tools,
        }
        if target == "openvino":
            fields["built_for"] = built_for_openvino(parent)
        with derived_bundle(parent, out, **fields) as (folder, manifest):
            found = quantize(
                parent.model_path,
                folder / judge.model,
                np.stack([parent.preprocess(pictures.picture(row)) for row in range(len(pictures))]),
                target=target,
                evaluate=judge.score,
                float_map=judge.float_map,
                finished=finished,
                measure=None if target == "tensorrt" else judge.latency,
                budget=config.budget / 100,
                time_limit=config.time_limit,
                weight_bits=bits,
            )
            manifest["calibration"] = _record(found, pictures, judge.float_map, config, bits, target)
            logits = judge.logits(found.best.file)
            golden = Golden.of(parent)
            if golden is not None and target != "tensorrt":  # TensorRT's engine is built from this graph later
                answers = judge.logits(found.best.file, golden.pictures)
                replace(golden, answers=answers).save(folder / GOLDEN)
            manifest["facts"] = facts = {}
            if parent.manifest.decisions is not None:
                manifest["decisions"], facts["decisions"] = _aligned(parent, judge.reference, logits, splits.val)
    made = Bundle.open(out)
    _plot(made, judge.reference, logits, splits.val)
    return made


def split_logits(bundle: Bundle, data: MultiLabelDataset, device: str = "cpu") -> np.ndarray:
    """An engine's logits `[N, C]` on a split, in its order."""
    with open_engine(bundle, device) as engine:
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
    finished = Finished(out.parent / f".{out.name}.quantizing", inputs)
    try:
        yield finished
    except InputError:  # another try would end the same way
        finished.remove()
        raise
    finished.remove()


class _Judge:
    """Runs candidates as the engines they would become: on val for accuracy, and in turn with fp32 for the time."""

    def __init__(self, parent: Bundle, val: MultiLabelDataset, target: Target, folder: Path) -> None:
        self.parent, self.val, self.folder = parent, val, folder
        self.kind, self.model = ("openvino", IR) if target == "openvino" else ("onnx", ONNX)
        self.pixels = self._decode()
        self.reference = self._run(parent, self.pixels)
        self.float_map = mean_average_precision(val.targets, self.reference, val.ignore)
        self._float: Bundle | None = None if target == "openvino" else parent

    def score(self, file: Path) -> Score:
        logits = self.logits(file)
        return Score(
            mean_average_precision(self.val.targets, logits, self.val.ignore), signal_to_noise(self.reference, logits)
        )

    def latency(self, file: Path) -> Ratio:
        if self._float is None:
            self._float = compile_openvino(self.parent, self.folder / "fp32", "fp32")
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
        path = self.folder / "candidate"
        manifest: dict[str, Any] = {"labels": self.parent.manifest.labels, "preprocess": self.parent.preprocess}
        with write_bundle(path, kind=self.kind, precision="int8", model=self.model, **manifest) as (folder, _):
            for suffix in (".xml", ".bin") if file.suffix == ".xml" else (file.suffix,):
                sync(file.with_suffix(suffix))  # the kept result of a candidate must not outlast its file
                shutil.copyfile(file.with_suffix(suffix), (folder / self.model).with_suffix(suffix))
        try:
            yield Bundle.open(path)
        finally:
            shutil.rmtree(path)


def _record(
    found: Search, pictures: MultiLabelDataset, float_map: float, config: QuantizeConfig, bits: int, target: Target
) -> Calibration:
    best = found.best
    return Calibration(
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
        measured_on=None if best.latency is None else describe_machine()["processor"],
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


def _aligned(parent: Bundle, reference: np.ndarray, logits: np.ndarray, val: MultiLabelDataset):
    """The parent's decisions aligned to the INT8 model, and how many change on val with the alignment and without."""
    before = parent.manifest.decisions
    assert before is not None
    after, theirs = align_decisions(before, reference, logits), before.decide(reference)
    changed = {
        "val_changed_kept": changed_share(theirs, before.decide(logits), val.ignore),
        "val_changed_refitted": changed_share(theirs, after.decide(logits), val.ignore),
    }
    shares = [100 * share for share in changed.values()]
    log.info("  decisions changed on val: %.2f %% as they were, %.2f %% fitted to INT8", *shares)
    return after, changed


def _plot(bundle: Bundle, reference: np.ndarray, logits: np.ndarray, val: MultiLabelDataset) -> None:
    """Write `int8-NAME.svg` in the folder `plots` beside the bundle."""
    precisions = [average_precision(val.targets, values, val.ignore) for values in (reference, logits)]
    write_plot(bundle, "int8", draw_int8(bundle, *precisions))
