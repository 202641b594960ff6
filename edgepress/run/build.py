"""The first pass of a run, which builds every engine by name, and the verbs that build one thing: export, compile,
calibrate.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgepress.calibration.decide.thresholds import fit_decisions
from edgepress.calibration.int8.subset import calibration_hash, tell_labels
from edgepress.deploy.build.compile import compile_fp16, require_fp16
from edgepress.deploy.engines.table import ENGINES, RUNTIMES, GpuTarget, Runtime, compiled
from edgepress.deploy.machine.cuda import cuda_compute_capability
from edgepress.multilabel.bundle import Bundle, file_sha256, inputs_hash, rewrite_bundle, up_to_date
from edgepress.multilabel.config import FLAGS
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import DisconnectedError, EngineUnavailableError, InputError, require_choice
from edgepress.multilabel.judgement import Reason
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.lock import only_writer
from edgepress.multilabel.manifest import Precision
from edgepress.remote.host import Host, host_of
from edgepress.report.plots import draw_reliability, draw_thresholds, write_plot
from edgepress.run.aligned_decisions import split_logits
from edgepress.run.finetune import FineTuning, within_allowed
from edgepress.run.quantize import TellLabels, quantize_bundle, require_quantizer
from edgepress.run.recipe import CompileConfig, DecisionsConfig, EngineName, QuantizeConfig, Recipe
from edgepress.run.splits import Splits

log = logging.getLogger("edgepress")


def folder_of(engine: EngineName, compile: CompileConfig) -> str:
    """The folder of an engine in a run: its name, plus for TensorRT the compute capability it is built for."""
    return ENGINES[engine].folder(target_sm(compile))


def target_sm(compile: CompileConfig) -> int:
    """The requested compute capability; by default that of the GPU here, or 86 without one."""
    if compile.sm is not None:
        return compile.sm
    present = cuda_compute_capability()
    return 86 if present is None else 10 * present[0] + present[1]


def tensorrt_target(compile: CompileConfig) -> GpuTarget:
    """What `build_tensorrt` builds for."""
    return GpuTarget(**{**compile.model_dump(), "sm": target_sm(compile)})


@dataclass(frozen=True, kw_only=True)
class Built:
    """An engine of a run: its bundle, or why there is none."""

    name: str
    """Its name in the run's table: the folder that it has when it is not fine-tuned."""
    precision: Precision
    required: bool
    held_to: tuple[str, ...]
    """Names of the float engines that it must not be slower than, the fastest kind first."""
    bundle: Bundle | None
    finetuned: bool = False
    refusal: Reason | None = None


def build_all(onnx: Bundle, recipe: Recipe, splits: Splits, out: Path, tuning: FineTuning) -> list[Built]:
    """Build every engine of a recipe, in the order of the table; if one target fails, the others are still built.

    Where the recipe names a host, INT8 is searched on it.

    Args:
        onnx: the student's fp32 ONNX bundle.
        out: the run's folder.

    Raises:
        DisconnectedError: the connection to the host broke off.
    """
    found = []
    host = host_of(recipe.host, recipe.host_python, recipe.ssh_option)
    tell = _once(tell_labels)
    for engine in recipe.engines:
        spec, refusal, bundle, finetuned = ENGINES[engine], None, None, False

        def build(source: Bundle, ending: str, engine: EngineName = engine) -> Bundle:
            settings = recipe.quantize, recipe.compile
            return build_engine(engine, source, out, splits, *settings, ending, host=host, tell=tell)

        try:
            bundle, finetuned = within_allowed(build, onnx, tuning)
        except DisconnectedError:
            raise
        except EngineUnavailableError as error:
            refusal = Reason(kind="build", text=str(error))
        except InputError as error:
            refusal = Reason(kind="model", text=str(error))
        found.append(
            Built(
                name=folder_of(engine, recipe.compile),
                precision=spec.precision,
                required=engine in recipe.required,
                held_to=tuple(folder_of(name, recipe.compile) for name in spec.held_to),
                bundle=bundle,
                finetuned=finetuned,
                refusal=refusal,
            )
        )
    return found


def _once(tell: TellLabels) -> TellLabels:
    """The same function, which says nothing of a calibration set that it told before: most engines share one."""
    told = set()

    def first(train: MultiLabelDataset, pictures: MultiLabelDataset) -> None:
        if (known := calibration_hash(pictures)) not in told:
            told.add(known)
            tell(train, pictures)

    return first


