"""Measures the table of students that `edgepress students` reads: mobile backbones of timm without weights, each as a
student with the default head, in every runtime of this processor.

    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.students DATA --into FOLDER
    OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.students DATA --into FOLDER --write

The first measures what neither FOLDER nor the table has yet and may be interrupted at any time; `--only onnx,openvino`
limits it to some steps, `--names a,b` to some backbones. The second writes what FOLDER has into the table; a step that
was not measured is null in it. A table of another make of processor or of other versions of the tools is begun again;
`instructions` has those that all the processors of a table share.
Each backbone is measured in a process of its own, because converters crash.

Which backbones: timm's models of the families below with at most `MOST_PARAMETERS` without a classifier and
`MOST_MACS` at 224 px (or at their own size if it is fixed), without those that are the same network as another one.
Times are of the processor, which other processes lengthen less than the clock's, of one thread, at batch 1; ratios are
taken in turns (A B B A). Signal to noise is that of the plain graph: the logits' part that differs between pictures,
against INT8's error, on pictures that its ranges were not measured on. Weights are random, and norms are fitted to
pictures, because with fresh norms activations vanish with depth.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.student_steps import MEASURE, SIZE
from edgepress.deploy.machine.processor import machine_key, processor
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import EngineUnavailableError, InputError

FAMILIES = (
    *("mobilenetv1", "mobilenetv2", "mobilenetv3", "tf_mobilenetv3", "mobilenetv4", "mobilenet_edgetpu"),
    *("efficientnet_lite", "tf_efficientnet_lite", "efficientnet_es", "tf_efficientnet_es", "efficientnet_b"),
    *("tf_efficientnet_b", "tf_efficientnetv2", "tinynet", "mnasnet", "semnasnet", "spnasnet", "fbnet"),
    *("hardcorenas", "mixnet", "tf_mixnet", "lcnet", "lcnetv2", "ghostnet", "ghostnetv2", "ghostnetv3"),
    *("repghostnet", "repvit", "repvgg", "fastvit", "mobileone", "edgenext", "mobilevit", "mobilevitv2"),
    *("efficientformer", "efficientformerv2", "efficientvit", "efficientvim", "levit", "regnetx", "regnety"),
    *("regnetz", "resnet", "rexnet", "rexnetr", "starnet", "shvit", "convnext", "convnextv2", "fasternet"),
    *("swiftformer", "hgnetv2", "inception_next", "iformer", "cpubone", "cspnext", "ese_vovnet19b", "gernet"),
    *("pvt_v2", "tiny_vit", "mambaout"),
)
MOST_PARAMETERS, MOST_MACS = 10e6, 1.2e9
SAME = ("_dist", "_distilled", "efficientnet_es_pruned", "repvit_m1", "repvit_m2", "mobilenetv3_rw", "_evos")
"""Endings of names whose network computes what another one does, or trains differently alone."""
TABLE = Path("edgepress/run/students.jsonl")
MOST_SECONDS = 1200
"""Time that a step may take."""
MOST_BYTES = 8 << 30
_BROKEN = 3
"""Exit code of a process that cannot import what it measures with."""
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
"""Those of a processor that INT8 is fast or slow by."""
TOOLS = (
    *("timm", "torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "onnx2tf", "litert-quantizer"),
    *("ai-edge-litert", "pnnx", "ncnn"),
)


def main() -> None:
    """Measure what is missing, or write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a data set; the sample's pictures serve")
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--only", default=",".join(MEASURE))
    parser.add_argument("--names", default="")
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--write", action="store_true", help="write the table, and measure nothing")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    names = options.names.split(",") if options.names else chosen(options.into)
    data = load_dataset(options.data, "train")
    header, known = table(options.table, len(data.labels))
    if options.write:
        write(options.into, header, known, options.table)
        return
    warm()

    for step in options.only.split(","):
        for name in names:
            if (options.into / name / f"{step}.json").is_file() or has(known, name, step):
                continue
            if step != "onnx" and not exports(options.into, known, name):
                continue
            began = time.monotonic()
            found = apart(partial(MEASURE[step], name, options.into / name, data))
            found["step_seconds"] = round(time.monotonic() - began, 1)
            file = options.into / name / f"{step}.json"
            file.with_suffix(".part").write_text(json.dumps(found))
            file.with_suffix(".part").replace(file)
            print(json.dumps({"name": name, "step": step, **found}), flush=True)


def warm() -> None:
    """Import what an export needs and fill its caches, once for all the processes, which are forks of this one."""
    import gc

    import torch

    import edgepress.compress.untrained
    import edgepress.deploy.build.export  # noqa: F401
    from edgepress.deploy.build.traced import traced

    torch.set_num_threads(1)
    traced(torch.nn.Conv2d(3, 4, 3).eval(), torch.zeros(2, 3, 8, 8), ["y"], "a convolution")
    gc.freeze()


