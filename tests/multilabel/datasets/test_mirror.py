"""Shards at a URL: copied once, checked, resumed, and read as those of a folder are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from edgepress.multilabel.datasets import list_splits, load_dataset, mirror, object_store
from edgepress.multilabel.datasets.mirror import dataset_folder, mirror_of
from tests.multilabel.tars import SMALL, assert_same, refusal, shard, stamps

pytest.importorskip("fsspec", reason="fsspec is not installed; it reads object stores")


@pytest.fixture
def url(out, tmp_path, monkeypatch) -> str:
    """`out`, the shards of `source`, as a store; the cache is empty, and this process was given no URL before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(mirror, "_MIRRORS", {})
    monkeypatch.setattr(object_store, "WAITS", ())
    return f"file://{out}"


@pytest.fixture
def again(monkeypatch):
    """Makes this process one that was given no URL yet."""
    return lambda: mirror._MIRRORS.clear()


def reads(monkeypatch) -> list[tuple[str, int]]:
    """The names and offsets of the blocks that are read from the store from now on."""
    found: list[tuple[str, int]] = []
    whole = object_store.ObjectStore._ranges

    def ranges(self, file, starts, ends):
        found.extend((file.name, start) for start in starts)
        return whole(self, file, starts, ends)

    monkeypatch.setattr(object_store.ObjectStore, "_ranges", ranges)
    return found


def test_a_url_is_read_as_the_folder_is(url, out):
    assert list_splits(url) == list_splits(out) == ["test", "train"]
    for split in ("train", "test", "train[:50%]"):
        assert_same(load_dataset(url, split), load_dataset(out, split))
    load_dataset(url, "train").check_pictures()
    folder = dataset_folder(url)
    assert mirror_of(folder) is not None
    assert mirror_of(out) is None
    assert_same(load_dataset(folder, "test"), load_dataset(out, "test"))


def test_shards_are_copied_with_their_split_and_once(url, out, again, monkeypatch):
    found = reads(monkeypatch)
    load_dataset(url, "test")
    copied = {name for name, _ in found}
    assert {name for name in copied if name.endswith(".tar")} == {path.name for path in out.glob("test-*.tar")}
    found.clear()
    again()
    load_dataset(url, "test")
    assert found == []
    load_dataset(url, "train")
    assert {name for name, _ in found} == {path.name for path in out.glob("train-*.tar")}
    assert len(found) == len(set(found))


def test_what_is_copied_is_said_before(url, out, caplog):
    caplog.set_level("INFO", logger="edgepress")
    load_dataset(url, "train")
    tars = sorted(out.glob("train-*.tar"))
    size = sum(tar.stat().st_size for tar in tars) / 1e6
    (line,) = (record.message for record in caplog.records if "copying" in record.message)
    assert f"train  copying {len(tars)} of {len(tars)} shards from {url}, {size:.1f} MB, into" in line


def test_a_copy_that_broke_off_goes_on_in_the_middle_of_a_shard(url, out, again, monkeypatch):
    monkeypatch.setattr(object_store, "BLOCK", 1000)
    monkeypatch.setattr(object_store, "AT_ONCE", 1)
    whole = object_store.ObjectStore._ranges

    def broken(self, file, starts, ends):
        if file.name == "train-000001.tar" and starts[0] >= 5000:
            raise ConnectionResetError("the store was killed")
        return whole(self, file, starts, ends)

    monkeypatch.setattr(object_store.ObjectStore, "_ranges", broken)
    said = refusal(load_dataset, url, "train")
    assert "train-000001.tar: not read" in said
    assert "start the same command again; what was copied is kept" in said
    folder = dataset_folder(url)
    before = stamps(folder)
    assert list(before) == ["train-000000.tar"]
    monkeypatch.setattr(object_store.ObjectStore, "_ranges", whole)
    again()
    found = reads(monkeypatch)
    assert_same(load_dataset(url, "train"), load_dataset(out, "train"))
    assert min(start for name, start in found if name == "train-000001.tar") == 5000
    assert "train-000000.tar" not in {name for name, _ in found}
    assert before.items() <= stamps(folder).items()
    assert list((folder / ".partial").iterdir()) == []


def test_a_shard_with_another_content_gets_no_name(url, out):
    path = out / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    said = refusal(load_dataset, url, "train")
    assert f"{url}/train-000000.tar: its sha256 is" in said
    assert "copy the folder that edgepress shard wrote to the store again" in said
    assert not (dataset_folder(url) / "train-000000.tar").exists()


@pytest.mark.parametrize("lost", ["missing", "truncated"])
def test_a_store_without_all_shards_is_refused_before_any_is_copied(url, out, lost):
    path = sorted(out.glob("train-*.tar"))[-1]
    size = path.stat().st_size
    path.unlink() if lost == "missing" else path.write_bytes(path.read_bytes()[:-512])
    said = refusal(load_dataset, url, "train")
    has = "nothing of that name" if lost == "missing" else f"{size - 512:,} bytes"
    assert f"{path.name}: {has} in the store, and {size:,} bytes in train.index.json" in said
    assert list(dataset_folder(url).glob("*.tar")) == []


