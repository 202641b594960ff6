"""Fake quantisation: the grids are ONNX Runtime's, gradients pass, and a student learns as its INT8 graph computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from edgepress.compress import learning
from edgepress.compress.checkpoint import load_model, save_state, write_model
from edgepress.compress.config import DistillConfig, ModelConfig, QuantizeAwareConfig, TeachConfig
from edgepress.compress.distill import distill, teach
from edgepress.compress.fake_quantize import FakeQuantizedModel, fake_quantize, fake_quantize_weight
from edgepress.compress.methods import ALONE, TERMS
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.quantize_aware import MLD_INSTEAD, lesson_again, quantize_aware
from edgepress.compress.training import evaluate, make_accelerator
from edgepress.multilabel.bundle import MANIFEST, Bundle
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts
from edgepress.multilabel.labels import LabelSpace

LABELS = LabelSpace(("a", "b", "c", "d"))
COMMON = {"weights": "none", "batch_size": 8, "workers": 0, "ema_decay": 0.5, "lr": 5e-3, "size": 32, "width": 32}
TERMS_KEPT = {"mld": 4.0, "hint": 1.0, "review_kd": 0.0, "inherit_head": "auto"}
STUDENT = DistillConfig(
    backbone="test_efficientnet", epochs=3, augment="none", flip=0, cutout=0, **COMMON, **TERMS_KEPT
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pair(splits, tmp_path_factory) -> tuple[Bundle, Bundle]:
    """A trained teacher and its student."""
    folder = tmp_path_factory.mktemp("pair")
    teacher = teach(*splits, TeachConfig(backbone="test_vit", epochs=1, **{**COMMON, "size": 64}), folder / "teacher")
    return teacher, distill(*splits, teacher, STUDENT, folder / "student")


class Recorder(TorchFunctionMode):
    """The operations that are really run, with the tensors they are run on."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names, self.calls = names, []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.strip("_") in self.names:
            self.calls.append([arg.detach().clone() for arg in args if isinstance(arg, Tensor)])
        return func(*args, **(kwargs or {}))


def pictures(size: int = 32, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def lively(backbone: str, head: str = "ml_decoder", size: int = 32, labels: LabelSpace = LABELS) -> MultiLabelModel:
    """A random model whose batch norms do something."""
    torch.manual_seed(0)
    model, _ = make_model(ModelConfig(backbone=backbone, head=head, size=size, width=32, weights="none"), labels)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(1 + 0.3 * torch.randn_like(module.weight))
                module.weight[::3].neg_()
                module.bias.copy_(0.1 * torch.randn_like(module.bias))
                module.momentum = None  # the running statistics are the mean of what was seen
        model.train()
        model.logits(pictures(size, 8))
    return model.eval()


def fake_quantized(model: MultiLabelModel, images: Tensor) -> FakeQuantizedModel:
    quantized = FakeQuantizedModel(model)
    quantized.observe(images)
    return quantized


def sqnr(reference: np.ndarray, other: np.ndarray) -> float:
    """In dB."""
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - other).sum()))


