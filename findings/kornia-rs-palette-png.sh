#!/usr/bin/env bash
# kornia-rs reads a PNG with a palette as a grey picture of the palette's indices.
#
# Versions: kornia-rs 0.2.0, pillow 13.0.0, numpy 2.4.6.
# Expected: the colours, or a refusal. In a PNG of colour type 3 "each pixel is a palette index; a PLTE chunk shall
#   appear" (PNG specification, colour types), so an index is no brightness. Image.open promises "PIL parity"; and
#   read_image_png_u8 refuses the file where "rgb" is asked for ("PNG is Indexed Eight, expected 3 channel(s)").
# Seen: read_image, Image.open and Image.load, and read_image_png_u8 with "mono", answer with one channel that holds the
#   indices, as if they were grey: mode "L". Its convert("RGB") repeats them three times. Two files of the same picture,
#   whose palettes are in another order, are two pictures. A tagger sees noise. No message.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  kornia-rs==0.2.0 pillow==13.0.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import kornia_rs
import numpy as np
from kornia_rs.image import Image
from PIL import Image as Pillow

# A ramp from red to blue in 32 colours, as any drawing program or "save for web" makes it.
colours = np.stack([np.linspace(255, 0, 32), np.zeros(32), np.linspace(0, 255, 32)], axis=1).round().astype(np.uint8)
picture = np.repeat(np.arange(32), 2)[None].repeat(8, axis=0)  # the number of each pixel's colour
right = colours[picture]


def write(name, order):
    """The picture as a PNG whose palette lists the colours in another order."""
    places = np.argsort(order)
    file = Pillow.fromarray(places[picture].astype(np.uint8))
    file.putpalette(colours[order].ravel().tolist())
    file.save(name)
    head = open(name, "rb").read(26)
    assert (head[24], head[25]) == (8, 3), "8 bits and a palette"
    assert (np.asarray(Pillow.open(name).convert("RGB")) == right).all()
    return places[picture]


for name, order in (("one.png", np.arange(32)), ("other.png", np.random.default_rng(0).permutation(32))):
    indices = write(name, order)
    opened = Image.open(name)
    readers = {
        "read_image": kornia_rs.io.read_image(name),
        "read_image_png_u8": kornia_rs.io.read_image_png_u8(name, "mono"),
        "Image.open": opened.numpy(),
        "Image.load": Image.load(name).numpy(),
    }
    for reader, read in readers.items():
        assert read.shape == (8, 64, 1) and (read[..., 0] == indices).all(), reader
    print(f"{name}: mode {opened.mode}, pixels {readers['Image.open'][0, :12:2, 0].tolist()}", end="; ")
    converted = opened.convert("RGB").numpy()
    assert opened.mode == "L" and (converted == indices[..., None]).all()
    print(f"as RGB {converted[0, :6:2].tolist()}, and right is {right[0, :6:2].tolist()}")
PY
