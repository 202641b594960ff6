"""Nobody is told: in a network of its own with a name server that writes down who is asked for, and an empty HOME.

Without CI in the environment, in which ONNX Runtime, OpenVINO and NNCF are quiet by themselves.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgepress.telemetry import OFF, OPENVINO_ON

ANALYTICS = ("google-analytics", "events.data.microsoft")
_QUIET_BY_THEMSELVES = ("CI", "TF_BUILD", "JENKINS_URL", "NNCF_CI", "NNCF_DEV")
_OURS = (*OFF, OPENVINO_ON)

# The first process of the name space: its loopback, its name server, and what is to be watched.
_WATCH = r"""
import fcntl, socket, struct, subprocess, sys, threading

with socket.socket() as plain:
    fcntl.ioctl(plain, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up and running
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
asked = set()

def answer():
    while True:
        data, who = server.recvfrom(4096)
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += 1 + data[at]
        asked.add(".".join(labels))
        # No such name.
        server.sendto(data[:2] + b"\x81\x83" + data[4:6] + bytes(6) + data[12 : at + 5], who)

threading.Thread(target=answer, daemon=True).start()
code = subprocess.run([sys.executable, "-c", sys.argv[1]]).returncode
print("asked:", *sorted(asked))
sys.exit(code)
"""

# Each runtime is imported and used as an engine uses it; the last line proves that the name server hears of a question.
_USE = r"""
import socket, time
import numpy as np
import edgepress
import onnx, onnxruntime
from onnx import helper, TensorProto

graph = helper.make_graph(
    [helper.make_node("Relu", ["x"], ["y"])],
    "tiny",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), "tiny.onnx")
session = onnxruntime.InferenceSession("tiny.onnx", providers=["CPUExecutionProvider"])
session.run(None, {"x": np.zeros((1, 4), np.float32)})
import openvino
openvino.compile_model(openvino.convert_model("tiny.onnx"), "CPU")
import gradio, huggingface_hub, nncf
time.sleep(2)  # the senders are threads
try:
    socket.getaddrinfo("control.example", 80)
except OSError:
    pass
"""


def watch(folder: Path, **environment: str) -> tuple[set[str], list[str]]:
    """Names that were asked for, and files that HOME holds afterwards."""
    home = folder / "home"
    home.mkdir()
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (folder / "watch.py").write_text(_WATCH)
    unset = (*_QUIET_BY_THEMSELVES, *_OURS, "XDG_CACHE_HOME")  # what would be kept there belongs into HOME
    outside = {name: value for name, value in os.environ.items() if name not in unset}
    script = 'mount --bind resolv.conf /etc/resolv.conf && exec "$0" watch.py "$1"'
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--map-root-user", "sh", "-c", script, sys.executable, _USE],
        cwd=folder,
        env={**outside, "HOME": str(home), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("asked:"))
    return set(line.split()[1:]), [str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()]


@pytest.fixture(scope="module", autouse=True)
def _namespaces():
    for module in ("onnx", "onnxruntime", "openvino", "nncf", "gradio"):
        if importlib.util.find_spec(module) is None:  # importing them all takes longer than the test
            pytest.skip(f"{module} is not installed, so it tells nobody")
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here: the test needs a network of its own")
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--map-root-user", "mount", "--bind", "/etc/hosts", "/etc/resolv.conf"],
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"this machine gives no network of one's own: {tried.stderr.strip()}")


def test_nobody_is_asked_for_and_home_holds_no_number_of_this_device(tmp_path):
    asked, left = watch(tmp_path)
    assert asked == {"control.example"}
    assert [name for name in left if "matplotlib" not in name] == []


def test_a_user_may_turn_it_on(tmp_path):
    """Also the proof that the test above would see it."""
    asked, left = watch(tmp_path, ORT_DISABLE_TELEMETRY="0", EDGEPRESS_OPENVINO_TELEMETRY="1")
    assert any(host in name for name in asked for host in ANALYTICS)
    assert any("deviceid" in name or "openvino_ga_cid" in name for name in left)
