"""What the search for an INT8 graph learns of each candidate: its answers on val and its time, here or on a device."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from edgepress.calibration.decide.thresholds import decisions_again
from edgepress.calibration.int8.search import Score
from edgepress.deploy.bench.against import PICTURES, compare_latency
from edgepress.deploy.build.compile import IR, ONNX
from edgepress.deploy.build.litert import TFLITE
from edgepress.deploy.build.ncnn import PARAM
from edgepress.deploy.engines import open_engine
from edgepress.deploy.engines.golden import ALLOWED_DIFF
from edgepress.deploy.engines.table import EngineSpec
from edgepress.deploy.machine.device import describe_machine
from edgepress.deploy.verify.verification import predict_pixels
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset
from edgepress.multilabel.decisions import Decisions, flips_per_yes
from edgepress.multilabel.durable import sync
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.manifest import Kind, Precision
from edgepress.multilabel.metrics import mean_average_precision
from edgepress.multilabel.noise import signal_to_noise
from edgepress.multilabel.ratio import Ratio
from edgepress.multilabel.saturation import weight_bits_here
from edgepress.remote.host import Host
from edgepress.remote.session import Session

FILES: dict[Kind, str] = {"onnx": ONNX, "openvino": IR, "litert": TFLITE, "ncnn": PARAM}
"""The file that holds the model, by the kind of bundle."""


class Place(Protocol):
    """Where candidates run."""

    processor: str
    weight_bits: int
    on_device: bool
    """Whether this is another machine, which `--host` names."""

    def keep(self, name: str, pixels: np.ndarray) -> None:
        """Keep pictures, uint8 `[N, size, size, 3]`, under a name."""

    def answers(self, bundle: Bundle, pictures: str) -> np.ndarray:
        """A bundle's logits `[N, C]` on pictures that are kept."""

    def latency(self, bundle: Bundle, other: Bundle, pictures: str) -> Ratio:
        """A bundle's time as a multiple of another's, measured in turns."""


class Here:
    """This machine."""

    on_device = False

    def __init__(self) -> None:
        self.processor, self.weight_bits = describe_machine().processor, weight_bits_here()
        self._kept: dict[str, np.ndarray] = {}

    def keep(self, name: str, pixels: np.ndarray) -> None:
        self._kept[name] = pixels

    def answers(self, bundle: Bundle, pictures: str) -> np.ndarray:
        with open_engine(bundle, unproven=True) as engine:  # this run is the proof
            return predict_pixels(engine, self._kept[pictures])

    def latency(self, bundle: Bundle, other: Bundle, pictures: str) -> Ratio:
        return compare_latency(bundle, other, self._kept[pictures][:PICTURES], unproven=True)


class There:
    """A device that ssh reaches, with one connection for the whole search."""

    on_device = True

    def __init__(self, session: Session) -> None:
        self.session = session
        self.processor, self.weight_bits = session.machine.processor, int(session.machine.weight_bits)
        self.keep, self.answers, self.latency = session.keep, session.answers, session.latency


