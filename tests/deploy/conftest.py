"""A small student that learnt the tiny pictures, and every engine of it that this machine can build."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed; the tests make their engines from a model of it")

pytest.register_assert_rewrite("corruptions", "engine_contract")

from edgepress.compress.checkpoint import WEIGHTS, architecture, save_model  # noqa: E402
from edgepress.compress.config import ModelConfig  # noqa: E402
from edgepress.compress.models import MultiLabelModel, make_model  # noqa: E402
from edgepress.deploy.build.export import export_onnx  # noqa: E402
from edgepress.multilabel.bundle import Bundle, write_bundle  # noqa: E402
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset  # noqa: E402
from edgepress.run.build import Splits, build_engine  # noqa: E402
from edgepress.run.recipe import CompileConfig, QuantizeConfig  # noqa: E402

SIZE = 64


def fit_model(
    data: MultiLabelDataset, *, head: str = "ml_decoder", backbone: str = "test_efficientnet", steps: int = 40
) -> MultiLabelModel:
    """A model that knows these pictures by heart: its logits, norms and running statistics are far from a fresh one's.

    A fresh model says nearly the same of every picture, and nearly every error would go unseen.
    """
    torch.manual_seed(0)
    config = ModelConfig(backbone=backbone, head=head, width=32, size=SIZE, weights="none")
    model, _ = make_model(config, data.labels)
    images = torch.from_numpy(np.stack([model.preprocess.load(path) for path in data.paths]))
    targets = torch.from_numpy(data.targets).float()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(steps):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model.logits(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="session")
def fit() -> Callable[..., MultiLabelModel]:
    return fit_model


@pytest.fixture(scope="session")
def splits(tiny_data: Path) -> Splits:
    train, val, test = (load_dataset(tiny_data, split) for split in ("train", "val", "test"))
    return Splits(train=train, val=val, test=test)


@pytest.fixture(scope="session")
def model(splits: Splits) -> MultiLabelModel:
    return fit_model(splits.test)


@pytest.fixture(scope="session")
def images(model: MultiLabelModel, splits: Splits) -> np.ndarray:
    """uint8 `[33, 64, 64, 3]`: pictures that the model learnt, and others."""
    return np.stack([model.preprocess.load(path) for path in (splits.test.paths + splits.train.paths)[:33]])


@pytest.fixture(scope="session")
def logits(model: MultiLabelModel, images: np.ndarray) -> np.ndarray:
    """Torch's logits `[33, 5]` of `images`."""
    with torch.inference_mode():
        return model.logits(torch.from_numpy(images)).numpy()


@pytest.fixture(scope="session")
def student(model: MultiLabelModel, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model as a torch bundle, in a run's folder that is its own."""
    out = tmp_path_factory.mktemp("run") / "student"
    with write_bundle(
        out,
        kind="torch",
        precision="fp32",
        model=WEIGHTS,
        labels=model.labels.names,
        preprocess=model.preprocess,
        architecture=architecture(model),
    ) as (folder, _):
        save_model(model, folder / WEIGHTS)
    return Bundle.open(out)


@pytest.fixture(scope="session")
def onnx_bundle(model: MultiLabelModel, student: Bundle, splits: Splits) -> Bundle:
    out = student.path.parent / "onnx-fp32"
    return export_onnx(model, splits.test, out, parent=student.as_parent, identity=student.digest)


@pytest.fixture(scope="session")
def build(onnx_bundle: Bundle, splits: Splits) -> Callable[[str], Bundle]:
    """An engine's bundle by its name in a recipe, beside its parents; each is made once."""
    made: dict[str, Bundle] = {}

    def build_once(name: str) -> Bundle:
        if name not in made:
            run, pictures = onnx_bundle.path.parent, QuantizeConfig(pictures=16, time_limit=0.0)
            made[name] = build_engine(name, onnx_bundle, run, splits, pictures, CompileConfig())
        return made[name]

    return build_once
