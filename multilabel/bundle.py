"""Bundle: a finished artifact on disk, and the only thing that one stage hands to the next.

A bundle is a folder with a model file and `manifest.json`. The manifest is written last and the folder is renamed
into place, so a manifest means complete. It holds the sha256 of every file and its own digest, so that a changed
byte anywhere is refused before anything is loaded.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.durable import give_name, make_folder
from edgepress.multilabel.errors import InputError, as_path, shown
from edgepress.multilabel.facts import Facts, Parent, Role
from edgepress.multilabel.folder_kinds import bundles_beside, holds_pictures, layout_of
from edgepress.multilabel.golden_answers import ANSWERS, is_proof, store_answers
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.manifest import FORMAT, MANIFEST, Kind, Manifest, Precision, role_of
from edgepress.multilabel.preprocess import Preprocess

log = logging.getLogger("edgepress")

_MAX_MANIFEST_BYTES = 256 * 1024 * 1024
"""Ten thousand labels with isotonic calibrators take tens of megabytes."""


@dataclass(frozen=True)
class Bundle:
    """A complete bundle whose every byte was checked when it was opened."""

    path: Path
    manifest: Manifest
    digest: str

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def kind(self) -> Kind:
        return self.manifest.kind

    @property
    def labels(self) -> LabelSpace:
        return LabelSpace(self.manifest.labels)

    @property
    def preprocess(self) -> Preprocess:
        return self.manifest.preprocess

    @property
    def decisions(self) -> Decisions:
        """What the logits mean; the sigmoid and 0.5 for a bundle for which nothing was fitted."""
        return self.manifest.decisions or Decisions.plain(self.manifest.labels)

    @property
    def model_path(self) -> Path:
        return self.path / self.manifest.model

    @property
    def model_sha256(self) -> str:
        return self.manifest.files[self.manifest.model]

    @property
    def model_digest(self) -> str:
        """sha256 of what engines are built from: the files, labels and preprocessing, without the decisions, and so
        without the answers to the golden pictures, which follow from them."""
        built_from = {"kind", "precision", "model", "labels", "preprocess", "files"}
        fields = self.manifest.model_dump(mode="json", include=built_from)
        return inputs_hash({**fields, "files": {n: h for n, h in fields["files"].items() if n != ANSWERS}})

    def read(self, name: str) -> bytes:
        """Return a file's bytes after checking them, so that a runtime gets what the manifest says even when another
        bundle was copied over this one after it was opened.

        Raises:
            InputError: the file is gone or has changed; the message says which.
        """
        file = self.path / name
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            raise InputError(f"{file}: gone since the bundle was opened; open it again") from None
        if hashlib.sha256(data).hexdigest() != self.manifest.files[name]:
            raise InputError(f"{file}: replaced since the bundle was opened; open it again")
        return data

    @property
    def size_bytes(self) -> int:
        """Size of the model in bytes: what a device stores, without the reference and the golden pictures."""
        return sum((self.path / name).stat().st_size for name in self.manifest.files if not is_proof(name))

    @property
    def as_parent(self) -> Parent:
        return Parent(name=self.name, digest=self.digest)

    @classmethod
    def open(cls, path: str | Path, kind: Kind | None = None) -> Bundle:
        """Open a bundle and check every byte of it.

        Raises:
            InputError: there is no bundle, its manifest cannot be read, a file is missing or changed, or its kind
                is not the one asked for; the message names the file.
        """
        folder = as_path(path, "the bundle")
        manifest, digest = _read_manifest(folder)
        for name, expected in manifest.files.items():
            file = folder / name
            if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
                raise InputError(_missing(folder, file, digest))
            if file_sha256(file) != expected:
                raise InputError(f"{file}: changed since the bundle was made (sha256 differs); copy the bundle again")
        if manifest.model not in manifest.files:
            raise InputError(f"{folder / MANIFEST}: the model {manifest.model!r} is not among the bundle's files")
        if kind is not None and manifest.kind != kind:
            export = f"; export it first: edgepress export {folder} --data DIR --out ONNX"
            first = export if (manifest.kind, kind) == ("torch", "onnx") else ""
            raise InputError(f"{folder}: a bundle of kind {manifest.kind}; expected {kind}{first}")
        return cls(folder, manifest, digest)

    def open_parent(self) -> Bundle | None:
        """Open the bundle that this one was made from, in the folder beside it; None where it is missing or differs.

        Raises:
            InputError: it is there but damaged.
        """
        parent = self.manifest.parent
        if parent is None:
            return None
        folder = self.path.resolve().parent / PurePosixPath(parent.name).name
        if not (folder / MANIFEST).is_file():
            return None
        bundle = Bundle.open(folder)
        return bundle if bundle.digest == parent.digest else None


def up_to_date(path: Path, inputs: str) -> Bundle | None:
    """Return the complete bundle at the path if it was made from exactly these inputs; None otherwise.

    What is there and is not kept is told, because the new bundle replaces it, which may take hours.
    """
    if not (path / MANIFEST).is_file():
        return None
    try:
        bundle = Bundle.open(path)
    except InputError as error:
        log.info("it is made again and replaced: %s", error)  # rather than trusted
        return None
    if bundle.manifest.inputs != inputs:
        log.info(
            "%s: was made from something else, or with other settings: it is replaced when this is done; name another "
            "folder to keep both",
            path,
        )
        return None
    log.info("%s: unchanged, kept", path)
    return bundle


@contextlib.contextmanager
def write_bundle(path: Path, **fields: Any) -> Iterator[Path]:
    """Make a bundle of these fields of its manifest: yields an empty folder for its files.

    When the block ends without an error, the files are hashed, the manifest is written and the folder is moved into
    place, where it replaces an older bundle. After an error nothing is left behind.

    Raises:
        InputError: see `require_replaceable`.
    """
    path = Path(path)
    role = role_of(fields["kind"], fields.get("facts", Facts()))
    require_replaceable(path, fields["kind"], fields["precision"], role)
    make_folder(path.parent)
    partial = path.parent / f".{path.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        store_answers(partial, fields.get("decisions") or Decisions.plain(fields["labels"]))
        files = {
            file.relative_to(partial).as_posix(): file_sha256(file)
            for file in sorted(partial.rglob("*"))
            if file.is_file()
        }
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        manifest = Manifest(files=files, created=now, **fields)
        assert manifest.model in files, f"the model {manifest.model} was not written"
        (partial / MANIFEST).write_bytes(_serialise(json.loads(manifest.model_dump_json())))
        _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def rewrite_bundle(bundle: Bundle, out: Path, **changes: Any) -> Bundle:
    """Write a bundle with the same files and other fields in its manifest; `out` may be the bundle's own folder.

    Raises:
        InputError: see `require_replaceable`.
    """
    kept = {name: value for name, value in bundle.manifest if name not in ("files", "created")}
    with write_bundle(out, **{**kept, **changes}) as folder:
        for name in bundle.manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / name, folder / name)
    return Bundle.open(out)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader sees either the old or the new file in full,
    even after a power failure.

    The temporary name is always the same, so the next call overwrites what a killed process left. After an error
    (such as a full disk) nothing is left behind.
    """
    make_folder(path.parent)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
        give_name(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def inputs_hash(inputs: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of everything that an artifact is made from."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _serialise(fields: dict[str, Any]) -> bytes:
    """The manifest's exact bytes: its fields, and the sha256 of their canonical JSON."""
    return json.dumps({**fields, "digest": inputs_hash(fields)}, indent=2, ensure_ascii=False).encode() + b"\n"


def _read_manifest(folder: Path) -> tuple[Manifest, str]:
    file = folder / MANIFEST
    if folder.is_file() and (folder.parent / MANIFEST).is_file():
        raise InputError(f"{folder}: is a file of a bundle; give the bundle's folder: {folder.parent}")
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "no such folder"
        raise InputError(f"{folder}: {what}; expected a bundle: a folder that edgepress made")
    if not file.is_file():
        inside = sorted(path.parent.name for path in folder.glob(f"[!.]*/{MANIFEST}"))
        expected = f"one of the bundles in it: {shown(inside, 12)}" if inside else "a folder that edgepress made"
        if not inside and holds_pictures(folder):
            expected += " in this place; it holds pictures, which are named by --data, or behind the bundle by predict"
        raise InputError(f"{folder}: not a finished bundle (no {MANIFEST}); expected {expected}")
    if file.stat().st_size > _MAX_MANIFEST_BYTES:
        raise InputError(f"{file}: larger than any manifest; expected a folder that edgepress made")
    data = file.read_bytes()
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise TypeError("it holds no object")
        digest = fields.pop("digest")
        _require_format(file, fields)
        manifest = Manifest.model_validate_json(json.dumps(fields))
        LabelSpace(manifest.labels)
    except InputError:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the manifest"
        reason = f"{where}: {first['msg'].removeprefix('Value error, ')}"
        raise InputError(
            f"{file}: not a manifest that edgepress {version('edgepress')} reads ({reason[:200]}); {_mend(fields)}"
        ) from None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: not a manifest this version reads ({reason}); make the bundle again") from None
    # The comparison is byte for byte, so that not even a changed space passes.
    if digest != inputs_hash(fields) or data != _serialise(fields):
        raise InputError(f"{file}: changed since the bundle was made (its digest differs); copy the bundle again")
    return manifest, digest


def _missing(folder: Path, file: Path, digest: str) -> str:
    """What to say about a file that the manifest names and that is not there."""
    layout = layout_of(folder)
    if layout is None:
        return f"{file}: missing from the bundle; make the bundle again or copy it whole"
    beside = bundles_beside(folder, digest)
    which = f"{beside[0]}" if beside else f"whose digest is {digest[:12]}"
    return (
        f"{folder}: is what edgepress export --layout {layout} wrote for another program, and no bundle; give the "
        f"bundle that it was made from, {which}"
    )


def _require_format(file: Path, fields: dict[str, Any]) -> None:
    number = fields.get("format")
    if isinstance(number, int) and number > FORMAT:
        raise InputError(
            f"{file}: a bundle of format {number}; edgepress {version('edgepress')} reads {FORMAT}; {_mend(fields)}"
        )


def _mend(fields: dict[str, Any]) -> str:
    """What to do about a manifest that this version cannot read, depending on the version that wrote it."""
    tools = fields.get("tools")
    wrote = tools.get("edgepress") if isinstance(tools, dict) else None
    if isinstance(wrote, str) and re.fullmatch(r"\d[\w.+]{0,30}", wrote) and wrote != version("edgepress"):
        return f"install edgepress {wrote}, which wrote it, or newer, or make the bundle again with this version"
    return "make the bundle again"


def named_digest(file: Path) -> object:
    """The digest that a manifest names; None if the file is no manifest. Opening the bundle checks the digest."""
    try:
        fields = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None  # a damaged neighbour is no reason to stop
    return fields.get("digest") if isinstance(fields, dict) else None


def require_replaceable(path: Path, kind: Kind, precision: Precision, role: Role | None = None) -> None:
    """Allow only an empty folder, or a bundle of the same kind, precision and role, to be replaced.

    A person's own files must never be removed, and `export` must not overwrite a teacher that took a day to train.

    Args:
        role: role of the new bundle, if it has one.

    Raises:
        InputError: the path holds something else.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file; expected a folder's name for the bundle")
    if path.is_dir() and not (path / MANIFEST).is_file() and any(path.iterdir()):
        raise InputError(f"{path}: a folder with other files in it; name a new folder for the bundle")
    if not (path / MANIFEST).is_file():
        return
    try:
        found, _ = _read_manifest(path)
    except InputError:
        return  # damaged: nothing in it can be relied on, so it is made again, as in `up_to_date`
    standing = _describe(found.kind, found.precision, found.role)
    made = _describe(kind, precision, role)
    if standing != made:
        raise InputError(f"{path}: is {standing}, and {made} would replace it; name another folder, or remove that one")


def _describe(kind: Kind, precision: Precision, role: Role | None) -> str:
    return f"a {role}" if role else f"a bundle of kind {kind} ({precision})"


def _replace_folder(new: Path, path: Path) -> None:
    old = path.parent / f".{path.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    give_name(new, path)
    shutil.rmtree(old, ignore_errors=True)  # only now, because the new bundle is certain to be in place