def quantize_dequantize(x: np.ndarray, scale: np.ndarray, zero: np.ndarray, axis: int = 1) -> np.ndarray:
    """By ONNX Runtime."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, x.shape) for name in ("x", "y")]
    constants = [numpy_helper.from_array(scale, "scale"), numpy_helper.from_array(zero, "zero")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(("low", "high"), [(-3.0, 4.0), (0.0, 6.0), (1.0, 5.0), (-7.0, -2.0)])
def test_activations_are_what_onnx_runtime_quantises_them_to(low, high):
    quantization = pytest.importorskip("onnxruntime.quantization.quant_utils", reason="onnxruntime is not installed")
    x = np.random.default_rng(0).normal(0, 4, 4000).astype(np.float32)
    # The range that a calibrator measured, in ONNX Runtime's own arithmetic.
    zero, scale = quantization.compute_scale_zp(np.float32(low), np.float32(high), np.array(0), np.array(255))
    expected = quantize_dequantize(x, np.float32(scale), np.uint8(zero))
    received = fake_quantize(torch.from_numpy(x), torch.tensor(low), torch.tensor(high)).numpy()
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)
    assert len(np.unique(received)) > 50
    assert 0 in received


@pytest.mark.parametrize("shape", [(5, 3, 3, 3), (6, 1, 5, 5), (7, 11)])
def test_weights_are_what_onnx_runtime_quantises_them_to(shape):
    quantization = pytest.importorskip("onnxruntime.quantization", reason="onnxruntime is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    weight = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    weight *= np.logspace(-3, 2, shape[0], dtype=np.float32).reshape(-1, *[1] * (len(shape) - 1))
    weight[2] = 0  # a channel that is off
    expected = np.empty_like(weight)
    for channel, values in enumerate(weight):
        zero, scale, _ = quantization.quant_utils.quantize_data(values, onnx.TensorProto.INT8, True)
        expected[channel] = quantize_dequantize(values, np.float32(scale), np.int8(zero), axis=0)
    received = fake_quantize_weight(torch.from_numpy(weight)).numpy()
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    assert all(1 < len(np.unique(values)) <= 255 for values in np.delete(received, 2, axis=0))
    np.testing.assert_array_equal(
        fake_quantize_weight(torch.from_numpy(weight).movedim(0, 1), axis=1), received.swapaxes(0, 1)
    )


def test_the_gradient_passes_inside_the_range_and_is_zero_outside():
    x = torch.tensor([-9.0, -2.1, -1.9, 0.0, 0.3, 3.9, 4.1, 50.0], requires_grad=True)
    weights = torch.arange(1.0, 9.0)
    (fake_quantize(x, torch.tensor(-2.0), torch.tensor(4.0)) * weights).sum().backward()
    assert x.grad.tolist() == [0, 0, 3, 4, 5, 6, 0, 0]
    weight = torch.randn(4, 3, requires_grad=True)
    scale = torch.rand(4, 3)
    (fake_quantize_weight(weight) * scale).sum().backward()
    torch.testing.assert_close(weight.grad, scale)


@pytest.mark.parametrize("head", ["ml_decoder", "linear"])
def test_every_convolution_and_shortcut_has_quantised_operands(head):
    """No operand has more values than 8 bits tell apart; in the float model they have thousands."""
    model = lively("mobilenetv4_conv_small_050", head, size=64)
    quantized = fake_quantized(model, pictures(64))
    found = []
    for each in (model, quantized):
        with Recorder("conv2d", "add") as recorder:
            each.logits(pictures(64))
        found.append([call for call in recorder.calls if len(call) > 1 and call[0].ndim == call[1].ndim == 4])
    plain, recorded = found
    assert len(recorded) == len(plain) > 40
    shortcuts = [call for call in recorded if call[0].shape == call[1].shape]
    assert shortcuts
    for one, other, *_ in shortcuts:
        assert one.unique().numel() <= 256
        assert other.unique().numel() <= 256
    for image, weight, *_ in recorded:
        assert image.unique().numel() <= 3 * 256  # of the first one each colour has its own grid
        assert all(channel.unique().numel() <= 256 for channel in weight)
    assert max(call[0].unique().numel() for call in plain) > 5000


def test_weights_lie_on_the_grid_of_the_convolution_that_the_graph_holds():
    """Batch norm folded by hand, signs and all: the folded weights are whole numbers of the folded scale."""
    model = lively("test_efficientnet")
    convolution, norm = model.backbone.conv_stem, model.backbone.bn1
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()[:, None, None, None]
    quantized = fake_quantized(model, pictures())
    with Recorder("conv2d") as recorded:
        quantized.logits(pictures())
    used = recorded.calls[0][1]
    assert used.shape == convolution.weight.shape
    scale = (convolution.weight * factor).detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    steps = used * factor / scale
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    plain = (convolution.weight * factor / scale).detach()
    assert (plain - plain.round()).abs().max() > 0.3
    assert (plain - steps).abs().max() <= 0.501
    assert (factor < 0).any()
    assert (factor > 0).any()


def test_it_stays_in_evaluation_mode_and_shares_the_student_s_parameters():
    student = lively("test_efficientnet")
    quantized = fake_quantized(student, pictures())
    assert not any(module.training for module in quantized.train().modules())
    assert quantized.state_dict().keys() - student.state_dict().keys() == {"ranges"}
    assert all(ours is theirs for ours, theirs in zip(quantized.parameters(), student.parameters(), strict=True))


def test_it_is_wholly_on_the_device_of_the_student():
    """A device without memory stands in for a GPU; every one refuses a tensor of the processor beside its own."""
    quantized = FakeQuantizedModel(lively("test_efficientnet").to("meta"))
    assert {tensor.device.type for tensor in quantized.state_dict().values()} == {"meta"}
    assert quantized.convolutions


def test_pictures_beyond_the_observed_ones_widen_the_ranges():
    quantized = fake_quantized(lively("test_efficientnet"), pictures()[:1])
    narrow = quantized.ranges.clone()
    quantized.observe(pictures()[1:])
    assert (quantized.ranges[:, 0] <= narrow[:, 0]).all()
    assert (quantized.ranges[:, 1] >= narrow[:, 1]).all()
    assert not torch.equal(quantized.ranges, narrow)


@pytest.mark.parametrize("head", ["ml_decoder", "linear"])
def test_logits_are_those_beside_the_embeddings(head):
    quantized = fake_quantized(lively("test_efficientnet", head), pictures())
    with torch.no_grad():
        logits, embeddings = quantized(pictures())
        torch.testing.assert_close(quantized.logits(pictures()), logits)
    assert embeddings.shape == (4, 4, quantized.embedding_dim)


@pytest.mark.parametrize(
    "backbone", ["mobilenetv3_small_050", "mobilenetv4_conv_small_050", "resnet18", "test_vit", "efficientnet_lite0"]
)
def test_any_backbone_takes_a_step(backbone):
    size = 64
    student = lively(backbone, size=size)
    quantized = fake_quantized(student, pictures(size))
    weights = [module.weight for module in student.backbone.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    before = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.SGD(quantized.parameters(), lr=1e-2)
    logits, _ = quantized(pictures(size))
    logits.square().mean().backward()
    optimizer.step()
    reached = [weight for weight in weights if weight.grad is not None]
    assert len(reached) >= len(weights) - 1  # timm keeps a layer behind the feature map
    assert all(torch.isfinite(weight.grad).all() and weight.grad.any() for weight in reached)
    assert sum(not torch.equal(now, then) for now, then in zip(weights, before, strict=True)) == len(reached)
    with torch.no_grad():
        ratio = sqnr(student.logits(pictures(size)).numpy(), quantized.logits(pictures(size)).numpy())
    assert 5 < ratio < 60, ratio  # it is another function, and nearly the same one


def test_the_int8_graph_has_the_same_grids_and_as_much_noise(splits, tmp_path):
    """Exported and quantised as any student. Answers themselves part: a flipped rounding flips others behind it, in
    ONNX Runtime with and without its fusions too."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install 'edgepress[quantize]')")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install 'edgepress[quantize]')")
    pytest.importorskip("sympy", reason="sympy is not installed (pip install 'edgepress[quantize]')")
    from edgepress.calibration.int8.qdq import OnnxQuantizer
    from edgepress.deploy.build.export import export_onnx

    train = splits[0]
    student = lively("test_resnet", size=64, labels=train.labels)
    images = np.stack([student.preprocess.load(path) for path in train.paths])
    quantized = fake_quantized(student, torch.from_numpy(images))
    exported = export_onnx(student, train.subset(np.arange(1)), tmp_path / "onnx", identity="student").model_path
    (tmp_path / "work").mkdir()
    OnnxQuantizer(exported, tmp_path / "work", images, "onnxruntime").write(tmp_path / "int8.onnx", "min-max")

    graph = onnx.load(tmp_path / "int8.onnx").graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    theirs = [float(constants[node.input[1]]) for node in graph.node if node.op_type == "QuantizeLinear"]
    ours = ((quantized.ranges[:, 1].clamp(min=0) - quantized.ranges[:, 0].clamp(max=0)) / 255).tolist()
    assert len(ours) <= len(theirs) <= len(ours) + 3  # what is only turned round has its own nodes in a graph
    for scale in theirs:  # the padding of the first convolution may differ by half a level
        assert min(abs(scale / own - 1) for own in ours) < 0.02

    with torch.no_grad():
        plain = student.logits(torch.from_numpy(images)).numpy()
        fake = quantized.logits(torch.from_numpy(images)).numpy()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")  # else products saturate where no VNNI is
    session = ort.InferenceSession(tmp_path / "int8.onnx", options, providers=["CPUExecutionProvider"])
    (int8,) = session.run(None, {"images": images})
    assert sqnr(plain, int8) == pytest.approx(sqnr(plain, fake), abs=3)
    assert sqnr(int8, fake) > 20


