"""Large teachers with mobile students: a pair of each takes a step, every student exports, refusals say why.

`make pairs` tries every teacher with every student, and exports students with all the blocks that they have.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from onnx import helper
from timm.utils import reparameterize_model
from torch import nn

from edgepress.compress.checkpoint import write_model
from edgepress.compress.config import DistillConfig, ModelConfig
from edgepress.compress.distill import distill
from edgepress.compress.loader import Batch, batches, make_loader
from edgepress.compress.models import MultiLabelModel, make_model
from edgepress.compress.tasks import DistillTask
from edgepress.compress.teacher import LiveTeacher
from edgepress.deploy.build.export import export_onnx
from edgepress.deploy.build.traced import traced
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.errors import InputError
from edgepress.multilabel.facts import Epoch, Facts
from edgepress.multilabel.labels import LabelSpace

SIZE = 64
ALL = os.environ.get("EDGEPRESS_TEST_PAIRS") == "all"
TEACHERS = {
    "resnet101": SIZE,
    "swin_small_patch4_window7_224": SIZE,
    "convnext_base": SIZE,
    "vit_base_patch16_224": SIZE,
    "repvgg_a2": SIZE,
    # Of eva02 the base: a large teacher as the others are, and at 70 px it costs no more than they do. 5 x 14 = 70.
    "eva02_base_patch14_224": 70,
}
"""The side at which each is asked here, in pixels."""
STUDENTS = (
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "tf_efficientnet_lite0",
    "efficientnet_lite0",
    "repvit_m0_9",
    "fastvit_t8",
)
PAIRS = [
    (teacher, student)
    for row, teacher in enumerate(TEACHERS)
    for column, student in enumerate(STUDENTS)
    if ALL or row == column % len(TEACHERS)
]
"""Every teacher and every student at least once."""
MERGED = {"repvit_m0_9": "RepVggDw", "fastvit_t8": "MobileOneBlock"}
"""Students with branches that only training needs, and timm's name of such a block."""
BATCH = 8
LABELS = LabelSpace(("a", "b"))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def train(tiny_data: Path) -> MultiLabelDataset:
    return load_dataset(tiny_data, "train")


def pictures(count: int, size: int, seed: int = 0) -> torch.Tensor:
    """Random blots rather than noise, which a deep random network answers alike whatever it is."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    return (255 * nn.functional.interpolate(coarse, (size, size))).byte().permute(0, 2, 3, 1).contiguous()


def leave_out_repeats(model: MultiLabelModel) -> None:
    """Leave each kind of block once, because every further one takes as long to export and shows nothing new.

    Two blocks are of one kind if they differ in numbers of channels alone. The first of a stage stays, and what changes
    the shape of a map.
    """
    keeping = set()
    rows = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Sequential) and re.search(r"\bblocks(\.\d+)?$", name)
    ]

    def seen(block: nn.Module, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
        if given[0].shape == made.shape:
            keeping.add(block)

    hooks = [block.register_forward_hook(seen) for row in rows for block in row]
    with torch.no_grad():
        model.eval()(pictures(2, model.config.size))  # its batch norms see nothing yet
    for hook in hooks:
        hook.remove()
    kinds = set()
    for row in rows:
        repeats = []
        for at, block in enumerate(row):
            kind = re.sub(r"(?<=[(\s])\d+(?=,)|(?<=groups=)\d+", "", repr(block))
            if at and block in keeping and kind in kinds:
                repeats.append(at)
            kinds.add(kind)
        for at in reversed(repeats):
            del row[at]


def settled(backbone: str, size: int, labels: LabelSpace, width: int = 64, *, repeats: bool = True) -> MultiLabelModel:
    """A random model whose batch norms know the pictures: its features differ from one to the next, as a trained one's.

    With fresh statistics RepVGG's differ by 1e-8, and every distance between them would be rounding.
    """
    torch.manual_seed(0)
    model, _ = make_model(ModelConfig(backbone=backbone, size=size, width=width, weights="none"), labels)
    if not repeats:
        leave_out_repeats(model)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the average of what is seen, the initial values left out
    with torch.no_grad():
        model.train()(pictures(BATCH, size, seed=1))
    for norm in norms:
        norm.momentum = 0.1
    return model


def batch_of(model: MultiLabelModel, teacher: MultiLabelModel, train: MultiLabelDataset) -> Batch:
    """A loader's batch, with labels that leave every picture and every label at least three rows."""
    labels = len(train.labels)
    targets = torch.ones(BATCH, labels)
    targets[torch.arange(BATCH), torch.arange(BATCH) % labels] = 0
    loader = make_loader(train, [model.preprocess, teacher.preprocess], batch_size=BATCH, workers=0)
    return replace(next(batches(loader, 0, loader)), targets=targets)


