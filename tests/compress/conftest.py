"""What tests of training share: one thread, pictures, and a teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgepress.compress.distill import teach
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset

pytest.register_assert_rewrite("tests.compress.lessons", "tests.compress.losses.loss_batches")


@pytest.fixture(scope="module")
def one_thread():
    """Sums on one thread are the same sums every time, and models this small are faster so."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def splits(tiny_data: Path) -> tuple[MultiLabelDataset, MultiLabelDataset]:
    return load_dataset(tiny_data, "train"), load_dataset(tiny_data, "val")


@pytest.fixture(scope="session")
def teacher(tiny_data: Path, tmp_path_factory) -> Bundle:
    """A trained ViT: another size, other mean and std, another width than the student's."""
    from tests.compress.lessons import TEACHER

    train, val = load_dataset(tiny_data, "train"), load_dataset(tiny_data, "val")
    return teach(train, val, TEACHER, tmp_path_factory.mktemp("taught") / "teacher")
