"""The walk from torch to an engine: which stage diverged, and by whose decisions each is judged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgepress.deploy.engines import open_engine
from edgepress.deploy.verify.decision_gate import BOUNDS
from edgepress.deploy.verify.divergence import walk_stages
from edgepress.deploy.verify.verification import Verification, verify
from edgepress.multilabel.bundle import Bundle, write_bundle
from edgepress.multilabel.datasets import MultiLabelDataset, load_dataset
from edgepress.multilabel.decisions import Affine, Decisions
from tests.deploy.verify.corruptions import CORRUPTIONS, perturbed_weights, wrap


def broken(bundle: Bundle, name: str, **fields: Any) -> Bundle:
    """A bundle with noise on its weights, beside the honest ones."""
    graph = onnx.load(bundle.model_path)
    perturbed_weights(graph, 0.3)
    return wrap(bundle.path.parent / name, graph, bundle, **fields)


def stages_of(result: Verification) -> dict[str, tuple[str | None, bool, bool]]:
    """Of each stage what it was compared with, whether it is beyond its budgets, and whether it was left out."""
    return {stage.stage: (stage.after, bool(stage.beyond), stage.not_run is not None) for stage in result.stages}


def test_the_engine_is_named_where_it_diverged_itself(onnx_bundle, splits):
    bundle = broken(onnx_bundle, "broken-fp16", precision="fp16", parent=onnx_bundle.as_parent)
    result = verify(bundle, splits.test)
    assert (result.verdict, result.diverged_at) == ("fail", "broken-fp16")
    assert stages_of(result) == {
        "student": (None, False, False),
        "onnx-fp32": ("student", False, False),
        "broken-fp16": ("onnx-fp32", True, False),
    }


def test_the_first_stage_that_diverged_is_named_and_each_runs_once(onnx_bundle, splits, monkeypatch):
    first = broken(onnx_bundle, "broken-fp32")
    fields = {"precision": "fp16", "parent": first.as_parent}
    bundle = wrap(first.path.parent / "after-broken", onnx.load(first.model_path), first, **fields)
    opened = []
    monkeypatch.setattr(
        "edgepress.deploy.verify.verification.open_engine",
        lambda one, *more, **settings: opened.append(one.name) or open_engine(one, *more, **settings),
    )
    # Pictures that reference.npz does not cover, so all must run; a broken float ONNX passes as its own reference.
    result = verify(bundle, splits.val, stages=True)
    assert (result.reference, result.diverged_at) == ("broken-fp32", "broken-fp32")
    assert sorted(opened) == ["after-broken", "broken-fp32", "student"]
    assert stages_of(result) == {
        "student": (None, False, False),
        "broken-fp32": ("student", True, False),
        "after-broken": ("broken-fp32", False, False),
    }


def test_a_pass_is_walked_only_where_it_is_asked_for(build, edgepress, tiny_data):
    command = ("verify", build("onnx-fp16").path, "--data", tiny_data)
    plain = edgepress(*command, "--json").json
    assert (plain["stages"], plain["diverged_at"]) == (None, None)
    walked = edgepress(*command, "--json", "--stages").json
    assert [stage["stage"] for stage in walked["stages"]] == ["student", "onnx-fp32", "onnx-fp16"]
    assert walked["stages"][1]["max_abs_diff"] < walked["stages"][2]["max_abs_diff"]
    assert walked["stages"][2]["max_abs_diff"] == pytest.approx(plain["max_abs_diff"], rel=0.1)  # of torch there
    table = edgepress(*command, "--stages").out
    assert "from the model to the engine" in table
    assert "the start" in table


def test_a_stage_that_is_absent_is_said_and_not_blamed_alone(onnx_bundle, splits, tmp_path):
    beside = broken(onnx_bundle, "broken-fp16", precision="fp16", parent=onnx_bundle.as_parent)
    alone = Bundle.open(shutil.copytree(beside.path, tmp_path / "broken-fp16"))
    result = verify(alone, splits.test)
    assert stages_of(result) == {
        "torch (reference.npz)": (None, False, False),
        "onnx-fp32": (None, False, True),
        "broken-fp16": ("torch (reference.npz)", True, False),
    }
    assert "is not beside broken-fp16" in result.stages[1].not_run
    assert result.diverged_at == "broken-fp16, or onnx-fp32 before it"


def test_an_fp32_onnx_alone_with_torchs_logits_is_blamed_alone(onnx_bundle, splits, tmp_path):
    beside = broken(onnx_bundle, "broken-fp32", parent=onnx_bundle.manifest.parent)
    alone = Bundle.open(shutil.copytree(beside.path, tmp_path / "broken-fp32"))
    result = verify(alone, splits.test)
    assert stages_of(result) == {
        "student": (None, False, True),
        "torch (reference.npz)": (None, False, False),
        "broken-fp32": ("torch (reference.npz)", True, False),
    }
    assert result.diverged_at == "broken-fp32"
    gone = "is not beside broken-fp32; its stored logits are compared in its place"
    assert result.stages[0].not_run == gone
    other = {"kind": "torch", "precision": "fp32", "model": "model", "labels": onnx_bundle.manifest.labels}
    with write_bundle(tmp_path / "student", **other, preprocess=onnx_bundle.preprocess) as folder:
        (folder / "model").write_bytes(b"of other settings")
    replaced = verify(alone, splits.test, stages=True).stages[0].not_run
    assert replaced == gone.replace("32;", "32, unchanged: another one has its name now;")


def test_a_stage_that_its_runtime_refuses_is_said(onnx_bundle, edgepress, tiny_data):
    run = onnx_bundle.path.parent
    fields = {"kind": "onnx", "precision": "fp32", "model": "model.onnx", "parent": onnx_bundle.as_parent}
    same = {"labels": onnx_bundle.manifest.labels, "preprocess": onnx_bundle.preprocess}
    with write_bundle(run / "no-graph", **fields, **same) as folder:
        (folder / "model.onnx").write_bytes(b"no graph")
    graph = onnx.load(onnx_bundle.model_path)
    bundle = wrap(run / "after-no-graph", graph, onnx_bundle, parent=Bundle.open(run / "no-graph").as_parent)
    answer = edgepress("verify", bundle.path, "--data", tiny_data, "--json", "--stages")
    assert answer.code == 0
    refused, last = answer.json["stages"][2:]
    assert (refused["stage"], refused["drop_points"]) == ("no-graph", None)
    assert "ONNX Runtime cannot load it" in refused["not_run"]
    assert (last["after"], last["beyond"]) == ("onnx-fp32", [])


@pytest.mark.parametrize("corruption", ["two head rows swapped", "wrong mean", "wrong std", "NaN"])
def test_every_corruption_is_traced_to_its_stage(onnx_bundle, splits, corruption):
    graph = onnx.load(onnx_bundle.model_path)
    CORRUPTIONS[corruption][0](graph)
    fields = {"precision": "fp16", "parent": onnx_bundle.as_parent}
    bundle = wrap(onnx_bundle.path.parent / "traced", graph, onnx_bundle, **fields)
    result = verify(bundle, splits.test)
    assert (result.verdict, result.diverged_at) == ("fail", "traced"), result.judgement


@pytest.fixture
def data(tiny_data: Path) -> MultiLabelDataset:
    return load_dataset(tiny_data, "test")


def decided(out: Path, parent: Bundle, decisions: Decisions) -> Bundle:
    """INT8 as its manifest says; what it computes is given to the walk."""
    fields = {"labels": parent.manifest.labels, "preprocess": parent.preprocess, "parent": parent.as_parent}
    with write_bundle(out, kind="onnx", precision="int8", model="model.onnx", decisions=decisions, **fields) as folder:
        shutil.copyfile(parent.model_path, folder / "model.onnx")
    return Bundle.open(out)


@pytest.mark.parametrize("refitted_again", [False, True])
def test_a_stage_after_an_int8_stage_is_judged_by_the_decisions_as_refitted(
    onnx_bundle, data, tmp_path, refitted_again
):
    """INT8 answers every logit 2 lower, and its decisions are refitted to that; an engine made of it answers the same.

    Had the decisions of float been asked of INT8's logits, every answer between 0 and 2 would count as changed by the
    engine, which changed nothing.
    """
    run = tmp_path / "run"
    shutil.copytree(onnx_bundle.path, run / onnx_bundle.name)
    onnx = Bundle.open(run / onnx_bundle.name)
    names, rng = data.labels.names, np.random.default_rng(0)
    theirs = Decisions.plain(names)
    lower = Affine(method="platt", slopes=(1.0,) * len(names), offsets=(2.0,) * len(names))
    own = Decisions(labels=names, thresholds=(0.5,) * len(names), calibrator=lower, refitted_from=theirs)
    logits = rng.normal(0, 2, data.targets.shape)
    assert ((logits > 0) != (logits > 2)).any()
    int8 = decided(run / "int8", onnx, own)
    later = own.model_copy(update={"refitted_from": own}) if refitted_again else own
    engine = decided(run / "engine", int8, later)
    known = {onnx.digest: logits, int8.digest: logits - 2, engine.digest: logits - 2}
    stages = {
        stage.stage: stage
        for stage in walk_stages(
            *(engine, data, known, lambda one: pytest.fail("runs")),
            stored=("torch (reference.npz)", logits),
            budget=1.0,
            bounds=BOUNDS["int8"],
        )
    }
    assert stages["int8"].flip_rate == 0  # against float, each by its own
    assert stages["engine"].after == "int8"
    assert stages["engine"].flip_rate == 0
    assert stages["engine"].beyond == ()