@pytest.fixture(scope="module")
def teacher(request: pytest.FixtureRequest, train: MultiLabelDataset) -> LiveTeacher:
    """One at a time: pytest runs all pairs of a teacher before it makes the next."""
    return LiveTeacher(settled(request.param, TEACHERS[request.param], train.labels))


@pytest.fixture
def listening(teacher: LiveTeacher) -> Iterator[LiveTeacher]:
    """The same, tapped by one task at a time."""
    yield teacher
    assert teacher._taps is not None
    teacher._taps.close()


@pytest.mark.parametrize(("teacher", "student"), PAIRS, indirect=["teacher"])
def test_a_pair_takes_a_step(listening, student, train):
    teacher = listening
    torch.manual_seed(0)
    config = DistillConfig(
        backbone=student, size=SIZE, width=64, weights="none", mld=4, cd=0.1, id=0.1, hint=1, review_kd=0.1, simkd=4
    )
    model, _ = make_model(config, train.labels)
    batch = batch_of(model, teacher.model, train)
    task = DistillTask(config, teacher, model, train)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    terms = task(batch, *model.train()(batch.images))
    assert list(terms) == ["bce", "mld", "cd", "id", "hint", "simkd", "review_kd"]
    assert all(term.isfinite() and term > 0 for term in terms.values()), terms
    assert task.counts["cd_groups"] == len(train.labels)
    assert task.counts["id_groups"] == BATCH
    for name in ("cd", "id"):  # each alone reaches the first layer: the structure teaches the whole backbone
        first = next(model.backbone.parameters())
        (gradient,) = torch.autograd.grad(terms[name], first, retain_graph=True)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0, name

    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    sum(terms.values()).backward()
    optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert next(iter(before)) in moved
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


@pytest.fixture(scope="module", params=STUDENTS)
def exported(
    request: pytest.FixtureRequest, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[MultiLabelModel, Path]:
    """A student and its ONNX file."""
    verified = load_dataset(tiny_data, "test").subset(np.arange(2))
    model = settled(request.param, SIZE, verified.labels, repeats=ALL).eval()
    bundle = export_onnx(model, verified, tmp_path_factory.mktemp("exported") / "onnx", identity="x")
    return model, bundle.model_path


def test_a_student_s_graph_answers_as_torch_for_any_batch(exported):
    """Float32 in another order of sums: within 1e-4 of the largest logit."""
    model, file = exported
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    images = pictures(3, SIZE)
    with torch.inference_mode():
        expected = model.logits(images).numpy()
    assert isinstance(session.get_inputs()[0].shape[0], str)  # a name: the batch is free
    assert expected.std(axis=0).max() > 100 * 1e-4 * np.abs(expected).max()  # another picture's answer would not pass
    for count in (1, 3):
        (found,) = session.run(None, {"images": images[:count].numpy()})
        assert np.abs(found - expected[:count]).max() < 1e-4 * np.abs(expected).max()


def branches(graph: onnx.GraphProto) -> int:
    """Sums of a convolution with its own input, or with another convolution of it: what one could do alone."""
    convolved = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Conv"}
    sums = (node.input for node in graph.node if node.op_type == "Add")
    return sum(
        convolved.get(one) in (other, convolved.get(other, other)) or convolved.get(other) == one for one, other in sums
    )


def test_branches_are_counted():
    ours = [helper.make_node("Conv", [x, "w"], [y]) for x, y in (("x", "a"), ("x", "b"), ("a", "c"))]
    for pair, expected in ((["a", "b"], 1), (["a", "x"], 1), (["x", "a"], 1), (["c", "x"], 0), (["x", "z"], 0)):
        graph = helper.make_graph([*ours, helper.make_node("Add", pair, ["y"])], "g", [], [])
        assert branches(graph) == expected, pair


def test_branches_that_only_training_needs_are_merged(exported):
    model, file = exported
    graph = onnx.load(file).graph
    in_torch = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    in_graph = sum(node.op_type == "Conv" for node in graph.node)
    block = MERGED.get(model.config.backbone)
    assert branches(graph) == 0
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)
    if block is not None:
        assert in_graph < in_torch
        assert (
            sum(type(module).__name__ == block for module in model.modules()) > 0
        )  # the model itself is left as it is


