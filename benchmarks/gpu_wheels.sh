#!/bin/sh
# The wheels of benchmarks/gpu_wheels.txt: collected on a machine with a network, installed on one without.
#
#     benchmarks/gpu_wheels.sh collect WHEELS     # with the Python that the GPU machine has (PYTHON=python3.12)
#     benchmarks/gpu_wheels.sh install WHEELS     # there; then python -m benchmarks.gpu examples/clipart-sample --record gpu.json
#
# No package of the image is replaced: --no-deps everywhere, and the list has neither torch nor numpy.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
case "${1:-} ${2:-}" in
"collect "?*)
    # `pip wheel` and not `pip download`, because tensorrt-rtx is a source package that a wheel is made of first.
    "$python" -m pip wheel --no-deps --wheel-dir "$2" --constraint "$here/constraints.txt" \
        --requirement "$here/benchmarks/gpu_wheels.txt" 'setuptools>=68'
    ;;
"install "?*)
    "$python" -m pip install --no-index --no-deps --find-links "$2" --requirement "$here/benchmarks/gpu_wheels.txt"
    "$python" -m pip install --no-index --no-deps --find-links "$2" --editable "$here"
    "$python" -c 'import torch, torchvision, edgepress; print("torch", torch.__version__, "edgepress", edgepress.__version__)'
    ;;
*)
    echo "usage: $0 collect|install WHEELS" >&2
    exit 2
    ;;
esac
