"""The golden check: before an engine is used on a machine for the first time, it must answer eight stored pictures.

`verify` proves an engine where it runs. Later other programs open it, on other processors, with other versions of its
runtime. There it must give the same answers as before, otherwise it is not opened. Each proof is remembered by machine,
versions and bundle, so that the next opening only reads one small file.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
import zipfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepress.deploy.engines.base import require_memory
from edgepress.deploy.machine.processor import machine_key
from edgepress.multilabel.bundle import Bundle, write_atomically
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.golden_answers import GOLDEN
from edgepress.multilabel.manifest import Precision
from edgepress.multilabel.user_cache import user_cache

if TYPE_CHECKING:
    from edgepress.deploy.engines.base import Engine

log = logging.getLogger("edgepress")
MOST_SECONDS = 2.0
"""Time limit in seconds: a slow device answers fewer of the pictures, but at least one."""
ALLOWED_DIFF: dict[Precision, float] = {"fp32": 0.05, "fp16": 0.5}
"""Largest difference of a logit, by precision, here and in `verify`: a float engine computes the same model, and mAP
alone would not see logits that are all scaled or shifted. INT8 has no such bound."""
MOST_FLIPPED = 0.1
"""Largest share of decisions that may change in an INT8 engine whose own answers are not stored."""
MOST_MOVED, MOST_NOISE = 0.25, 1.1
"""An INT8 engine passes if its logits moved by at most this share of the INT8 error (root mean squares), or if their
distance from torch's is at most this many times the earlier one. Without saturation, ONNX Runtime's answers are
bit-identical on every processor. Both runtimes' depend on the release: the logits of the sample's student are up to
0.006 (ONNX Runtime 1.20) and 0.012 (OpenVINO 2025.0) from those of the newest, and no decision changes. Saturated
products (that student with 8-bit weights, under AVX2) moved by 1.6 times the noise, which 99 of 100 draws of eight
pictures detect."""
_proven: set[str] = set()
"""The proofs of this process, for machines on which nothing can be written."""


@dataclass(frozen=True, eq=False)
class Golden:
    """Pictures, and the answers to them where the model was made; stored in every bundle derived from it."""

    pictures: np.ndarray
    """uint8 `[N, size, size, 3]`, prepared for the model."""
    logits: np.ndarray
    """float32 `[N, C]`, torch's logits."""
    answers: np.ndarray | None = None
    """float32 `[N, C]`, the engine's own logits where it was made; only for INT8 engines, which are further from torch
    than from themselves on another machine."""

    def save(self, path: Path) -> None:
        """Write an .npz file without pickled objects."""
        extra = {} if self.answers is None else {"answers": self.answers}
        np.savez_compressed(path, pictures=self.pictures, logits=self.logits, **extra)

    @classmethod
    def of(cls, bundle: Bundle) -> Golden | None:
        """Read a bundle's golden pictures; None where it has none, like bundles of earlier versions.

        Raises:
            InputError: the file is not what `save` writes, or does not fit the bundle.
        """
        if not has_golden(bundle):
            return None
        size, count = bundle.preprocess.size, len(bundle.labels)
        try:
            with np.load(io.BytesIO(bundle.read(GOLDEN)), allow_pickle=False) as file:
                pictures, logits = file["pictures"], file["logits"]
                answers = file["answers"] if "answers" in file.files else None
            number = len(pictures)
            if pictures.dtype != np.uint8 or pictures.shape != (number, size, size, 3) or number < 1:
                raise ValueError(f"pictures: {pictures.dtype} {list(pictures.shape)}")
            for given in (logits, answers):
                if given is not None and (given.dtype != np.float32 or given.shape != (number, count)):
                    raise ValueError(f"logits: {given.dtype} {list(given.shape)}")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{bundle.path / GOLDEN}: not a file that edgepress made ({error})") from None
        return cls(pictures, logits, answers)


def has_golden(bundle: Bundle) -> bool:
    """Whether a bundle stores golden pictures."""
    return GOLDEN in bundle.manifest.files


def require_golden(engine: Engine) -> None:
    """Stop if an engine does not answer here as it did where it was made; otherwise remember the proof.

    Raises:
        EngineUnavailableError: it does not; says by how much it differs, or what its runtime said, and how to go on.
        InputError: see `Golden.of` and `first_answer`.
    """
    bundle = engine.bundle
    if bundle.manifest.kind == "torch":
        return  # the other engines are compared with it
    if is_proven(engine):
        return
    golden = Golden.of(bundle)
    if golden is None:
        log.warning(
            "%s: has no stored pictures (%s), so nobody has seen what it answers on this machine; export it again, or "
            "run verify here",
            bundle.path,
            GOLDEN,
        )
        return
    fault = disagreement(golden, _answers(engine, golden.pictures), bundle)
    if fault is not None:
        raise EngineUnavailableError(
            f"{bundle.path}: on this machine it does not answer as where it was made: {fault}; take another engine, "
            "prove it with edgepress verify, or insist with --unproven"
        )
    _remember(engine)


