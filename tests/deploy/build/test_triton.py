"""The Triton model repository: its configuration is parsed as Triton's own message, its request is sent by curl."""

from __future__ import annotations

import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgepress.calibration.int8.qdq import OnnxQuantizer
from edgepress.deploy.build.compile import derived_bundle
from edgepress.deploy.build.triton import IMAGES, LOGITS, _readme, model_config, write_triton
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle, file_sha256, rewrite_bundle
from edgepress.multilabel.decisions import Decisions
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.label_groups import LabelGroups
from edgepress.multilabel.manifest import BuiltForTensorRt, Quantization
from edgepress.multilabel.saturation import weight_bits_here
from edgepress.run.splits import Splits
from tests.durable import watched

pytest.importorskip("google.protobuf", reason="protobuf is not installed; it comes with onnx")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

ROOT = Path(__file__).resolve().parents[3]
# The fields of triton-inference-server/common, protobuf/model_config.proto, that a repository of ours uses. A name that
# is not here, or a value of another type, is an error of the parser.
FIELDS = {
    "ModelConfig": {
        "name": "string",
        "backend": "string",
        "max_batch_size": "int32",
        "input": "ModelInput*",
        "output": "ModelOutput*",
        "instance_group": "ModelInstanceGroup*",
        "optimization": "ModelOptimizationPolicy",
        "dynamic_batching": "ModelDynamicBatching",
    },
    "ModelOptimizationPolicy": {"graph": "Graph"},
    "Graph": {"level": "int32"},
    "ModelInput": {"name": "string", "data_type": "DataType", "dims": "int64*"},
    "ModelOutput": {"name": "string", "data_type": "DataType", "dims": "int64*", "label_filename": "string"},
    "ModelInstanceGroup": {"kind": "Kind", "count": "int32"},
    "ModelDynamicBatching": {"preferred_batch_size": "int32*", "max_queue_delay_microseconds": "uint64"},
}
ENUMS = {"DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP32": 11}}
ENUMS["Kind"] = {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3}


def message_of_our_fields() -> Any:
    """Triton's ModelConfig cut to the fields above."""
    proto = descriptor_pb2.FileDescriptorProto(name="model_config_cut.proto", package="cut", syntax="proto3")
    for name, values in ENUMS.items():
        enum = proto.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in FIELDS.items():
        message = proto.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), start=1):
            added = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
            kind = kind.removesuffix("*")
            if kind in FIELDS or kind in ENUMS:
                added.type, added.type_name = (11 if kind in FIELDS else 14), f".cut.{kind}"
            else:
                added.type = getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("cut.ModelConfig"))()


def message_of_tritonclient() -> Any:
    """The whole message, from the client's own package; its parent package would import grpc."""
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("tritonclient is not installed (pip install tritonclient)")
    file = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig()


@pytest.fixture
def tensorrt(onnx_bundle: Bundle, tmp_path: Path) -> Bundle:
    """As the full TensorRT would leave it; the plan itself is not opened by what is tested here."""
    fields = {"kind": "tensorrt", "precision": "fp32", "model": "model.plan"}
    of = {"onnx_sha256": onnx_bundle.model_sha256, "platform": "linux-x86_64"}
    built_for = BuiltForTensorRt(runtime="tensorrt", version="10.3.0", compute_capability="SM86", max_batch=16, **of)
    with derived_bundle(onnx_bundle, tmp_path / "plan", **fields, built_for=built_for) as folder:
        (folder / "model.plan").write_bytes(b"a plan")
    return Bundle.open(tmp_path / "plan")


@pytest.fixture(params=["onnx-fp32", "onnx-fp16", "onnx-int8-onnxruntime", "openvino-fp32", "tensorrt"])
def bundle(request, build) -> Bundle:
    return request.getfixturevalue("tensorrt") if request.param == "tensorrt" else build(request.param)


@pytest.mark.parametrize("message", [message_of_our_fields, message_of_tritonclient])
def test_the_configuration_is_tritons_own_message(bundle, tmp_path, message):
    out = write_triton(bundle, tmp_path / "out", name="tagger", max_batch=32)
    folder = out / "models" / "tagger"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), message())
    kind, size, labels = bundle.manifest.kind, bundle.preprocess.size, len(bundle.labels)
    batch = {"onnx": 32, "openvino": 0, "tensorrt": 16}[kind]
    first = [] if batch else [-1]
    assert (config.name, config.max_batch_size) == ("tagger", batch)
    assert config.backend == {"onnx": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}[kind]
    (images,), (logits,), (group,) = config.input, config.output, config.instance_group
    assert (images.name, list(images.dims)) == (IMAGES, [*first, size, size, 3])
    assert (logits.name, list(logits.dims)) == (LOGITS, [*first, labels])
    assert text_format.MessageToString(images).count("TYPE_UINT8") == 1
    assert text_format.MessageToString(logits).count("TYPE_FP32") == 1
    assert group.count == 1
    assert f"KIND_{'GPU' if kind == 'tensorrt' else 'CPU'}" in text_format.MessageToString(group)
    assert config.HasField("dynamic_batching") == bool(batch)
    assert list(config.dynamic_batching.preferred_batch_size) == ([8, batch] if batch else [])
    assert (folder / logits.label_filename).read_text().splitlines() == list(bundle.labels.names)