STEPS = QuantizeAwareConfig(epochs=4, lr=2e-3, pictures=16, workers=0)


@pytest.mark.parametrize(
    ("weights", "left"),
    [
        ({"mld": 2.0, "hint": 0.0, "review_kd": 0.3, "rkd": 0.1}, {"mld": 2.0, "rkd": 0.1}),
        ({"preset": "review_kd"}, {"mld": MLD_INSTEAD}),
        ({"preset": "fitnet", "at": 1.0}, {"at": 1.0}),
        ({"preset": "label_map", "kd": 0.5}, {"kd": 0.5}),
        ({"mld": 1.0, "rkd": 0.1, "auxiliary": "mld", "review_kd": 0.0}, {"rkd": 0.1}),
        ({"preset": "alone"}, {}),
    ],
)
def test_terms_that_a_finished_student_cannot_follow_are_left_out(pair, weights, left):
    """Projections were trained beside the student, and would start random."""
    known = DistillConfig.parse({**COMMON, **weights}, "test").model_dump(mode="json")
    manifest = pair[1].manifest.model_copy(update={"facts": Facts(training=known)})
    lesson = lesson_again(replace(pair[1], manifest=manifest), STEPS)
    assert {name: value for name in TERMS if (value := getattr(lesson, name))} == left


