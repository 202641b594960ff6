"""One picture in every container: the same pixels, or a line that says why not."""

from __future__ import annotations

import contextlib
import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from edgepress.multilabel import pictures
from edgepress.multilabel.containers import read_header
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.pictures import decode, looks_like_picture, suffix_of

TURNS = [
    lambda x: x,
    lambda x: x,
    np.fliplr,
    lambda x: np.rot90(x, 2),
    np.flipud,
    lambda x: x.transpose(1, 0, 2),
    lambda x: np.rot90(x, -1),
    lambda x: np.rot90(x.transpose(1, 0, 2), 2),
    lambda x: np.rot90(x, 1),
]
"""What a viewer does to a picture, by EXIF's number."""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """uint8 RGB `[24, 40, 3]`, each corner another colour, with black and white."""
    rows, columns = np.mgrid[0:24, 0:40]
    made = np.stack([rows * 10, columns * 6, 255 - rows * 5 - columns * 3], axis=2).astype(np.uint8)
    made[0, 0], made[0, 1] = 0, 255
    return made


@pytest.fixture(scope="module")
def alpha() -> np.ndarray:
    """uint8 `[24, 40]`, from transparent to opaque."""
    return np.tile(np.linspace(0, 255, 40).astype(np.uint8), (24, 1))


def saved(image: Image.Image, format: str, **options) -> bytes:
    with io.BytesIO() as file:
        image.save(file, format, **options)
        return file.getvalue()


def encoded(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x112] = value
    return exif


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_endian": True}),
    ],
)
def test_transparency_is_left_out_in_every_format(pixels, alpha, format, options):
    found = decode(saved(Image.fromarray(np.dstack([pixels, alpha]), "RGBA"), format, **options), "a")
    np.testing.assert_array_equal(found.pixels, pixels)
    assert (found.alpha, found.bits, found.used) == (True, 8, 8)


def test_a_tiff_whose_colours_are_multiplied_already_gets_them_back_but_for_rounding(pixels, alpha):
    alpha = np.maximum(alpha, 64)
    faint = np.round(pixels * (alpha[:, :, None] / 255)).astype(np.uint8)
    data = saved(Image.fromarray(np.dstack([faint, alpha]), "RGBA"), "TIFF")
    at = read_header(data, "a").tiff.alpha_at
    assert data[at : at + 2] == b"\x02\x00"
    found = decode(data[:at] + b"\x01\x00" + data[at + 2 :], "a")
    assert found.alpha
    assert np.abs(found.pixels.astype(int) - pixels).max() <= 2  # half a step of 64 in 255


