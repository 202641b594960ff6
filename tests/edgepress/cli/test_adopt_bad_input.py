"""What `adopt` cannot take: exit code 2, one line on stderr, and what to do; nothing is left behind."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="torch is not installed; the checkpoints are made with it")
import torchvision  # noqa: E402

from tests.conftest import TINY_LABELS  # noqa: E402
from tests.deploy.build.graphs import saved, tagger  # noqa: E402

NORMAL = ("--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
NET = "shufflenet_v2_x0_5"
OF_NET = ("--backbone", f"torchvision:{NET}")


def net(outputs: int = len(TINY_LABELS)) -> torch.nn.Module:
    return torchvision.models.get_model(NET, weights=None, num_classes=outputs)


def graph(**changes) -> Callable[[Path], Path]:
    return lambda root: saved(tagger(**changes), root / "own.onnx")


def file(name: str, content: bytes = b"x") -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return write


def folder(name: str, *names: str) -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        (root / name).mkdir()
        for one in names:
            (root / name / one).write_bytes(b"x")
        return root / name

    return write


def checkpoint(make: Callable[[], object], name: str = "own.pth") -> Callable[[Path], Path]:
    def write(root: Path) -> Path:
        torch.save(make(), root / name)
        return root / name

    return write


def without_external_data(root: Path) -> Path:
    onnx.save(tagger(), root / "own.onnx", save_as_external_data=True, location="own.bin", size_threshold=0)
    (root / "own.bin").unlink()
    return root / "own.onnx"


def torchscript(root: Path) -> Path:
    torch.jit.trace(torch.nn.Conv2d(3, 5, 3), torch.zeros(1, 3, 8, 8)).save(root / "own.pt")
    return root / "own.pt"


def lightning() -> dict:
    return {"state_dict": net().state_dict(), "hyper_parameters": Namespace(lr=0.1), "pytorch-lightning_version": "2.5"}


def lacking(*names: str) -> Callable[[], dict]:
    return lambda: {name: value for name, value in net().state_dict().items() if name not in names}


def of_32_pixels(root: Path) -> Path:
    """A graph whose input has open sides, and whose product takes 32 x 32 pixels alone."""
    model = tagger(shape=["n", 3, "h", "w"])
    flat = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "long"], ["y"])]
    del model.graph.node[:]
    model.graph.node.extend(flat)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3 * 32 * 32, 5), np.float32), "long"))
    return saved(model, root / "own.onnx")


def nodes(operator: str, **attributes) -> list[onnx.NodeProto]:
    return [helper.make_node(operator, ["scores"], ["y"], **attributes)]


SEQUENCE = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
TEXTS = helper.make_tensor_value_info("y", TensorProto.STRING, ["n", 5])
SCALE = helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1])
ROWS = {
    "a second input": (graph(more=[SCALE]), NORMAL, "2 inputs (x ['n', 3, 32, 32], scale [1]); expected one"),
    "double": (graph(dtype=TensorProto.DOUBLE), NORMAL, "export it in float32"),
    "int8": (graph(dtype=TensorProto.INT8), NORMAL, "export it in float32"),
    "open sides": (graph(shape=["n", 3, "h", "w"]), NORMAL, "say --size"),
    "a size that it cannot take": (
        of_32_pixels,
        (*NORMAL, "--size", "48"),
        "cannot run it on pictures [12, 3, 48, 48] (",
    ),
    "texts as scores": (graph(after=nodes("Cast", to=TensorProto.STRING), output=TEXTS), (), "say --mean and --std"),
    "a size of 0": (graph(shape=["n", 3, "h", "w"]), (*NORMAL, "--size", "0"), "--size 0: input should be greater"),
    "a std of 0": (graph(), ("--mean", "0,0,0", "--std", "0,1,1"), "those of std above 0"),
    "no mean": (graph(), (), "say --mean and --std"),
    "a sequence": (graph(after=nodes("SequenceConstruct"), output=SEQUENCE), NORMAL, "is no tensor"),
    "probabilities": (graph(after=nodes("HardSigmoid")), NORMAL, "say --activation sigmoid, softmax, or none"),
    "a class count": (graph(outputs=7), NORMAL, "has 7 columns for 5 labels"),
    "a future opset": (graph(opset=99), NORMAL, "export it with opset_version=20"),
    "external data": (without_external_data, NORMAL, "external data 'own.bin' is missing; copy it beside the file"),
    "a damaged graph": (file("own.onnx", b"\x00\x01"), NORMAL, "not an ONNX model"),
    "a backbone": (graph(), (*NORMAL, "--backbone", "resnet18"), "is not for an ONNX file"),
    "TensorFlow Lite": (file("own.tflite"), (), "python -m tf2onnx.convert --tflite"),
    "Keras": (file("own.h5"), (), "python -m tf2onnx.convert --keras"),
    "a SavedModel": (folder("own", "saved_model.pb"), (), "python -m tf2onnx.convert --saved-model"),
    "an empty folder": (folder("own"), (), "an empty folder"),
    "weights alone": (folder("own", "pytorch_model.bin"), (), "no config.json, so nothing says what model it is of"),
    "nothing": (lambda root: root / "own.onnx", (), "no such file or folder"),
    "no backbone": (checkpoint(lacking()), (), "say --backbone"),
    "an unknown backbone": (checkpoint(lacking()), ("--backbone", "resnet19"), "did you mean resnet18"),
    "a layout": (checkpoint(lacking()), (*OF_NET, "--layout", "nchw"), "--layout is for ONNX files"),
    "prompts": (checkpoint(lacking()), (*OF_NET, "--prompts", "labels.txt"), "is for a pair of encoders"),
    "missing keys": (
        *(checkpoint(lacking("conv1.0.weight", "fc.weight", "fc.bias", "conv5.0.weight")), OF_NET),
        "278 of 282 tensors fit torchvision's shufflenet_v2_x0_5; not conv1.0.weight (missing), conv5.0.weight",
    ),
    "outputs of a checkpoint": (checkpoint(lambda: net(7).state_dict()), OF_NET, "fc has 7 outputs for 5 labels"),
    "a pickled module": (checkpoint(net), OF_NET, "holds more than tensors (torchvision.models.shufflenetv2.Shuff"),
    "Lightning with code": (checkpoint(lightning, "own.ckpt"), OF_NET, "holds more than tensors (argparse.Namespace)"),
    "TorchScript": (torchscript, OF_NET, "a TorchScript program, which is not executed here: export it to ONNX"),
    "TorchScript without a backbone": (torchscript, (), "a TorchScript program, which is not executed here: export it"),
    "a pickled module without a backbone": (checkpoint(net), (), "save the weights alone where it was made"),
    "a damaged checkpoint": (file("own.pth", b"\x80garbage"), OF_NET, "not a checkpoint"),
}


@pytest.mark.parametrize("name", ROWS)
def test_it_is_refused_in_one_line_that_says_what_to_do(name, tiny_data, tmp_path, edgepress):
    make, options, said = ROWS[name]
    (tmp_path / "labels.txt").write_text("\n".join(TINY_LABELS))
    source = make(tmp_path)
    done = edgepress(
        *("adopt", source, "--data", tiny_data, "--out", tmp_path / "made", "--labels", tmp_path / "labels.txt"),
        *options,
    )
    *before, last = done.err.splitlines()
    assert (done.code, done.out) == (2, "")
    assert said in last, last
    assert all("Traceback" not in line and "edgepress:" not in line for line in before)
    assert not (tmp_path / "made").exists()


def test_a_checkpoint_without_both_is_told_both(tiny_data, tmp_path, edgepress):
    source = checkpoint(lacking())(tmp_path)
    done = edgepress("adopt", source, "--data", tiny_data, "--out", tmp_path / "made")
    assert done.code == 2
    assert "say --backbone" in done.err
    assert "and --labels FILE" in done.err
