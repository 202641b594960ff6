"""The verbs that make things: run, compare, teach, distill, export, quantize, compile, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from edgepress.cli.flags import with_flags
from edgepress.cli.options import (
    BundlePath,
    Data,
    DataArgument,
    Device,
    Difficult,
    Format,
    Json,
    Out,
    RecipeFile,
    Split,
    Teachers,
    Test,
    Train,
    Val,
    checked,
    load,
    print_path,
    print_result,
    speaks,
    stdout,
)
from edgepress.compress.config import DistillConfig, ModelConfig, QuantizeAwareConfig, TeachConfig
from edgepress.multilabel.bundle import Bundle, require_replaceable
from edgepress.multilabel.datasets import MultiLabelDataset, list_splits, refuse_leaks
from edgepress.multilabel.datasets.unlabelled import load_unlabelled
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.lock import only_writer
from edgepress.run.recipe import (
    CompareRecipe,
    CompileConfig,
    DecisionsConfig,
    QuantizeConfig,
    Recipe,
    TrainRecipe,
    load_recipe,
)


@with_flags(Recipe)
def run_verb(
    recipe: RecipeFile = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Everything: teach, distill, export, quantize, compile, verify, bench, and one table."""
    settings = load_recipe(recipe, flags, Recipe)
    from edgepress.report.summary import print_report
    from edgepress.report.write import HTML
    from edgepress.run.latency_limit import OverBudgetError
    from edgepress.run.pipeline import run

    try:
        with only_writer(Path(settings.out)):
            report = run(settings)
    except OverBudgetError as error:  # a gate, as where the engines are over it after the training
        if speaks():
            print(f"fail: {error}")
        raise typer.Exit(1) from None
    if not report:  # not the main process of a launch
        return
    print_report(report, stdout())
    if "latency_budget" in report:
        chosen = report["latency_budget"]
        print(f"to ship within {chosen['budget_ms']:g} ms: {chosen['ship'] or 'no engine'}")
    print(f"{Path(settings.out) / HTML}: {report['verdict']}")
    if report["verdict"] != "pass":
        raise typer.Exit(1)


@with_flags(TeachConfig)
def teach_verb(
    data: DataArgument,
    out: Out,
    train: Train = "train",
    val: Val = "val",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    *,
    flags: dict[str, Any],
) -> None:
    """Fine-tune a large model on the labels: the teacher."""
    config = TeachConfig.parse(flags, "flags")
    from edgepress.compress.distill import teach

    learnt, chosen = checked(data, format, difficult, train, val)
    refuse_leaks(learnt, [chosen])
    with only_writer(out):
        print_path(teach(learnt, chosen, config, out))


@with_flags(DistillConfig)
def distill_verb(
    data: DataArgument,
    out: Out,
    teacher: Teachers = None,
    train: Train = "train",
    val: Val = "val",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    *,
    flags: dict[str, Any],
) -> None:
    """Train a small model on the labels and on the teacher: the student."""
    config = DistillConfig.parse(flags, "flags")
    from edgepress.compress.distill import distill, require_no_teacher

    teachers = [Bundle.open(path, kind="torch") for path in teacher or ()]
    if not teachers:
        require_no_teacher(config)
    learnt, chosen = checked(data, format, difficult, train, val)
    refuse_leaks(learnt, [chosen])
    if config.unlabelled is not None:
        unlabelled = load_unlabelled(config.unlabelled, learnt.labels)
        measured = [name for name in list_splits(data, format) if name != train]  # type: ignore[arg-type]
        refuse_leaks(unlabelled, [load(data, format, difficult, name) for name in measured])
    first = teachers[0] if teachers else None
    with only_writer(out):
        print_path(distill(learnt, chosen, first, config, out, ensemble=teachers[1:]))