def test_without_merging_branches_stay():
    """The control of the test above, on the first blocks of a net of such blocks."""
    stem = settled("fastvit_t8", SIZE, LABELS).eval().backbone.stem
    picture = torch.zeros(2, 3, SIZE, SIZE)
    merged, whole = (traced(module, picture, ["y"], "stem").graph for module in (reparameterize_model(stem), stem))
    assert branches(merged) == 0
    assert branches(whole) > 0
    assert sum(node.op_type == "Conv" for node in whole.node) == sum(
        isinstance(module, nn.Conv2d) for module in stem.modules()
    )


def bundle_of(model: MultiLabelModel, out: Path) -> Bundle:
    write_model(model, out, inputs="x", facts=Facts())
    return Bundle.open(out)


def quick(**settings) -> DistillConfig:
    fixed = {
        "weights": "none",
        "batch_size": BATCH,
        "epochs": 1,
        "workers": 0,
        "ema_decay": 0.5,
        "mld": 4,
        "cd": 0.1,
        "id": 0.1,
    }
    return DistillConfig(**{**fixed, **settings})


def require_sound(student: Bundle, val: MultiLabelDataset) -> Epoch:
    """The only epoch of a student whose training said what it should."""
    (entry,) = student.manifest.facts.history
    assert all(np.isfinite(value) for value in entry.model_dump().values()), entry
    assert student.manifest.facts.val_mAP == entry.val_mAP
    assert 0 < entry.val_mAP <= 1
    assert len(student.labels) == len(val.labels)
    return entry


def test_a_large_wide_teacher_and_a_small_narrow_student(tiny_data, train, tmp_path):
    """224 px and embeddings 1,000 wide to 128 px and 96 wide, through the whole of distill."""
    val = load_dataset(tiny_data, "val")
    model = settled("test_vit", 224, train.labels, width=1000).eval()
    with torch.no_grad():
        assert model(pictures(2, 224))[1].shape == (2, len(train.labels), 1000)
    config = quick(backbone="mobilenetv4_conv_small", width=96, size=128)
    student = distill(train, val, bundle_of(model, tmp_path / "teacher"), config, tmp_path / "student")
    assert student.preprocess.size == 128
    entry = require_sound(student, val)
    assert all(getattr(entry, name) > 0 for name in ("bce", "mld", "cd", "id", "cd_groups", "id_groups"))