def test_a_fine_tuned_student_is_an_ordinary_bundle(splits, pair, tmp_path):
    teacher, student = pair
    made = quantize_aware(*splits, teacher, student, STEPS, tmp_path / "qat")
    facts = made.manifest.facts
    losses = [entry.loss for entry in facts.history]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert list(facts.history[0].terms) == ["bce", "mld", "hint"]  # the terms it was trained by
    assert made.manifest.parent == student.as_parent
    assert made.manifest.architecture == student.manifest.architecture
    assert made.preprocess == student.preprocess
    before, after = load_model(student.path), load_model(made.path)
    assert before.state_dict().keys() == after.state_dict().keys()
    for (name, old), new in zip(before.named_buffers(), after.buffers(), strict=True):
        assert torch.equal(old, new), name  # the statistics of batch norms
    assert any(not torch.equal(old, new) for old, new in zip(before.parameters(), after.parameters(), strict=True))
    known = facts.quantize_aware
    accelerator = make_accelerator(STUDENT)
    assert known.before.val_mAP == evaluate(before, splits[1], STUDENT, accelerator)
    assert known.after.val_mAP == facts.val_mAP == evaluate(after, splits[1], STUDENT, accelerator)
    quantised = [entry.val_mAP for entry in facts.history]
    assert known.after.fake_quantized_val_mAP == max(quantised) == quantised[facts.best_epoch - 1]
    # Unchanged, it is kept.
    written = (made.path / MANIFEST).stat().st_mtime_ns
    assert quantize_aware(*splits, teacher, student, STEPS, tmp_path / "qat").digest == made.digest
    assert (made.path / MANIFEST).stat().st_mtime_ns == written


def test_an_interrupted_fine_tune_ends_with_the_same_weights(splits, pair, tmp_path, monkeypatch):
    whole = quantize_aware(*splits, *pair, STEPS, tmp_path / "whole")

    def save_once(path: Path, state: dict[str, Any]) -> None:
        save_state(path, state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(learning, "save_state", save_once)
        with pytest.raises(KeyboardInterrupt):
            quantize_aware(*splits, *pair, STEPS, tmp_path / "stopped")
    assert not (tmp_path / "stopped").exists()
    again = quantize_aware(*splits, *pair, STEPS, tmp_path / "stopped")
    assert len(again.manifest.facts.history) == STEPS.epochs
    mine, theirs = load_model(again.path).state_dict(), load_model(whole.path).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_a_student_that_learnt_alone_is_fine_tuned_alone(splits, tmp_path):
    config = DistillConfig(**{**STUDENT.model_dump(), **ALONE, "preset": "alone", "epochs": 1})
    student = distill(*splits, None, config, tmp_path / "alone")
    facts = quantize_aware(*splits, None, student, STEPS, tmp_path / "qat").manifest.facts
    assert list(facts.history[0].terms) == ["bce"]
    assert facts.teachers == ()


def test_what_cannot_be_fine_tuned_is_said(splits, pair, tmp_path):
    teacher, student = pair
    with pytest.raises(InputError, match="is the student itself"):
        quantize_aware(*splits, teacher, student, STEPS, student.path)
    with pytest.raises(InputError, match="no teacher is given, but mld is 4"):
        quantize_aware(*splits, None, student, STEPS, tmp_path / "out")
    other = [replace(split, labels=LabelSpace(("v", "w", "x", "y", "z"))) for split in splits]
    with pytest.raises(InputError, match="the student"):
        quantize_aware(*other, teacher, student, STEPS, tmp_path / "out")
    write_model(load_model(student.path), tmp_path / "untold", inputs="", facts=Facts(role="student"))
    untold = Bundle.open(tmp_path / "untold")
    with pytest.raises(InputError, match="does not say how it was trained"):
        quantize_aware(*splits, teacher, untold, STEPS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_branches_are_fused_first_and_the_bundle_loads(splits, tmp_path):
    """RepViT: three parallel convolutions in training, one in the graph whose weights are on a grid."""
    config = DistillConfig(**{**STUDENT.model_dump(), **ALONE, "preset": "alone", "epochs": 1, "size": 64})
    config = config.model_copy(update={"backbone": "repvit_m0_9"})
    student = distill(*splits, None, config, tmp_path / "branched")
    made = quantize_aware(*splits, None, student, QuantizeAwareConfig(epochs=1, pictures=8), tmp_path / "fused")
    branched, fused = load_model(student.path), load_model(made.path)
    assert fused.fused
    assert not branched.fused
    assert len(fused.state_dict()) < len(branched.state_dict())
    assert made.manifest.facts.val_mAP == evaluate(fused, splits[1], config, make_accelerator(config))
