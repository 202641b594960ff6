"""What several test rooms share: a data set small enough to train on in seconds, the command line, no network."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch: nets this small are slower on more threads
os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub: a test never asks a hub

import cv2
import numpy as np
import pytest

from tests.browser import chromium
from tests.litert import require_litert
from tests.ncnn import require_ncnn

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from edgepress.compress.models import MultiLabelModel
    from edgepress.multilabel.bundle import Bundle
    from edgepress.run.splits import Splits
    from tests.forks import Forks
    from tests.launched import Distilled

os.fsync = lambda number: None  # the files of a test need not outlast it, and disks are slow


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`: files that share what is slow to make are run by the same process."""
    from tests.together import Together

    return Together(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """With `-n`: each process has a core to itself, because runtimes start a thread for every core they may use."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


def pytest_collection_finish() -> None:
    """The millions of objects that imports and collection leave are never garbage: no later search looks at them."""
    gc.collect()
    gc.freeze()


TINY_LABELS = ("red", "green", "blue", "circle", "bars")
TINY_SPLITS = {"train": 24, "val": 12, "test": 12}
TINY_SIDE = 48


def tiny_picture(target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A BGR picture uint8 `[48, 48, 3]` that shows what its five labels say."""
    background = np.where(target[[2, 1, 0]], rng.integers(180, 230, 3), rng.integers(20, 60, 3))
    picture = np.full((TINY_SIDE, TINY_SIDE, 3), background, np.uint8)
    if target[3]:
        centre = tuple(int(value) for value in rng.integers(16, 32, 2))
        cv2.circle(picture, centre, 11, (255, 255, 255), -1)
    if target[4]:
        for x in range(2, TINY_SIDE, 8):
            cv2.line(picture, (x, 0), (x, TINY_SIDE), (0, 0, 0), 2)
    noise = rng.integers(-8, 9, picture.shape)
    return np.clip(picture.astype(int) + noise, 0, 255).astype(np.uint8)


def tiny_targets(count: int, rng: np.random.Generator) -> np.ndarray:
    """Multi-hot bool `[count, 5]`: one picture shows everything, one nothing, so every label has both answers."""
    targets = rng.random((count, len(TINY_LABELS))) < 0.5
    targets[0], targets[1] = True, False
    return targets


def write_tiny_data(root: Path, seed: int = 0) -> Path:
    """An imagefolder data set: labels.txt, and a folder with metadata.jsonl and its pictures for each split."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    (root / "labels.txt").write_text("".join(f"{name}\n" for name in TINY_LABELS))
    for split, count in TINY_SPLITS.items():
        folder = root / split
        folder.mkdir()
        lines = []
        for number, target in enumerate(tiny_targets(count, rng)):
            name = f"{number:05d}.jpg"
            cv2.imwrite(str(folder / name), tiny_picture(target, rng), [cv2.IMWRITE_JPEG_QUALITY, 95])
            labels = [label for label, present in zip(TINY_LABELS, target, strict=True) if present]
            lines.append(json.dumps({"file_name": name, "labels": labels}))
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(autouse=True)
def heard() -> None:
    """Warnings are heard, whatever a library or a command line did to the loggers in an earlier test of the process."""
    logging.disable(logging.NOTSET)
    logging.getLogger().setLevel(logging.WARNING)
    ours = logging.getLogger("edgepress")
    ours.disabled, ours.propagate = False, True
    ours.setLevel(logging.NOTSET)


@pytest.fixture(scope="session", autouse=True)
def proofs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What engines prove while testing is remembered in a folder of the tests, also by processes that a test starts.

    Other programs find in it what they keep in the user's, such as the fonts that matplotlib found.
    """
    folder = tmp_path_factory.mktemp("cache")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for kept in users.iterdir() if users.is_dir() else ():
        if kept.name != "edgepress":
            (folder / kept.name).symlink_to(kept)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield


@pytest.fixture(scope="session", autouse=True)
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The same network is traced once by a session, in whichever of its processes; see `tests.exports`."""
    if "torch" not in sys.modules:  # no test exports, as each of their files imports it
        yield
        return
    from tests.exports import exported_once

    folder = tmp_path_factory.getbasetemp()
    shared = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "exports"
    shared.mkdir(exist_ok=True)
    with exported_once(shared):
        yield


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of an imagefolder data set: 5 labels; train 24, val 12, test 12 pictures of 48 x 48 pixels. Read only."""
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Processes of edgepress that need no imports."""
    from tests.forks import Forks

    forks = Forks(tmp_path_factory.mktemp("forks"))
    yield forks
    forks.close()


@pytest.fixture(scope="session")
def distilled_in_two(tiny_data: Path, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    """A student that two processes made from a folder's pictures and stored answers. Read only.

    They are forks; tests/test_cluster.py makes the same student by torchrun.
    """
    from tests.launched import Distilled, answers_of, arguments_of

    folder = tmp_path_factory.mktemp("in-two")
    answers = answers_of(tiny_data, folder / "answers.npz").path
    done = forks.run(["edgepress", *arguments_of(tiny_data, answers, folder / "student")], processes=2)
    assert done.codes == [0, 0], done.err[-3000:]
    return Distilled(answers, folder / "student", done.out)


@dataclass(frozen=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> dict[str, Any]:
        """Standard output, which must be one JSON object and nothing else."""
        result = json.loads(self.out)
        assert isinstance(result, dict)
        return result


def run_here(*arguments: object) -> Answer:
    """`edgepress ARGUMENTS` in this process, its logger left as it was found."""
    logger = logging.getLogger("edgepress")
    before = (logger.handlers[:], logger.propagate, logger.level, sys.argv)
    out, err = io.StringIO(), io.StringIO()
    from edgepress.cli.main import main

    sys.argv = ["edgepress", *map(str, arguments)]
    started = time.perf_counter()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as stop:
            main()
    finally:
        logger.handlers[:], logger.propagate, _, sys.argv = before
        logger.setLevel(before[2])
    return Answer(int(stop.value.code or 0), out.getvalue(), err.getvalue(), time.perf_counter() - started)


@pytest.fixture(scope="session")
def edgepress() -> Callable[..., Answer]:
    return run_here


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium for the tests of a module: Playwright's event loop, while it runs, lets no other one run."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def fit() -> Callable[..., MultiLabelModel]:
    pytest.importorskip("torch", reason="torch is not installed; the tests make their engines from a model of it")
    from tests.student import fit_model

    return fit_model


@pytest.fixture(scope="session")
def splits(tiny_data: Path) -> Splits:
    from edgepress.multilabel.datasets import load_dataset
    from edgepress.run.splits import Splits

    train, val, test = (load_dataset(tiny_data, split) for split in ("train", "val", "test"))
    return Splits(train=train, val=val, test=test)


@pytest.fixture(scope="session")
def model(fit: Callable[..., MultiLabelModel], splits: Splits) -> MultiLabelModel:
    return fit(splits.test)


@pytest.fixture(scope="session")
def images(model: MultiLabelModel, splits: Splits) -> np.ndarray:
    """uint8 `[33, 64, 64, 3]`: pictures that the model learnt, and others."""
    return np.stack([model.preprocess.load(path) for path in (splits.test.paths + splits.train.paths)[:33]])


@pytest.fixture(scope="session")
def logits(model: MultiLabelModel, images: np.ndarray) -> np.ndarray:
    """Torch's logits `[33, 5]` of `images`."""
    import torch

    with torch.inference_mode():
        return model.logits(torch.from_numpy(images)).numpy()


@pytest.fixture(scope="session")
def student(model: MultiLabelModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model as a torch bundle, in a run's folder that is its own."""
    from edgepress.compress.checkpoint import WEIGHTS, architecture, save_model
    from edgepress.multilabel.bundle import Bundle, write_bundle

    out = tmp_path_factory.mktemp("run") / "student"
    with write_bundle(
        out,
        kind="torch",
        precision="fp32",
        model=WEIGHTS,
        labels=model.labels.names,
        preprocess=model.preprocess,
        architecture=architecture(model),
    ) as folder:
        save_model(model, folder / WEIGHTS)
    return Bundle.open(out)


@pytest.fixture(scope="session")
def onnx_bundle(model: MultiLabelModel, student: Bundle, splits: Splits) -> Bundle:
    from edgepress.deploy.build.export import export_onnx

    out = student.path.parent / "onnx-fp32"
    return export_onnx(model, splits.test, out, parent=student.as_parent, identity=student.digest)


@pytest.fixture(scope="session")
def build(onnx_bundle: Bundle, splits: Splits) -> Callable[[str], Bundle]:
    """An engine's bundle by its name in a recipe, beside its parents; each is made once."""
    from edgepress.deploy.engines.table import ENGINES, LITERT, NCNN
    from edgepress.run.build import build_engine
    from edgepress.run.recipe import CompileConfig, QuantizeConfig

    made: dict[str, Bundle] = {}

    def build_once(name: str) -> Bundle:
        if name not in made:
            if ENGINES[name].runtime is LITERT:
                require_litert()
            if ENGINES[name].runtime is NCNN:
                require_ncnn()
            run, pictures = onnx_bundle.path.parent, QuantizeConfig(pictures=16, time_limit=0.0)
            made[name] = build_engine(name, onnx_bundle, run, splits, pictures, CompileConfig())
        return made[name]

    return build_once
