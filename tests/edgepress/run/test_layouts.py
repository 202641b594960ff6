"""export --layout: every layout by its name, and what is no layout or no bundle for it."""

from __future__ import annotations

import pytest

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.run.layouts import LAYOUTS, write_layout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_verb_writes_it(run_folder, edgepress, tmp_path, layout):
    answer = edgepress("export", run_folder / "onnx-fp32", "--layout", layout, "--out", tmp_path / "out")
    assert answer.code == 0, answer.err
    assert answer.out.strip() == str(tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text().startswith(("#", "---"))
    if layout == "huggingface":
        Bundle.open(tmp_path / "out")  # the whole bundle, with a card
        return
    with pytest.raises(InputError, match=f"out: is what edgepress export --layout {layout} wrote for another program"):
        Bundle.open(tmp_path / "out")


def test_the_card_on_the_hub_says_what_the_run_measured(run_folder, tmp_path):
    out = write_layout("huggingface", Bundle.open(run_folder / "onnx-fp32"), tmp_path / "out")
    assert "mAP" in (out / "README.md").read_text()


def test_another_name_is_refused_with_the_nearest(run_folder, tmp_path, bad):
    with pytest.raises(InputError, match=r"--layout is 'ovsm'; expected one of triton, .*; did you mean 'ovms'\?"):
        write_layout("ovsm", Bundle.open(run_folder / "onnx-fp32"), tmp_path / "out")
    line = bad("export", run_folder / "onnx-fp32", "--layout", "triton", "--out", tmp_path / "o", "--attention")
    assert (
        "--layout triton goes without --attention; expected edgepress export BUNDLE --layout triton --out DIR" in line
    )
    line = bad("export", "--layout", "triton", "--out", tmp_path / "o")
    assert "--layout triton is for a bundle, and none is named" in line
