"""A teacher that is an ONNX graph: the same lesson as from the torch model that it was exported from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgepress.compress.checkpoint import load_model, write_model
from edgepress.compress.config import DistillConfig, ModelConfig
from edgepress.compress.distill import distill
from edgepress.compress.foreign import OnnxTeacher
from edgepress.compress.models import make_model
from edgepress.compress.reading import Reading
from edgepress.compress.teachable import with_terms_for
from edgepress.deploy.build.export import export_onnx
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Facts

SETTINGS = {
    "backbone": "test_efficientnet",
    "head": "linear",
    "size": 32,
    "weights": "none",
    "epochs": 2,
    "batch_size": 8,
    "augment": "none",
    "cutout": 0.0,
    "workers": 0,
    "review_kd": 0.0,
}


@pytest.fixture(scope="module")
def splits(tiny_data):
    return [load_dataset(tiny_data, name) for name in ("train", "val", "test")]


@pytest.fixture(scope="module")
def teachers(splits, tmp_path_factory) -> tuple[Bundle, Bundle]:
    """One model as a bundle of kind torch and of kind onnx."""
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(1)
    config = ModelConfig(backbone="test_efficientnet", head="linear", size=32, weights="none")
    model, _ = make_model(config, splits[0].labels)
    write_model(model.eval(), folder / "teacher", inputs="x", facts=Facts(role="teacher"))
    graph = export_onnx(load_model(folder / "teacher").eval(), splits[2], folder / "onnx-fp32", identity="x")
    return Bundle.open(folder / "teacher"), graph


def test_it_answers_as_the_model_does(teachers, splits):
    torch_one, graph = teachers
    model = load_model(torch_one.path).eval()
    images = torch.from_numpy(np.stack([graph.preprocess(splits[0].picture(row)) for row in range(6)]))
    logits, embeddings = OnnxTeacher(graph)(images)
    assert embeddings.shape == (6, 5, 0)
    with torch.no_grad():
        torch.testing.assert_close(logits, model.logits(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kept", [False, True])
def test_a_student_learns_the_same_from_both(teachers, splits, tmp_path, kept):
    train, val, _ = splits
    config = DistillConfig(**SETTINGS, mld=2.0)
    cache = tmp_path / "cache" if kept else None
    students = [distill(train, val, one, config, tmp_path / one.name, cache=cache) for one in teachers]
    first, second = (load_model(one.path).state_dict() for one in students)
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=2e-3, rtol=1e-2, msg=name)
    assert students[1].manifest.parent == teachers[1].as_parent


@pytest.mark.parametrize(
    "asked", [{"cd": 1.0}, {"hint": 1.0}, {"review_kd": 0.1}, {"mld": 1.0, "inherit_head": "auto"}]
)
def test_what_a_graph_cannot_teach_is_refused_by_name(teachers, splits, tmp_path, asked):
    train, val, _ = splits
    config = DistillConfig(**{**SETTINGS, **asked})
    with pytest.raises(
        InputError, match=rf"but {list(asked)[-1]} needs what is inside it: .*set {list(asked)[-1]} to .*such as dist 1"
    ):
        distill(train, val, teachers[1], config, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_the_verb_takes_it(teachers, tiny_data, tmp_path, edgepress):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    done = edgepress("distill", tiny_data, "--teacher", teachers[1].path, "--out", tmp_path / "s", *flags, "--mld", "1")
    assert done.code == 0, done.err
    refused = edgepress(
        "distill", tiny_data, "--teacher", teachers[1].path, "--out", tmp_path / "t", *flags, "--cd", "1"
    )
    assert (refused.code, refused.err.count("\n")) == (2, 1)


def inner(graph: Bundle) -> tuple[list[str], str]:
    """Names of the graph's feature maps of distinct sizes, shallow to deep, and of a tensor of another kind."""
    import onnx
    import onnxruntime as ort

    model = onnx.load(str(graph.model_path))
    names = [output for node in model.graph.node for output in node.output]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name != "logits")
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    size = graph.preprocess.size
    found = dict(zip(names, session.run(names, {"images": np.zeros((1, size, size, 3), np.uint8)}), strict=True))
    maps = [name for name, tensor in found.items() if tensor.ndim == 4 and tensor.shape[1] > 3]
    deepest = {found[name].shape[2:]: name for name in maps}
    other = next(name for name, tensor in found.items() if tensor.ndim == 2 and name != "logits")
    return list(deepest.values()), other


def with_features(*names: str) -> Reading:
    return Reading(features=names)


@pytest.mark.parametrize("term", ["review_kd", "at", "fitnet", "rkd", "pkt"])
def test_named_feature_maps_teach_the_terms_on_maps(teachers, splits, tmp_path, term):
    train, val, _ = splits
    maps, _ = inner(teachers[1])
    config = DistillConfig(**{**SETTINGS, term: 0.1})
    values = []
    for variations in (None, 1):  # beside the student, and from what was kept
        config = config.model_copy(update={"variations": variations})
        given = train, val, teachers[1], config, tmp_path / f"s{variations}", tmp_path / "cache"
        values.append(distill(*given, reading=with_features(*maps[-2:])).manifest.facts.history[0].terms[term])
    assert np.isfinite(values[0])
    assert values[0] > 0
    assert values[1] == pytest.approx(values[0], rel=0.01)
    assert len(list((tmp_path / "cache").rglob("*.inside"))) == 1


