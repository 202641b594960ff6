"""The command line. Results go to stdout, everything said along the way to stderr.

Exit codes: 0 success, 1 a gate that failed, 2 bad input or usage, 130 interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from compress.config import DistillConfig, ModelConfig, TeachConfig
from edgepress.flags import with_flags
from edgepress.recipe import BenchConfig, CompileConfig, QuantizeConfig, Recipe, load_recipe
from multilabel.datasets import Difficult as DatasetDifficult
from multilabel.datasets import Format as DatasetFormat
from multilabel.errors import EngineUnavailableError, InputError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Distil a multi-label tagger, compile it for an edge device, and prove it there.",
)
# The base of typer's usage errors is click's own or typer's copy of it, by version.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
_EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "timm": "train",
    "accelerate": "train",
    "safetensors": "train",
    "tensorboard": "train",
    "onnxscript": "train",
    "onnx": "quantize",
    "sympy": "quantize",
    "nncf": "quantize",
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
}

Data = Annotated[Path, typer.Option("--data", help="The data set's folder.")]
DataArgument = Annotated[Path, typer.Argument(help="The data set's folder.")]
Train = Annotated[str, typer.Option("--train", help="The split to learn and calibrate on.")]
Val = Annotated[str, typer.Option("--val", help="The split that chooses.")]
Test = Annotated[str, typer.Option("--test", help="The split that reports.")]
Format = Annotated[str, typer.Option("--format", help=f"The folder's layout: {', '.join(get_args(DatasetFormat))}.")]
Difficult = Annotated[
    str, typer.Option("--difficult", help=f"Pascal VOC's difficult objects: {', '.join(get_args(DatasetDifficult))}.")
]
Split = Annotated[str, typer.Option("--split", help="Any split's name.")]
Out = Annotated[Path, typer.Option("--out", help="The bundle to make.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or an OpenVINO device.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
BundlePath = Annotated[Path, typer.Argument(help="A bundle: a folder with a manifest.json.")]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say only warnings and errors.")] = False,
) -> None:
    logging.getLogger("edgepress").setLevel(logging.INFO if _speaks() and not quiet else logging.WARNING)


@app.command(name="run")
@with_flags(Recipe)
def _run(
    recipe: Annotated[Path | None, typer.Option("--recipe", help="A YAML file of settings; flags win.")] = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Everything: teach, distill, export, quantize, compile, verify, bench, and one table."""
    settings = load_recipe(recipe, flags)
    from edgepress.pipeline import run
    from edgepress.report import REPORT, print_report

    report = run(settings)
    if not report:  # not the main process of a launch
        return
    print_report(report, _stdout())
    print(f"{Path(settings.out) / REPORT}: {report['verdict']}")
    if report["verdict"] != "pass":
        raise typer.Exit(1)


@app.command(name="teach")
@with_flags(TeachConfig)
def _teach(
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
    from compress.distill import teach

    learnt, chosen = _checked(data, format, difficult, train, val)
    _print_path(teach(learnt, chosen, config, out))


@app.command(name="distill")
@with_flags(DistillConfig)
def _distill(
    data: DataArgument,
    teacher: Annotated[Path, typer.Option("--teacher", help="The teacher: a bundle of kind torch.")],
    out: Out,
    train: Train = "train",
    val: Val = "val",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    *,
    flags: dict[str, Any],
) -> None:
    """Train a small model on the labels and on the teacher: the student."""
    config = DistillConfig.parse(flags, "flags")
    from compress.distill import distill
    from multilabel.bundle import Bundle

    learnt, chosen = _checked(data, format, difficult, train, val)
    _print_path(distill(learnt, chosen, Bundle.open(teacher, kind="torch"), config, out))


@app.command(name="compare")
@with_flags(Recipe)
def _compare(
    recipe: Annotated[Path | None, typer.Option("--recipe", help="A YAML file of settings; flags win.")] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Presets and `ours`, by commas (default: all).")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Whole numbers, by commas.")] = "0",
    *,
    flags: dict[str, Any],
) -> None:
    """Several distillation methods and seeds on the same pictures: a table of test mAP."""
    settings = load_recipe(recipe, flags)
    from edgepress.compare import CompareConfig, compare, print_comparison
    from edgepress.pipeline import load_splits

    values: dict[str, Any] = {"seeds": seeds.split(",")}
    if methods:
        values["methods"] = methods.split(",")
    config = CompareConfig.parse(values, "flags")
    splits = load_splits(
        settings.data, settings.train, settings.val, settings.test, format=settings.format, difficult=settings.difficult
    )
    print_comparison(compare(settings, config, splits), _stdout())