def disagreement(golden: Golden, found: np.ndarray, bundle: Bundle) -> str | None:
    """Why answers `[n, C]` to the first n pictures are too far from torch's; None where they are near enough."""
    logits = golden.logits[: len(found)]
    if not np.isfinite(found).all():
        return f"{int((~np.isfinite(found)).sum())} of {found.size} logits are NaN or infinite"
    allowed = ALLOWED_DIFF.get(bundle.manifest.precision)
    if allowed is not None:
        largest = float(np.abs(found - logits).max())
        return f"a logit differs by {largest:.3g} from torch's; {allowed:g} is allowed" if largest > allowed else None
    if golden.answers is None:
        decide = bundle.decisions.decide
        share = float((decide(found) != decide(logits)).mean())
        said = f"{share:.1%} of decisions differ from torch's; {MOST_FLIPPED:.0%} are allowed"
        return said if share > MOST_FLIPPED else None
    own = golden.answers[: len(found)]
    noise, moved, error = (_rms(a - b) for a, b in ((own, logits), (found, own), (found, logits)))
    # Other kernels compute the same integers, or compute some nodes in float, which is no further from torch.
    if moved <= MOST_MOVED * noise or error <= MOST_NOISE * noise:
        return None
    return (
        f"its logits are {error:.2g} from torch's (root mean square) and were {noise:.2g}: its INT8 products saturate "
        "on this processor, or the runtime computes otherwise"
    )


def is_proven(engine: Engine) -> bool:
    """Whether the golden check of this engine has passed on this machine with these versions."""
    folder, key = cache_folder(), _key(engine)
    return key in _proven or (folder is not None and (folder / key).is_file())


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))


def _answers(engine: Engine, pictures: np.ndarray) -> np.ndarray:
    """Answer as many of the pictures as there is time for: the first alone, the others as one batch."""
    started = time.perf_counter()
    first = first_answer(engine, pictures[:1])
    taken = time.perf_counter() - started
    more = min(len(pictures) - 1, int((MOST_SECONDS - taken) / max(taken, 1e-9)))
    return np.concatenate([first, engine(pictures[1 : 1 + more])]) if more > 0 else first


def first_answer(engine: Engine, images: np.ndarray) -> np.ndarray:
    """An engine's first call: some runtimes open a model that they cannot run, as OpenVINO opens INT8 on ARM processors
    without fp16.

    Raises:
        EngineUnavailableError: its runtime fails; says how, and which engine to take.
        InputError: ONNX Runtime fails, which has its kernels on every processor: the model is at fault.
    """
    try:
        return engine(images)
    except RuntimeError as error:
        require_memory(engine.bundle.path, engine.runtime_version, str(error))
        reason = " ".join(str(error).split())[:200]
        failed = f"{engine.bundle.path}: it opens here, and its first inference fails ({reason})"
        if engine.bundle.manifest.kind == "onnx":
            raise InputError(f"{failed}; make the model again") from error
        raise EngineUnavailableError(
            f"{failed}: this processor lacks what the runtime needs for it; take another engine of the run, such as "
            "onnx-int8-onnxruntime"
        ) from error


def _key(engine: Engine) -> str:
    facts = {
        "bundle": engine.bundle.digest,
        "edgepress": version("edgepress"),
        "runtime": engine.runtime_version,
        "device": engine.device,
        "machine": asdict(machine_key()),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def cache_folder() -> Path | None:
    """The folder for proofs, in XDG_CACHE_HOME or HOME's .cache; None without either."""
    return user_cache("proven")


def _remember(engine: Engine) -> None:
    folder, key, bundle = cache_folder(), _key(engine), engine.bundle
    _proven.add(key)
    said = {"engine": bundle.name, "runtime": engine.runtime_version}
    try:
        if folder is None:
            raise OSError("there is neither HOME nor XDG_CACHE_HOME")
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / key, (json.dumps(said) + "\n").encode())
    except OSError as error:
        reason = error.strerror or str(error)
        log.info("%s: proven here; that cannot be kept (%s), so the next process proves it again", bundle.path, reason)