def require_buildable(engine: EngineName) -> None:
    """Stop if the packages that build an engine are not installed here.

    Raises:
        EngineUnavailableError: says which extra is.
    """
    spec = ENGINES[engine]
    spec.runtime.require_buildable()
    if spec.target is not None:
        require_quantizer(spec.target)
    elif (spec.graph or spec.name) == "onnx-fp16":
        require_fp16()


def build_engine(
    engine: EngineName,
    onnx: Bundle,
    run: Path,
    splits: Splits,
    quantize_config: QuantizeConfig,
    compile_config: CompileConfig,
    ending: str = "",
    *,
    host: Host | None = None,
    most_float: bool = False,
    tell: TellLabels | None = tell_labels,
) -> Bundle:
    """Make an engine's bundle in a run's folder from the fp32 ONNX bundle, with all bundles in between.

    Args:
        ending: suffix for the names of the new bundles.
        host, most_float, tell: of INT8, see `quantize_bundle`.

    Raises:
        InputError: the graph cannot be quantised or built for the target.
        EngineUnavailableError: what builds it is not installed here; says which extra is.
    """
    require_buildable(engine)  # otherwise the graph below is made for nothing
    spec, out = ENGINES[engine], run / f"{folder_of(engine, compile_config)}{ending}"
    graph, at = onnx, out if spec.graph is None else run / f"{spec.graph}{ending}"
    if spec.target is not None:
        bits = quantize_config.weight_bits if spec.weight_bits is None else spec.weight_bits
        config = quantize_config.model_copy(update={"weight_bits": bits})
        graph = quantize_bundle(onnx, splits, spec.target, at, config, host=host, most_float=most_float, tell=tell)
    elif (spec.graph or spec.name) == "onnx-fp16":
        graph = compile_fp16(onnx, at)
    if spec.graph is None:
        return graph
    target = tensorrt_target(compile_config) if spec.runtime.needs_sm else spec.precision
    return spec.runtime.build(graph, out, target)


def calibrate_bundle(
    bundle: Bundle, data: MultiLabelDataset, out: Path, config: DecisionsConfig, device: str = "cpu"
) -> tuple[Bundle, np.ndarray]:
    """`edgepress calibrate`: the same model with decisions fitted on a split, and its logits `[N, C]` there.

    Raises:
        InputError: the labels differ, `out` is the bundle itself, or see `fit_decisions`.
        EngineUnavailableError: this machine cannot run the engine.
    """
    bundle.labels.require_equal(data.labels, f"the bundle {bundle.path}", f"the data set {data.root}")
    if out.resolve() == bundle.path.resolve():
        raise InputError(f"{out}: is the bundle itself, which others may be made from; name a new folder")
    if not data.groups and bundle.decisions.groups:
        log.info("%s gives no label groups: those of %s are kept", data.root, bundle.path)
        data = replace(data, groups=bundle.decisions.groups)
    logits = split_logits(bundle, data, device)
    inputs = inputs_hash({"bundle": bundle.digest, "data": data.fingerprint(), "decisions": config.model_dump()})
    if (made := up_to_date(out, inputs)) is not None:
        return made, logits
    decisions = fit_decisions(logits, data, config.thresholds, config.probabilities)
    facts = bundle.manifest.facts.model_copy(update={"calibrated_from": bundle.digest})
    return rewrite_bundle(bundle, out, decisions=decisions, facts=facts, inputs=inputs), logits


def decided(
    bundle: Bundle, val: MultiLabelDataset, config: DecisionsConfig, logits: Callable[[], np.ndarray]
) -> Bundle:
    """A bundle with decisions fitted on val, in its own folder; it stays as it is where it has them already.

    Args:
        logits: computes the model's logits `[N, C]` on val.

    Raises:
        InputError: see `fit_decisions`.
    """
    known = None if bundle.manifest.decisions is None else bundle.manifest.decisions.fit
    wanted = (config.thresholds, config.probabilities, val.fingerprint())
    if known is not None and (known.thresholds, known.probabilities, known.fingerprint) == wanted:
        return bundle
    log.info("%s: fitting its decisions on val (%s)", bundle.path, config.thresholds)
    return rewrite_bundle(bundle, bundle.path, decisions=fit_decisions(logits(), val, *wanted[:2]))


