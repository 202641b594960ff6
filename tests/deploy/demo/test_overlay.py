"""Labels and FPS drawn into videos: every frame, whole files only, and one line of why where it cannot be."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepress.deploy.demo.overlay import Frames, draw, has_window, show
from edgepress.deploy.tag.tagger import open_tagger
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import read_picture
from tests.disk import full_disk
from tests.durable import watched

SIDE = 240


@pytest.fixture(scope="module")
def film(splits, tmp_path_factory):
    """Makes a video of the test's pictures, each shown twice: 24 frames."""

    def make(suffix: str) -> Path:
        path = tmp_path_factory.mktemp("film") / f"film{suffix}"
        codec = {".mp4": "mp4v", ".avi": "MJPG"}[suffix]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 12.0, (SIDE, SIDE))
        for file in splits.test.paths:
            frame = cv2.resize(cv2.cvtColor(read_picture(file), cv2.COLOR_RGB2BGR), (SIDE, SIDE))
            for _ in range(2):
                writer.write(frame)
        writer.release()
        return path

    return make


@pytest.fixture
def tagger(run):
    with open_tagger(run / "onnx-fp32") as opened:
        yield opened


def frames_of(path: Path) -> list[np.ndarray]:
    with Frames(path) as frames:
        return list(frames)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_every_frame_is_drawn_into_and_written(edgepress, run, film, tmp_path, suffix):
    video, out = film(".mp4"), tmp_path / f"out{suffix}"
    with watched(tmp_path) as disk:
        answer = edgepress("demo", run / "onnx-fp32", "--video", video, "--out", out)
    assert (disk.faults, disk.named) == ([], {out})
    assert answer.code == 0, answer.err
    assert answer.out.startswith("24 frames, ")
    assert answer.out.strip().endswith(str(out))
    before, after = frames_of(video), frames_of(out)
    assert len(after) == len(before) == 24
    for old, new in zip(before, after, strict=True):
        assert old.shape == new.shape
        assert new[:10, :3].mean() < 60  # the black behind the text
        assert np.abs(old[-60:].astype(int) - new[-60:]).mean() < 12  # below the text it is the same frame
    assert list(tmp_path.iterdir()) == [out]