def table(path: Path, labels: int) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The header of the table that is measured here, and the rows of the present one, by name, if they belong to it."""
    flags = machine_key().instructions.split()
    header: dict[str, Any] = {
        "measured": "",
        "processor": processor(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "size": SIZE,
        "labels": labels,
        "tools": {name: version(name) for name in TOOLS},
    }
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    if not lines:
        return header, {}
    other = [key for key in ("processor", "size", "labels", "tools") if lines[0].get(key) != header[key]]
    if other:
        print(f"{path} was measured with other {', '.join(other)}: nothing of it is taken over", flush=True)
        return header, {}
    shared = [name for name in lines[0]["instructions"] if name in header["instructions"]]
    return lines[0] | {"instructions": shared}, {line["name"]: line for line in lines[1:]}


def has(known: dict[str, dict[str, Any]], name: str, step: str) -> bool:
    """Whether the table has a step of a backbone, or that it has none because the backbone cannot be exported."""
    line = known.get(name, {})
    return "error" in line or line.get("runtimes", {}).get(step) is not None


def exports(into: Path, known: dict[str, dict[str, Any]], name: str) -> bool:
    """Whether a backbone is known to export."""
    measured = read(into / name / "onnx.json")
    return "error" not in measured if measured is not None else "runtimes" in known.get(name, {})


def write(into: Path, header: dict[str, Any], known: dict[str, dict[str, Any]], out: Path) -> None:
    """Write the table: a header, and a row per backbone that was tried."""
    rows, days = dict(known), header["measured"].split(" to ") if known else []
    for folder in sorted(one for one in into.iterdir() if one.is_dir()):
        found = {step: read(folder / f"{step}.json") for step in MEASURE}
        days += [day(folder / f"{step}.json") for step in MEASURE if found[step] is not None]
        if found["onnx"] is not None:
            rows[folder.name] = row(folder.name, found["onnx"])
        if "runtimes" in rows.get(folder.name, {}):
            new = {step: runtime_facts(one) for step, one in found.items() if one is not None}
            rows[folder.name]["runtimes"] |= new
    if not rows:
        raise SystemExit(f"{into}: nothing was measured")
    header = header | {"measured": " to ".join(dict.fromkeys((min(days), max(days))))}
    lines = "".join(json.dumps(line) + "\n" for line in (header, *(rows[name] for name in sorted(rows))))
    part = out.with_suffix(".part")
    part.write_text(lines, encoding="utf-8")
    part.replace(out)
    print(json.dumps({step: sum(has(rows, name, step) for name in rows) for step in MEASURE}))


def day(file: Path) -> str:
    return datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).date().isoformat()


def row(name: str, base: dict[str, Any]) -> dict[str, Any]:
    """A line of the table without what was measured in the runtimes; see `StudentFacts`."""
    about: dict[str, Any] = {"name": name, "family": family_of(name)}
    if "error" in base:
        return {**about, "error": brief(base["error"])}
    facts: dict[str, Any] = {key: base[key] for key in ("parameters", "macs", "apart", "fp32_ms") if key in base}
    return {**about, **facts, "runtimes": dict.fromkeys(MEASURE)}


def runtime_facts(found: dict[str, Any]) -> dict[str, Any]:
    """What a step found; see `RuntimeFacts`."""
    if "error" in found:
        return {"error": brief(found["error"])}
    kept: dict[str, Any] = {key: found[key] for key in ("fp32_bytes", "int8_bytes", "sqnr") if key in found}
    for key in ("fp32_of_onnx", "int8_of_fp32"):
        if key in found:
            kept[key] = dict(zip(("ratio", "low", "high"), found[key], strict=True))
    return kept | ({"int8_error": brief(found["int8_error"])} if "int8_error" in found else {})


def brief(error: str) -> str:
    """An error without the path of the file that it is about."""
    return re.sub(r"(^|(?<=\s))/\S*/", "", error).removeprefix("model.onnx: ")[:200]


def read(file: Path) -> dict[str, Any] | None:
    return json.loads(file.read_text()) if file.is_file() else None


def family_of(name: str) -> str | None:
    """The longest of the families that a name begins with."""
    return max((one for one in FAMILIES if name.startswith(one)), key=len, default=None)


def chosen(into: Path) -> list[str]:
    """The backbones by the rule above, the smallest of every family first."""
    kept = into / "chosen.json"
    if not kept.is_file():
        kept.write_text(json.dumps(list(sized())))
    by_family: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for name, parameters, macs in json.loads(kept.read_text()):
        if parameters <= MOST_PARAMETERS and macs <= MOST_MACS and not name.endswith(SAME):
            by_family[str(family_of(name))].append((macs, name))
    places = [
        (place, family, name) for family, found in by_family.items() for place, (_, name) in enumerate(sorted(found))
    ]
    return [name for _, _, name in sorted(places)]


def sized() -> Iterator[tuple[str, float, float]]:
    """Names of the families, with their parameters and multiply-adds; nothing is computed on torch's meta device."""
    import timm
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    for name in timm.list_models():
        if family_of(name) is None:
            continue
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=0).eval()
        parameters = sum(one.numel() for one in model.parameters())
        if parameters > MOST_PARAMETERS:
            continue
        fixed = model.default_cfg["input_size"][-1] if model.default_cfg.get("fixed_input_size") else 224
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.forward_features(torch.zeros(1, 3, fixed, fixed, device="meta"))
        yield name, parameters, counter.get_total_flops() / 2


def apart(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a measurement gives, or why it fails; a fork of this process runs it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.alarm(MOST_SECONDS)  # not RLIMIT_CPU: under it Linux counts the processor's time in ticks of 4 ms
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        try:
            found = measure()
        except (InputError, EngineUnavailableError) as error:
            found = {"error": str(error)}
        except ImportError:  # of what measures, not of what is measured
            traceback.print_exc()
            os._exit(_BROKEN)
        except Exception as error:  # whatever a converter raises is a result of this benchmark
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(found))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == _BROKEN:
        raise SystemExit("a module cannot be imported: nothing was recorded")
    if said:
        return json.loads(said)
    return {"error": f"ended by {signal.Signals(os.WTERMSIG(status)).name}"}


if __name__ == "__main__":
    main()
