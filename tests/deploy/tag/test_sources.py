"""Sources: every way to name pictures gives each of them once, in order, and what is broken breaks nothing else."""

from __future__ import annotations

import io
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.deploy.tag.ahead import load_ahead
from edgepress.deploy.tag.sources import LONGEST_LINE, pictures
from edgepress.deploy.tag.tagger import _load
from edgepress.multilabel.datasets.files import named_as
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import looks_like_picture, read_picture


def same(image: np.ndarray) -> np.ndarray:
    return image


def named(*names: object, **settings) -> list[str]:
    return [source.name for source in pictures([str(name) for name in names], same, **settings)]


def reason(*names: object, **settings) -> str:
    (source,) = pictures([str(name) for name in names], same, **settings)
    with pytest.raises(InputError) as error:
        source.load()
    assert str(error.value).startswith(str(InputError(source.name)))
    return str(error.value)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three pictures in two folders, each of one grey, and a file that is none."""
    (tmp_path / "b").mkdir()
    for name, grey in (("a.png", 10), ("b/c.jpg", 20), ("b/d.PNG", 30)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 12, 3), grey, np.uint8))
    (tmp_path / "notes.txt").write_text("a.png\n")
    return tmp_path


def write_video(path: Path, *, frames: int, rate: float, codec: str = "MJPG") -> None:
    """Frame i is of the grey 8·i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), rate, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(np.full((48, 64, 3), 8 * number, np.uint8))
    writer.release()


def test_a_folder_gives_the_pictures_below_it_in_order_and_nothing_else(tree):
    sources = list(pictures([str(tree)], same))
    assert [source.name for source in sources] == [str(tree / name) for name in ("a.png", "b/c.jpg", "b/d.PNG")]
    assert [round(source.load().mean()) for source in sources] == [10, 20, 30]


def test_pictures_of_a_folder_that_are_not_read_are_told(tree, caplog):
    for name in ("e.HEIC", "b/f.heic", "b/g.jp2", ".h.heic"):
        (tree / name).write_bytes(b"x")
    (tree / "link").symlink_to(tree / "b")
    with caplog.at_level("INFO", logger="edgepress"):
        assert len(list(pictures([str(tree)], same))) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"{tree}: passed over: .heic 2 (such as e.HEIC); links to folders 1 (such as link); .jp2 1 (such as g.jp2)"
    ]


def test_a_folder_is_looked_through_as_its_pictures_are_taken(tree, monkeypatch):
    """Of a million pictures the first is answered at once."""
    asked = []
    monkeypatch.setattr(
        "edgepress.deploy.tag.sources.named_as", lambda folder, ends: asked.append(folder) or named_as(folder, ends)
    )
    (tree / "c").mkdir()
    cv2.imwrite(str(tree / "c" / "e.png"), np.zeros((8, 8, 3), np.uint8))
    (tree / ".hidden").mkdir()
    shutil.copyfile(tree / "a.png", tree / ".hidden" / "f.png")
    found = pictures([str(tree)], same)
    assert next(found).name == str(tree / "a.png")
    assert asked == [tree]
    assert [source.name for source in found] == [str(tree / name) for name in ("b/c.jpg", "b/d.PNG", "c/e.png")]
    assert asked == [tree, tree / "b", tree / "c"]


def test_links_lead_round_in_no_circle(tree):
    (tree / "b" / "again").symlink_to(tree)
    (tree / "linked.png").symlink_to(tree / "a.png")
    assert named(tree) == [str(tree / name) for name in ("a.png", "b/c.jpg", "b/d.PNG", "linked.png")]


def test_names_keep_their_order_and_may_come_twice(tree):
    assert named(tree / "b" / "c.jpg", tree / "a.png", tree / "b" / "c.jpg") == [
        str(tree / name) for name in ("b/c.jpg", "a.png", "b/c.jpg")
    ]


def test_a_pattern_gives_what_it_matches(tree):
    assert named(tree / "b" / "*.[jP]*") == [str(tree / name) for name in ("b/c.jpg", "b/d.PNG")]
    assert named(tree / "**" / "*.png") == [str(tree / "a.png")]
    assert reason(tree / "*.webp").endswith("no file matches this pattern")
    strange = tree / "what[1]?.png"  # a file of that name comes first
    (tree / "a.png").rename(strange)
    assert named(strange) == [str(strange)]