class Candidates:
    """Runs candidates as the engines they would become: on val for accuracy, and in turn with fp32 for the time.

    Args:
        parent: the fp32 ONNX bundle.
        spec: the engine that a candidate would become.
        folder: where val's pictures and the fp32 engine are kept during the search.

    Raises:
        EngineUnavailableError, InputError: the place cannot run the fp32 engine, or it answers otherwise there.
    """

    def __init__(self, parent: Bundle, val: MultiLabelDataset, spec: EngineSpec, folder: Path, place: Place) -> None:
        self.parent, self.val, self.runtime, self.folder, self.place = parent, val, spec.runtime, folder, place
        self.kind, self.model = spec.quantized_kind, FILES[spec.quantized_kind]
        pixels = self._decode()
        here = Here()
        here.keep("val", pixels)
        self.reference = here.answers(parent, "val")
        self.float_map = mean_average_precision(val.targets, val.scores(self.reference), val.ignore)
        self._decided = parent.decisions.decide(self.reference)
        self._float: Bundle | None = None
        place.keep("val", pixels)
        if place.on_device:
            self._require_alike()

    def score(self, file: Path) -> Score:
        logits = self.logits(file)
        return Score(
            mean_average_precision(self.val.targets, self.val.scores(logits), self.val.ignore),
            signal_to_noise(self.reference, logits),
            flips_per_yes(self._decided, self._decisions(logits).decide(logits), self.val.ignore),
        )

    def _decisions(self, logits: np.ndarray) -> Decisions:
        """The decisions that a candidate with these logits would get; those at 0.5 where the parent has none."""
        fitted = self.parent.manifest.decisions
        return (
            self.parent.decisions
            if fitted is None
            else decisions_again(fitted, self.reference, logits, self.val, tell=False)
        )

    def latency(self, file: Path) -> Ratio:
        with self._bundle(file, "candidate", "int8") as bundle:
            return self.place.latency(bundle, self._float_engine(), "val")

    def logits(self, file: Path, pictures: str = "val") -> np.ndarray:
        """A candidate's logits `[N, C]` on pictures that the place keeps."""
        with self._bundle(file, "candidate", "int8") as bundle:
            return self.place.answers(bundle, pictures)

    def _float_engine(self) -> Bundle:
        """The fp32 engine of the same runtime; for a device only what runs, without the pictures' reference."""
        if self._float is not None:
            return self._float
        built = self.parent
        if self.runtime.builder is not None:
            built = self.runtime.build(self.parent, self.folder / "fp32", "fp32")
        if self.place.on_device:
            built = self._write(built.model_path, self.folder / "alone", built.kind, "fp32", built.model_path.name)
        self._float = built
        return built

    def _require_alike(self) -> None:
        """Stop before the search if the device cannot run the runtime, or answers otherwise in float."""
        found = self.place.answers(self._float_engine(), "val")
        apart, most = float(np.abs(found - self.reference).max()), ALLOWED_DIFF["fp32"]
        if not apart <= most:
            raise InputError(
                f"{self.place.processor}: the fp32 model's logits on val differ by {apart:.3g} from those here, and "
                f"{most:g} is allowed; compare the versions of {self.runtime.name} on both machines (edgepress doctor)"
            )

    def _decode(self) -> np.ndarray:
        """Decode val's pictures once into a file: every candidate reads it, and memory need not hold them."""
        size = self.parent.preprocess.size
        pixels = np.lib.format.open_memmap(
            self.folder / "val.npy", mode="w+", dtype=np.uint8, shape=(len(self.val), size, size, 3)
        )
        for row in range(len(self.val)):
            pixels[row] = self.parent.preprocess(self.val.picture(row))
        return pixels

    @contextlib.contextmanager
    def _bundle(self, file: Path, name: str, precision: Precision) -> Iterator[Bundle]:
        made = self._write(file, self.folder / name, self.kind, precision, self.model)
        try:
            yield made
        finally:
            shutil.rmtree(made.path)

    def _write(self, file: Path, path: Path, kind: Kind, precision: Precision, model: str) -> Bundle:
        about = {"labels": self.parent.manifest.labels, "preprocess": self.parent.preprocess}
        with write_bundle(path, kind=kind, precision=precision, model=model, **about) as folder:
            copy_graph(file, folder / model)
        return Bundle.open(path)


def copy_graph(file: Path, copy: Path) -> None:
    """Copy the file or, in OpenVINO's and ncnn's formats, the two files of a graph."""
    for suffix in (file.suffix, ".bin") if file.suffix in (".xml", ".param") else (file.suffix,):
        sync(file.with_suffix(suffix))  # the kept result of a candidate must not outlast its file
        shutil.copyfile(file.with_suffix(suffix), copy.with_suffix(suffix))


@contextlib.contextmanager
def place_of(host: Host | None) -> Iterator[Place]:
    """Where candidates run: a device, over a connection that is open meanwhile, or this machine.

    Raises:
        InputError: see `Session`.
    """
    if host is None:
        yield Here()
        return
    with Session(host) as session:
        yield There(session)
