"""Export: the graph is the model, on raw pixels, for a batch of any size, with torch's logits beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgepress.compress.config import ModelConfig
from edgepress.compress.models import make_model
from edgepress.deploy.build.export import OPSET, export_onnx
from edgepress.deploy.build.reference import REFERENCE, Reference
from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.torch_graph import MODULES
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.golden_answers import FOLDER, GOLDEN
from edgepress.multilabel.labels import LabelSpace
from edgepress.multilabel.preprocess import Preprocess


def torch_logits(model, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model.logits(torch.from_numpy(images)).numpy()


@pytest.fixture(scope="module")
def graph(onnx_bundle) -> onnx.ModelProto:
    return onnx.load(onnx_bundle.model_path)


def test_uint8_nhwc_pictures_in_and_float_logits_out_with_a_free_batch(graph, splits):
    (images,), (logits,) = graph.graph.input, graph.graph.output
    assert (images.name, logits.name) == ("images", "logits")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    dims = [value.type.tensor_type.shape.dim for value in (images, logits)]
    assert [dim.dim_value for dim in dims[0]] == [0, 64, 64, 3]
    assert [dim.dim_value for dim in dims[1]] == [0, len(splits.test.labels)]
    assert dims[0][0].dim_param
    assert dims[0][0].dim_param == dims[1][0].dim_param


def test_opset_20_and_no_other_domain(graph, onnx_bundle):
    assert OPSET == onnx_bundle.manifest.opset == 20
    assert [(entry.domain, entry.version) for entry in graph.opset_import if entry.domain in ("", "ai.onnx")] == [
        ("", 20)
    ]
    assert {node.domain for node in graph.graph.node} == {""}


def test_the_file_alone_says_its_labels_and_preprocessing(graph, model):
    said = {entry.key: entry.value for entry in graph.metadata_props}
    assert tuple(json.loads(said["labels"])) == model.labels.names
    assert Preprocess.model_validate_json(said["preprocess"]) == model.preprocess


def test_the_file_names_no_path_of_the_machine_that_made_it(graph, onnx_bundle):
    assert b".py" not in onnx_bundle.model_path.read_bytes()
    kept = {entry.key for node in graph.graph.node for entry in node.metadata_props}
    assert kept == {MODULES}


def test_the_manifest(onnx_bundle, model, student):
    manifest = onnx_bundle.manifest
    assert (manifest.kind, manifest.precision) == ("onnx", "fp32")
    assert (manifest.labels, manifest.preprocess) == (model.labels.names, model.preprocess)
    assert manifest.parent == student.as_parent
    assert onnx_bundle.open_parent().digest == student.digest
    assert torch.__version__.startswith(manifest.tools["torch"])
    assert {name for name in manifest.files if not name.startswith(f"{FOLDER}/")} == {"model.onnx", REFERENCE, GOLDEN}


def test_normalisation_is_inside_the_graph(onnx_bundle, model, splits):
    """By hand and in float64 as far as the backbone: (x / 255 - mean) / std, channels first."""
    images = np.stack([model.preprocess.load(path) for path in splits.test.paths[:4]])
    mean, std = np.array(model.preprocess.mean), np.array(model.preprocess.std)
    pixels = torch.from_numpy(((images / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        features = model.backbone.forward_features(pixels)
        by_hand = model.head.logits(features.flatten(2).transpose(1, 2)).numpy()
    with open_engine(onnx_bundle) as engine:
        assert np.abs(engine(images) - by_hand).max() < 1e-3


def test_the_reference_is_what_torch_says(onnx_bundle, model, splits):
    reference = Reference.load(onnx_bundle.path / REFERENCE)
    images = np.stack([model.preprocess.load(path) for path in splits.test.paths])
    assert reference.logits.dtype == np.float32
    assert np.abs(reference.logits - torch_logits(model, images)).max() < 1e-5
    assert reference.hashes == splits.test.hashes()
    assert reference.labels == splits.test.labels.names
    assert np.array_equal(reference.targets, splits.test.targets)
    assert np.array_equal(reference.ignore, splits.test.ignore)


def test_an_export_of_the_same_is_kept_and_of_another_is_not(model, student, onnx_bundle, splits, tmp_path):
    out = Path(shutil.copytree(onnx_bundle.path, tmp_path / "onnx"))
    again = export_onnx(model, splits.test, out, parent=student.as_parent, identity=student.digest)
    assert again.digest == onnx_bundle.digest
    few = export_onnx(model, splits.test.subset(np.arange(6)), out, parent=student.as_parent, identity=student.digest)
    assert few.digest != onnx_bundle.digest
    assert len(Reference.load(few.path / REFERENCE).hashes) == 6


def frozen_by_len(features: torch.Tensor) -> torch.Tensor:
    return features.reshape(len(features), *features.shape[1:])


def frozen_by_a_number(features: torch.Tensor) -> torch.Tensor:
    return features.reshape(2, -1, *features.shape[2:])


@pytest.mark.parametrize("freeze", [frozen_by_len, frozen_by_a_number])
def test_a_backbone_that_freezes_the_batch_is_refused(splits, tmp_path, monkeypatch, freeze):
    config = ModelConfig(backbone="test_efficientnet", head="linear", size=64, weights="none")
    model, _ = make_model(config, splits.test.labels)
    model.eval()
    free = model.backbone.forward_features
    monkeypatch.setattr(model.backbone, "forward_features", lambda pixels: freeze(free(pixels)))
    with pytest.raises(InputError, match=r"test_efficientnet.* (free|fixed) batch") as error:
        export_onnx(model, splits.test.subset(np.arange(2)), tmp_path / "onnx", identity="x")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def stays_positive(features: torch.Tensor) -> torch.Tensor:
    return features if features.sum() > 0 else -features  # a way that depends on the picture: no graph can hold it


def test_what_cannot_be_traced_is_named_by_its_cause_alone(splits, tmp_path, capfd):
    """The exporter wraps the cause in pages of advice and prints the graph that it has so far."""
    model, _ = make_model(
        ModelConfig(backbone="test_efficientnet", width=32, size=64, weights="none"), splits.test.labels
    )
    whole = model.backbone.forward_features
    model.backbone.forward_features = lambda pixels: stays_positive(whole(pixels))
    capfd.readouterr()
    with pytest.raises(InputError, match=r"cannot be exported with a free batch size: \w+: .*data-dependent"):
        export_onnx(model.eval(), splits.test, tmp_path / "onnx", identity="x")
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "onnx").exists()


def test_another_label_space_is_refused(model, splits, tmp_path, monkeypatch):
    monkeypatch.setattr(model, "labels", LabelSpace(splits.test.labels.names[::-1]))
    with pytest.raises(InputError, match="same names, other order"):
        export_onnx(model, splits.test, tmp_path / "onnx", identity="x")
    assert not list(tmp_path.iterdir())


def exported_like_torch(model, splits, images, path) -> onnx.GraphProto:
    """The exported graph, once it is known to answer as torch does, for one picture and for many."""
    expected = torch_logits(model, images)
    bundle = export_onnx(model, splits.test.subset(np.arange(2)), path, identity="x")
    with open_engine(bundle) as engine:
        for batch in (1, 33):
            assert np.abs(engine(images[:batch]) - expected[:batch]).max() < 1e-4 * np.abs(expected).max()
    return onnx.load(bundle.model_path).graph


@pytest.mark.parametrize(("backbone", "head"), [("test_efficientnet", "linear"), ("test_vit", "ml_decoder")])
def test_other_heads_and_backbones(fit, splits, images, tmp_path, backbone, head):
    exported_like_torch(fit(splits.test, backbone=backbone, head=head, steps=10), splits, images, tmp_path / "onnx")


def test_branches_that_only_training_needs_are_merged(fit, splits, images, tmp_path):
    model = fit(splits.test, backbone="repvgg_a0", head="linear", steps=2)
    graph = exported_like_torch(model, splits, images, tmp_path / "onnx")
    in_torch = sum(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    in_graph = sum(node.op_type == "Conv" for node in graph.node)
    assert in_torch == 2 * in_graph == 44  # 3x3 and 1x1 become one, in each of 22 blocks
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)


def test_a_runtime_alone_takes_the_file(onnx_bundle, images, logits):
    session = onnxruntime.InferenceSession(str(onnx_bundle.model_path), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    assert np.abs(found - logits).max() < 1e-3
