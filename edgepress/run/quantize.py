"""quantize: make the INT8 bundle of a target from an fp32 ONNX bundle, with the results of the search."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edgepress.calibration.decide.criterion import Criterion
from edgepress.calibration.decide.promises import require_enough
from edgepress.calibration.int8.embeddings import embed
from edgepress.calibration.int8.finished import Finished
from edgepress.calibration.int8.quantize import STEPS, quantize
from edgepress.calibration.int8.search import (
    CHOSEN_BY,
    MOST_FLOAT,
    MOST_FLOAT_WEIGHTS,
    SLOWER,
    TOLERANCE,
    Allowed,
    Search,
    Trial,
)
from edgepress.calibration.int8.subset import calibration_hash, choose_calibration_set, missing_labels, tell_labels
from edgepress.deploy.build.compile import built_for_openvino, derived_bundle
from edgepress.deploy.build.litert import built_for_litert
from edgepress.deploy.build.ncnn import built_for_ncnn
from edgepress.deploy.engines.attention import require_logits_alone
from edgepress.deploy.engines.base import require
from edgepress.deploy.engines.golden import Golden
from edgepress.deploy.engines.table import ENGINES, EngineSpec
from edgepress.multilabel.bundle import (
    Bundle,
    inputs_hash,
    require_replaceable,
    up_to_date,
)
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import DisconnectedError, InputError
from edgepress.multilabel.golden_answers import GOLDEN
from edgepress.multilabel.litert_model import require_converter
from edgepress.multilabel.manifest import BuiltFor, Quantization, Target, Tried
from edgepress.multilabel.metrics import average_precision
from edgepress.multilabel.ncnn_model import require_pnnx
from edgepress.multilabel.plural import plural
from edgepress.multilabel.versions import package_version
from edgepress.remote.host import Host
from edgepress.report.plots import draw_int8, write_plot
from edgepress.run.aligned_decisions import align_again, align_decisions_to
from edgepress.run.candidates import Candidates, Place, copy_graph, place_of
from edgepress.run.recipe import QuantizeConfig
from edgepress.run.splits import Splits

log = logging.getLogger("edgepress")
TellLabels = Callable[[MultiLabelDataset, MultiLabelDataset], None]
"""Names the labels that few pictures show: of train and of the calibration set."""
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


def quantize_bundle(
    parent: Bundle,
    splits: Splits,
    target: Target,
    out: Path,
    config: QuantizeConfig,
    *,
    host: Host | None = None,
    most_float: bool = False,
    tell: TellLabels | None = tell_labels,
) -> Bundle:
    """The INT8 bundle of an fp32 ONNX bundle for one target; see `calibration.int8.quantize`.

    Only the file hashes of test are used, to refuse leaks. Where decisions were fitted for the parent, they are aligned
    to the INT8 model on val; see `align_decisions`. An interrupted search continues where it stopped.

    Args:
        host: the device that answers val and times the candidates; by default this machine. TensorRT's graphs are
            neither timed nor sent, because each would have to be built there.
        most_float: take the slowest graph that the search may end with, for the time alone; see `Searcher.run`.
        tell: what names the labels that few calibration pictures show, before a search; None for a student that learnt
            no labels.

    Raises:
        InputError: the parent is no fp32 ONNX bundle, its labels are not the data set's, the calibration set leaks, or
            the device cannot be used or answers otherwise.
        EngineUnavailableError: a package that quantises for the target is not installed, or the device has no runtime
            for it.
        DisconnectedError: the connection to the device broke off; what was finished is kept.
        DataChangedError: see `MultiLabelDataset.stored`.
    """
    _require_float(parent)
    splits = splits.in_order_of(parent.labels, f"the bundle {parent.path}")
    require_quantizer(target)
    _require_promise(parent, splits.val)
    pictures = _calibration_set(parent, splits, config)
    spec = next(spec for spec in ENGINES.values() if spec.target == target)
    with place_of(host if spec.graph is None else None) as place:
        bits = weight_bits(config, place) if spec.runtime.saturates else 8
        tools = {name: package_version(name) for name in (*_PACKAGES[target], "edgepress")}
        inputs = _inputs(parent, target, pictures, splits.val, config, bits, tools, place, most_float)
        made = up_to_date(out, inputs)
        if made is not None and _timed_in_vain(made):
            log.info("%s: is slower than fp32, and was timed on a machine that did not keep still: again", out)
        elif made is not None:
            if made.manifest.parent == parent.as_parent:
                return made
            if (aligned := align_again(made, parent, splits.val, config.flips)) is not None:
                return aligned
        require_replaceable(out, spec.quantized_kind, "int8")
        where = f", with candidates on {place.processor}" if place.on_device else ""
        log.info("quantising for %s on %s%s", target, plural(len(pictures), "picture"), where)
        if tell is not None:
            tell(splits.train, pictures)
        job = _Job(parent, splits.val, pictures, target, spec, config, bits, most_float)
        with _workplace(out, parent, inputs, place) as finished:
            return job.do(out, finished, place, tools, inputs)


@dataclass(frozen=True)
class _Job:
    """What an INT8 model is made from."""

    parent: Bundle
    val: MultiLabelDataset
    pictures: MultiLabelDataset
    """The calibration set."""
    target: Target
    spec: EngineSpec
    config: QuantizeConfig
    bits: int
    most_float: bool

    def do(self, out: Path, finished: Finished, place: Place, tools: dict[str, str], inputs: str) -> Bundle:
        """Search, and write the bundle of what was found."""
        parent, target = self.parent, self.target
        candidates = Candidates(parent, self.val, self.spec, finished.folder, place)
        graph = finished.folder / candidates.model
        found = self._search(graph, candidates, finished, place)
        logits, golden = candidates.logits(graph), Golden.of(parent)
        decisions, facts = align_decisions_to(parent, candidates.reference, logits, self.val)
        with derived_bundle(
            parent,
            out,
            kind=candidates.kind,
            precision="int8",
            model=candidates.model,
            calibration=self._record(found, candidates.float_map, place),
            built_for=_PASSPORTS[target](parent) if target in _PASSPORTS else None,
            decisions=decisions,
            facts=facts,
            tools=tools,
            inputs=inputs,
        ) as folder:
            copy_graph(graph, folder / candidates.model)
            if golden is not None and self.spec.graph is None:  # TensorRT's engine is built from this graph later
                place.keep("golden", golden.pictures)
                replace(golden, answers=candidates.logits(graph, "golden")).save(folder / GOLDEN)
        made = Bundle.open(out)
        _plot(made, candidates.reference, logits, self.val)
        return made

    def _search(self, graph: Path, candidates: Candidates, finished: Finished, place: Place) -> Search:
        pictures, preprocess = self.pictures, self.parent.preprocess
        return quantize(
            self.parent.model_path,
            graph,
            np.stack([preprocess(pictures.picture(row)) for row in range(len(pictures))]),
            target=self.target,
            evaluate=candidates.score,
            float_map=candidates.float_map,
            finished=finished,
            measure=candidates.latency if self.spec.graph is None else None,
            allowed=Allowed(self.config.budget / 100, self.config.flips),
            time_limit=self.config.time_limit,
            weight_bits=self.bits,
            most_float=self.most_float,
            where=f"on {place.processor}" if place.on_device else "here",
        )

    def _record(self, found: Search, float_map: float, place: Place) -> Quantization:
        best, pictures = found.best, self.pictures
        return Quantization(
            pictures=len(pictures),
            sha256=calibration_hash(pictures),
            split=pictures.split,
            target=self.target,
            choice=self.config.choice,
            missing_labels=missing_labels(pictures),
            method=str(best.candidate._replace(kept=())),
            kept_float=best.float_nodes,
            products=len(found.sensitivity),
            val_mAP=best.score.mAP,
            val_mAP_float=float_map,
            budget=self.config.budget,
            val_flips=best.score.flips,
            allowed_flips=self.config.flips,
            weight_bits=self.bits,
            int8_share=best.int8_share,
            latency=best.latency,
            measured_on=None if best.latency is None else place.processor,
            on_device=place.on_device,
            planned=found.planned,
            tried=tuple(_row(trial, float_map) for trial in found.tried),
            sensitivity=tuple(found.sensitivity),
        )


def weight_bits(config: QuantizeConfig, place: Place) -> int:
    """Bits of the weights for the processor on which candidates run.

    Raises:
        InputError: 8 are asked for a device whose products of 8-bit weights saturate.
    """
    if place.on_device and config.weight_bits == 8 and place.weight_bits == 7:
        raise InputError(
            f"weight_bits is 8, but the device's processor ({place.processor}) has no VNNI, and its INT8 products of "
            "8-bit weights saturate; leave weight_bits out, or give 7"
        )
    return config.weight_bits or place.weight_bits


def _timed_in_vain(made: Bundle) -> bool:
    latency = made.manifest.calibration.latency if made.manifest.calibration is not None else None
    return latency is not None and latency.slower_by_disturbance(SLOWER)


def _require_float(parent: Bundle) -> None:
    if (parent.manifest.kind, parent.manifest.precision) != ("onnx", "fp32"):
        raise InputError(f"{parent.path}: {parent.manifest.kind}, {parent.manifest.precision}; expected onnx, fp32")
    require_logits_alone(parent)


def _require_promise(parent: Bundle, val: MultiLabelDataset) -> None:
    """Stop before a search whose INT8 model could not keep the promise of the parent's thresholds on val."""
    fit = parent.decisions.fit
    if fit is not None and fit.promise is not None:
        wanted = Criterion.parse(fit.thresholds).promise
        assert wanted is not None
        require_enough(wanted, val, f"{val.root}, split {val.split!r}")