@app.command(name="export")
@with_flags(ModelConfig)
def _export(
    data: Data,
    out: Out,
    student: Annotated[Path | None, typer.Argument(help="The student: a bundle of kind torch.")] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A whole model's .safetensors; replaces the bundle's weights.")
    ] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="labels.txt, for weights from elsewhere.")] = None,
    split: Split = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    *,
    flags: dict[str, Any],
) -> None:
    """Write a student as ONNX, with torch's logits on a split as the reference that engines are verified against.

    The model is a STUDENT bundle, or --weights of a file that edgepress wrote, or --weights of any file that fits
    --backbone, --head, --width and --size.
    """
    from edgepress.stages import export_student

    print(export_student(student, weights, labels, flags, _checked(data, format, difficult, split)[0], out).path)


@app.command(name="quantize")
@with_flags(QuantizeConfig)
def _quantize(
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
    """Calibrate an INT8 model for a target on training pictures, choosing on val."""
    config = QuantizeConfig.parse(flags, "flags")
    from edgepress.pipeline import load_splits
    from edgepress.stages import quantize_bundle
    from multilabel.bundle import Bundle

    names = {"onnxruntime": "onnx-int8-onnxruntime", "tensorrt": "onnx-int8-tensorrt", "openvino": "openvino-int8"}
    if target not in names:
        raise InputError(f"--target is {target!r}; expected one of {', '.join(names)}")
    bundle = Bundle.open(onnx, kind="onnx")
    splits = load_splits(str(data), train, val, test, format=format, difficult=difficult)  # type: ignore[arg-type]
    made = quantize_bundle(bundle, splits, target, out or bundle.path.parent / names[target], config)  # type: ignore[arg-type]
    print(made.path)


@app.command(name="compile")
@with_flags(CompileConfig)
def _compile(
    onnx: Annotated[Path, typer.Argument(help="An ONNX bundle; for TensorRT INT8 that of quantize --target tensorrt.")],
    engine: Annotated[str, typer.Option("--engine", help="onnx-fp16, openvino-fp32, openvino-fp16 or tensorrt.")],
    out: Annotated[Path | None, typer.Option("--out", help="The bundle to make; by default beside ONNX.")] = None,
    *,
    flags: dict[str, Any],
) -> None:
    """Compile an ONNX bundle for a runtime; a TensorRT engine takes the precision of its ONNX."""
    config = CompileConfig.parse(flags, "flags")
    from edgepress.stages import compile_bundle
    from multilabel.bundle import Bundle

    print(compile_bundle(Bundle.open(onnx, kind="onnx"), engine, out, config).path)


@app.command(name="verify")
def _verify(
    bundle: BundlePath,
    data: Data,
    split: Split = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    device: Device = "cpu",
    budget: Annotated[
        float | None, typer.Option("--budget", help="Largest drop in mAP points (default: fp32 0.1, fp16 0.2, int8 1)")
    ] = None,
    json: Json = False,
) -> None:
    """Prove an engine against the model it came from, on real pictures; exit code 1 where it fails.

    An engine that this machine cannot run gets the verdict "not run" with the reason, and exit code 0.
    """
    from deploy.verify import verify
    from multilabel.bundle import Bundle

    opened = Bundle.open(bundle)
    try:
        result = verify(opened, _load(data, format, difficult, split), device, budget).as_dict()
    except EngineUnavailableError as error:
        result = {"engine": opened.name, "verdict": "not run", "reasons": [str(error)]}
    _print_result(result, json)
    if result["verdict"] == "fail":
        raise typer.Exit(1)


@app.command(name="bench")
@with_flags(BenchConfig)
def _bench(
    bundle: BundlePath,
    data: Annotated[Path | None, typer.Option("--data", help="Time on its pictures (default: generated ones)")] = None,
    split: Split = "test",
    format: Format = "auto",
    difficult: Difficult = "ignore",
    device: Device = "cpu",
    json: Json = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Time an engine on this machine: the model alone, and from JPEG bytes to logits."""
    config = BenchConfig.parse(flags, "flags")
    from deploy.latency import bench
    from multilabel.bundle import Bundle
    from multilabel.pictures import read_bytes

    opened = Bundle.open(bundle)
    pictures = [read_bytes(path) for path in _load(data, format, difficult, split).paths[:64]] if data else None
    try:
        result = bench(opened, pictures, device=device, batch=config.batch, seconds=config.seconds).as_dict()
    except EngineUnavailableError as error:
        result = {"engine": opened.name, "verdict": "not run", "reasons": [str(error)]}
    _print_result(result, json)


@app.command(name="predict")
def _predict(
    bundle: BundlePath,
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    device: Device = "cpu",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a picture, with every probability.")] = False,
) -> None:
    """Tag pictures: a line each, with the labels at or above their thresholds."""
    from json import dumps

    from deploy.tagger import open_tagger

    with open_tagger(bundle, device) as tagger:
        for picture in pictures:
            probabilities = tagger.predict(picture)
            tags = tagger.tags(probabilities)
            if json:
                line = dumps({"file": str(picture), "tags": tags, "probabilities": probabilities}, ensure_ascii=False)
            else:
                shown = (
                    "  ".join(f"{name} {probabilities[name]:.2f}" for name in tags) or "(no label over its threshold)"
                )
                line = f"{picture}  {shown}"
            print(line, flush=True)


@app.command(name="inspect")
def _inspect(bundle: BundlePath, json: Json = False) -> None:
    """Check every byte of a bundle and print what it says of itself."""
    from multilabel.bundle import Bundle

    opened = Bundle.open(bundle)
    manifest = opened.manifest.model_dump(mode="json")
    if not json:
        manifest.get("facts", {}).pop("history", None)
    _print_result(
        {"path": str(opened.path), "digest": opened.digest, "size_bytes": opened.size_bytes, **manifest}, json
    )


@app.command(name="data")
def _data(
    data: DataArgument,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only these splits (default: all).")] = None,
    format: Format = "auto",
    difficult: Difficult = "ignore",
    json: Json = False,
) -> None:
    """Look a data set over: counts, imbalance, co-occurrence, broken pictures, duplicates across splits."""
    from edgepress.report import print_data
    from multilabel.datasets import list_splits
    from multilabel.inspection import inspect_dataset

    names = split or list_splits(data, format)  # type: ignore[arg-type] # checked there
    report = inspect_dataset({name: _load(data, format, difficult, name) for name in names})
    if json:
        _print_result(report.as_dict(), json)
    else:
        print_data(report, _stdout())


@app.command(name="doctor")
def _doctor(json: Json = False) -> None:
    """Say which backends work on this machine, and for the others what mends it."""
    from deploy.device import check_backends, describe_machine

    backends, machine = check_backends(), describe_machine()
    if json:
        _print_result({"machine": machine, "backends": [vars(backend) for backend in backends]}, json)
        return
    table = Table("backend", "works", "detail", title=f"{machine['processor']}, {machine['cores']} cores")
    for backend in backends:
        table.add_row(backend.name, "yes" if backend.works else "no", backend.detail)
    _stdout().print(table)


def main() -> None:
    """Run the command line and turn every expected error into one line and an exit code."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logging.getLogger("edgepress").addHandler(handler)
    logging.getLogger("edgepress").propagate = False
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"] or ["--help"]
    try:
        code = app(args=arguments, standalone_mode=False)
    except _UsageError as error:
        _complain(f"{error.format_message()} (edgepress --help, or VERB --help, lists what there is)")
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted; the same command continues where it can")
        code = 130
    except (InputError, EngineUnavailableError, OSError) as error:
        if debug:
            raise
        _complain(str(error))
        code = 2
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if debug or extra is None:
            raise
        _complain(f"this needs {error.name}, which is not installed here (pip install 'edgepress[{extra}]')")
        code = 2
    sys.exit(code or 0)


def _complain(message: str) -> None:
    print(f"edgepress: {' '.join(message.split())}", file=sys.stderr)


def _load(data: Path, format: str, difficult: str, split: str):
    from multilabel.datasets import load_dataset

    return load_dataset(data, split, format, difficult=difficult)  # type: ignore[arg-type] # checked there


def _checked(data: Path, format: str, difficult: str, *splits: str) -> list:
    """The splits of a data set, every picture read once."""
    loaded = [_load(data, format, difficult, split) for split in splits]
    for split in loaded:
        split.check_pictures()
    return loaded


def _print_path(bundle) -> None:
    if _speaks():
        print(bundle.path)


def _speaks() -> bool:
    """Of several processes under `accelerate launch` the first speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def _stdout() -> Console:
    # A pipe has no width of its own; the table needs about this much.
    return Console(width=None if sys.stdout.isatty() else 140, markup=False)


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    table = Table(show_header=False)
    for name, value in _flatten(result):
        table.add_row(name, value)
    _stdout().print(table)


def _flatten(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            rows += _flatten(value, f"{prefix}{name}.")
        elif value not in (None, "", []):
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            rows.append((prefix + name, text if len(text) <= 200 else text[:197] + "..."))
    return rows
