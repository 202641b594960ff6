"""ncnn's engine: files that it must refuse by name, pictures of every size, and what it takes for granted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepress.deploy.engines import open_engine
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.errors import EngineUnavailableError, InputError
from edgepress.multilabel.ncnn_network import OPTIONS

Files = dict[str, bytes]


@pytest.fixture
def ncnn(build) -> Bundle:
    return build("ncnn-fp32")


@pytest.fixture
def files(ncnn) -> Files:
    return {name: ncnn.read(name) for name in ("model.param", "model.bin")}


@pytest.fixture
def holding(ncnn: Bundle, files: Files, tmp_path: Path) -> Callable[..., Bundle]:
    """A bundle as the engine's that holds other files, signed as if they belonged there."""

    def with_files(**others: bytes) -> Bundle:
        fields = {name: value for name, value in ncnn.manifest if name not in ("files", "created")}
        with write_bundle(tmp_path / "other", **fields) as folder:
            for name, content in files.items():
                (folder / name).write_bytes(others.get(name.removeprefix("model."), content))
        return Bundle.open(tmp_path / "other")

    return with_files


def refused(bundle: Bundle, error: type[Exception] = InputError) -> str:
    with pytest.raises(error) as raised:
        open_engine(bundle, unproven=True)
    message = str(raised.value)
    assert message.startswith(f"{bundle.path / 'model.param'}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kept", [0, 4, 9, 40, 0.5, 0.99, -1, -5])
def test_a_graph_that_is_cut_is_refused(holding, files, kept):
    whole = files["model.param"]
    cut = whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    assert "ncnn cannot load it: its .param file is" in refused(holding(param=cut))


@pytest.mark.parametrize("kept", [0, 4, 1000, 0.5, -4, -1])
def test_weights_that_are_cut_are_refused(holding, files, kept):
    whole = files["model.bin"]
    cut = whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    said = refused(holding(bin=cut))
    assert said.endswith("its .bin file ends before the last weight: it is cut or of another model")


def test_weights_of_another_model_are_refused(holding, files):
    said = refused(holding(bin=files["model.bin"] + bytes(400)))
    assert said.endswith("its .bin file has 400 bytes too many: it is cut or of another model")


@pytest.mark.parametrize("half", ["param", "bin"])
def test_the_files_of_a_float_and_of_an_int8_model_do_not_fit_each_other(holding, build, half):
    """ncnn loads such a pair where the sizes happen to agree; they do not, because INT8 has scales."""
    int8 = build("ncnn-int8").read(f"model.{half}")
    assert refused(holding(**{half: int8})).endswith("it is cut or of another model")


def test_an_int8_file_that_is_cut_is_refused(holding, build):
    int8 = {half: build("ncnn-int8").read(f"model.{half}") for half in ("param", "bin")}
    said = refused(holding(param=int8["param"], bin=int8["bin"][:-8]))
    assert said.endswith("its .bin file ends before the last weight: it is cut or of another model")


def test_files_of_another_kind_are_refused(holding, onnx_bundle):
    said = refused(holding(param=onnx_bundle.model_path.read_bytes()))
    assert said.endswith("its .param file is not ncnn's text, whose first line is 7767517")


def test_a_bundle_without_weights_is_refused(ncnn, tmp_path, files):
    fields = {name: value for name, value in ncnn.manifest if name not in ("files", "created")}
    with write_bundle(tmp_path / "other", **fields) as folder:
        (folder / "model.param").write_bytes(files["model.param"])
    with pytest.raises(InputError, match=r"model\.bin is not among the bundle's files; make the bundle again"):
        open_engine(tmp_path / "other")


def test_a_layer_that_this_ncnn_lacks_is_named_with_the_versions(holding, files, ncnn):
    said = refused(holding(param=files["model.param"].replace(b"Softmax ", b"Wobble  ", 1)), EngineUnavailableError)
    here = ncnn.manifest.built_for.version
    assert f"recorded: ncnn {here}; found: ncnn {here}, which has no layer Wobble; install a newer ncnn" in said


def test_a_line_that_ncnn_does_not_understand_is_refused(holding, files):
    assert "its .param file is damaged: ncnn answers -1" in refused(
        holding(param=files["model.param"].replace(b" 0=24 1=3 ", b" 0=2x 1=3 ", 1))
    )


def test_a_model_of_other_labels_is_refused(holding, files):
    lines = files["model.param"].decode().replace(" out0 ", " all ").splitlines()
    words = lines[1].split()
    lines[1] = f"{int(words[0]) + 1} {int(words[1]) + 1}"
    lines.append("Padding more 1 1 all out0 3=1")
    said = refused(holding(param="".join(f"{line}\n" for line in lines).encode()))
    assert said.endswith("gives 6 logits; by its manifest 5")


def test_an_output_of_another_name_is_refused(holding, files):
    said = refused(holding(param=files["model.param"].replace(b" out0 ", b" out1 ", 1)))
    assert said.endswith("its input and output are in0 and out1; expected in0 and out0")


def test_an_input_without_a_size_is_refused(holding, files):
    said = refused(holding(param=files["model.param"].replace(b" 0=3 1=64 2=64\n", b"\n", 1)))
    assert said.endswith("has no input `0=3 1=WIDTH 2=HEIGHT`; make it by `edgepress compile`")


def test_no_option_that_changes_answers_is_left_to_its_default(ncnn):
    """Whatever ncnn makes of a processor: every option that it has for a precision or a kernel is set."""
    import ncnn as library

    known = {name for name in dir(library.Option()) if name.startswith("use_")}
    ours = {"use_subgroup_ops", "use_tensor_storage"}  # of Vulkan, which is off
    ours |= {f"use_winograd{size}_convolution" for size in (23, 43, 63)}  # kinds of use_winograd_convolution
    assert set(OPTIONS) | ours == known
    with open_engine(ncnn) as engine:
        settings = engine.proof().settings
    assert settings == {"threads": "1", **{name: str(value).lower() for name, value in OPTIONS.items()}}
    assert [name for name, value in settings.items() if value == "true"] == [
        "use_winograd_convolution",
        "use_sgemm_convolution",
        "use_packing_layout",
    ]


def test_the_fast_convolutions_change_next_to_nothing(ncnn, images, monkeypatch):
    with open_engine(ncnn) as engine:
        fast = engine(images)
    monkeypatch.setitem(OPTIONS, "use_winograd_convolution", False)
    with open_engine(ncnn, unproven=True) as engine:
        plain = engine(images)
    assert 0 < np.abs(fast - plain).max() < 1e-4


def test_threads_change_nothing_but_the_time(ncnn, images):
    with open_engine(ncnn, threads=1) as one, open_engine(ncnn, threads=2) as two:
        assert np.abs(one(images[:4]) - two(images[:4])).max() < 1e-4
