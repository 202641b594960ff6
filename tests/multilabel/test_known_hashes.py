"""Known hashes: trusted only of files in the very state in which they were read, and done without where they fail."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from edgepress.multilabel import known_hashes
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import DataChangedError, InputError
from edgepress.multilabel.known_hashes import KnownHashes
from edgepress.multilabel.pictures import Reading, read_file
from tests.clock import jump


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch) -> Path:
    """A folder for the hashes; two files are enough, and a file is at rest at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(known_hashes, "FEWEST", 2)
    monkeypatch.setattr(known_hashes, "AT_REST", -60)
    return tmp_path / "cache/edgepress/hashes"


class Files:
    """Files, and how often each was read."""

    def __init__(self, folder: Path, count: int = 5, content: str = "picture") -> None:
        folder.mkdir()
        self.root, self.paths, self.read = folder, [folder / f"{number}.jpg" for number in range(count)], []
        for number, path in enumerate(self.paths):
            path.write_text(f"{content} {number}")

    def look(self, path: Path) -> Reading:
        self.read.append(path.name)
        return read_file(path)

    def known(self) -> list[str]:
        """What is read now; the answer is held to be right."""
        self.read.clear()
        found = KnownHashes(self.root).of(self.paths, self.look)
        assert found == [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.paths]
        return list(self.read)


@pytest.fixture
def files(tmp_path) -> Files:
    return Files(tmp_path / "pictures")


def test_files_are_read_once(files):
    assert len(files.known()) == 5
    assert files.known() == []