@pytest.mark.parametrize("name", ["../beside.tar", "/etc/passwd.tar", "labels.txt", ".copied", "deep/er.tar", ".a.tar"])
def test_an_index_cannot_name_a_file_elsewhere(url, out, name):
    (out.parent / "beside.tar").write_bytes(b"x" * 2048)
    index = json.loads((out / "train.index.json").read_bytes())
    index["tars"][0]["name"] = name
    (out / "train.index.json").write_text(json.dumps(index))
    labels = (out / "labels.txt").read_bytes()
    said = refusal(load_dataset, url, "train")
    assert any(why in said for why in ("expected one below it", "expected a plain name", "expected NAME.tar")), said
    folder = dataset_folder(url)
    assert (folder / "labels.txt").read_bytes() == labels
    assert {path.suffix for path in folder.iterdir()} <= {".txt", ".json", ".copied", ""}


@pytest.mark.parametrize("told", [object_store._VERSIONS, ()], ids=["versions", "no version"])
def test_a_changed_store_is_copied_where_it_changed(url, out, source, again, monkeypatch, told):
    monkeypatch.setattr(object_store, "_VERSIONS", told)
    load_dataset(url, "train")
    before = stamps(dataset_folder(url))
    path = source / "train" / "metadata.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["labels"], rows[-1]["ignore"] = ["Straße"], []
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    for old in list(out.glob("train*")):
        old.unlink()
    shard(source, out, "train")
    again()
    assert_same(load_dataset(url, "train"), load_dataset(out, "train"))
    after = stamps(dataset_folder(url))
    assert {name for name in before if before[name] != after[name]} == {sorted(before)[-1]}


def test_what_the_store_no_longer_has_goes(url, out, again):
    for split in ("train", "test"):
        load_dataset(url, split)
    for path in out.glob("test*"):
        path.unlink()
    again()
    assert list_splits(url) == ["train"]
    assert not list(dataset_folder(url).glob("test*"))


@pytest.mark.parametrize("changed", [False, True], ids=["index as before", "index changed"])
def test_a_begun_copy_stays_only_while_an_index_names_its_shard(url, out, source, again, changed):
    load_dataset(url, "test")
    tars = json.loads((out / "train.index.json").read_bytes())["tars"]
    begun = dataset_folder(url) / ".partial" / f"{tars[0]['name']}.{tars[0]['sha256'][:16]}"
    begun.parent.mkdir(exist_ok=True)
    begun.write_bytes((out / tars[0]["name"]).read_bytes()[:1000])
    old = begun.with_name(f"{tars[0]['name']}.{'0' * 16}")
    old.write_bytes(b"x")
    if changed:
        for path in out.glob("train*"):
            path.unlink()
        shard(source, out, "train", shard_bytes=10 * SMALL)
    again()
    list_splits(url)
    assert (begun.exists(), old.exists()) == (not changed, False)
    assert_same(load_dataset(url, "train"), load_dataset(out, "train"))
    assert not list(begun.parent.iterdir())


def test_label_groups_come_along_and_go(url, out, again):
    (out / "labels.yaml").write_text("implies:\n  dog: [cat]\n")
    groups = load_dataset(url, "test").groups
    assert groups
    assert groups == load_dataset(out, "test").groups
    (out / "labels.yaml").unlink()
    again()
    assert not load_dataset(url, "test").groups


def test_a_lost_record_makes_nothing_be_copied_again(url, out, again, monkeypatch):
    load_dataset(url, "train")
    folder = dataset_folder(url)
    (folder / ".copied").write_text("{")
    again()
    found = reads(monkeypatch)
    load_dataset(url, "train")
    assert not [name for name, _ in found if name.endswith(".tar")]


def test_a_shard_that_was_changed_here_is_copied_again(url, out, again):
    load_dataset(url, "train")
    path = dataset_folder(url) / "train-000000.tar"
    path.write_bytes(bytes(path.stat().st_size))
    again()
    load_dataset(url, "train").check_pictures()
    assert path.read_bytes() == (out / path.name).read_bytes()


def test_too_little_room_is_said_before_anything_is_copied(url, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(mirror.shutil, "disk_usage", lambda folder: usage(10, 10, 1000))
    said = refusal(load_dataset, url, "train")
    assert "1,000 are free; make room, or set XDG_CACHE_HOME" in said
    assert not list(dataset_folder(url).glob("*.tar"))


def test_other_folders_and_places_are_refused(url, out, source, monkeypatch):
    assert "no labels.txt" in refusal(load_dataset, f"file://{source.parent}", "train")
    assert "no <split>.index.json" in refusal(load_dataset, f"file://{source}", "train")
    assert "splits here: test, train" in refusal(load_dataset, url, "val")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    assert "set XDG_CACHE_HOME" in refusal(load_dataset, url, "train")


def test_processes_of_one_machine_copy_each_shard_once(url, tmp_path):
    """Both begin at once, and each says what it copied."""
    code = "import logging, sys; from edgepress import load_dataset; logging.basicConfig(level='INFO')\n"
    code += "load_dataset(sys.argv[1], 'train').check_pictures()"
    command = [sys.executable, "-c", code, url]
    running = [subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(process.communicate(timeout=60)[1] for process in running)
    assert [process.returncode for process in running] == [0, 0], said
    names = [path.name for path in Path(url.removeprefix("file://")).glob("train-*.tar")]
    assert {name: said.count(f"copied {name}") for name in names} == dict.fromkeys(names, 1)


def test_the_command_line_takes_a_url(url, edgepress, tmp_path):
    found = edgepress("data", url, "--json").json
    assert set(found["splits"]) == {"test", "train"}
    bad = edgepress("data", "s3://key:secret@bucket/a")
    assert bad.code == 2
    assert "secret" not in bad.err