def write_decision_plots(
    bundle: Bundle, decisions: Decisions, logits: np.ndarray, probabilities: np.ndarray, data: MultiLabelDataset
) -> None:
    """Write `reliability-NAME.svg` and `thresholds-NAME.svg` in `plots` beside a bundle; see `write_plot`.

    Arguments as `edgepress.report.plots.draw_reliability` and `draw_thresholds`.
    """
    write_plot(bundle, "reliability", draw_reliability(logits, probabilities, data, bundle.name))
    write_plot(bundle, "thresholds", draw_thresholds(decisions, logits, data, bundle.name))


def export_student(
    student: Path | None,
    weights: Path | None,
    labels: Path | None,
    flags: dict[str, Any],
    verified: MultiLabelDataset,
    out: Path,
    *,
    attention: bool = False,
    generated_pictures: bool = False,
) -> Bundle:
    """`edgepress export`: find the model that the arguments describe, and export it.

    Raises:
        InputError: the arguments describe no model or several, or the weights do not fit.
    """
    from edgepress.compress.checkpoint import load_model, load_weights
    from edgepress.compress.config import ModelConfig
    from edgepress.compress.models import make_model
    from edgepress.deploy.build import export

    export_onnx = functools.partial(
        export.export_onnx, verified=verified, out=out, attention=attention, generated_pictures=generated_pictures
    )
    if student is not None and not student.is_dir():
        raise InputError(f"{student}: not a bundle; give weights from a file as --weights")
    identity = inputs_hash({"weights": file_sha256(weights) if weights and weights.is_file() else None, **flags})
    if flags:
        if student is not None or weights is None:
            raise InputError(f"--{min(flags)} describes weights from elsewhere: give --weights FILE and no bundle")
        names = LabelSpace.from_file(labels) if labels else verified.labels
        model, _ = make_model(ModelConfig.parse({**flags, "weights": "none"}, FLAGS), names)
        return export_onnx(load_weights(model, weights), identity=identity)
    if student is None and weights is None:
        raise InputError("nothing to export: give a student's bundle, or --weights FILE")
    if student is None:
        assert weights is not None
        return export_onnx(load_model(weights), identity=identity)
    bundle = Bundle.open(student, kind="torch")
    if weights is None:
        model, parent, decisions = load_model(student), bundle.as_parent, bundle.manifest.decisions
        # ONNX gives the same logits.
        return export_onnx(model, parent=parent, identity=bundle.digest, decisions=decisions)
    # With other weights in the student's architecture the result is not that student's, so it has no parent.
    identity = inputs_hash({"architecture": bundle.digest, "weights": identity})
    return export_onnx(load_model(student, weights), identity=identity)


def require_compiled(engine: str, onnx: Path) -> None:
    """Stop unless an ONNX bundle can be compiled to an engine of this name.

    Raises:
        InputError: there is no such engine, or it is INT8, which `quantize` makes.
    """
    spec = next((one for one in ENGINES.values() if one.name == engine), None)
    if engine not in compiled() and spec is not None and spec.target is not None:
        then = "" if spec.graph is None else f", and then `edgepress compile GRAPH --engine {spec.runtime.kind}`"
        raise InputError(
            f"--engine {engine}: INT8 needs pictures: `edgepress quantize {onnx} --data FOLDER --target "
            f"{spec.target}` makes it{then}"
        )
    require_choice("--engine", engine, compiled())


def compile_bundle(onnx: Bundle, engine: str, out: Path | None, config: CompileConfig) -> Bundle:
    """`edgepress compile`: compile an ONNX bundle to one engine, by default beside it under a run's usual name.

    Raises:
        InputError: see `require_compiled`; or it cannot be made from this ONNX bundle.
        EngineUnavailableError: what builds it is not installed here.
    """
    require_compiled(engine, onnx.path)
    per_gpu: dict[str, Runtime] = {runtime.kind: runtime for runtime in RUNTIMES.values() if runtime.needs_sm}
    runtime, sm = per_gpu.get(engine), target_sm(config)
    name = engine if runtime is None else f"{engine}-{onnx.manifest.precision}-sm{sm}"
    out = out or onnx.path.parent / name
    with only_writer(out):
        if engine == "onnx-fp16":
            return compile_fp16(onnx, out)
        if runtime is not None:
            return runtime.build(onnx, out, tensorrt_target(config))
        return ENGINES[engine].runtime.build(onnx, out, ENGINES[engine].precision)