def write_pictures(root: Path, labels: int, present: float) -> Path:
    """An imagefolder data set of 24 pictures to train on and 12 to choose by, each with a share of the labels."""
    rng = np.random.default_rng(labels)
    names = [f"label {number}" for number in range(labels)]
    root.mkdir()
    (root / "labels.txt").write_text("\n".join(names) + "\n")
    for split, count in (("train", 24), ("val", 12)):
        (root / split).mkdir()
        lines = []
        for number in range(count):
            picture = cv2.resize(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (48, 48))
            cv2.imwrite(str(root / split / f"{number}.png"), picture)
            shown = [name for name in names if rng.random() < present]
            lines.append(json.dumps({"file_name": f"{number}.png", "labels": shown}))
        (root / split / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(("labels", "present"), [(2, 0.6), (1000, 0.1)])
@pytest.mark.parametrize("reduction", ["mean", "published"])
def test_few_labels_and_many(tmp_path, labels, present, reduction):
    root = write_pictures(tmp_path / "data", labels, present)
    train, val = load_dataset(root, "train"), load_dataset(root, "val")
    teacher = bundle_of(settled("resnet18", SIZE, train.labels), tmp_path / "teacher")
    config = quick(backbone="mobilenetv2_100", width=32, size=SIZE, reduction=reduction)
    entry = require_sound(distill(train, val, teacher, config, tmp_path / "student"), val)
    assert entry.bce > 0
    assert entry.mld > 0
    assert entry.cd > 0
    if labels == 2:
        # A picture has two labels at most, and two rows are always alike: there is no structure to teach.
        assert entry.id == pytest.approx(0, abs=1e-6)
        assert entry.id_groups == 0
    else:
        assert entry.id > 0
        assert entry.id_groups == BATCH


def refusal(backbone: str, size: int = SIZE) -> str:
    """What the error says, in one line."""
    config = ModelConfig(backbone=backbone, size=size, width=32, weights="none")
    with pytest.raises(InputError) as caught:
        make_model(config, LABELS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_name_is_told_with_close_ones():
    said = refusal("efficientnet_lite_0")
    assert "no model 'efficientnet_lite_0'" in said
    assert "efficientnet_lite0" in said
    assert timm.__version__ in said
    assert "no model 'eva02'; did you mean eva02_tiny_patch14_224 or " in refusal("eva02")  # a family's name
    assert "no model '[a-z]*'" in refusal("[a-z]*")
    assert "did you mean 'resnet18.a1_in1k'?" in refusal("resnet18.a1_in1kk")
    assert "'tf_efficientnet_b0_ns': give tf_efficientnet_b0.ns_jft_in1k" in refusal("tf_efficientnet_b0_ns")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("timm/resnet18.a1_in1k", "give the part behind the slash alone: resnet18.a1_in1k"),
        ("hf-hub:timm/resnet18.a1_in1k", "give the part behind the slash alone: resnet18.a1_in1k"),
        ("hf-hub:someone/tagger", "their .safetensors file as weights"),
        ("local-dir:/models/resnet18", "their .safetensors file as weights"),
    ],
)
def test_a_name_with_a_source_is_told_what_to_give_instead(name, told):
    assert f"no model {name!r}; " in refusal(name)
    assert told in refusal(name)


@pytest.mark.parametrize("backbone", ["coat_tiny", "efficientvim_m1"])
def test_a_backbone_without_one_feature_map_is_told_so(backbone):
    """These give several maps as a list."""
    said = refusal(backbone)
    assert f"{backbone!r} gives no feature map: received list" in said
    assert "choose another backbone" in said


@pytest.mark.parametrize(
    ("backbone", "size", "reason", "choice"),
    [
        ("vit_tiny_patch16_224", 72, "patches of 16 px and would not see the last 8", 80),
        ("swin_tiny_patch4_window7_224", 70, "patches of 4 px and would not see the last 2", 72),
        ("eva02_tiny_patch14_224", 64, "patches of 14 px and would not see the last 8", 70),
        ("test_maxvit", 72, r"must be divisible by window", 160),  # windows of 2 on a map of 9
        ("levit_128", 72, "must match", 224),  # attention laid out for another map
        ("vit_tiny_r_s16_p8_224", 72, "its layers do not fit that size", 224),  # timm gives no reason
        ("inception_v3", 64, "greater than actual input", 299),  # nothing is left of 64 px
    ],
)
def test_a_size_that_is_not_taken_is_told_with_one_that_is(backbone, size, reason, choice):
    said = refusal(backbone, size)
    assert f"{backbone!r} does not take pictures of {size} px: " in said
    assert reason in said
    assert f"choose {choice}" in said
    make_model(ModelConfig(backbone=backbone, size=choice, width=32, weights="none"), LABELS)


def test_a_backbone_that_pads_what_fills_no_patch_takes_any_size():
    model, _ = make_model(ModelConfig(backbone="xcit_nano_12_p8_224", size=72, width=32, weights="none"), LABELS)
    with torch.no_grad():
        assert model.tokens(pictures(1, 72)).shape[1] == 81
