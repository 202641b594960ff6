"""A loss of power leaves the old or the new, whole: every writer puts bytes, names and folders on the disk in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepress.multilabel import durable
from edgepress.multilabel.bundle import Bundle, write_atomically, write_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.durable import give_name, make_folder, sync
from edgepress.multilabel.preprocess import Preprocess
from edgepress.multilabel.shards import write_shards
from tests.durable import watched

FIELDS = {
    "kind": "onnx",
    "precision": "fp32",
    "model": "model.onnx",
    "labels": ("a", "b"),
    "preprocess": Preprocess(size=32, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}


def bundle(folder: Path, tiny_data: Path) -> set[str]:
    for content in (b"old", b"new"):
        with write_bundle(folder / "run" / "onnx-fp32", **FIELDS) as partial:
            (partial / "model.onnx").write_bytes(content)
            (partial / "events").mkdir()
            (partial / "events" / "1").write_bytes(content)
    assert (Bundle.open(folder / "run" / "onnx-fp32").path / "model.onnx").read_bytes() == b"new"
    return {"onnx-fp32"}


def file(folder: Path, tiny_data: Path) -> set[str]:
    for content in (b"old", b"new"):
        write_atomically(folder / "run" / "report.json", content)
    return {"report.json"}


def state(folder: Path, tiny_data: Path) -> set[str]:
    torch = pytest.importorskip("torch", reason="torch is not installed; a training state is its file")
    from edgepress.compress.checkpoint import save_state

    save_state(folder / ".student.training" / "state.pt", {"inputs": "x", "model": {"w": torch.ones(3)}})
    return {"state.pt"}


def shards(folder: Path, tiny_data: Path) -> set[str]:
    write_shards([load_dataset(tiny_data, "val")], folder / "out", shard_bytes=30_000)
    tars = {path.name for path in (folder / "out").glob("*.tar")}
    assert len(tars) > 1
    return {"labels.txt", "index", "val.index.json", *tars, *(f"{name}.json" for name in tars)}


def signature(folder: Path, tiny_data: Path) -> set[str]:
    pytest.importorskip("cryptography", reason="cryptography is not installed; it signs")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from edgepress.multilabel.signature import sign

    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key)
    names = bundle(folder, tiny_data)
    return {*names, sign(Bundle.open(folder / "run" / "onnx-fp32"), folder / "key.pem").name}


@pytest.mark.parametrize("write", [file, bundle, state, shards, signature])
def test_bytes_then_the_name_then_its_folder(write, tiny_data, tmp_path):
    with watched(tmp_path) as disk:
        expected = write(tmp_path, tiny_data)
    assert disk.faults == []
    assert {path.name for path in disk.named} == expected


def test_a_new_folder_is_kept_with_all_above_it(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable, "sync", synced.append)
    make_folder(tmp_path / "a" / "b")
    assert set(synced) == {tmp_path, tmp_path / "a"}
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_a_file_system_that_synchronises_no_folder_is_written_to_and_a_failing_disk_is_told(tmp_path, monkeypatch):
    def failing(number: int) -> None:
        raise OSError(22 if folders_only and os.path.isdir(f"/proc/self/fd/{number}") else 5, "planned")

    (tmp_path / "a").write_bytes(b"a")
    monkeypatch.setattr(os, "fsync", failing)
    folders_only = True
    sync(tmp_path)
    with pytest.raises(OSError, match="planned"):
        sync(tmp_path / "a")
    folders_only = False
    with pytest.raises(OSError, match="planned"):
        give_name(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def careless_rename(path: Path) -> None:
    (path / "a").write_bytes(b"a")
    (path / "a").replace(path / "b")
    sync(path)


def bytes_after_sync(path: Path) -> None:
    (path / "a").write_bytes(b"a")
    sync(path / "a")
    (path / "a").write_bytes(b"other")
    (path / "a").replace(path / "b")
    sync(path)


def forgotten_folder(path: Path) -> None:
    (path / "a").write_bytes(b"a")
    sync(path / "a")
    (path / "a").replace(path / "b")


@pytest.mark.parametrize(
    ("write", "fault"),
    [
        (careless_rename, "a is not on the disk when"),
        (bytes_after_sync, "a is not on the disk when"),
        (forgotten_folder, "b is in doubt when all is done"),
    ],
)
def test_the_watch_sees_what_is_out_of_order(write, fault, tmp_path):
    with watched(tmp_path) as disk:
        write(tmp_path)
    assert len(disk.faults) == 1
    assert fault in disk.faults[0]