def test_the_maps_are_those_of_the_graph_and_the_tokens_their_positions(teachers, splits):
    maps, _ = inner(teachers[1])
    teacher = OnnxTeacher(teachers[1], maps[-2:])
    assert teacher.embedding_dim == 0
    images = torch.from_numpy(np.stack([teacher.preprocess(splits[0].picture(row)) for row in range(3)]))
    logits, _ = teacher(images)
    torch.testing.assert_close(logits, OnnxTeacher(teachers[1]).logits(images))
    found = teacher.features()
    assert [one.shape[1] for one in found.maps] == list(teacher.map_channels)
    assert found.maps[0].shape[2] > found.maps[1].shape[2]
    torch.testing.assert_close(found.tokens.mean(dim=1), found.maps[-1].mean(dim=(2, 3)))
    model = load_model(teachers[0].path).eval()
    with torch.no_grad():
        deepest = model.backbone.forward_features(((images - model.mean) * model.scale).permute(0, 3, 1, 2))
    torch.testing.assert_close(found.maps[-1], deepest, atol=1e-4, rtol=1e-4)


def label_wise(graph: Bundle, out, labels: int = 5, width: int = 4) -> Bundle:
    """The same graph with a tensor of label-wise embeddings: the logits times numbers."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(graph.model_path))
    numbers = np.arange(1, width + 1, dtype=np.float32).reshape(1, 1, width)
    axes = numpy_helper.from_array(np.array([2]), "axes")
    model.graph.initializer.extend([numpy_helper.from_array(numbers, "numbers"), axes])
    model.graph.node.append(helper.make_node("Unsqueeze", ["logits", "axes"], ["tall"]))
    model.graph.node.append(helper.make_node("Mul", ["tall", "numbers"], ["embeddings"]))
    fields = {name: value for name, value in graph.manifest if name not in ("files", "created")}
    with write_bundle(out, **fields) as folder:
        onnx.save(model, str(folder / graph.manifest.model))
    return Bundle.open(out)


@pytest.mark.parametrize("kept", [False, True])
def test_named_embeddings_teach_the_terms_on_them(teachers, splits, tmp_path, kept):
    train, val, _ = splits
    graph = label_wise(teachers[1], tmp_path / "graph")
    config = DistillConfig(**SETTINGS, cd=1.0, id=1.0, hint=1.0, mld=1.0)
    cache = tmp_path / "cache" if kept else None
    student = distill(train, val, graph, config, tmp_path / "s", cache, reading=with_features("embeddings"))
    terms = student.manifest.facts.history[0].terms
    assert all(np.isfinite(terms[name]) and terms[name] > 0 for name in ("cd", "id", "hint", "mld"))
    logits, embeddings = OnnxTeacher(graph, ["embeddings"])(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    torch.testing.assert_close(embeddings, logits[..., None] * torch.arange(1.0, 5.0))


def test_what_a_named_tensor_cannot_teach_is_refused_before_training(teachers, splits, tmp_path):
    train, val, _ = splits
    maps, other = inner(teachers[1])
    graph = label_wise(teachers[1], tmp_path / "graph")
    for names, changes, words in (
        (
            (),
            {"review_kd": 0.1},
            r"review_kd needs what is inside it: name its feature maps \(teacher_features\), or set",
        ),
        (
            (),
            {"cd": 1.0},
            r"cd needs what is inside it: name its label-wise embeddings \(teacher_features\), or set cd",
        ),
        (maps[-1:], {"cd": 1.0}, "cd needs what is inside it"),
        (("embeddings",), {"at": 1.0}, "at needs what is inside it"),
        (
            maps[-1:],
            {"mld": 1.0, "inherit_head": "auto"},
            "inherit_head needs what is inside it: set inherit_head to no",
        ),
        (("nosuch",), {"at": 1.0}, r"no tensor 'nosuch' in its graph of \d+ \(teacher_features\)"),
        (("embedding",), {"cd": 1.0}, "did you mean 'embeddings'?"),
        ((other,), {"at": 1.0}, r"is float32 \[2, .*expected float32 feature maps \[2, channels, rows, columns\] or"),
        (("embeddings", "embeddings"), {"cd": 1.0}, "teacher_features names a tensor twice"),
    ):
        with pytest.raises(InputError, match=words):
            distill(
                *(train, val, graph, DistillConfig(**{**SETTINGS, **changes}), tmp_path / "s"),
                reading=with_features(*names),
            )
    with pytest.raises(InputError, match="teacher_features names tensors of an ONNX graph, and it is none"):
        distill(train, val, teachers[0], DistillConfig(**SETTINGS, mld=1.0), tmp_path / "s", reading=with_features("x"))
    assert not (tmp_path / "s").exists()


def test_the_default_stays_in_part_where_feature_maps_are_named(teachers, caplog):
    maps, _ = inner(teachers[1])
    caplog.set_level("INFO", "edgepress")
    left = with_terms_for(DistillConfig(), [teachers[1]], maps[-2:])
    assert (left.terms, left.inherit_head) == (("review_kd",), "no")
    assert "review_kd without simkd and inherit_head, by default" in caplog.text
    assert with_terms_for(DistillConfig(), [teachers[1]]).terms == ("dist",)