def test_the_lines_are_the_tags_and_the_rate(tagger, film, monkeypatch, tmp_path):
    drawn: list[list[str]] = []
    monkeypatch.setattr("edgepress.deploy.demo.overlay.draw", lambda frame, lines: drawn.append(lines) or frame)
    video = film(".avi")
    with Frames(video) as frames:
        show(tagger, frames, tmp_path / "out.avi")
    for frame, (rate, *lines) in zip(frames_of(video), drawn, strict=True):
        probabilities = tagger.predict(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        expected = [f"{tag} {probabilities[tag]:.2f}" for tag in tagger.tags(probabilities)]
        assert lines == (expected or ["no label over its threshold"])
        assert rate.endswith(" FPS")
        assert float(rate.split()[0]) > 0


def test_a_label_that_opencv_has_no_letters_for():
    frame = np.full((100, 400, 3), 255, np.uint8)
    assert (draw(frame, ["猫"]) == draw(frame, ["\\u732b"])).all()
    assert (frame == 255).all()


@pytest.fixture
def refused(edgepress, run, tmp_path):
    """A video that must be refused in one line, which is given; the file to write must not come to be."""

    def call(video: object, *options: object, out: str = "out.mp4") -> str:
        answer = edgepress("demo", run / "onnx-fp32", "--video", video, *options, "--out", tmp_path / out)
        assert answer.code == 2, answer
        assert not (tmp_path / out).exists()
        assert not list(tmp_path.glob(".*"))
        return answer.err.strip().splitlines()[-1]

    return call


def test_a_video_that_is_damaged_midway(refused, film, tmp_path):
    video = tmp_path / "cut.avi"
    data = film(".avi").read_bytes()
    video.write_bytes(data[: len(data) // 2])
    line = refused(video)
    assert str(video) in line
    assert "damaged; it stops after" in line
    assert "of 24 frames" in line


def test_a_video_that_cannot_be_read(refused, film, tmp_path):
    data = film(".mp4").read_bytes()
    for name, content in (("cut.mp4", data[: len(data) // 2]), ("text.mp4", b"no video"), ("empty.mp4", b"")):
        (tmp_path / name).write_bytes(content)
        assert f"{tmp_path / name}: cannot be read as a video" in refused(tmp_path / name)
    assert "no-such.mp4: no such file" in refused(tmp_path / "no-such.mp4")


def test_a_file_that_cannot_be_written(refused, film, edgepress, run):
    video = film(".mp4")
    assert "expected a file that ends in .mp4 or .avi" in refused(video, out="out.mkv")
    assert "does not exist" in refused(video, out="no-such/out.mp4")
    answer = edgepress("demo", run / "onnx-fp32", "--video", video, "--out", video)
    assert "name another file" in answer.err
    assert len(frames_of(video)) == 24


def test_a_name_that_is_not_utf8(tagger, film, tmp_path):
    """OpenCV ends the process at one: the error must come before."""
    video, bad = film(".avi"), Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.avi"))
    with Frames(video) as frames, pytest.raises(InputError, match=r"--out .*bad.*not UTF-8.*name another"):
        show(tagger, frames, bad)
    assert list(tmp_path.iterdir()) == []
    bad.write_bytes(video.read_bytes())
    with pytest.raises(InputError, match=r"bad.*not UTF-8.*rename the file"):
        Frames(bad)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_disk_that_is_full(refused, film, tmp_path, suffix):
    video = film(".mp4")
    with full_disk(8192):
        line = refused(video, out=f"out{suffix}")
    assert f"--out {tmp_path / 'out'}{suffix}: only " in line
    assert line.endswith("of 24 frames could be written; is the disk full?")


def test_a_run_folder_is_no_engine(edgepress, run, film, tmp_path):
    answer = edgepress("demo", run, "--video", film(".mp4"), "--out", tmp_path / "out.mp4")
    assert answer.code == 2
    assert "one of its engines" in answer.err


@pytest.mark.skipif(has_window(), reason="this OpenCV has a window, which would open")
def test_without_a_window_it_says_what_to_do(edgepress, run, film):
    answer = edgepress("demo", run / "onnx-fp32", "--video", film(".mp4"))
    assert answer.code == 2
    assert "--out" in answer.err
    assert "opencv-python in its place" in answer.err


def test_a_camera_that_is_not_there(edgepress, run, tmp_path):
    answer = edgepress("demo", run / "onnx-fp32", "--camera", "97", "--out", tmp_path / "out.mp4")
    assert answer.code == 2
    assert "camera 97: cannot be opened" in answer.err


class Interrupted(Frames):
    """A camera whose person presses Ctrl-C after so many frames; a video stands for the camera."""

    def __init__(self, video: Path, after: int) -> None:
        super().__init__(video)
        self.source, self.after = 0, after

    def __iter__(self):
        for number, frame in enumerate(super().__iter__()):
            if number == self.after:
                raise KeyboardInterrupt
            yield frame


def test_a_camera_is_watched_until_it_is_interrupted(tagger, film, tmp_path):
    out = tmp_path / "out.mp4"
    with Interrupted(film(".mp4"), 7) as camera:
        assert show(tagger, camera, out).frames == 7
    assert len(frames_of(out)) == 7


def test_a_video_that_is_interrupted_leaves_nothing(tagger, film, tmp_path):
    with Interrupted(film(".mp4"), 7) as frames:
        frames.source = Path("film.mp4")
        with contextlib.suppress(KeyboardInterrupt):
            show(tagger, frames, tmp_path / "out.mp4")
            pytest.fail("it was to be interrupted")
    assert list(tmp_path.iterdir()) == []


def test_a_camera_without_a_frame(tagger, film, tmp_path):
    with Interrupted(film(".mp4"), 0) as camera, pytest.raises(KeyboardInterrupt):
        show(tagger, camera, tmp_path / "out.mp4")
    assert list(tmp_path.iterdir()) == []


def test_frames_name_what_they_are_of(film):
    with pytest.raises(InputError, match="expected a video"):
        Frames(Path("no-such.mp4"))
    with Frames(film(".avi")) as frames:
        assert frames.rate == pytest.approx(12.0)
