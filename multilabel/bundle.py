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
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.durable import give_name, make_folder
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess

log = logging.getLogger("edgepress")

Kind = Literal["torch", "onnx", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]
Role = Literal["teacher", "student"]
MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parent(_Frozen):
    """The bundle this one was made from: its folder's name, beside this one, and its digest."""

    name: str
    digest: str


class Calibration(_Frozen):
    """What an INT8 model was calibrated on, and how."""

    pictures: int
    sha256: str
    """sha256 over the sorted content hashes of the pictures."""
    split: str
    method: str
    """How ranges are set and what was done to the float model before, by commas."""
    kept_float: tuple[str, ...] = ()
    """Names of the convolutions and matrix products that the graph has in float."""
    convolutions: int | None = None
    """Of bundles made before `products` were counted."""
    products: int | None = None
    """How many convolutions and matrix products INT8 is tried on."""
    val_mAP: float | None = None
    val_mAP_float: float | None = None
    """Of the fp32 model."""
    budget: float | None = None
    """Points of val mAP that INT8 may cost."""
    choice: str | None = None
    """How the pictures were chosen."""
    missing_labels: tuple[str, ...] = ()
    """Labels that none of the pictures shows."""
    weight_bits: int = 8
    """7 for x86 processors without VNNI, whose products saturate."""
    int8_share: float | None = None
    """Share of multiply-accumulates in INT8."""
    latency: dict[str, float] | None = None
    """Time of a call at batch 1 as a multiple of the fp32 model's in the same runtime: ratio, low and high (95 %)."""
    measured_on: str | None = None
    """Processor that latency was measured on."""
    planned: int | None = None
    """Candidates that the search would have tried without a time limit."""
    tried: tuple[dict[str, Any], ...] = ()
    """Every candidate: name, val_mAP, drop_points, sqnr, latency, int8_share, kept (nodes left in float)."""
    sensitivity: tuple[dict[str, Any], ...] = ()
    """Every node, the worst first: node, sqnr (dB of the logits with only it in INT8), macs (share)."""


class Manifest(_Frozen):
    """What a bundle says of itself."""

    format: Literal[1] = 1
    kind: Kind
    precision: Precision
    model: str
    """Name of the file that the runtime opens."""
    files: dict[str, str]
    """sha256 of every file but the manifest."""
    labels: tuple[str, ...]
    preprocess: Preprocess
    thresholds: tuple[float, ...] | None = None
    """Thresholds on the sigmoid, of bundles made before there were `decisions`; 0.5 where there are none either."""
    decisions: Decisions | None = None
    """Calibrated probabilities and a threshold a label; see `Bundle.decisions`."""
    parent: Parent | None = None
    opset: int | None = None
    calibration: Calibration | None = None
    built_for: dict[str, str] | None = None
    """What a compiled engine runs on: runtime, compute capability, device."""
    architecture: dict[str, Any] | None = None
    """What builds the torch module that the weights fit."""
    facts: dict[str, Any] = {}
    """What was measured while it was made, e.g. val mAP by epoch."""
    tools: dict[str, str] = {}
    """Versions of the packages that made it."""
    inputs: str = ""
    """sha256 of everything it was made from; a stage whose inputs are unchanged is not run again."""
    created: str = ""

    @property
    def role(self) -> Role | None:
        """What a torch model was trained as; None of any other kind."""
        return _role(self.kind, self.facts, self.parent)

    @model_validator(mode="after")
    def _one_threshold_a_label(self) -> Manifest:
        if self.thresholds is not None and (
            len(self.thresholds) != len(self.labels) or not all(0 <= value <= 1 for value in self.thresholds)
        ):
            raise ValueError(f"thresholds: expected {len(self.labels)} numbers in [0, 1], one a label")
        return self

    @model_validator(mode="after")
    def _decide_its_labels(self) -> Manifest:
        if self.decisions is not None and (self.thresholds is not None or self.decisions.labels != self.labels):
            raise ValueError("decisions: expected the manifest's labels, in its order, and no thresholds beside")
        return self

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or name == MANIFEST or not path.parts:
                raise ValueError(f"the file name {name!r} leaves the bundle")
        return files


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
    def labels(self) -> LabelSpace:
        return LabelSpace(self.manifest.labels)

    @property
    def preprocess(self) -> Preprocess:
        return self.manifest.preprocess

    @property
    def decisions(self) -> Decisions:
        """What its logits mean; of a bundle for which nothing was fitted the sigmoid and its thresholds, or 0.5."""
        return self.manifest.decisions or Decisions.plain(self.manifest.labels, self.manifest.thresholds)

    @property
    def model_path(self) -> Path:
        return self.path / self.manifest.model

    @property
    def size_bytes(self) -> int:
        """Bytes of the model itself: what a device stores, without the reference beside it."""
        return sum((self.path / name).stat().st_size for name in self.manifest.files if name != "reference.npz")

    @property
    def as_parent(self) -> Parent:
        return Parent(name=self.name, digest=self.digest)

    @classmethod
    def open(cls, path: str | Path, kind: Kind | None = None) -> Bundle:
        """Open a bundle and check every byte of it.

        Raises:
            InputError: no bundle there, an unreadable manifest, a file that is missing or changed, or another kind
                than the one asked for; names the file.
        """
        folder = Path(path)
        manifest, digest = _read_manifest(folder)
        for name, expected in manifest.files.items():
            file = folder / name
            if not file.is_file() or not file.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"{file}: missing from the bundle; make the bundle again or copy it whole")
            if file_sha256(file) != expected:
                raise InputError(f"{file}: changed since the bundle was made (sha256 differs); copy the bundle again")
        if manifest.model not in manifest.files:
            raise InputError(f"{folder / MANIFEST}: the model {manifest.model!r} is not among the bundle's files")
        if kind is not None and manifest.kind != kind:
            raise InputError(f"{folder}: a bundle of kind {manifest.kind}; expected {kind}")
        return cls(folder, manifest, digest)

    def open_parent(self) -> Bundle | None:
        """The bundle this one was made from, where it stands beside this one; None where another or none does.

        Raises:
            InputError: it stands there but is damaged.
        """
        parent = self.manifest.parent
        if parent is None:
            return None
        folder = self.path.resolve().parent / PurePosixPath(parent.name).name
        if not (folder / MANIFEST).is_file():
            return None
        bundle = Bundle.open(folder)
        return bundle if bundle.digest == parent.digest else None


