"""Kept answers of a teacher: their size, what a training step with them costs, and how fast they are stored.

    .venv/bin/python benchmarks/kept_answers.py size
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/kept_answers.py step
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/kept_answers.py inside
    .venv/bin/python benchmarks/kept_answers.py rate examples/clipart-sample

`size` writes generated answers for 100,000 pictures with 80 labels in 8 variations and reads every one of them as
training does; it tells the files' size and how much larger the process became. `step` times a student's step under MLD
with kept answers against the same step alone, in turn on the same batch. `inside` times a step under the default terms
with the teacher's kept inside, the same with the teacher beside the student, and the student's step alone. `rate`
stores the answers of an ONNX teacher with random weights against a bare loop around ONNX Runtime that decodes and
augments the same pictures ahead, in turn, each round a new variation. Each prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgepress.compress.augmentation import Augmentation
from edgepress.compress.config import DistillConfig, ModelConfig
from edgepress.compress.foreign import OnnxTeacher
from edgepress.compress.keep import Keep
from edgepress.compress.kept import AnswerStore, KeptTeacher
from edgepress.compress.kept_inside import Inside
from edgepress.compress.loader import Batch
from edgepress.compress.models import channels_last, make_model
from edgepress.compress.tasks import DistillTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.deploy.build.export import export_onnx
from edgepress.deploy.tag.ahead import decode_ahead
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.resampling import resample

AUGMENTATION = Augmentation(augment="none", flip=0.5, cutout=0.3, seed=0, variations=8)
VARIATIONS = 8


def main() -> None:
    """Measure one of them and print the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    size = parts.add_parser("size")
    size.add_argument("--pictures", type=int, default=100_000)
    size.add_argument("--labels", type=int, default=80)
    step = parts.add_parser("step")
    step.add_argument("--student", default="tf_efficientnet_lite0")
    step.add_argument("--size", type=int, default=64, help="side of the pictures, in pixels")
    step.add_argument("--batch", type=int, default=64)
    step.add_argument("--labels", type=int, default=80)
    step.add_argument("--rounds", type=int, default=15)
    inside = parts.add_parser("inside")
    inside.add_argument("--student", default="tf_efficientnet_lite0")
    inside.add_argument("--size", type=int, default=64, help="side of the student's pictures, in pixels")
    inside.add_argument("--teacher", default="tf_efficientnet_lite2")
    inside.add_argument("--teacher-size", type=int, default=128, help="side of the teacher's pictures, in pixels")
    inside.add_argument("--batch", type=int, default=64)
    inside.add_argument("--labels", type=int, default=30)
    inside.add_argument("--rounds", type=int, default=8)
    rate = parts.add_parser("rate")
    rate.add_argument("data", type=Path)
    rate.add_argument("--teacher", default="tf_efficientnet_lite2")
    rate.add_argument("--size", type=int, default=128, help="side of the pictures, in pixels")
    rate.add_argument("--pictures", type=int, default=320)
    rate.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {"size": _size, "step": _step, "inside": _inside, "rate": _rate}[options.part](options, Path(folder))
    given = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    print(json.dumps({**given, "torch": torch.__version__, **found}))


class _Unasked(nn.Module):
    """A teacher whose answers are all kept."""

    embedding_dim = 0
    preprocess = None

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("every answer is kept")


def _pictures(count: int, labels: int) -> MultiLabelDataset:
    """Pictures that are nowhere, of contents of their own."""
    data = MultiLabelDataset(
        root=Path("nowhere"),
        split="train",
        labels=LabelSpace(tuple(f"label {number}" for number in range(labels))),
        paths=[Path("nowhere")] * count,
        targets=np.zeros((count, labels), np.uint8),
        ignore=np.zeros((count, labels), bool),
    )
    data.__dict__["_hashes"] = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    return data


def _kept(model: nn.Module, folder: Path, data: MultiLabelDataset, size: int) -> KeptTeacher:
    store = AnswerStore(
        model=model,  # one that is never asked
        folder=folder,
        identity="benchmark",
        labels=len(data.labels),
        batch_size=32,
        workers=0,
        device=torch.device("cpu"),
    )
    return KeptTeacher(store, data, AUGMENTATION, size)