@pytest.fixture
def quantized(onnx_bundle: Bundle, splits: Splits, tmp_path: Path) -> Callable[[int], Bundle]:
    """Makes an INT8 bundle with so many of its first products left in float, the weights of these skewed: on one scale
    with the largest weight the others have no level left."""

    def make(kept: int) -> Bundle:
        graph, images = (
            onnx.load(onnx_bundle.model_path),
            np.stack([onnx_bundle.preprocess.load(p) for p in splits.train.paths]),
        )
        names = tuple(node.name for node in graph.graph.node if node.op_type == "Conv")[1 : 1 + kept]
        weights = {node.input[1] for node in graph.graph.node if node.name in names}
        for tensor in graph.graph.initializer:
            if tensor.name in weights:
                values = onnx.numpy_helper.to_array(tensor).copy()
                values.flat[0] = 300 * np.abs(values).max()
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        folder = tmp_path / f"kept-{kept}"
        folder.mkdir()
        onnx.save(graph, folder / "float.onnx")
        quantizer = OnnxQuantizer(folder / "float.onnx", folder, images, "onnxruntime", weight_bits_here())
        calibration = Quantization(pictures=8, sha256="", split="train", method="min-max", kept_float=names)
        fields = {"kind": "onnx", "precision": "int8", "model": "model.onnx", "calibration": calibration}
        with derived_bundle(onnx_bundle, folder / "int8", **fields) as inside:
            quantizer.write(inside / "model.onnx", "min-max", names)
        return Bundle.open(folder / "int8")

    return make


@pytest.mark.parametrize("kept", [0, 3])
def test_the_server_optimises_as_much_as_our_engine_does(quantized, images, kept):
    """Nodes that were left in float stay in float; where there are none, INT8 keeps its fused kernels."""
    bundle = quantized(kept)
    parsed = text_format.Parse(model_config(bundle, "tagger"), message_of_our_fields())
    assert parsed.optimization.graph.level == (2 if kept else 0)
    assert ("in float on purpose" in _readme(bundle, "tagger", 1)) is bool(kept)
    with open_engine(bundle, unproven=True) as engine:
        ours = engine(images)

    def server(level: int) -> np.ndarray:
        """What Triton's backend makes of `graph.level`, by its README."""
        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = {
            0: levels.ORT_ENABLE_ALL,
            -1: levels.ORT_ENABLE_BASIC,
            2: levels.ORT_DISABLE_ALL,
        }[level]
        session = onnxruntime.InferenceSession(str(bundle.model_path), options, providers=["CPUExecutionProvider"])
        return session.run(None, {IMAGES: images})[0]

    if not kept:
        assert np.array_equal(server(0), ours)
        return
    noise = {level: np.square(server(level) - ours).mean() / np.square(ours).mean() for level in (2, 0, -1)}
    assert noise[2] < 1e-3
    assert min(noise[0], noise[-1]) > 0.1  # what the level is for


def test_the_files_are_the_bundles(bundle, tmp_path):
    out = write_triton(bundle, tmp_path / "out")
    version = out / "models" / bundle.name / "1"
    expected = {"onnx": ["model.onnx"], "openvino": ["model.bin", "model.xml"], "tensorrt": ["model.plan"]}
    assert sorted(file.name for file in version.iterdir()) == expected[bundle.manifest.kind]
    for file in version.iterdir():
        assert file_sha256(file) == bundle.manifest.files[file.name]
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "manifest.json", "models", "request.json"]
    assert json.loads((out / "manifest.json").read_text())["digest"] == bundle.digest
    assert [path.name for path in tmp_path.iterdir() if path.name != "plan"] == ["out"]


def test_the_names_are_those_of_every_model(build, tmp_path):
    import onnxruntime
    import openvino as ov

    for name in ("onnx-fp32", "onnx-fp16"):
        session = onnxruntime.InferenceSession(str(build(name).model_path), providers=["CPUExecutionProvider"])
        found = [tensor.name for tensor in (*session.get_inputs(), *session.get_outputs())]
        assert found == [IMAGES, LOGITS]
    model = ov.Core().read_model(build("openvino-fp32").model_path)
    assert [tensor.get_any_name() for tensor in (*model.inputs, *model.outputs)] == [IMAGES, LOGITS]


def test_a_gpu_of_the_server_and_a_small_batch(onnx_bundle, tmp_path):
    out = write_triton(onnx_bundle, tmp_path / "out", max_batch=4, device="cuda")
    config = text_format.Parse((out / "models" / "onnx-fp32" / "config.pbtxt").read_text(), message_of_our_fields())
    assert config.instance_group[0].kind == ENUMS["Kind"]["KIND_GPU"]
    assert list(config.dynamic_batching.preferred_batch_size) == [4]


def test_a_name_that_triton_does_not_know_is_seen():
    for text in ('nmae: "x"', "max_batch_size: many", "input [ { data_type: TYPE_UINT9 } ]"):
        with pytest.raises(text_format.ParseError):
            text_format.Parse(text, message_of_our_fields())


