#!/usr/bin/env bash
# The thread that first uses OpenVINO's CPU device is left with a signal stack that no longer exists, if another thread
#   drops the last Core.
#
# Versions: openvino 2026.4.1, numpy 2.4.6; Linux on x86-64.
# Expected: loading a model changes nothing about how the program handles signals, or everything is put back.
# Seen: on loading, the CPU plugin gives the calling thread an alternate signal stack of its own (sigaltstack(2)) in
#   place of the one that was there, such as that of Python's faulthandler. When the last Core goes, the plugin unmaps
#   it, and puts the former one back only in the thread that dropped the Core. Where that is another one (a service that
#   closes its model in a worker, or a garbage collection there), the first thread goes on with an address that is not
#   mapped, and the next signal with a handler (Python's all ask for the alternate stack), such as SIGTERM, ends the
#   process with a segmentation fault. This script only looks at the address and sends no signal.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv --without-pip "$work/venv"
python3 -m pip --python "$work/venv/bin/python" install -q --no-compile --disable-pip-version-check \
  openvino==2026.4.1 numpy==2.4.6
cd "$work"
cat > look.py <<'PY'
import ctypes
import sys
import threading

import openvino


class Stack(ctypes.Structure):
    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def state() -> str:
    """What this thread's alternate signal stack is."""
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    if stack.address is None:
        return "none"
    with open("/proc/self/maps") as maps:
        spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    return "mapped" if any(low <= stack.address < high for low, high in spans) else "NOT mapped"


seen = [state()]
held = [openvino.Core()]
held[0].get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
seen.append(state())
if sys.argv[1] == "another":
    dropping = threading.Thread(target=held.clear)
    dropping.start()
    dropping.join()
else:
    held.clear()
print(f"dropped by {sys.argv[1]} thread:", " -> ".join([*seen, state()]))
PY
CI=true venv/bin/python look.py the-same | tee same
CI=true venv/bin/python look.py another | tee another
grep -q "none -> mapped -> none$" same
grep -q "none -> mapped -> NOT mapped$" another
