"""The examples of docs/your-model.md run as they are written, on small models of each kind."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

onnx = pytest.importorskip("onnx", reason="onnx is not installed; the examples are graphs of it")
torch = pytest.importorskip("torch", reason="torch is not installed; the examples make their models with it")
import timm  # noqa: E402
import torchvision  # noqa: E402

from edgepress import open_tagger  # noqa: E402
from edgepress.multilabel.bundle import Bundle  # noqa: E402
from tests.deploy.build.graphs import saved, tagger  # noqa: E402

PAGE = Path(__file__).parents[3] / "docs" / "your-model.md"
NAMES = ("bars", "other", "circle", "blue", "green", "red")
SHORT = {
    "distill": ("--backbone", "test_efficientnet", "--weights", "none", "--size", "64", "--epochs", "1"),
    "quantize": ("--pictures", "12", "--time-limit", "0", "--budget", "100"),
    "verify": ("--budget", "100"),
    "bench": ("--seconds", "0.05"),
}
"""What makes a command of the page short."""
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def blocks(title: str) -> list[str]:
    """The code blocks of a section, without their indentation."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    parts = [[]]
    for line in section.splitlines():
        if line.startswith("    "):
            parts[-1].append(line[4:])
        elif line.strip():
            parts.append([])
        elif parts[-1]:
            parts[-1].append("")
    return ["\n".join(part).strip() for part in parts if part and any(part)]


def commands(title: str) -> list[list[str]]:
    lines = "\n".join(blocks(title)).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("edgepress ")]


def run(title: str, edgepress: Callable, most: int = 9, more: dict | None = None, **names: str) -> None:
    for words in commands(title)[:most]:
        short = (*SHORT.get(words[0], ()), *(more or {}).get(words[0], ()))
        done = edgepress(*(names.get(word, word) for word in words), *short)
        # A net this small may be slower in INT8, which is a gate that fails and no error.
        assert done.code in ((0, 1) if words[0] in ("quantize", "verify") else (0,)), (words, done.err)


@pytest.fixture
def here(tiny_data, tmp_path, monkeypatch) -> Path:
    (tmp_path / "my-pictures").symlink_to(tiny_data)
    (tmp_path / "tags.txt").write_text("\n".join(NAMES))
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def test_an_onnx_file(here, edgepress):
    saved(tagger(outputs=len(NAMES)), here / "tagger.onnx")
    run("A finished ONNX model", edgepress)
    assert Bundle.open("runs/mine/openvino-int8").manifest.precision == "int8"
    assert Bundle.open("runs/mine/calibrated").decisions is not None


def test_a_checkpoint_of_timm(here, edgepress):
    state = timm.create_model("resnet18", num_classes=len(NAMES)).state_dict()
    torch.save({"epoch": 3, "arch": "resnet18", "state_dict": state}, "model_best.pth.tar")
    run("A checkpoint of timm", edgepress)
    assert Bundle.open("student").manifest.role == "student"


def test_a_checkpoint_of_torchvision(here, edgepress):
    torch.save(torchvision.models.resnet18(num_classes=len(NAMES)).state_dict(), "my.pth")
    run("A checkpoint of torchvision", edgepress)
    with open_tagger("runs/mine/onnx-fp32") as own:
        assert set(own.predict(next((here / "my-pictures" / "test").glob("*.jpg")))) == set(NAMES) - {"other"}


def test_a_folder_of_hugging_face(here, edgepress):
    pytest.importorskip("transformers", reason="transformers is not installed (edgepress[huggingface])")
    from tests.compress.huggingface_folders import classifier

    classifier(here / "my-classifier")
    run("A folder of Hugging Face", edgepress)
    assert Bundle.open("runs/mine/onnx-fp32").preprocess.resize == "crop"


def test_a_module(here):
    layers = (torch.nn.Conv2d(3, len(NAMES), 16, 16), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    (code,) = blocks("A torch module of your own")
    exec(code, {"my_module": torch.nn.Sequential(*layers), "my_labels": list(NAMES)})  # noqa: S102 # of our own page
    assert Bundle.open("runs/mine/onnx-fp32").preprocess.size == 224


def test_clip(here, edgepress):
    open_clip = pytest.importorskip("open_clip", reason="open_clip is not installed (edgepress[clip])")
    (here / "configs").mkdir()
    (here / "configs" / "ViT-tiny-docs.json").write_text(json.dumps(CLIP))
    open_clip.add_model_config(here / "configs")
    torch.save(open_clip.create_model("ViT-tiny-docs").state_dict(), "open_clip.pt")
    *_, prompts = blocks("CLIP: a teacher without any labels")
    Path("prompts.yaml").write_text(prompts.replace("fire_truck", "circle"))
    assert set(yaml.safe_load(Path("prompts.yaml").read_text())) == {"circle", "*"}
    run("CLIP: a teacher without any labels", edgepress, **{"open_clip:ViT-B-32": "open_clip:ViT-tiny-docs"})
    assert Bundle.open("student").manifest.role == "student"


def test_a_teacher_from_elsewhere(here, edgepress):
    model = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, 8), torch.nn.ReLU()),
        torch.nn.Sequential(torch.nn.Conv2d(8, 16, 2, 2), torch.nn.ReLU()),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, len(NAMES)),
    )
    free = {"input": {0: torch.export.Dim("batch")}}
    torch.onnx.export(model.eval(), (torch.zeros(2, 3, 64, 64),), "big.onnx", dynamic_shapes=free, external_data=False)
    (here / "map.yaml").write_text("red: green\ngreen: red\nblue: [blue, other]\ncircle: null\n")
    made = onnx.load(str(here / "big.onnx"))
    first, second = (node.output[0] for node in made.graph.node if node.op_type == "Relu")
    maps = {"/layer3/Relu,/layer4/Relu": f"{first},{second}"}
    weak = ("--teacher-weak", "keep")  # a teacher of random weights knows nothing
    run("A teacher from elsewhere", edgepress, more={"distill": weak}, **maps)
    assert Bundle.open("own").labels.names == NAMES
    assert Bundle.open("mapped").manifest.facts.untaught == ("circle",)
    assert "dist" in Bundle.open("told").manifest.facts.history[0].terms
    assert "review_kd" in Bundle.open("inside").manifest.facts.history[0].terms


def test_every_example_is_run():
    sections = [line.removeprefix("## ") for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "## "]
    assert [one for one in sections if blocks(one)] == [
        "A finished ONNX model",
        "A checkpoint of timm",
        "A checkpoint of torchvision",
        "A folder of Hugging Face",
        "A torch module of your own",
        "CLIP: a teacher without any labels",
        "A teacher from elsewhere",
    ]
