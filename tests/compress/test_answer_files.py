"""Rows on disk: found by content, half the size, never half written, and as small as the promise."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from edgepress.compress.answer_files import MOST, AnswerFiles

HASHES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(40)]
LOGITS = np.random.default_rng(0).normal(0, 4, (40, 5)).astype(np.float32)


def cells_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    cells = np.random.default_rng(count).random((count, 5)) < 0.4
    return cells, np.arange(cells.sum() * 3, dtype=np.float32).reshape(-1, 3)


def test_rows_are_found_by_content_in_any_order(tmp_path):
    files = AnswerFiles(tmp_path / "v", 5, None)
    assert (len(files), files.find(HASHES[:2]).tolist()) == (0, [-1, -1])
    files.append(HASHES[:10], LOGITS[:10])
    files.append(HASHES[10:30], LOGITS[10:30])
    assert len(files) == 30
    assert files.find([HASHES[29], HASHES[0], HASHES[35], HASHES[12]]).tolist() == [29, 0, -1, 12]
    np.testing.assert_array_equal(files.logits.mapped(), LOGITS[:30].astype(np.float16))
    assert isinstance(files.logits.mapped(), np.memmap)


def test_the_last_answer_for_a_picture_counts(tmp_path):
    files = AnswerFiles(tmp_path / "v", 5, None)
    files.append(HASHES[:3], LOGITS[:3])
    files.append(HASHES[1:2], LOGITS[9:10])
    assert files.find(HASHES[:3]).tolist() == [0, 3, 2]


def test_embeddings_follow_their_cells(tmp_path):
    files = AnswerFiles(tmp_path / "v", 5, 3)
    for begin, end in ((0, 10), (10, 40)):
        cells, embeddings = cells_of(end - begin)
        files.append(HASHES[begin:end], LOGITS[begin:end], cells, embeddings)
    both = np.concatenate([cells_of(10)[0], cells_of(30)[0]])
    np.testing.assert_array_equal(files.cells.mapped(), both)
    np.testing.assert_array_equal(files.embeddings.mapped(), np.concatenate([cells_of(10)[1], cells_of(30)[1]]))


def test_logits_beyond_half_precision_stay_finite(tmp_path):
    files = AnswerFiles(tmp_path / "v", 5, None)
    files.append(HASHES[:2], np.array([[1e9, -1e9, 0, 1, 2]] * 2, np.float32))
    assert np.isfinite(files.logits.mapped()).all()
    assert files.logits.mapped().max() == np.float16(MOST)


@pytest.mark.parametrize("suffix", ["logits", "cells", "embeddings", "maps", "pictures"])
@pytest.mark.parametrize("torn", [1, 7, 40])
def test_what_a_killed_process_left_is_cut_off(tmp_path, suffix, torn):
    """Whatever was written after the last picture's hash, and half a hash itself."""
    files, maps = AnswerFiles(tmp_path / "v", 5, 3, regions=2), np.stack([LOGITS, LOGITS - 1], axis=2)
    files.append(HASHES[:10], LOGITS[:10], *cells_of(10), maps[:10])
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (tmp_path / f"v.{suffix}").open("ab") as file:
        file.write(b"\1" * (torn if suffix != "pictures" else min(torn, 15)))
    assert len(files) == 10
    files.repair()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    files.append(HASHES[10:20], LOGITS[10:20], *cells_of(10), maps[10:20])
    np.testing.assert_array_equal(files.maps.mapped(), maps[:20].reshape(20, 10).astype(np.float16))
    assert files.find(HASHES[:20]).tolist() == list(range(20))
    np.testing.assert_array_equal(files.logits.mapped(), LOGITS[:20].astype(np.float16))


def test_the_hash_that_counts_a_row_reaches_the_disk_last(tmp_path, monkeypatch):
    """Bytes and the names of new files, each before the next."""
    reached = []
    monkeypatch.setattr(
        os, "fsync", lambda number: reached.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}")))
    )
    files, folder = AnswerFiles(tmp_path / "v", 5, 3), tmp_path.name
    files.append(HASHES[:2], LOGITS[:2], *cells_of(2))
    assert reached == ["v.logits", folder, "v.cells", folder, "v.embeddings", folder, "v.pictures", folder]
    reached.clear()
    files.append(HASHES[2:4], LOGITS[2:4], *cells_of(2))
    assert reached == ["v.logits", "v.cells", "v.embeddings", "v.pictures"]


def test_a_hundred_thousand_pictures_take_what_was_promised(tmp_path):
    """By the bytes of a row: 80 labels, 8 variations, at most 150 MB."""
    files = AnswerFiles(tmp_path / "v", 80, None)
    files.append(HASHES[:1], np.zeros((1, 80), np.float32))
    row = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert row * 100_000 * 8 <= 150e6
