#!/usr/bin/env bash
# ncnn's power of 0 or of a negative number is 2.4e38 wherever the numbers fill a SIMD register.
#
# Versions: ncnn 1.0.20261020, numpy 2.4.6.
# Expected: BinaryOp's operation 6 is powf(x, y) (ncnn's documentation of operators, BinaryOp: "6 = POW"): (-2)^3 is -8.
#   x^3 is in the tanh form of GELU, and x^4 in norms; pnnx writes them as this operation.
# Seen: numbers that fill a register (here 4 at a time) are computed as exp(y * log(x)), whose logarithm of 0 and of
#   less is NaN, so 0^2, (-2)^3 and (-1)^4 are 2.4e38. Up to three numbers at the end are right, and so are positive
#   ones, so a test with a few numbers sees nothing. pnnx turns x^2 into another operation, which is right. It was
#   reported for AVX2 as ncnn's issue 2139, which was open in November 2026.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  ncnn==1.0.20261020 numpy==2.4.6
cd "$work"
venv/bin/python - <<'PY'
import ncnn
import numpy as np


def powers(values, exponent):
    lines = ["7767517", "2 2", "Input in0 0 1 in0", f"BinaryOp power 1 1 in0 out0 0=6 1=1 2={exponent}", ""]
    with open("power.param", "w") as file:
        file.write("\n".join(lines))
    open("power.bin", "wb").close()
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_storage = net.opt.use_fp16_packed = net.opt.use_fp16_arithmetic = False
    assert net.load_param("power.param") == 0
    net.load_model("power.bin")
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(np.array(values, np.float32)).clone())
    code, answer = extractor.extract("out0")
    assert code == 0
    return np.array(answer)


few, many = [-2, -1, 0], [-2, -1, 0, 2, -2, -1, 0]
for exponent in (2, 3, 4):
    short, long = powers(few, exponent), powers(many, exponent)
    print(f"exponent {exponent}: {few} gives {short.tolist()}, {many} gives {long.tolist()}")
    np.testing.assert_allclose(short, np.power(np.float32(few), exponent))
    assert (long[:3] > 1e38).all()
    np.testing.assert_allclose(long[3:], np.power(np.float32(many[3:]), exponent), rtol=1e-5)
PY