def test_16_bit_pictures_with_alpha_are_alike_in_png_and_tiff(pixels, alpha):
    deep = np.dstack([pixels[:, :, ::-1], alpha]).astype(np.uint16) * 257
    for suffix in (".png", ".tiff"):
        found = decode(encoded(suffix, deep), "a")
        np.testing.assert_array_equal(found.pixels, pixels)
        assert (found.alpha, found.bits, found.used) == (True, 16, 16)


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_colour_of_a_palette_is_that_colour(pixels, format):
    palette = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    opaque = decode(saved(palette, format), "a")
    assert not opaque.alpha
    found = decode(saved(palette, format, transparency=3), "a")
    assert found.alpha
    np.testing.assert_array_equal(found.pixels, opaque.pixels)
    np.testing.assert_array_equal(found.pixels, np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("used", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("grey", [True, False])
def test_a_deep_picture_is_scaled_from_the_bits_that_it_uses(pixels, used, suffix, grey):
    image = pixels[:, :, 0] if grey else pixels[:, :, ::-1]
    deep = image.astype(np.uint16) << (used - 8)
    found = decode(encoded(suffix, deep), "a")
    np.testing.assert_array_equal(found.pixels, np.repeat(pixels[:, :, :1], 3, axis=2) if grey else pixels)
    top = int(deep.max())
    assert (found.bits, found.used) == (16, next(bits for bits in (8, 10, 12, 14, 16) if top < 1 << bits))


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_obeyed_alike_whatever_this_opencv_does(pixels, format, orientation):
    options = {"lossless": True} if format == "WEBP" else {}
    data = saved(Image.fromarray(pixels), format, exif=with_orientation(orientation), **options)
    np.testing.assert_array_equal(decode(data, "a").pixels, TURNS[orientation](pixels))


def test_a_webp_with_an_orientation_that_is_none_or_cut_is_as_stored(pixels):
    for exif in (with_orientation(9).tobytes(), b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12", b"nonsense"):
        data = saved(Image.fromarray(pixels), "WEBP", lossless=True, exif=exif)
        np.testing.assert_array_equal(decode(data, "a").pixels, pixels)


def avif(pixels: np.ndarray, **options) -> bytes:
    if ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow writes no AVIF")
    if pictures._OPENCV < (4, 12):
        pytest.skip("this OpenCV reads no AVIF")
    return saved(Image.fromarray(pixels), "AVIF", quality=100, subsampling="4:4:4", **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_read_and_turned(pixels, orientation):
    data = avif(pixels, exif=with_orientation(orientation))
    assert (looks_like_picture(data[:16]), suffix_of(data)) == (True, "avif")
    expected = TURNS[orientation](pixels)
    found = decode(data, "a.avif").pixels
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4  # it is lossy; turned wrong the mean is over 40


@pytest.mark.parametrize("brand", [b"mif1", b"miaf"])
def test_an_avif_whose_first_brand_is_that_of_heif_s_form_is_read(pixels, brand):
    data = avif(pixels)
    turned = data[:8] + brand + data[12:]
    assert (looks_like_picture(turned[:16]), suffix_of(turned)) == (True, "avif")
    np.testing.assert_array_equal(decode(turned, "a.avif").pixels, decode(data, "a.avif").pixels)
    heic = turned[:16] + b"heicheic" + turned[24:]
    with pytest.raises(InputError, match="HEIC" if brand == b"mif1" else "not a picture in a format that is read"):
        decode(heic.replace(b"miafMA1B", b"heicheic", 1), "a.heic")


def test_an_avif_is_bounded_before_it_is_decoded_and_told_where_it_is_cut(monkeypatch, pixels):
    data = avif(pixels)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    with pytest.raises(InputError, match=r"a\.avif: 40x24 pixels; pictures are read up to 100"):
        decode(data, "a.avif")
    monkeypatch.undo()
    for cut in (12, 40, 100, 200, len(data) - 20):
        with pytest.raises(InputError, match=r"a\.avif: "):
            decode(data[:cut], "a.avif")


def test_a_tiff_of_numbers_without_a_white_is_named_and_not_called_damaged(pixels):
    grey = pixels[:, :, 0]
    for image, kind in (
        (grey.astype(np.int32) * 256, "signed numbers of 32 bits"),
        ((grey / 255).astype(np.float32), "floating-point numbers of 32 bits"),
    ):
        with pytest.raises(InputError, match=f"a.tif: a TIFF with {kind}") as caught:
            decode(saved(Image.fromarray(image), "TIFF"), "a.tif")
        assert "expected 1 to 16 bits a channel" in str(caught.value)
        assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("format", "needs"), [("gif", "4.12"), ("avif", "4.12"), ("webp", "4.11")], ids=["GIF", "AVIF", "animated WebP"]
)
def test_what_an_older_opencv_cannot_read_names_the_version_that_can(monkeypatch, pixels, format, needs):
    images = [Image.fromarray(pixels), Image.fromarray(pixels[::-1].copy())]
    if format == "avif":
        data = avif(pixels)
    else:
        data = saved(images[0], format, save_all=True, append_images=images[1:], duration=100)
    monkeypatch.setattr(pictures, "_OPENCV", (4, 10))
    monkeypatch.setattr(cv2, "__version__", "4.10.0")
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: None)
    with pytest.raises(InputError, match=rf"a: .*OpenCV 4\.10\.0 cannot read; install .*headless {needs} or newer"):
        decode(data, "a")


def test_what_this_opencv_should_read_and_cannot_is_called_damaged(pixels):
    data = saved(Image.fromarray(pixels), "WEBP", lossless=True)
    with pytest.raises(InputError, match="a: a damaged picture; OpenCV cannot decode it"):
        decode(data[:40] + bytes(len(data) - 40), "a")


@pytest.mark.parametrize("suffix", ["gif", "tiff", "webp", "avif"])
def test_a_walk_over_a_damaged_header_ends_in_a_header_or_a_line(pixels, suffix):
    """Every number of the first 600 bytes made large or zero, a place at a time."""
    data = avif(pixels) if suffix == "avif" else saved(Image.fromarray(pixels), suffix)
    for at in range(12, min(len(data), 600), 3):
        for four in (b"\xff\xff\xff\xff", bytes(4), struct.pack("<I", len(data) - 1)):
            with contextlib.suppress(InputError):
                read_header(data[:at] + four + data[at + 4 :], "a")


def tiff(samples: np.ndarray, bits: int, colours: int, *, planar: bool = False, data: bytes | None = None) -> bytes:
    """A TIFF of one strip per plane. Pillow writes few of the forms that scanners and microscopes do."""
    height, width, channels = samples.shape
    kind = "<u2" if bits > 8 else "u1"
    planes = (
        [samples[..., i].astype(kind).tobytes() for i in range(channels)]
        if planar
        else [samples.astype(kind).tobytes()]
    )
    planes = [data] if data is not None else planes
    offsets = [8 + sum(map(len, planes[:i])) for i in range(len(planes))]
    values = {
        256: [width],
        257: [height],
        258: [bits] * channels,
        259: [1],
        262: [colours],
        273: offsets,
        277: [channels],
    }
    values |= {278: [height], 279: [len(plane) for plane in planes], 284: [2 if planar else 1]}
    at = 8 + sum(map(len, planes))
    end, entries, beside = at + 2 + 12 * len(values) + 4, b"", b""
    for tag, numbers in sorted(values.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        entries += struct.pack("<HHI", tag, 4, len(numbers))
        entries += packed if len(numbers) == 1 else struct.pack("<I", end + len(beside))
        beside += packed if len(numbers) > 1 else b""
    return (
        b"II*\x00"
        + struct.pack("<I", at)
        + b"".join(planes)
        + struct.pack("<H", len(values))
        + entries
        + bytes(4)
        + beside
    )


@pytest.mark.parametrize(("bits", "used"), [(8, 8), (16, 16), (16, 12), (12, 12)])
def test_grey_whose_zero_is_white_is_not_inverted(pixels, bits, used):
    """OpenCV obeys it in pictures of 8 bits alone: one of 16 bits came back as its negative."""
    grey = pixels[..., :1].astype(np.uint16)
    deep = grey if used == 8 else grey << (used - 8) | grey >> (16 - used)
    stored = (1 << bits) - 1 - deep
    data = None
    if bits == 12:  # two numbers in three bytes
        each = stored.reshape(-1, 2).astype(np.uint32)
        data = b"".join(int(a << 12 | b).to_bytes(3, "big") for a, b in each)
    want = np.repeat(grey.astype(np.uint8), 3, axis=2)
    found = decode(tiff(stored, bits, 0, data=data), "a.tif").pixels
    assert np.array_equal(found, want)


@pytest.mark.parametrize(
    ("bits", "colours", "channels", "planar", "said"),
    [
        (
            16,
            2,
            3,
            True,
            "a TIFF of 16 bits a channel that stores its channels one after the other, which OpenCV mixes",
        ),
        (16, 5, 4, False, "a TIFF of 16 bits a channel in CMYK, which OpenCV reads as if it were RGB or not at all"),
        (16, 8, 3, False, "a TIFF of 16 bits a channel in Lab, which"),
        (4, 1, 1, False, "a TIFF of 4 bits a channel, which OpenCV does not read; save it with 8 bits or 16"),
        (8, 2, 5, False, "a TIFF of 5 channels; expected grey or RGB"),
    ],
)
def test_a_tiff_that_opencv_reads_wrongly_or_not_is_named_and_not_called_damaged(bits, colours, channels, planar, said):
    samples = np.zeros((6, 8, channels), np.uint16)
    with pytest.raises(InputError, match=r"^a\.tif: ") as caught:
        decode(tiff(samples, bits, colours, planar=planar), "a.tif")
    assert said in str(caught.value)


@pytest.mark.parametrize(("bits", "planar"), [(8, False), (8, True), (16, False)])
def test_other_tiffs_by_hand_are_read(pixels, bits, planar):
    samples = pixels.astype(np.uint16) * (257 if bits == 16 else 1)
    assert np.array_equal(decode(tiff(samples, bits, 2, planar=planar), "a.tif").pixels, pixels)


def test_a_bigtiff_is_named():
    with pytest.raises(InputError, match=r"^a\.tif: a BigTIFF, the form for files of more than 4 GB"):
        decode(b"II+\x00" + bytes(100), "a.tif")


@pytest.mark.parametrize(("order", "header"), [((2, 1, 0), 40), ((2, 1, 0), 108), ((0, 1, 2), 40), ((0, 1, 2), 108)])
def test_a_bmp_whose_masks_say_that_red_comes_first_is_not_read_as_blue(pixels, order, header):
    height, width = pixels.shape[:2]
    body = np.dstack([pixels[::-1][..., list(order)], np.zeros((height, width), np.uint8)]).tobytes()
    masks = struct.pack("<III", *(0xFF << 8 * order.index(channel) for channel in range(3)))
    fields = struct.pack("<IiiHHIIiiII", header, width, height, 1, 32, 3, len(body), 2835, 2835, 0, 0) + masks
    fields = fields.ljust(header, b"\0")
    data = b"BM" + struct.pack("<IHHI", 14 + len(fields) + len(body), 0, 0, 14 + len(fields)) + fields + body
    if order == (2, 1, 0):
        assert np.array_equal(decode(data, "a.bmp").pixels, pixels)
        return
    with pytest.raises(InputError, match=r"^a\.bmp: a BMP whose bit masks give another order of colours"):
        decode(data, "a.bmp")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS's pointer to one that was not fetched"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG: save it as PNG"),
        (b'<?xml version="1.0"?>\n<!-- Created with Inkscape -->\n<svg width="9">', "SVG: save it as PNG"),
        (b'<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x.dtd" [<!ENTITY a "b">]>\n<svg>', "SVG: save it as PNG"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "a page or an error that a server sent"),
        (b"\n<!DOCTYPE html><title>404</title>", "a page or an error that a server sent"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC, as phones write it"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isom", "a video"),
        (b"\xff\x0a\xfa\x1f", "JPEG XL"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"%PDF-1.7", "PDF"),
    ],
)
def test_what_lies_in_the_place_of_a_picture_is_named(data, said):
    with pytest.raises(InputError, match=r"not a picture in a format that is read \(.*\), but " + said):
        read_header(data, "a.jpg")


def test_what_is_not_known_is_no_picture_and_nothing_else():
    with pytest.raises(InputError, match=r"AVIF\)$"):
        read_header(b"no picture at all", "a.jpg")
