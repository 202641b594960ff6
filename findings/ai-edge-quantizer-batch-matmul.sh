#!/usr/bin/env bash
# ai-edge-quantizer writes a full-integer BATCH_MATMUL that LiteRT answers with one value everywhere.
#
# Versions: ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0, flatbuffers 25.12.19, numpy 2.4.6.
# Expected: recipe static_wi8_ai8 costs rounding noise for a product with constant weights in both operators (README,
#   "Operator Coverage"), or it is refused.
# Seen: the constant side gets a scale per column, which FULLY_CONNECTED's kernel knows and BATCH_MATMUL's does not:
#   each output is the zero point. Converters make BATCH_MATMUL of an ONNX MatMul. The dynamic recipe is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 flatbuffers==25.12.19 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as fb
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe

generator = np.random.default_rng(0)
weights = generator.standard_normal((8, 5)).astype(np.float32)
tokens = generator.standard_normal((1, 6, 8)).astype(np.float32)


def make(kind, **fields):
    made = kind()
    vars(made).update(fields)
    return made


def product(name):
    batch = name == "BATCH_MATMUL"
    constant = weights if batch else np.ascontiguousarray(weights.T)
    shapes = [("x", [1, 6, 8], 0), ("w", list(constant.shape), 1), ("y", [1, 6, 5], 0)]
    tensors = [make(fb.TensorT, name=n, shape=np.array(s, np.int32), buffer=b) for n, s, b in shapes]
    kind = "BatchMatMulOptions" if batch else "FullyConnectedOptions"
    options = make(getattr(fb, f"{kind}T"), keepNumDims=True)
    choice = {"builtinOptionsType": getattr(fb.BuiltinOptions, kind), "builtinOptions": options}
    operator = make(fb.OperatorT, inputs=[0, 1] + [-1] * (not batch), outputs=[2], **choice)
    graph = make(fb.SubGraphT, name="main", tensors=tensors, inputs=[0], outputs=[2], operators=[operator])
    ends = [[make(fb.TensorMapT, name=n, tensorIndex=i)] for n, i in (("x", 0), ("y", 2))]
    signature = make(fb.SignatureDefT, signatureKey="run", subgraphIndex=0, inputs=ends[0], outputs=ends[1])
    code = getattr(fb.BuiltinOperator, name)
    codes = [make(fb.OperatorCodeT, builtinCode=code, deprecatedBuiltinCode=code, version=1 if batch else 5)]
    data = [fb.BufferT(), make(fb.BufferT, data=np.frombuffer(constant.tobytes(), np.uint8))]
    parts = {"subgraphs": [graph], "operatorCodes": codes, "buffers": data, "signatureDefs": [signature]}
    builder = flatbuffers.Builder(1024)
    builder.Finish(make(fb.ModelT, version=3, **parts).Pack(builder), b"TFL3")
    np.frombuffer(builder.Output(), np.uint8).tofile(f"{name}.tflite")
    chosen = quantizer.Quantizer(f"{name}.tflite", recipe.static_wi8_ai8())
    ranges = chosen.calibrate({"run": [{"x": tokens}]})
    interpreter = Interpreter(model_content=bytes(chosen.quantize(ranges).quantized_model))
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rounded = np.round(tokens / given["quantization"][0]) + given["quantization"][1]
    interpreter.set_tensor(given["index"], np.clip(rounded, -128, 127).astype(np.int8))
    interpreter.invoke()
    scale, zero = found["quantization"]
    return (interpreter.get_tensor(found["index"]).astype(np.float32) - zero) * scale


for name, right in (("FULLY_CONNECTED", True), ("BATCH_MATMUL", False)):
    got = product(name)
    worst, values = np.abs(got - tokens @ weights).max(), np.unique(got).size
    print(f"{name}: largest difference {worst:.3f}, {values} different values")
    assert worst < 0.1 if right else values == 1
PY