def test_a_pattern_for_all_folders_follows_no_link_to_one(tree):
    (tree / "round").symlink_to(tree, target_is_directory=True)
    assert named(tree / "**" / "*.jpg") == [str(tree / "b" / "c.jpg")]
    assert named(tree / "round" / "b" / "*.jpg") == [str(tree / "round" / "b" / "c.jpg")]


def test_an_empty_name_is_refused(tree):
    with pytest.raises(InputError, match="an empty name among the sources"):
        named("")


def test_what_cannot_be_read_is_told_when_it_is_loaded(tree):
    assert "cannot be read" in reason(tree / "absent.png")
    assert "not a picture" in reason(tree / "notes.txt")
    (tree / "empty").mkdir()
    assert "no picture in it; expected files that end in .jpg" in reason(tree / "empty")
    assert "cannot be read" in reason("x" * 5000)
    assert "cannot be read" in reason("nul\0.png")


@pytest.mark.parametrize(("every", "greys"), [(1.0, [0, 80, 160]), (0.5, [0, 40, 80, 120, 160]), (99, [0])])
def test_a_video_gives_a_picture_every_so_many_seconds(tmp_path, every, greys):
    write_video(tmp_path / "clip.avi", frames=25, rate=10)
    sources = list(pictures([str(tmp_path)], same, every=every))
    assert [source.name for source in sources] == [f"{tmp_path / 'clip.avi'}@{grey / 80:.2f}s" for grey in greys]
    assert [source.load().mean() for source in sources] == pytest.approx(greys, abs=3)
    assert {source.load().shape for source in sources} == {(48, 64, 3)}


def test_a_video_of_every_frame_and_more(tmp_path):
    write_video(tmp_path / "clip.mp4", frames=6, rate=7, codec="mp4v")
    assert len(named(tmp_path / "clip.mp4", every=1e-3)) == 6


def test_frames_are_prepared_as_they_are_read(tmp_path):
    write_video(tmp_path / "clip.avi", frames=3, rate=1)
    for source in pictures([str(tmp_path / "clip.avi")], lambda image: image[:2, :2]):
        assert source.load().shape == (2, 2, 3)


def test_a_video_that_is_none(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    assert "cannot be read as a video" in reason(tmp_path / "clip.mp4")
    assert "no such file" in reason(tmp_path / "absent.mkv")


@pytest.mark.parametrize(("suffix", "share"), [("avi", 12), ("mkv", 10)])
def test_a_video_that_is_cut_off_says_so_last(tmp_path, suffix, share):
    clip = tmp_path / f"clip.{suffix}"
    write_video(clip, frames=32, rate=8)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) * share // 16])
    *before, last = pictures([str(clip)], same)
    assert [source.name for source in before] == [f"{clip}@{at}.00s" for at in (0, 1, 2)]
    with pytest.raises(InputError, match=r"ends at second \d\.\d\d of 4\.00: damaged or cut off") as error:
        last.load()
    assert str(error.value).startswith(f"{clip}: ")
    assert 2 < float(re.search(r"second (\S+)", str(error.value)).group(1)) < 3


def test_a_video_that_lacks_little_is_whole(tmp_path):
    """Counts of frames are not exact in every container."""
    clip = tmp_path / "clip.avi"
    write_video(clip, frames=32, rate=8)
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) * 7 // 8])
    assert named(clip) == [f"{clip}@{at}.00s" for at in (0, 1, 2, 3)]


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf")])
def test_seconds_between_frames_are_above_0(every):
    with pytest.raises(InputError, match="expected a number above 0"):
        named("x", every=every)


@pytest.mark.parametrize("separator", [b"\n", b"\r\n", b"\0"])
def test_stdin_gives_paths(tree, separator):
    names = [str(tree / name) for name in ("a.png", "b/c.jpg", "absent.png")]
    text = separator.join(name.encode() for name in names)
    for whole in (text, text + separator):
        assert named("-", stdin=io.BytesIO(whole)) == names
    assert named("-", stdin=io.BytesIO(b"")) == []


