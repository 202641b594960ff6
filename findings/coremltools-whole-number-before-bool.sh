#!/usr/bin/env bash
# coremltools drops a cast to whole numbers in front of a cast to bool, so 0.5 is True.
#
# Versions: coremltools 9.0, numpy 2.4.6.
# Expected: bool(int(0.5)) is bool(0), False.
# Seen: the pass cast_optimization joins float -> int32 -> bool to float -> bool, because the range and the resolution of
#   the results are equal, and everything between -1 and 1 but 0 becomes True. A mask like (score * 2).int().bool() is
#   True nearly everywhere. With int32 -> float after it, instead of bool, the cast is kept. No message. x.int().bool()
#   of PyTorch comes out like this (tried with torch 2.14.1); floor(x) before bool is right.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  coremltools==9.0 numpy==2.4.6
cd "$work"
cat > run.py <<'PY'
import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb

x = np.float32([-1.5, -0.5, 0.0, 0.5, 2.7])
TYPES = {"bool": bool, "int32": np.int32, "fp32": np.float32}
MEANING = {  # of the operators that are left, by Apple's description of MIL
    "floor": lambda x: np.floor(x),
    "cast": lambda x, dtype: x.astype(TYPES[dtype]),
    "identity": lambda x: x,
}


def converted(write):
    """What the converted program answers, and its operators."""
    given = mb.program(input_specs=[mb.TensorSpec(shape=x.shape)], opset_version=ct.target.iOS16)(
        lambda x: mb.identity(x=mb.cast(x=write(x), dtype="fp32"))
    )
    main = ct.convert(given, convert_to="milinternal", compute_precision=ct.precision.FLOAT32).functions["main"]
    values, left = {"x": x}, [op for op in main.operations if op.op_type != "const"]
    for op in left:
        inputs = {name: values[var.name] if var.val is None else var.val for name, var in op.inputs.items()}
        values[op.outputs[0].name] = MEANING[op.op_type](**inputs)
    return values[main.outputs[0].name], [op.dtype.val if op.op_type == "cast" else op.op_type for op in left]


def truncated(x):
    return mb.cast(x=x, dtype="int32")


for title, write, right, wrong in [
    ("int(x)", truncated, [-1, 0, 0, 0, 2], []),
    ("bool(x)", lambda x: mb.cast(x=x, dtype="bool"), [1, 1, 0, 1, 1], []),
    ("bool(floor(x))", lambda x: mb.cast(x=mb.floor(x=x), dtype="bool"), [1, 1, 0, 0, 1], []),
    ("bool(int(x))", lambda x: mb.cast(x=truncated(x), dtype="bool"), [1, 0, 0, 0, 1], [1, 3]),
]:
    answer, operators = converted(write)
    print(f"{title} becomes {operators}: {answer.tolist()}, right {right}")
    assert np.flatnonzero(answer != np.float32(right)).tolist() == wrong
PY
PYTHONWARNINGS=ignore TQDM_DISABLE=1 venv/bin/python run.py
