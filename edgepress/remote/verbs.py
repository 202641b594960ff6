"""--host: do a verb's work on another machine, and bring what it found back.

There are two connections: one asks for the other side's version, one carries a tar of the bundle (and pictures) to
`edgepress.remote.receive` there and its answer back.

The answer is JSON of an edgepress with our major and minor version. It is checked here, once, and what leaves this
module is typed. Within a minor version a record may gain fields that have defaults: one that only the other side knows
is passed over, and one that only this side knows has its default.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from edgepress.deploy.bench.against import Timed
from edgepress.deploy.machine.doctor import Diagnosis
from edgepress.deploy.verify.golden import GoldenVerification
from edgepress.deploy.verify.verification import Verification
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.errors import InputError, first_mistake
from edgepress.multilabel.judgement import NotRun
from edgepress.multilabel.shards import write_shards
from edgepress.remote.host import Host, exchange, explain, how_to_install, last_object, require_edgepress

log = logging.getLogger("edgepress")
_Found = TypeVar("_Found")

DATA = "data"
"""Folder of the pictures on the other machine."""
OTHER = "other"
"""Folder of a second bundle there, because it may have the first one's name."""


@dataclass(frozen=True, kw_only=True)
class FoundThere(Generic[_Found]):
    """What a verb found on another machine."""

    found: _Found
    host: str
    rebuilt: bool
    """Whether the engine was built again there."""
    code: int
    """Exit code: 0, or 1 for a gate that failed."""

    @property
    def place(self) -> dict[str, Any]:
        """Where it was found, as the first keys of the verb's JSON."""
        return {"host": self.host, "rebuilt": self.rebuilt}


class _Received(BaseModel):
    """What `edgepress.remote.receive` prints."""

    code: int
    rebuilt: bool
    record: dict[str, Any]
    """The verb's JSON."""


def bench_there(
    host: Host,
    bundle: Bundle,
    arguments: Sequence[str] = (),
    data: MultiLabelDataset | None = None,
    other: Bundle | None = None,
) -> FoundThere[Timed | NotRun]:
    """Run `edgepress bench` on a bundle on another machine; an engine that does not fit there is built again from its
    ONNX.

    Args:
        arguments: what follows the bundle's name.
        data: pictures to take along.
        other: a bundle to take along, into the folder `OTHER` there.

    Raises:
        InputError: no connection, no edgepress there, one of another version, or an error that stopped the verb there;
            one line that names the host. Nothing is left behind there.
    """
    return _found_there(host, Timed.from_dict, _run_there(host, "bench", bundle, arguments, data, other))


def verify_there(
    host: Host, bundle: Bundle, arguments: Sequence[str], data: MultiLabelDataset
) -> FoundThere[Verification | NotRun]:
    """Run `edgepress verify` on a bundle on another machine; see `bench_there`."""
    return _found_there(host, Verification.from_dict, _run_there(host, "verify", bundle, arguments, data))


def verify_golden_there(
    host: Host, bundle: Bundle, arguments: Sequence[str]
) -> FoundThere[GoldenVerification | NotRun]:
    """Run `edgepress verify --golden` on a bundle on another machine; see `bench_there`."""
    return _found_there(host, GoldenVerification.from_dict, _run_there(host, "verify", bundle, arguments, None))


def doctor_there(host: Host) -> Diagnosis:
    """What `edgepress doctor` says on another machine.

    Raises:
        InputError: as `bench_there`.
    """
    require_edgepress(host)
    code, out, said = exchange(host, host.command("-m", "edgepress", "doctor", "--json"), ())
    if code not in (0, 1):
        raise InputError(explain(host, code, said))
    return _checked(host, Diagnosis.from_dict, last_object(host, out))


def as_flags(values: Mapping[str, Any]) -> list[str]:
    """Options of a verb as words for its command line; None and False are left out, and lists are joined."""
    words = []
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not None and value is not False:
            words.append(f"{flag}={','.join(map(str, value)) if isinstance(value, list | tuple) else value}")
    return words


def _run_there(
    host: Host,
    verb: str,
    bundle: Bundle,
    arguments: Sequence[str],
    data: MultiLabelDataset | None,
    other: Bundle | None = None,
) -> _Received:
    require_edgepress(host)
    words = ["-m", "edgepress.remote.receive", verb, bundle.name, *arguments, "--json", "--rebuild"]
    with tempfile.TemporaryDirectory(prefix="edgepress-") as scratch:
        if data is not None:
            words += [f"--data={DATA}", f"--split={data.split}"]
            write_shards([data], Path(scratch) / DATA, shard_bytes=256_000_000)
        files = [*_files(bundle), *(_files(other, f"{OTHER}/") if other else ()), *_below(Path(scratch) / DATA, DATA)]
        size = sum(path.stat().st_size for path, _ in files)
        log.info("%s: sending %s, %.1f MB", host.name, bundle.name, size / 1e6)
        code, out, said = exchange(host, host.command(*words), files)
    if code:
        raise InputError(explain(host, code, said))
    return _checked(host, _Received.model_validate, last_object(host, out))


def _found_there(
    host: Host, read: Callable[[Mapping[str, Any]], _Found], received: _Received
) -> FoundThere[_Found | NotRun]:
    record = received.record
    ran = record.get("verdict") != "not run"
    found = _checked(host, read, record) if ran else _checked(host, NotRun.model_validate, record)
    return FoundThere(found=found, host=host.name, rebuilt=received.rebuilt, code=received.code)


def _checked(host: Host, read: Callable[[Mapping[str, Any]], _Found], record: Mapping[str, Any]) -> _Found:
    try:
        return read(record)
    except ValidationError as error:
        raise InputError(
            f"{host.name}: its edgepress answers what this one does not read ({first_mistake(error)}); expected the "
            f"same version there: {how_to_install(host)}"
        ) from None


def _files(bundle: Bundle, under: str = "") -> list[tuple[Path, str]]:
    """The files of a bundle and of the ONNX bundles beside it that it was made from, with their names there."""
    found = [(bundle.path / file, f"{under}{bundle.name}/{file}") for file in (*bundle.manifest.files, MANIFEST)]
    parent = bundle.open_parent()
    return found if parent is None or parent.manifest.kind != "onnx" else [*found, *_files(parent, under)]


def _below(folder: Path, name: str) -> list[tuple[Path, str]]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path, f"{name}/{path.relative_to(folder).as_posix()}") for path in found]