class StandInServer(http.server.BaseHTTPRequestHandler):
    """Answers as Triton's protocol says: JSON, then the picture's bytes; the highest logits come back with labels."""

    engine: Any
    asked: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers["Inference-Header-Content-Length"])
        request, data = json.loads(body[:length]), body[length:]
        (given,), (wanted,) = request["inputs"], request["outputs"]
        assert len(data) == given["parameters"]["binary_data_size"]
        assert (given["name"], given["datatype"], wanted["name"]) == (IMAGES, "UINT8", LOGITS)
        logits = self.engine(np.frombuffer(data, np.uint8).reshape(given["shape"]))[0]
        best = np.argsort(-logits)[: wanted["parameters"]["classification"]]
        rows = [f"{logits[index]:f}:{index}:{self.engine.labels.names[index]}" for index in best]
        answer = {"outputs": [{"name": LOGITS, "datatype": "BYTES", "shape": [1, len(rows)], "data": rows}]}
        self.asked.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(onnx_bundle: Bundle) -> Iterator[tuple[str, list[str]]]:
    with open_engine(onnx_bundle) as engine:
        handler = type("Handler", (StandInServer,), {"engine": engine, "asked": []})
        with http.server.HTTPServer(("127.0.0.1", 0), handler) as listening:
            thread = threading.Thread(target=listening.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{listening.server_port}", handler.asked
            listening.shutdown()
            thread.join()


def test_the_readmes_request_gets_the_pictures_tags(onnx_bundle, splits, server, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    address, asked = server
    out = write_triton(onnx_bundle, tmp_path / "out", name="tagger")
    (script,) = re.findall(r"```sh\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    picture = splits.test.paths[0]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PICTURE": str(picture), "SERVER": address, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=out, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert asked == ["/v2/models/tagger/infer"]
    rows = [row.split(":") for row in json.loads(done.stdout)["outputs"][0]["data"]]
    with open_engine(onnx_bundle) as engine:
        logits = engine(engine.preprocess.load(picture)[None])[0]
    best = np.argsort(-logits)
    assert [label for _, _, label in rows] == [onnx_bundle.labels.names[index] for index in best]
    assert [float(value) for value, _, _ in rows] == pytest.approx(logits[best].tolist(), abs=1e-4)


def test_what_triton_does_not_serve_is_refused(student, onnx_bundle, build, tensorrt, tmp_path):
    out = tmp_path / "out"
    rtx = tensorrt.manifest.model_copy(
        update={"built_for": tensorrt.manifest.built_for.model_copy(update={"runtime": "tensorrt_rtx"})}
    )
    for bundle, options, text in (
        (student, {}, "a bundle of kind torch; expected one of onnx, openvino, tensorrt"),
        (
            Bundle(tensorrt.path, rtx, tensorrt.digest),
            {},
            "built by tensorrt_rtx; Triton's backend opens plans of tensorrt",
        ),
        (onnx_bundle, {"name": "a/b"}, "model name 'a/b': expected letters"),
        (onnx_bundle, {"name": ""}, "model name '': expected letters"),
        (onnx_bundle, {"device": "npu"}, "device 'npu': expected cpu or cuda"),
        (build("openvino-fp32"), {"device": "cuda"}, "an OpenVINO model is served on the cpu"),
        (onnx_bundle, {"max_batch": 0}, "max_batch 0: expected at least 1"),
    ):
        with pytest.raises(InputError, match=re.escape(text)):
            write_triton(bundle, out, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]


def test_nothing_of_a_persons_is_replaced_and_an_empty_folder_is_taken(onnx_bundle, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("keep")
    (tmp_path / "file").write_text("keep")
    for taken in ("mine", "file"):
        with pytest.raises(InputError, match="not an empty folder; name a new folder"):
            write_triton(onnx_bundle, tmp_path / taken)
    (tmp_path / "empty").mkdir()
    with watched(tmp_path) as disk:
        assert (write_triton(onnx_bundle, tmp_path / "empty") / "README.md").is_file()
    assert (disk.faults, disk.named) == ([], {tmp_path / "empty"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "mine"]


def test_a_copy_that_fails_leaves_nothing_behind(onnx_bundle, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        write_triton(onnx_bundle, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_label_groups_are_in_the_manifest_and_told(onnx_bundle, tmp_path):
    decisions = Decisions.plain(onnx_bundle.labels.names, groups=LabelGroups(one_of=(("red", "green"),)))
    grouped = rewrite_bundle(onnx_bundle, tmp_path / "grouped", decisions=decisions)
    out = write_triton(grouped, tmp_path / "served")
    assert "exclude or imply" in (out / "README.md").read_text()
    manifest = json.loads((out / "manifest.json").read_text())
    found = Decisions.model_validate(manifest["decisions"])  # as the README says
    assert found.decide(np.array([[2.0, 3.0, -1.0, -1.0, -1.0]])).tolist() == [[False, True, False, False, False]]
    assert "exclude" not in (write_triton(onnx_bundle, tmp_path / "plain") / "README.md").read_text()
