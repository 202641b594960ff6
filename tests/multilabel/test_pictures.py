"""Reading pictures: upright, whole, bounded, or an error that names the file."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib

import cv2
import numpy as np
import pytest

from edgepress.multilabel import pictures
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import MAX_PIXELS, check_picture, decode_picture, picture_hash, read_picture
from tests.nasty import PNG, chunk, jpeg_claiming, png_claiming, with_orientation


def encode(extension: str, image: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode(extension, image, list(options))
    assert done
    return data.tobytes()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """uint8 RGB `[24, 40, 3]`, another colour in each corner."""
    rows, columns = np.mgrid[0:24, 0:40]
    return np.stack([rows * 10, columns * 6, 255 - rows * 5 - columns * 3], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def jpeg(picture) -> bytes:
    return encode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), cv2.IMWRITE_JPEG_QUALITY, 95)


@pytest.fixture(scope="module")
def png(picture) -> bytes:
    return encode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def test_png_is_read_as_rgb_to_the_bit(tmp_path, picture, png):
    file = tmp_path / "a.png"
    file.write_bytes(png)
    result = read_picture(file)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, picture)
    assert picture_hash(file) == hashlib.sha256(png).hexdigest()
    check_picture(file)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda x: x),
        (2, np.fliplr),
        (3, lambda x: np.rot90(x, 2)),
        (4, np.flipud),
        (5, lambda x: x.transpose(1, 0, 2)),
        (6, lambda x: np.rot90(x, -1)),
        (7, lambda x: np.rot90(x.transpose(1, 0, 2), 2)),
        (8, lambda x: np.rot90(x, 1)),
    ],
)
def test_exif_orientation_is_obeyed(jpeg, orientation, turn):
    stored = decode_picture(jpeg, "a.jpg")
    assert stored.shape == (24, 40, 3)
    np.testing.assert_array_equal(decode_picture(with_orientation(jpeg, orientation), "a.jpg"), turn(stored))


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("restart", [0, 1])
def test_every_kind_of_jpeg_is_read_whole_and_refused_at_every_cut(picture, progressive, restart):
    options = (cv2.IMWRITE_JPEG_PROGRESSIVE, progressive, cv2.IMWRITE_JPEG_RST_INTERVAL, restart)
    data = encode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), *options)
    assert np.abs(decode_picture(data, "a.jpg").astype(int) - picture).mean() < 8
    decode_picture(data + b"\0" * 100, "a.jpg")  # cameras pad files
    for cut in {*range(3, len(data), 17), len(data) - 2, len(data) - 1}:
        with pytest.raises(InputError, match=r"a\.jpg: truncated JPEG"):
            decode_picture(data[:cut], "a.jpg")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_jpeg_file_is_refused_by_name_without_and_with_decoding(tmp_path, jpeg, share):
    file = tmp_path / "holiday.jpg"
    file.write_bytes(jpeg[: int(len(jpeg) * share)])
    for reader in (check_picture, read_picture):
        with pytest.raises(InputError, match="truncated JPEG") as caught:
            reader(file)
        assert str(file) in str(caught.value)


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture(jpeg):
    nested = with_orientation(jpeg, 1, extra=jpeg)
    np.testing.assert_array_equal(decode_picture(nested, "a.jpg"), decode_picture(jpeg, "a.jpg"))
    with pytest.raises(InputError, match="truncated JPEG"):
        decode_picture(nested[: len(nested) - 50], "a.jpg")


def test_a_truncated_png_is_refused_at_every_cut(png):
    for cut in {*range(8, len(png), 29), *range(len(png) - 12, len(png))}:
        with pytest.raises(InputError, match=r"a\.png: truncated PNG"):
            decode_picture(png[:cut], "a.png")


def test_a_png_whose_data_is_cut_short_inside_a_whole_file_is_refused():
    rows = np.random.default_rng(0).integers(0, 256, (16, 49), dtype=np.uint8)
    rows[:, 0] = 0  # filter byte
    packed = zlib.compress(rows.tobytes())
    head = PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0))
    whole = head + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    np.testing.assert_array_equal(decode_picture(whole, "a.png"), rows[:, 1:].reshape(16, 16, 3))
    with pytest.raises(InputError, match=r"a\.png"):
        decode_picture(head + chunk(b"IDAT", packed[: len(packed) // 2]) + chunk(b"IEND", b""), "a.png")


def test_a_picture_too_large_is_refused_before_it_is_decoded(monkeypatch, jpeg):
    def decoded(*arguments):
        raise AssertionError("the picture reached the decoder")

    monkeypatch.setattr(cv2, "imdecode", decoded)
    with pytest.raises(InputError, match=r"big\.png: 60000x60000 pixels"):
        decode_picture(png_claiming(60_000, 60_000), "big.png")
    with pytest.raises(InputError, match=r"big\.png: 1x120000001 pixels"):
        decode_picture(png_claiming(1, MAX_PIXELS + 1), "big.png")
    with pytest.raises(InputError, match=r"big\.jpg: 50000x60000 pixels"):
        decode_picture(jpeg_claiming(jpeg, 50_000, 60_000), "big.jpg")


@pytest.mark.parametrize("content", [b"just a text\n" * 20, b"\x00", b"\xff\xd8\xff\xd9", PNG, b"GIF89a"])
def test_what_is_no_picture_is_refused_by_name(tmp_path, content):
    file = tmp_path / "note.jpg"
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_picture(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [check_picture, read_picture, picture_hash])
def test_missing_empty_and_folder_are_refused_by_name(tmp_path, reader):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    for name, message in (
        ("missing.jpg", "cannot be read"),
        ("empty.jpg", "the file is empty"),
        ("folder.jpg", "cannot be read"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            reader(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_grey_16_bit_and_alpha_become_8_bit_rgb(picture):
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    grey = decode_picture(encode(".png", picture[:, :, 0]), "grey.png")
    np.testing.assert_array_equal(grey, np.repeat(picture[:, :, :1], 3, axis=2))
    deep = decode_picture(encode(".png", bgr.astype(np.uint16) * 257), "deep.png")
    assert deep.dtype == np.uint8
    np.testing.assert_array_equal(deep, picture)
    deep_grey = decode_picture(encode(".png", picture[:, :, 0].astype(np.uint16) * 257), "deep-grey.png")
    np.testing.assert_array_equal(deep_grey, np.repeat(picture[:, :, :1], 3, axis=2))
    alpha = np.dstack([bgr, np.tile(np.arange(40, dtype=np.uint8), (24, 1))])
    np.testing.assert_array_equal(decode_picture(encode(".png", alpha), "alpha.png"), picture)


def test_a_bound_on_pixels_holds_for_every_format(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 40 * 50 - 1)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    for name, options in (
        ("lossy.webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
        ("lossless.webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
        ("plain.bmp", []),
        ("plain.tiff", []),
        ("plain.gif", []),
        ("plain.png", []),
        ("plain.jpg", []),
    ):
        file = tmp_path / name
        assert cv2.imwrite(str(file), picture, options)
        with pytest.raises(InputError, match=r"50x40 pixels") as caught:
            check_picture(file)
        assert name in str(caught.value)
        monkeypatch.setattr(pictures, "MAX_PIXELS", 40 * 50)
        assert read_picture(file).shape == (40, 50, 3)
        monkeypatch.setattr(pictures, "MAX_PIXELS", 40 * 50 - 1)


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".tiff", ".gif"])
def test_a_header_cut_short_is_told(tmp_path, suffix):
    whole = cv2.imencode(suffix, np.zeros((40, 50, 3), np.uint8))[1].tobytes()
    for length in (8, 14, 20, 24):
        file = tmp_path / f"cut{length}{suffix}"
        file.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\d+"):
            check_picture(file)


def test_a_text_file_called_jpg_does_not_pass_the_check(tmp_path):
    file = tmp_path / "notes.jpg"
    file.write_text("not a picture")
    with pytest.raises(InputError, match=r"notes\.jpg"):
        check_picture(file)


def test_a_device_and_a_pipe_are_refused_before_they_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "endless.jpg"):
        with pytest.raises(InputError, match="a device or a pipe; expected a picture file") as caught:
            read_picture(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_a_message_has_nothing_that_a_terminal_obeys(tmp_path):
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "a\x1b[2J\nb\udcff.jpg")
    assert "a\\x1b[2J\\nb\\udcff.jpg: cannot be read" in str(caught.value)