def _inputs(
    parent: Bundle,
    target: Target,
    pictures: MultiLabelDataset,
    val: MultiLabelDataset,
    config: QuantizeConfig,
    bits: int,
    tools: dict[str, str],
    place: Place,
    most_float: bool,
) -> str:
    """The hash of everything that an INT8 graph is made from."""
    device = {"device": place.processor} if place.on_device else {}
    return inputs_hash(
        {
            **device,
            **({"most_float": True} if most_float else {}),
            "parent": parent.model_digest,
            "target": target,
            "calibration": calibration_hash(pictures),
            "val": val.fingerprint(),
            "search": [STEPS[target], CHOSEN_BY, TOLERANCE, MOST_FLOAT, MOST_FLOAT_WEIGHTS],
            "settings": [config.choice, config.budget, config.flips, config.time_limit, bits],
            "tools": tools,
        }
    )


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
def _workplace(out: Path, parent: Bundle, inputs: str, place: Place) -> Iterator[Finished]:
    """The hidden folder of a search; it stays only if the search was interrupted."""
    # Latencies of another machine do not count for this one, nor do flips of other decisions.
    decisions = parent.decisions.model_dump()
    here = inputs_hash({"inputs": inputs, "processor": place.processor, "decisions": decisions})
    finished = Finished(out.parent / f".{out.name}.quantizing", here)
    try:
        yield finished
    except DisconnectedError:
        raise
    except InputError:  # another try would end the same way
        finished.remove()
        raise
    finished.remove()


def _row(trial: Trial, float_map: float) -> Tried:
    return Tried(
        candidate=str(trial.candidate),
        val_mAP=trial.score.mAP,
        drop_points=100 * (float_map - trial.score.mAP),
        sqnr=trial.score.sqnr,
        flips=trial.score.flips,
        latency=trial.latency,
        int8_share=trial.int8_share,
        kept=len(trial.candidate.kept),
    )


def _plot(bundle: Bundle, reference: np.ndarray, logits: np.ndarray, val: MultiLabelDataset) -> None:
    """Write `int8-NAME.svg` in the folder `plots` beside the bundle."""
    precisions = [average_precision(val.targets, val.scores(values), val.ignore) for values in (reference, logits)]
    write_plot(bundle, "int8", draw_int8(bundle, *precisions))
