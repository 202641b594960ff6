"""The repository for OpenVINO Model Server: its configuration by the server's schema, its request by the protocol."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgepress.deploy.build.ovms import server_config, write_ovms
from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import file_sha256
from edgepress.multilabel.errors import InputError

# The keys of a model's "config" in OpenVINO Model Server 2025 (src/schema.cpp, MODELS_CONFIG_SCHEMA).
KEYS = {"name", "base_path", "batch_size", "shape", "layout", "precision", "model_version_policy", "nireq", "stateful"}
KEYS |= {"target_device", "plugin_config", "allow_cache", "custom_loader_options", "idle_sequence_cleanup"}


def test_the_configuration_has_the_servers_keys_alone():
    told = server_config("tagger")
    assert list(told) == ["model_config_list"]
    ((one,),) = [list(told["model_config_list"])]
    assert set(one) == {"config"}
    assert set(one["config"]) <= KEYS
    assert one["config"]["base_path"].startswith("/")
    assert one["config"]["plugin_config"] == {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.mark.parametrize("name", ["openvino-fp32", "onnx-fp32"])
def test_the_files_are_the_bundles(build, onnx_bundle, tmp_path, name):
    bundle = onnx_bundle if name == "onnx-fp32" else build(name)
    out = write_ovms(bundle, tmp_path / "out", name="tagger")
    version = out / "models" / "tagger" / "1"
    assert {file.name for file in version.iterdir()} == (
        {"model.xml", "model.bin"} if name == "openvino-fp32" else {"model.onnx"}
    )
    for file in version.iterdir():
        assert file_sha256(file) == bundle.manifest.files[file.name]
    assert json.loads((out / "config.json").read_text()) == server_config("tagger")
    assert (version.parent / "labels.txt").read_text().splitlines() == list(bundle.labels.names)


def test_the_request_is_the_protocols_and_asks_for_all_logits(build, images, tmp_path):
    bundle = build("openvino-fp32")
    out = write_ovms(bundle, tmp_path / "out")
    request = json.loads((out / "request.json").read_text())
    (given,), (wanted,) = request["inputs"], request["outputs"]
    assert given["parameters"]["binary_data_size"] == images[0].nbytes
    assert (given["name"], given["datatype"], wanted) == ("images", "UINT8", {"name": "logits"})
    header = f"Inference-Header-Content-Length: {(out / 'request.json').stat().st_size}"
    assert header in (out / "README.md").read_text()
    with open_engine(bundle) as engine:
        assert engine(np.frombuffer(images[0].tobytes(), np.uint8).reshape(given["shape"])).shape == (1, 5)


def test_what_the_server_does_not_serve_is_refused(student, build, onnx_bundle, tmp_path):
    with pytest.raises(InputError, match="of kind torch, fp32; OpenVINO Model Server serves openvino: fp32"):
        write_ovms(student, tmp_path / "out")
    with pytest.raises(InputError, match="of kind onnx, int8"):
        write_ovms(build("onnx-int8-onnxruntime"), tmp_path / "out")
    with pytest.raises(InputError, match="model name 'a/b'"):
        write_ovms(onnx_bundle, tmp_path / "out", name="a/b")
    assert not list(tmp_path.iterdir())