def is_current(path: Path, inputs: str) -> bool:
    """Does a whole bundle made from exactly these inputs stand there already?"""
    if not (path / MANIFEST).is_file():
        return False
    try:
        return Bundle.open(path).manifest.inputs == inputs
    except InputError:
        return False  # incomplete or damaged: it is made again, not trusted


@contextlib.contextmanager
def write_bundle(path: Path, **fields: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Make a bundle: yields an empty folder to write files into and the manifest's fields, which may be added to.

    On leaving without an error the files are hashed, the manifest is written and the folder takes its place (an older
    bundle there is replaced). On an error nothing stays behind.

    Raises:
        InputError: see `require_replaceable`.
    """
    path = Path(path)
    role = _role(fields["kind"], fields.get("facts", {}), fields.get("parent"))
    require_replaceable(path, fields["kind"], fields["precision"], role)
    if (path / MANIFEST).is_file():
        log.info("%s: what it was made from, or a setting, has changed; it is made again and replaced", path)
    make_folder(path.parent)
    partial = path.parent / f".{path.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial, fields
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


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name and rename it, so that a reader sees the old or the new one, whole, also
    after a loss of power.

    The temporary name is always the same: what a killed process left there is written over by the next. On an error
    (a full disk) nothing stays behind.
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
    """sha256 of the canonical JSON of whatever an artifact is made from."""
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
    if not file.is_file():
        inside = sorted(path.parent.name for path in folder.glob(f"[!.]*/{MANIFEST}"))[:12]
        expected = f"one of the bundles in it: {', '.join(inside)}" if inside else "a folder that edgepress made"
        raise InputError(f"{folder}: not a finished bundle (no {MANIFEST}); expected {expected}")
    if file.stat().st_size > _MAX_MANIFEST_BYTES:
        raise InputError(f"{file}: larger than any manifest; expected a folder that edgepress made")
    data = file.read_bytes()
    try:
        fields = json.loads(data)
        digest = fields.pop("digest")
        manifest = Manifest.model_validate_json(json.dumps(fields))
        LabelSpace(manifest.labels)
    except (ValidationError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file}: not a manifest this version reads ({reason}); make the bundle again") from None
    # Byte for byte, so that not even a changed space passes.
    if digest != inputs_hash(fields) or data != _serialise(fields):
        raise InputError(f"{file}: changed since the bundle was made (its digest differs); copy the bundle again")
    return manifest, digest


def require_replaceable(path: Path, kind: Kind, precision: Precision, role: Role | None = None) -> None:
    """Only an empty folder or a bundle of the same kind, precision and role is ever replaced.

    A person's files are not ours to remove, and a teacher that took a day is not what `export` was to write over.

    Args:
        role: of a bundle of kind torch.

    Raises:
        InputError: something else stands there.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file stands there; expected a folder's name for the bundle")
    if path.is_dir() and not (path / MANIFEST).is_file() and any(path.iterdir()):
        raise InputError(f"{path}: a folder with other files in it; name a new folder for the bundle")
    if not (path / MANIFEST).is_file():
        return
    try:
        found, _ = _read_manifest(path)
    except InputError:
        return  # damaged: it says nothing that holds, and is made again as in `is_current`
    standing = _describe(found.kind, found.precision, found.role)
    made = _describe(kind, precision, role)
    if standing != made:
        raise InputError(
            f"{path}: {standing} stands there and {made} was to be written; name another folder, or remove that one"
        )


def _role(kind: Kind, facts: Mapping[str, Any], parent: Parent | None) -> Role | None:
    if kind != "torch":
        return None
    # Older bundles do not say it; of these a student always had a teacher.
    return facts.get("role", "student" if parent else "teacher")


def _describe(kind: Kind, precision: Precision, role: Role | None) -> str:
    return f"a {role}" if role else f"a bundle of kind {kind} ({precision})"


def _replace_folder(new: Path, path: Path) -> None:
    old = path.parent / f".{path.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    give_name(new, path)
    shutil.rmtree(old, ignore_errors=True)  # only now, when the new one is sure to be found