def test_a_file_that_was_written_again_is_read_again_though_its_size_and_its_time_are_as_before(files):
    files.known()
    before = files.paths[2].stat()
    files.paths[2].write_bytes(b"PICTURE 2")
    os.utime(files.paths[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.paths[2].stat().st_mtime_ns == before.st_mtime_ns
    assert files.known() == ["2.jpg"]
    assert files.known() == []


def test_a_file_that_another_took_the_place_of_is_read_again(files):
    files.known()
    shutil.copy2(files.paths[1], files.root / "new")
    (files.root / "new").replace(files.paths[0])
    assert files.known() == ["0.jpg"]


def test_a_file_that_was_written_lately_is_never_trusted(files, monkeypatch):
    monkeypatch.setattr(known_hashes, "AT_REST", 60)
    assert len(files.known()) == len(files.known()) == 5
    monkeypatch.setattr(known_hashes, "AT_REST", -60)
    assert len(files.known()) == 5  # none was kept
    monkeypatch.setattr(known_hashes, "AT_REST", 60)
    assert len(files.known()) == 5


@pytest.mark.parametrize("back", [False, True])
def test_a_folder_that_takes_another_s_place_while_files_are_read_leaves_no_wrong_hash(tmp_path, back):
    """Renaming a folder changes no time of the files in it."""
    files, other = Files(tmp_path / "data"), Files(tmp_path / "new", content="another")

    def swap(path: Path) -> Reading:
        if path.name == "2.jpg":
            files.root.rename(tmp_path / "old")
            other.root.rename(files.root)
        reading = read_file(path)
        if path.name == "3.jpg" and back:
            files.root.rename(other.root)
            (tmp_path / "old").rename(files.root)
        return reading

    mixed = KnownHashes(files.root).of(files.paths, swap)
    assert mixed[2:4] == [hashlib.sha256(b"another %d" % number).hexdigest() for number in (2, 3)]
    if not back:
        files.root.rename(other.root)
        (tmp_path / "old").rename(files.root)
    assert files.known() == (["2.jpg", "3.jpg"] if back else ["2.jpg", "3.jpg", "4.jpg"])
    assert files.known() == []


def test_a_file_that_is_written_while_it_is_read_is_not_kept(files):
    def disturbed(path: Path) -> Reading:
        before = read_file(path)
        if path.name == "1.jpg":
            path.write_bytes(b"longer picture 1")
        return Reading(before.data, before.before, path.stat())

    KnownHashes(files.root).of(files.paths, disturbed)
    assert files.known() == ["1.jpg"]


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_jumps_has_no_file_taken_for_another(files, monkeypatch, days):
    monkeypatch.setattr(known_hashes, "AT_REST", 2)
    files.known()
    jump(monkeypatch, days)
    files.known()
    files.paths[3].write_bytes(b"PICTURE 3")
    assert "3.jpg" in files.known()


def test_a_damaged_cache_is_no_cache(files, kept):
    files.known()
    (file,) = kept.iterdir()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    for broken in (bytes(data), bytes(data[:-1]), b"", b"x" * 31):
        file.write_bytes(broken)
        assert len(files.known()) == 5
    assert files.known() == []


def test_without_a_place_for_it_every_file_is_read(files, monkeypatch, kept):
    kept.parent.parent.mkdir(exist_ok=True)
    kept.parent.write_text("no folder")
    assert len(files.known()) == len(files.known()) == 5
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    assert len(files.known()) == 5


def test_an_empty_file_in_the_place_of_the_folder_does_without_it(files, kept):
    kept.parent.mkdir(parents=True)
    kept.touch()
    assert len(files.known()) == len(files.known()) == 5
    KnownHashes(files.root).forget()
    assert kept.read_bytes() == b""


def test_few_files_are_not_kept(files, monkeypatch, kept):
    monkeypatch.setattr(known_hashes, "FEWEST", 6)
    files.known()
    assert not kept.exists()


def test_all_together_are_bounded_and_those_in_use_stay(tmp_path, monkeypatch, kept):
    sets = [Files(tmp_path / f"set {number}") for number in range(3)]
    size = 32 + 5 * known_hashes._ENTRY.itemsize
    monkeypatch.setattr(known_hashes, "MOST_BYTES", 2 * size)
    sets[0].known()
    sets[1].known()
    for number, file in enumerate(sorted(kept.iterdir())):
        os.utime(file, (1000 + number, 1000 + number))
    assert sets[0].known() == []  # it was used last
    sets[2].known()
    assert sum(file.stat().st_size for file in kept.iterdir()) <= 2 * size
    assert [len(one.known()) for one in (sets[0], sets[2])] == [0, 0]


def test_what_a_killed_process_left_is_removed_after_a_day(files, kept):
    kept.mkdir(parents=True)
    (kept / ".killed").write_bytes(b"part of a file")
    os.utime(kept / ".killed", (time.time() - 90_000,) * 2)
    (kept / ".writing").write_bytes(b"part of a file")
    os.utime(kept / ".writing", (time.time() - 80_000,) * 2)
    files.known()
    assert [path.name for path in kept.glob(".*")] == [".writing"]


def test_a_file_that_is_gone_before_it_is_counted_does_not_stop_the_bounding(files, kept, monkeypatch, caplog):
    kept.mkdir(parents=True)
    (kept / "gone").symlink_to(kept / "nothing")  # it is listed, and its `stat` finds no file
    size = 32 + 5 * known_hashes._ENTRY.itemsize
    monkeypatch.setattr(known_hashes, "MOST_BYTES", size)
    (kept / "old").write_bytes(bytes(size))
    os.utime(kept / "old", (1000, 1000))
    with caplog.at_level("INFO", "edgepress"):
        files.known()
    assert "hashes cannot be kept" not in caplog.text
    assert not (kept / "old").exists()
    assert files.known() == []


def test_writers_at_once_leave_a_whole_file(files, kept):
    threads = [threading.Thread(target=KnownHashes(files.root).of, args=(files.paths, files.look)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(kept.iterdir())) == 1
    assert files.known() == []


def test_a_data_set_is_checked_once_and_a_picture_that_breaks_later_is_found(tiny_data, tmp_path):
    root = shutil.copytree(tiny_data, tmp_path / "data")
    load_dataset(root, "train").check_pictures()
    again = load_dataset(root, "train")
    assert again.fingerprint() == load_dataset(tiny_data, "train").fingerprint()
    victim = Path(str(again.paths[3]))
    victim.write_bytes(victim.read_bytes()[:-40])
    with pytest.raises(InputError, match=victim.name):
        load_dataset(root, "train").check_pictures()


def test_a_wrong_hash_stops_the_work_and_is_forgotten(tiny_data, tmp_path, kept, monkeypatch):
    """A file system that tells no change: what is read is hashed all the same."""
    root = shutil.copytree(tiny_data, tmp_path / "data")
    load_dataset(root, "train").hashes()
    monkeypatch.setattr(known_hashes, "_key", _key_of_name)
    load_dataset(root, "train").hashes()
    data = load_dataset(root, "train")
    shutil.copy(str(data.paths[0]), str(data.paths[1]))
    with pytest.raises(DataChangedError, match="another picture than when"):
        data.stored(1)
    assert not list(kept.iterdir())
    assert load_dataset(root, "train").stored(1) == Path(str(data.paths[0])).read_bytes()


def test_a_wrong_hash_is_forgotten_though_its_picture_is_of_the_unlabelled_folder(
    tiny_data, tmp_path, kept, monkeypatch
):
    monkeypatch.setattr(known_hashes, "_key", _key_of_name)
    mine, more = (shutil.copytree(tiny_data, tmp_path / name) for name in ("data", "unlabelled"))

    def joined() -> MultiLabelDataset:
        return load_dataset(mine, "val").followed_by(load_dataset(more, "train"))

    joined()
    data = joined()
    last = Path(str(data.paths[-1]))
    shutil.copy(str(data.paths[0]), last)
    with pytest.raises(DataChangedError, match="another picture than when"):
        data.subset(np.arange(len(data) - 1, len(data))).stored(0)
    assert not list(kept.iterdir())
    assert joined().stored(len(data) - 1) == last.read_bytes()


def _key_of_name(item, state) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(str(item).encode()).digest()[:16], "<u8")
