#!/usr/bin/env bash
# onnxruntime-extensions' DecodeImage moves the pixels of a grey JPEG and gives one channel instead of three.
#
# Versions: onnxruntime-extensions 0.15.2, onnxruntime 1.32.0, onnx 1.23.2, Pillow 12.3.0, numpy 2.4.6.
# Expected: "uint8 data in HWC format" with three channels in the order BGR, as its pre-processing step
#   ConvertImageToBGR says ("Output shape: {input_image_height, input_image_width, 3}"), and as a grey PNG gives it.
# Seen: a grey JPEG gives [height, width, 1], and of each three neighbours the first and the third have changed places,
#   as if three grey pixels were the blue, green and red of one. Everything that broadcasts, such as the subtraction of
#   three means, makes three channels of it again, so a model answers about a picture that is not the one in the file.
#   ONNX Runtime logs a warning about the shape, and only where the graph declares one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  onnxruntime-extensions==0.15.2 onnxruntime==1.32.0 onnx==1.23.2 pillow==12.3.0 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import io

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime_extensions import get_library_path
from PIL import Image

DOMAIN = "com.microsoft.extensions"
graph = helper.make_graph(
    [helper.make_node("DecodeImage", ["file"], ["pixels"], domain=DOMAIN)],
    "decode",
    [helper.make_tensor_value_info("file", TensorProto.UINT8, ["bytes"])],
    [helper.make_tensor_value_info("pixels", TensorProto.UINT8, None)],
)
opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
options = ort.SessionOptions()
options.register_custom_ops_library(get_library_path())
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def file_and_pixels(picture, kind, **settings):
    """What Pillow and DecodeImage read of the same file."""
    kept = io.BytesIO()
    Image.fromarray(picture).save(kept, kind, **settings)
    decoded = session.run(None, {"file": np.frombuffer(kept.getvalue(), dtype=np.uint8)})[0]
    return np.asarray(Image.open(kept)), decoded


grey = np.random.default_rng(0).integers(0, 255, (24, 48), dtype=np.uint8)  # the number of pixels is a multiple of 3
for kind in ("PNG", "JPEG"):
    right, found = file_and_pixels(grey, kind)
    equal = [float((found[..., channel] == right).mean()) for channel in range(found.shape[2])]
    print(f"grey {kind}: {found.shape}, equal in each channel {equal}; {right[0, :6]} became {found[0, :6, 0]}")
    if kind == "PNG":
        assert found.shape == (24, 48, 3) and equal == [1, 1, 1]
    else:
        assert found.shape == (24, 48, 1) and equal[0] < 0.5
        turned = right.reshape(-1, 3)[:, ::-1].reshape(right.shape)
        np.testing.assert_array_equal(found[..., 0], turned)
right, found = file_and_pixels(np.stack([grey, 255 - grey, grey // 2], axis=2), "JPEG", subsampling=0)
assert found.shape == (24, 48, 3) and np.abs(found[..., ::-1].astype(int) - right).max() <= 2
print("the same in colour: as Pillow reads it, in the order BGR")
PY
