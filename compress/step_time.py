"""How long a training step of a student takes, measured before anything is trained: weights do not matter for it."""

from __future__ import annotations

import time

import torch

from edgepress.compress.config import DistillConfig
from edgepress.compress.depthwise import small_depthwise
from edgepress.compress.held_memory import held_memory
from edgepress.compress.models import channels_last, make_model
from edgepress.compress.training import make_accelerator
from edgepress.multilabel.labels import LabelSpace

TIMED = 2
"""Steps that are timed, after a first one; the fastest counts."""


@held_memory()
def step_seconds(config: DistillConfig, labels: LabelSpace) -> float:
    """Seconds of a step of the student alone, forward and backward, on black pictures: the least that a step takes.

    Raises:
        InputError: see `make_model`.
    """
    accelerator = make_accelerator(config)
    model, _ = make_model(config.model_copy(update={"weights": "none"}), labels)
    model.label_wise = config.compares_embeddings
    channels_last(model.to(accelerator.device).train(), accelerator.device)
    shape = (config.batch_size, config.size, config.size, 3)
    images = torch.zeros(shape, dtype=torch.uint8, device=accelerator.device)
    taken = []
    for _ in range(1 + TIMED):
        started = time.perf_counter()
        with accelerator.autocast(), small_depthwise(accelerator.device):
            logits = model(images)[0]
        logits.float().mean().backward()
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