def test_a_line_of_stdin_may_be_a_folder_and_be_no_text(tree):
    odd = os.fsdecode(b"\xff odd.png")
    (tree / "a.png").rename(tree / "b" / odd)
    assert named("-", stdin=io.BytesIO(os.fsencode(str(tree / "b")) + b"\n")) == [
        str(tree / "b" / name) for name in ("c.jpg", "d.PNG", odd)
    ]


def test_stdin_gives_one_pictures_bytes(tree):
    data = (tree / "b" / "c.jpg").read_bytes()
    (source,) = pictures(["-"], same, stdin=io.BytesIO(data))
    assert source.name == "stdin"
    assert np.array_equal(source.load(), read_picture(tree / "b" / "c.jpg"))
    assert "truncated" in reason("-", stdin=io.BytesIO(data[:-20]))


class Pieces(io.RawIOBase):
    """A pipe that holds one piece at a time; whoever asks for more than there are would wait."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        assert self.pieces, "it would wait here"
        piece = self.pieces.pop(0)
        if len(piece) > len(buffer):
            self.pieces.insert(0, piece[len(buffer) :])
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        return count


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_path_on_stdin_waits_for_no_other(tree, separator):
    """A short one as well, of fewer bytes than tell a picture."""
    for paths in ([b"a.png", b"b.png"], [bytes(tree / "a.png"), bytes(tree / "b" / "c.jpg")]):
        piped = io.BufferedReader(Pieces(*(path + separator for path in paths)))
        coming = pictures(["-"], same, stdin=piped)
        assert [next(coming).name for _ in paths] == [os.fsdecode(path) for path in paths]


def test_stdin_may_come_in_any_pieces(tree):
    data = (tree / "a.png").read_bytes()
    piped = io.BufferedReader(Pieces(*(data[at : at + 12] for at in range(0, len(data), 12)), b"", b""))
    (source,) = pictures(["-"], same, stdin=piped)
    assert source.name == "stdin"
    assert source.load().mean() == 10
    piped = io.BufferedReader(Pieces(b"a.p", b"ng\nb/c", b".jpg\r", b"\nlast", b"", b""))
    assert [one.name for one in pictures(["-"], same, stdin=piped)] == ["a.png", "b/c.jpg", "last"]


def test_stdin_that_is_neither(tmp_path):
    assert "a line of over" in reason("-", stdin=io.BytesIO(b"x" * (3 * LONGEST_LINE)))


@pytest.mark.parametrize("name", [b"BMW.jpg\nVW.jpg\nFiat.jpg", b"RIFFs/guitar.png", b"IIx.jpg", b"", b"B"])
def test_a_path_is_no_picture_whatever_it_begins_with(name):
    assert not looks_like_picture(name[:16])


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tiff", "gif"])
def test_a_pictures_first_bytes_are_known(suffix):
    kept, data = cv2.imencode(f".{suffix}", np.zeros((300, 300, 3), np.uint8))
    assert kept
    assert looks_like_picture(data.tobytes()[:16])


def test_a_folder_gives_a_gif_as_its_name_alone_does(tmp_path):
    (tmp_path / "a.GIF").write_bytes(b"GIF8")
    assert [source.name for source in pictures([tmp_path], same)] == [str(tmp_path / "a.GIF")]


def test_no_more_is_loaded_than_is_taken():
    loaded: list[int] = []

    def load(number: int) -> int:
        loaded.append(number)
        return number

    batches = load_ahead(load, iter(range(10**9)), 4)
    assert next(batches) == [0, 1, 2, 3]
    batches.close()
    assert len(loaded) <= 16


def test_a_picture_that_is_broken_is_not_kept_by_its_error(tree):
    """Many may be broken, and the frames of a traceback hold their bytes."""
    (source,) = pictures([str(tree / "notes.txt")], same)
    name, error = _load(source)
    assert name == source.name
    assert isinstance(error, InputError)
    assert error.__traceback__ is None
