"""One contract for every engine: uint8 pictures in, float32 logits out, the same whatever the batch or the thread.

A subclass names its bundle, how far its precision may be from torch and what must have executed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest

from edgepress.deploy.engines import Engine, open_engine
from edgepress.deploy.engines.base import Ran
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError

CONVOLUTIONS = 17  # of timm's test_efficientnet
REQUESTS = 4
"""Calls of each thread."""


def sqnr(reference: np.ndarray, value: np.ndarray) -> float:
    """Signal to quantisation noise, in dB."""
    noise = float(((reference - value) ** 2).sum())
    return 10 * np.log10(float((reference**2).sum()) / noise) if noise else np.inf


class EngineContract:
    """What an application may rely on; not collected by itself."""

    name: ClassVar[str]
    runs: ClassVar[dict[str, str]]
    """What `ran` must say."""
    closeness: ClassVar[float]
    """Least SQNR against torch, in dB; measured values are at least 5 dB above."""
    split_tolerance: ClassVar[float] = 1e-4
    """Largest difference of a logit between a batch and its pictures one by one (logits reach about 8)."""
    devices: ClassVar[str]
    """What the refusal of an unknown device lists."""

    @pytest.fixture(scope="class")
    def bundle(self, build: Callable[[str], Bundle]) -> Bundle:
        return build(self.name)

    @pytest.fixture(scope="class")
    def engine(self, bundle: Bundle) -> Iterator[Engine]:
        with open_engine(bundle.path) as engine:
            yield engine

    @pytest.mark.parametrize("batch", [1, 3, 33])
    def test_float32_logits_for_any_batch(self, engine, images, batch):
        result = engine(images[:batch])
        assert (result.dtype, result.shape) == (np.float32, (batch, len(engine.labels)))
        assert np.isfinite(result).all()

    @pytest.mark.parametrize("step", [1, 2, 7, 32])
    def test_a_picture_is_answered_alike_in_every_batch(self, engine, images, step):
        whole = engine(images)
        parts = np.concatenate([engine(images[at : at + step]) for at in range(0, len(images), step)])
        assert np.abs(whole - parts).max() <= self.split_tolerance

    def test_rows_follow_the_pictures(self, engine, images):
        order = np.random.default_rng(0).permutation(len(images))
        assert np.abs(engine(images)[order] - engine(images[order])).max() <= self.split_tolerance
        assert np.abs(engine(images) - engine(images)[::-1]).max() > 1  # so that an order can be told at all

    def test_close_to_torch(self, engine, images, logits):
        assert sqnr(logits, engine(images)) >= self.closeness

    def test_the_same_call_gives_the_same_bits(self, engine, images):
        first = engine(images[:5])
        engine(images[5:8])
        assert np.array_equal(first, engine(images[:5]))

    def test_an_answer_belongs_to_its_caller(self, engine, images):
        given = images[:2].copy()
        first = engine(given)
        kept = first.copy()
        given[:] = 0
        second = engine(images[2:4])
        assert np.array_equal(first, kept)
        assert not np.shares_memory(first, second)
        first[:] = -1  # an answer may be written to, and costs no later one anything
        assert np.array_equal(engine(images[2:4]), second)

    @pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
    def test_pictures_may_be_read_only(self, engine, images):
        fixed = np.frombuffer(images[:3].tobytes(), np.uint8).reshape(images[:3].shape)
        assert not fixed.flags.writeable
        assert np.array_equal(engine(fixed), engine(images[:3]))

    def test_pictures_are_left_as_they_are_and_may_be_views(self, engine, images):
        before = images.copy()
        mirrored = images[:3, :, ::-1]
        assert not mirrored.flags.c_contiguous
        assert np.array_equal(engine(mirrored), engine(np.ascontiguousarray(mirrored)))
        assert np.array_equal(images, before)

    @pytest.mark.parametrize(
        ("images_of", "received"),
        [
            (lambda size: np.zeros((1, size, size, 3), np.float32), r"float32 \[1, 64, 64, 3\]"),
            (lambda size: np.zeros((1, size, size, 3), np.int8), r"int8 \[1, 64, 64, 3\]"),
            (lambda size: np.zeros((1, size, size + 1, 3), np.uint8), r"uint8 \[1, 64, 65, 3\]"),
            (lambda size: np.zeros((1, size, size, 4), np.uint8), r"uint8 \[1, 64, 64, 4\]"),
            (lambda size: np.zeros((1, 3, size, size), np.uint8), r"uint8 \[1, 3, 64, 64\]"),
            (lambda size: np.zeros((size, size, 3), np.uint8), r"uint8 \[64, 64, 3\]"),
            (lambda size: np.zeros((0, size, size, 3), np.uint8), r"uint8 \[0, 64, 64, 3\]"),
            (lambda size: np.zeros((1, size, size, 3), np.uint8).tolist(), "list"),
        ],
    )
    def test_other_input_is_refused_with_received_and_expected(self, engine, images_of, received):
        with pytest.raises(InputError, match=rf"received .*{received}.*; expected uint8 RGB pictures \[B, 64, 64, 3\]"):
            engine(images_of(engine.preprocess.size))

    def test_it_says_what_ran(self, engine):
        assert type(engine.ran) is Ran
        assert {key: getattr(engine.ran, key) for key in self.runs} == self.runs
        assert engine.ran.version[0].isdigit()

    def test_the_proof_counts_layers_by_precision(self, engine):
        proof = engine.proof()
        precisions = self.runs["precision"].split(" + ")
        assert set(proof.products) == set(precisions)
        kept = engine.bundle.manifest.calibration.kept_float if engine.bundle.manifest.calibration else ()
        assert proof.products[precisions[0]] >= CONVOLUTIONS - len(kept)  # the smallest is that of the convolutions
        assert sum(proof.layers.values()) >= sum(proof.products.values())
        assert proof.source
        assert proof.model_dump()["products"] == proof.products

    def test_threads_get_their_own_answers(self, engine, images):
        whole, start = engine(images), threading.Barrier(2)

        def differences(first: int) -> list[float]:
            start.wait(timeout=60)
            found = []
            for at in range(first, len(images) - 5, 2 * max(len(images) // (2 * REQUESTS), 1)):
                found.append(float(np.abs(engine(images[at : at + 5]) - whole[at : at + 5]).max()))
            return found

        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(differences, first) for first in (0, 3)]
            found = [difference for answer in answers for difference in answer.result(timeout=120)]
        assert len(found) >= REQUESTS
        assert max(found) <= self.split_tolerance

    def test_an_unknown_device_is_refused_with_the_list(self, bundle):
        for device in ("toaster", "cpu:1:2", ""):
            with pytest.raises(InputError, match=rf"device '{device}': .*{self.devices}"):
                open_engine(bundle, device=device)

    def test_a_with_block_closes_it(self, bundle, images):
        with open_engine(bundle) as engine:
            engine(images[:1])
        with pytest.raises(RuntimeError, match="this engine is closed; open it again"):
            engine(images[:1])
        engine.close()  # a second time does nothing

    def test_labels_and_preprocess_are_the_students(self, engine, student):
        assert (engine.labels, engine.preprocess) == (student.labels, student.preprocess)