def _fill(kept: KeptTeacher, data: MultiLabelDataset, variations: int) -> None:
    """Keep generated answers, as the store itself would."""
    rng = np.random.default_rng(0)
    for variation in range(variations):
        files = kept.store.files(AUGMENTATION, kept.augment_size, variation, embeddings=False)
        files.pictures.path.parent.mkdir(parents=True, exist_ok=True)
        for begin in range(0, len(data), 8192):
            names = data.hashes()[begin : begin + 8192]
            files.append(names, rng.normal(-3, 2, (len(names), len(data.labels))).astype(np.float32))


def _batch(data: MultiLabelDataset, index: np.ndarray, epoch: int, size: int) -> Batch:
    return Batch(
        images=torch.randint(0, 256, (len(index), size, size, 3), dtype=torch.uint8),
        teacher_images=None,
        targets=torch.from_numpy(data.targets[index].astype(np.float32)),
        ignore=torch.from_numpy(data.ignore[index]),
        labelled=torch.ones(len(index), dtype=torch.bool),
        index=torch.from_numpy(index),
        epoch=epoch,
    )


def _resident() -> float:
    """Resident memory of this process, with the pages of mapped files, in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def _size(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    data = _pictures(options.pictures, options.labels)
    kept = _kept(_Unasked(), folder, data, 64)
    _fill(kept, data, VARIATIONS)
    before, most, reading = _resident(), 0.0, 0.0
    for epoch in range(VARIATIONS):
        order = np.random.default_rng(epoch).permutation(len(data))
        for begin in range(0, len(order), 64):
            batch = _batch(data, order[begin : begin + 64], epoch, 1)
            started = time.perf_counter()
            kept(batch)
            reading += time.perf_counter() - started
            if begin % 6400 == 0:
                most = max(most, _resident() - before)
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "variations": VARIATIONS,
        "disk_MB": disk / 1e6,
        "resident_MB": most,
        "us_per_picture": 1e6 * reading / (len(data) * VARIATIONS),
    }


def _step(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    torch.manual_seed(0)
    data = _pictures(5000, options.labels)
    kept = _kept(_Unasked(), folder, data, options.size)
    _fill(kept, data, 1)
    config = {"backbone": options.student, "size": options.size, "weights": "none"}
    student, _ = make_model(ModelConfig(**config), data.labels)
    student.train()
    optimizer = torch.optim.AdamW([one for one in student.parameters() if one.requires_grad], lr=1e-4)
    tasks = {
        "kept": DistillTask(DistillConfig(**config, mld=4.0, review_kd=0.0), kept, student, data),
        "alone": DistillTask(DistillConfig(**config, preset="alone"), None, student, data),
    }

    def seconds(task: DistillTask, batch: Batch) -> float:
        started = time.process_time()
        optimizer.zero_grad()
        torch.stack(list(task(batch, *student(batch.images)).values())).sum().backward()
        optimizer.step()
        return time.process_time() - started

    rng, times = np.random.default_rng(0), []
    for turn in range(options.rounds + 1):
        batch = _batch(data, rng.choice(len(data), options.batch, replace=False), 0, options.size)
        order = ("kept", "alone") if turn % 2 else ("alone", "kept")
        found = {name: seconds(tasks[name], batch) for name in order}
        times += [found] if turn else []  # the first round warms up
    return _told(times, "kept", "alone", "cpu_seconds_per_step", 1)


def _inside(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    torch.manual_seed(0)
    data = _pictures(2000, options.labels)
    own = {"backbone": options.student, "size": options.size, "weights": "none"}
    theirs = ModelConfig(backbone=options.teacher, size=options.teacher_size, weights="none")
    config = DistillConfig(**own, variations=1)
    # A backbone has one set of taps at a time, so each way has models of its own.
    students = {name: make_model(ModelConfig(**own), data.labels)[0].train() for name in ("kept", "beside", "alone")}
    teachers = [make_model(theirs, data.labels)[0].eval() for _ in range(2)]
    inside = Inside(teachers[0], Keep.for_students([config]), students["kept"])
    store = replace(_kept(teachers[0], folder, data, options.teacher_size).store, inside=inside)
    kept = KeptTeacher(store, data, AUGMENTATION, options.teacher_size)
    files, rng = store.files(AUGMENTATION, options.teacher_size, 0, embeddings=False), np.random.default_rng(0)
    files.pictures.path.parent.mkdir(parents=True)
    for name in data.hashes():
        values = rng.normal(0, 1, (1, inside.width)).astype(np.float16)
        files.append([name], rng.normal(-3, 2, (1, options.labels)), inside=values)
    tasks = {
        "kept": DistillTask(config, kept, students["kept"], data),
        "beside": DistillTask(config, LiveTeacher(teachers[1]), students["beside"], data),
        "alone": DistillTask(DistillConfig(**own, preset="alone"), None, students["alone"], data),
    }
    for model in (*students.values(), *teachers, *tasks.values()):
        channels_last(model, torch.device("cpu"))  # as in training
    optimizers = {
        name: torch.optim.AdamW([*students[name].parameters(), *task.parameters()], lr=1e-4)
        for name, task in tasks.items()
    }

    def seconds(name: str, batch: Batch) -> float:
        started = time.process_time()
        optimizers[name].zero_grad()
        torch.stack(list(tasks[name](batch, *students[name](batch.images)).values())).sum().backward()
        optimizers[name].step()
        return time.process_time() - started

    times: list[dict[str, float]] = []
    for turn in range(options.rounds + 1):
        index = rng.choice(len(data), options.batch, replace=False)
        seen = _batch(data, index, 0, options.teacher_size).images
        batch = replace(_batch(data, index, 0, options.size), teacher_images=seen)
        found = {name: seconds(name, batch) for name in (sorted(tasks) if turn % 2 else sorted(tasks, reverse=True))}
        times += [found] if turn else []  # the first round warms up
    of_alone, of_beside = (_told(times, "kept", other, "cpu_seconds_per_step", 1) for other in ("alone", "beside"))
    return {"kB_per_picture": 2 * inside.width / 1000, "against_alone": of_alone, "against_beside": of_beside}


def _rate(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    train = load_dataset(options.data, "train")
    some = train.subset(np.arange(min(options.pictures, len(train))))
    torch.manual_seed(0)
    config = ModelConfig(backbone=options.teacher, size=options.size, weights="none")
    model, _ = make_model(config, train.labels)
    graph = export_onnx(model.eval(), some.subset(np.arange(16)), folder / "onnx-fp32", identity="benchmark")
    teacher = OnnxTeacher(graph)
    kept = _kept(teacher, folder / "kept", some, options.size)
    augmentation, view = replace(AUGMENTATION, variations=None), teacher.preprocess
    name = teacher.session.get_inputs()[0].name

    def bare(epoch: int) -> None:
        def load(row: int) -> np.ndarray:
            varied = augmentation(view(some.picture(row)), epoch, int(some.hashes()[row][:16], 16))
            return resample(varied, view.size, view.size)

        for pixels in decode_ahead(load, range(len(some)), 32):
            teacher.session.run(None, {name: pixels})

    def stored(epoch: int) -> None:
        kept.store.augmented(some, augmentation, options.size, epoch, None)

    times = []
    for turn in range(options.rounds + 1):
        order = (("stored", stored), ("bare", bare)) if turn % 2 else (("bare", bare), ("stored", stored))
        found = {}
        for what, run in order:
            started = time.perf_counter()
            run(turn)
            found[what] = time.perf_counter() - started
        times += [found] if turn else []
    return _told(times, "bare", "stored", "seconds_per_picture", len(some))


def _told(times: list[dict[str, float]], over: str, under: str, unit: str, count: int) -> dict[str, object]:
    medians = {name: statistics.median(one[name] for one in times) / count for name in times[0]}
    ratios = sorted(one[over] / one[under] for one in times)
    return {unit: medians, f"{over}_over_{under}": statistics.median(ratios), "ratios": ratios}


if __name__ == "__main__":
    main()
