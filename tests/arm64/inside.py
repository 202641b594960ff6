"""What runs on each processor, emulated or this one: `inside.py machine OUT PICTURES`, or
`inside.py engines OUT DATA SPLIT BUDGET BUNDLE...`.

It is a program of its own, because the system inside has edgepress's base install and the runtimes only.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np


def machine(out: Path, pictures: Path) -> dict[str, Any]:
    """What edgepress reads of the machine, and pixels: pictures decoded, and scaled in every way."""
    from edgepress.deploy.machine.doctor import diagnose
    from edgepress.deploy.machine.processor import machine_key
    from edgepress.deploy.machine.state import read_state
    from edgepress.multilabel.pictures import read_picture
    from edgepress.multilabel.resampling import Interpolation, resample

    files = sorted(path for path in pictures.iterdir() if path.is_file())
    found = {f"decoded {file.name}": read_picture(file) for file in files}
    for file in files:
        if file.name.count(".") == 1 and file.suffix == ".jpg" and "-" not in file.name:
            whole = found[f"decoded {file.name}"]
            small = resample(whole, 64, 64, "area-cubic")
            for kind in get_args(Interpolation):
                for side in (96, 60):
                    found[f"{kind}, shrunk {file.name} {side}"] = resample(whole, side, side, kind)
                for side in (96, 224):
                    found[f"{kind}, grown {file.name} {side}"] = resample(small, side, side, kind)
    names = list(found)
    np.savez(out / "pixels.npz", **{f"p{row}": found[name] for row, name in enumerate(names)})
    return {
        "doctor": diagnose().as_dict(),
        "state": asdict(read_state()),
        "key": asdict(machine_key()),
        "pictures": len(files),
        "pixels": names,
    }


def engine(out: Path, bundle: Path, data: Path, split: str, budget: str) -> dict[str, Any]:
    """Open an engine with its golden check, answer a split, and judge the answers as `verify` does."""
    from edgepress.deploy.engines import open_engine
    from edgepress.deploy.engines.passport import misfits
    from edgepress.deploy.verify.verification import verify
    from edgepress.multilabel.bundle import Bundle
    from edgepress.multilabel.datasets import load_dataset
    from edgepress.multilabel.errors import EngineUnavailableError

    opened = Bundle.open(bundle)
    passport = [str(one) for one in misfits(opened)]
    try:
        with open_engine(opened):
            pass  # it has answered the golden pictures
    except EngineUnavailableError as error:
        return {"not_run": str(error), "passport": passport}
    found = verify(opened, load_dataset(data, split), budget=float(budget))
    assert found.logits is not None
    np.savez(out / f"{bundle.name}.npz", logits=found.logits, decisions=opened.decisions.decide(found.logits))
    return {"passport": passport, "verify": found.as_dict()}


def main(arguments: list[str]) -> None:
    """Write what was found, of the machine or of each engine, into a file of the folder OUT when it is complete."""
    what, out = arguments[0], Path(arguments[1])
    if what == "machine":
        _write(out, "machine", machine(out, Path(arguments[2])))
        return
    data, split, budget, *bundles = arguments[2:]
    for bundle in map(Path, bundles):
        _write(out, bundle.name, engine(out, bundle, Path(data), split, budget))


def _write(out: Path, name: str, found: dict[str, Any]) -> None:
    part = out / f"{name}.part"
    part.write_text(json.dumps(found, indent=1))
    part.rename(out / f"{name}.json")


if __name__ == "__main__":
    main(sys.argv[1:])