@with_flags(TrainRecipe)
def compare_verb(
    recipe: RecipeFile = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods", help="Presets, `ours` (the distill section) and the recipe's own, by commas (default: all)."
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Whole numbers, by commas (default: the distill section's seed).")
    ] = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Several distillation methods and seeds on the same pictures: a table of test mAP."""
    settings = load_recipe(recipe, flags, CompareRecipe)
    from edgepress.run.compare import CompareConfig, compare, known_methods, print_comparison
    from edgepress.run.pipeline import splits_of

    chosen = methods.split(",") if methods else known_methods(settings)
    drawn = seeds.split(",") if seeds else [settings.distill.seed]
    config = CompareConfig.parse({"seeds": drawn, "methods": chosen}, "flags")
    splits = splits_of(settings)
    with only_writer(Path(settings.out)):
        print_comparison(compare(settings, config, splits), stdout())


@with_flags(ModelConfig)
def export_verb(
    out: Out,
    student: Annotated[
        Path | None, typer.Argument(help="The student: a bundle of kind torch; for --layout an engine's.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The pictures that engines are verified on.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A whole model's .safetensors; replaces the bundle's weights.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="labels.txt, for weights from elsewhere.")] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", help="triton: a model repository of a finished engine's bundle.")
    ] = None,
    attention: Annotated[
        bool, typer.Option("--attention", help="Also give what each label looks at, for the demo.")
    ] = False,
    split: Split = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    *,
    flags: dict[str, Any],
) -> None:
    """Write a student as ONNX, with torch's logits on a split as the reference that engines are verified against.

    The model is a STUDENT bundle, or --weights of a file that edgepress wrote, or --weights of any file that fits
    --backbone, --head, --width and --size. With --layout triton a bundle that runs is written as a model repository
    of Triton Inference Server instead.
    """
    from edgepress.run.build import export_student

    if layout is not None:
        if layout != "triton" or student is None or weights or labels or data or attention or flags:
            raise InputError(f"--layout {layout}: expected edgepress export BUNDLE --layout triton --out DIR, no more")
        from edgepress.deploy.build.triton import write_triton

        print(write_triton(Bundle.open(student), out))
        return
    if data is None:
        raise InputError("export needs --data DIR: the pictures that the engines made from it are verified on")
    require_replaceable(out, "onnx", "fp32")
    verified = checked(data, format, difficult, split)[0]
    with only_writer(out):
        print(export_student(student, weights, labels, flags, verified, out, attention=attention).path)


@with_flags(QuantizeAwareConfig)
def finetune_verb(
    student: Annotated[Path, typer.Argument(help="The student: a bundle of kind torch.")],
    data: Data,
    out: Out,
    teacher: Teachers = None,
    train: Train = "train",
    val: Val = "val",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    *,
    flags: dict[str, Any],
) -> None:
    """Fine-tune a student as its INT8 graph computes, where quantize alone loses too much; then export and quantize."""
    config = QuantizeAwareConfig.parse(flags, "flags")
    from edgepress.compress.quantize_aware import quantize_aware

    teachers = [Bundle.open(path, kind="torch") for path in teacher or ()]
    first = teachers[0] if teachers else None
    learnt, chosen = checked(data, format, difficult, train, val)
    refuse_leaks(learnt, [chosen])
    start = Bundle.open(student, kind="torch")
    with only_writer(out):
        print_path(quantize_aware(learnt, chosen, first, start, config, out, ensemble=teachers[1:]))


@with_flags(QuantizeConfig)
def quantize_verb(
    onnx: Annotated[Path, typer.Argument(help="The fp32 ONNX bundle.")],
    data: Data,
    target: Annotated[str, typer.Option("--target", help="onnxruntime, tensorrt or openvino.")],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle to make; by default beside ONNX.")] = None,
    train: Train = "train",
    val: Val = "val",
    test: Test = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    *,
    flags: dict[str, Any],
) -> None:
    """Calibrate an INT8 model for a target on training pictures: the fastest within the budget on val.

    Prints what every candidate of the search reached. Exit code 1 where the one that was taken misses the budget, or is
    slower than fp32 on this machine.
    """
    config = QuantizeConfig.parse(flags, "flags")
    from edgepress.multilabel.bundle import Bundle
    from edgepress.report.summary import print_trade
    from edgepress.run.pipeline import load_splits
    from edgepress.run.quantize import gate, missed, quantize_bundle

    names = {"onnxruntime": "onnx-int8-onnxruntime", "tensorrt": "onnx-int8-tensorrt", "openvino": "openvino-int8"}
    if target not in names:
        raise InputError(f"--target is {target!r}; expected one of {', '.join(names)}")
    bundle = Bundle.open(onnx, kind="onnx")
    splits = load_splits(str(data), train, val, test, format=format, difficult=difficult)  # type: ignore[arg-type]
    out = out or bundle.path.parent / names[target]
    with only_writer(out):
        made = quantize_bundle(bundle, splits, target, out, config)  # type: ignore[arg-type]
    print_trade(made, stdout())
    print(made.path)
    reasons = [reason for reason in (missed(made), gate(made)) if reason is not None]
    for reason in reasons:
        print(f"{made.name}: fail: {reason}")
    if reasons:
        raise typer.Exit(1)


@with_flags(CompileConfig)
def compile_verb(
    onnx: Annotated[Path, typer.Argument(help="An ONNX bundle; for TensorRT INT8 that of quantize --target tensorrt.")],
    engine: Annotated[str, typer.Option("--engine", help="onnx-fp16, openvino-fp32, openvino-fp16 or tensorrt.")],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle to make; by default beside ONNX.")] = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Compile an ONNX bundle for a runtime; a TensorRT engine takes the precision of its ONNX."""
    config = CompileConfig.parse(flags, "flags")
    from edgepress.run.build import compile_bundle

    bundle = Bundle.open(onnx, kind="onnx")
    if out is not None:
        kind, _, precision = engine.partition("-")
        require_replaceable(out, kind, precision or bundle.manifest.precision)  # type: ignore[arg-type] # checked there
    print(compile_bundle(bundle, engine, out, config).path)


@with_flags(DecisionsConfig)
def calibrate_verb(
    bundle: BundlePath,
    data: Data,
    out: Out,
    split: Split = "val",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    device: Device = "cpu",
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Calibrate a bundle's probabilities and choose a threshold a label, on pictures that it neither learnt from nor is
    verified on.

    The table says of every label what both are worth on pictures that they were not fitted on (in five parts, each
    judged by a fit on the other four), with F1, precision and recall at its threshold; so does the reliability diagram
    in plots/ beside the bundle.
    """
    config = DecisionsConfig.parse(flags, "flags")
    from edgepress.calibration.decide.label_scores import label_rows
    from edgepress.calibration.decide.thresholds import Criterion, cross_fitted
    from edgepress.run.build import calibrate_bundle, write_decision_plots

    opened = Bundle.open(bundle)
    require_replaceable(out, opened.manifest.kind, opened.manifest.precision, opened.manifest.role)
    (pictures,) = checked(data, format, difficult, split)
    _refuse_verified(opened, pictures)
    with only_writer(out):
        made, logits = calibrate_bundle(opened, pictures, out, config, device)
    method, criterion = made.decisions.calibrator.method, Criterion.parse(config.thresholds)
    unseen = cross_fitted(logits, pictures.targets, pictures.ignore, method, criterion)
    write_decision_plots(made, made.decisions, logits, unseen[0], pictures)
    rows = label_rows(made.decisions, logits, unseen, pictures)
    if json:
        print_result({"bundle": str(made.path), "method": method, "labels": rows}, json)
        return
    table = Table("label", title=f"{made.name}: {method}, {config.thresholds}")
    for name in ("positives", "threshold", "F1 at 0.5", "F1", "precision", "recall", "ECE before", "ECE after"):
        table.add_column(name, justify="right")
    for label, positives, *numbers in (row.values() for row in rows):
        table.add_row(label, f"{positives:g}", *("" if number is None else f"{number:.3f}" for number in numbers))
    stdout().print(table)
    print(made.path)


def _refuse_verified(bundle: Bundle, pictures: MultiLabelDataset) -> None:
    """Stop before decisions are fitted on pictures that a bundle is verified on: their verification would mean nothing.

    Raises:
        InputError: names the first of them and says how many there are.
    """
    from edgepress.deploy.build.reference import REFERENCE, Reference

    if REFERENCE not in bundle.manifest.files:
        return  # a torch bundle is what others are verified against
    verified = set(Reference.load(bundle.path / REFERENCE).hashes)
    shared = [path for path, name in zip(pictures.paths, pictures.hashes(), strict=True) if name in verified]
    if shared:
        raise InputError(
            f"{shared[0]}: one of {len(shared)} pictures of the split {pictures.split!r} that {bundle.path} is "
            f"verified on, which would prove nothing once its decisions were fitted there; expected a split that it "
            f"neither learnt from nor is verified on (--split val)"
        )
