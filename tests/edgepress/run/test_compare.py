"""compare: same conditions for every method, test read with the epoch that val picked, and nothing done twice."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from edgepress.calibration.decide.label_scores import label_f1
from edgepress.calibration.decide.thresholds import fit_decisions
from edgepress.compress.checkpoint import load_model
from edgepress.compress.config import DistillConfig
from edgepress.compress.methods import PRESETS, TERMS
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.datasets import load_dataset
from edgepress.multilabel.metrics import average_precision, f1_scores, mean_average_precision
from edgepress.report.methods import print_comparison
from edgepress.report.terminal import stdout
from edgepress.run.compare import _settings
from edgepress.run.compared import ComparedStudent, MethodComparison
from edgepress.run.recipe import CompareRecipe
from edgepress.run.run_report import ModelFacts
from edgepress.run.summary import summarise


@pytest.fixture(scope="module")
def recipe(tiny_data, micro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    file = folder / "recipe.yaml"
    own = {"soft": {"mld": 2.0, "reduction": "mean"}}
    file.write_text(yaml.safe_dump({"data": str(tiny_data), "out": str(folder / "run"), "methods": own, **micro}))
    return file


def predicted(bundle, data):
    """A torch bundle's logits of a split."""
    import torch

    model = load_model(bundle)
    with torch.inference_mode():
        return model.logits(torch.stack([torch.from_numpy(model.preprocess.load(path)) for path in data.paths])).numpy()


def test_it_compares_continues_and_appends(edgepress, recipe, tiny_data):
    answer = edgepress("compare", "--recipe", recipe, "--methods", "alone,l2d", "--seeds", "0,1")
    assert answer.code == 0, answer.err
    record = json.loads((recipe.parent / "run" / "compare.json").read_text())
    assert [(row["method"], row["seed"]) for row in record["students"]] == [
        ("alone", 0),
        ("l2d", 0),
        ("alone", 1),
        ("l2d", 1),
    ]
    test = load_dataset(tiny_data, "test")
    row = record["students"][1]
    student = recipe.parent / "run" / "compare" / "l2d-seed0"
    expected = mean_average_precision(test.targets, predicted(student, test))
    assert row["test_mAP"] == pytest.approx(expected, abs=1e-6)
    assert row["training"]["id"] == 1000
    decisions = fit_decisions(predicted(student, load_dataset(tiny_data, "val")), load_dataset(tiny_data, "val"))
    decided, half = decisions.decide(predicted(student, test)), predicted(student, test) >= 0
    own, at_half = f1_scores(test.targets, decided, test.ignore), f1_scores(test.targets, half, test.ignore)
    expected = {"OF1": own.OF1, "CF1": own.CF1, "OF1_at_half": at_half.OF1, "CF1_at_half": at_half.CF1}
    assert row["decided"] == pytest.approx(expected, abs=1e-6)
    assert row["AP"] == pytest.approx(average_precision(test.targets, predicted(student, test)), abs=1e-6)
    assert row["F1"] == pytest.approx(label_f1(test.targets, decided, test.ignore), abs=1e-6)
    assert [one["test_positives"] for one in record["labels"]] == test.targets.sum(axis=0).tolist()
    assert [one["label"] for one in record["labels"]] == list(test.labels.names)
    trained = Bundle.open(student).manifest.facts.training
    alone = Bundle.open(student.with_name("alone-seed0")).manifest.facts.training
    differ = {name for name in trained if trained[name] != alone[name]}
    assert differ == {"preset", "reduction", "mld", "cd", "id"}  # not the published epochs, size or learning rate

    (found,) = record["significance"]  # of two methods one verdict says it all
    assert found["reference"] == "alone"
    (l2d,) = found["differences"]
    points = [100 * one["test_mAP"] for one in record["students"]]
    assert l2d["points"] == pytest.approx((points[1] - points[0] + points[3] - points[2]) / 2)
    assert l2d["interval"][0] < l2d["points"] < l2d["interval"][1]
    for name in ("compare.html", "compare.md"):
        text = (recipe.parent / "run" / name).read_text()
        for word in ("OF1 at 0.5", "By label", *test.labels.names, "Differences from alone of at least"):
            assert word in text, (name, word)

    before = {row["digest"] for row in record["students"]}
    assert record["teacher_leads_points"] == pytest.approx(
        100 * Bundle.open(student).manifest.facts.teacher_val_mAP - record["methods"][0]["val_mAP_points"]
    )

    answer = edgepress("compare", "--recipe", recipe, "--methods", "l2d,ours,soft", "--seeds", "0")
    assert answer.code == 0, answer.err
    record = json.loads((recipe.parent / "run" / "compare.json").read_text())
    assert before < {row["digest"] for row in record["students"]}
    assert [row["method"] for row in record["methods"]] == ["alone", "l2d", "ours", "soft"]
    soft = record["students"][-1]["training"]
    assert (soft["mld"], soft["cd"], soft["id"], soft["reduction"], soft["preset"]) == (2.0, 0, 0, "mean", None)
    drawn = ElementTree.parse(recipe.parent / "run" / "compare.svg").getroot()  # noqa: S314 # written by this run
    words = {one.text for one in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert words >= {f"{row['method']} {row['test_mAP_points']:.2f}" for row in record["methods"]}
    assert Bundle.open(student).digest == row["digest"]
    assert "ours" in answer.out
    assert "alone" in answer.out  # which this call did not name
    caption = " ".join(answer.out.split())
    assert "The rows are all that compare.json holds, of this call and of earlier ones" in caption
    assert f"Teacher: test_efficientnet, val mAP {100 * row['teacher_val_mAP']:.2f}," in caption


def test_methods_that_look_inside_the_teacher_come_first_and_the_others_need_no_further_answers(
    edgepress, recipe, tmp_path
):
    out = tmp_path / "run"
    given = "--distill-variations", 1, "--methods", "alone,mld,review_kd", "--seeds", "0,1", "--out", out
    answer = edgepress("compare", "--recipe", recipe, *given)
    assert answer.code == 0, answer.err
    rows = json.loads((out / "compare.json").read_text())["students"]
    assert [row["method"] for row in rows] == ["review_kd", "alone", "mld"] * 2
    assert answer.err.count("24 answers of the teacher are computed once") == 2  # for each seed


def test_methods_are_tuned_by_equally_many_trials(edgepress, recipe, tmp_path):
    values = yaml.safe_load(recipe.read_text()) | {"out": str(tmp_path / "run")}
    values["distill"] = {**values["distill"], "epochs": 2}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    command = ("compare", "--recipe", file, "--methods", "alone,soft", "--seeds", "1,2")
    answer = edgepress(*command, "--tune", 2)
    assert answer.code == 0, answer.err
    record = json.loads((tmp_path / "run" / "compare.json").read_text())
    assert [(one["method"], one["number"], len(one["trainings"])) for one in record["trials"]] == [
        *[("alone", number, 1 + (one == "finished")) for number, one in enumerate(states(record, "alone"))],
        *[("soft", number, 1 + (one == "finished")) for number, one in enumerate(states(record, "soft"))],
    ]
    assert sorted(states(record, "alone")) == sorted(states(record, "soft")) == ["finished", "pruned"]
    for row in record["students"]:
        (chosen,) = (one for one in record["trials"] if one["method"] == row["method"] and one["state"] == "finished")
        assert row["settings"] == chosen["settings"]
        assert {name: row["training"][name] for name in chosen["settings"]} == chosen["settings"]
        assert set(chosen["settings"]) == ({"lr"} if row["method"] == "alone" else {"lr", "mld"})
        if row["seed"] == 1:  # the seed of the trials
            assert (row["val_mAP"], row["training"]["epochs"]) == (chosen["trainings"][-1]["val_mAP"], 2)
    assert "chosen by trials" in answer.out
    assert "of 2: lr" in answer.out
    assert sorted(path.name for path in (tmp_path / "run" / "trials").iterdir()) == ["journal.jsonl"]

    before = (tmp_path / "run" / "trials" / "journal.jsonl").read_bytes()
    assert edgepress(*command, "--tune", 2).code == 0
    assert json.loads((tmp_path / "run" / "compare.json").read_text()) == record
    assert (tmp_path / "run" / "trials" / "journal.jsonl").read_bytes() == before

    # Without trials the method is another one, whose students do not stand beside the tuned ones.
    answer = edgepress("compare", "--recipe", file, "--methods", "alone", "--seeds", "1")
    assert answer.code == 0, answer.err
    record = json.loads((tmp_path / "run" / "compare.json").read_text())
    assert [(row["method"], row["seed"], bool(row["settings"])) for row in record["students"]] == [
        ("soft", 1, True),
        ("soft", 2, True),
        ("alone", 1, False),
    ]
    assert {one["method"] for one in record["trials"]} == {"soft"}
    assert "not tuned" in answer.out


def states(record, method):
    return [one["state"] for one in record["trials"] if one["method"] == method]


def test_fewer_than_one_trial_is_refused(bad, recipe):
    said = bad("compare", "--recipe", recipe, "--methods", "alone", "--tune", 0)
    assert "--tune 0: input should be greater than or equal to 1" in said


def test_folds_are_comparisons_with_teachers_of_their_own(edgepress, recipe, tiny_data, tmp_path):
    out = tmp_path / "run"
    command = ("compare", "--recipe", recipe, "--out", out, "--methods", "alone,soft", "--folds", 3)
    answer = edgepress(*command)
    assert answer.code == 0, answer.err
    records = [json.loads((out / f"fold-{number}" / "compare.json").read_text()) for number in (1, 2, 3)]
    assert sum(one["test_pictures"] for one in records) == 48
    assert len({one["teacher"]["digest"] for one in records}) == 3
    found = json.loads((out / "folds.json").read_text())
    assert found["comparisons"] == ["fold 1", "fold 2", "fold 3"]
    assert {one["method"] for one in found["methods"]} == {"alone", "soft"}
    for row in found["methods"]:
        expected = [
            one["test_mAP_points"] for record in records for one in record["methods"] if one["method"] == row["method"]
        ]
        assert row["test_mAP_points"] == expected
    assert "rank on val" in answer.out

    # Their reports together are the same, and each can be made again.
    again = edgepress(
        "report", *(out / f"fold-{number}" for number in (1, 2, 3)), "--out", tmp_path / "all.html", "--json"
    )
    assert again.code == 0, again.err
    assert [one["test_rank"] for one in again.json["methods"]] == [one["test_rank"] for one in found["methods"]]
    assert "rank on val" in (tmp_path / "all.html").read_text()
    page = out / "fold-1" / "compare.html"
    before = page.read_bytes()
    page.unlink()
    assert edgepress("report", out / "fold-1").code == 0
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--folds", "2"), "folds is 2; expected 3 to 48, the number of different pictures"),
        (("--folds", "3", "--teacher", "somewhere"), "a finished teacher has seen test pictures of some fold"),
    ],
)
def test_folds_that_prove_nothing_are_refused(bad, recipe, tmp_path, flags, said):
    assert said in bad("compare", "--recipe", recipe, "--out", tmp_path / "run", "--methods", "alone", *flags)


@pytest.fixture(scope="module")
def teachers(edgepress, recipe, tiny_data, micro):
    """Two that stand elsewhere, of other seeds."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in micro["teach"].items() if name != "seed"]
    paths = [recipe.parent / f"taught-{seed}" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        answer = edgepress("teach", tiny_data, "--out", path, *flags, "--seed", seed)
        assert answer.code == 0, answer.err
    return paths


def test_several_teachers_answer_as_one(edgepress, recipe, teachers, tiny_data, tmp_path):
    out, flags = tmp_path / "run", ("--methods", "alone,ours", "--distill-seed", 3)
    both = [part for path in teachers for part in ("--teacher", path)]
    answer = edgepress("compare", "--recipe", recipe, "--out", out, *both, *flags)
    assert answer.code == 0, answer.err
    record = json.loads((out / "compare.json").read_text())
    assert [row["seed"] for row in record["students"]] == [3, 3]
    adopted = [Bundle.open(out / name) for name in ("teacher", "teacher-2")]
    weights = [bundle.manifest.files["model.safetensors"] for bundle in adopted]
    assert weights == [Bundle.open(path).manifest.files["model.safetensors"] for path in teachers]
    assert record["teacher"]["backbone"] == "test_efficientnet + test_efficientnet"
    assert [one["digest"] for one in record["teacher"]["ensemble"]] == [bundle.digest for bundle in adopted]
    alone, ours = (Bundle.open(out / "compare" / f"{name}-seed3").manifest for name in ("alone", "ours"))
    assert ours.facts.teachers == tuple(bundle.as_parent for bundle in adopted)
    val = load_dataset(tiny_data, "val")
    logits = [predicted(path, val) for path in teachers]
    together = mean_average_precision(val.targets, np.mean(logits, axis=0))
    assert [row["teacher_val_mAP"] for row in record["students"]] == pytest.approx([together] * 2, abs=1e-6)
    assert alone.facts.teacher_val_mAP != pytest.approx(mean_average_precision(val.targets, logits[0]), abs=1e-3)
    # In a recipe as well, and what is finished is kept.
    values = yaml.safe_load(recipe.read_text()) | {"out": str(out), "teacher": [str(path) for path in teachers]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    answer = edgepress("compare", "--recipe", tmp_path / "recipe.yaml", *flags)
    assert (answer.code, json.loads((out / "compare.json").read_text())) == (0, record)


def test_run_takes_several_teachers(edgepress, micro, teachers, tiny_data, tmp_path):
    values = {**micro, "data": str(tiny_data), "out": str(tmp_path / "run"), "engines": ["onnx-fp32"]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values | {"teacher": [str(path) for path in teachers]}))
    answer = edgepress("run", "--recipe", tmp_path / "recipe.yaml")
    assert answer.code in (0, 1), answer.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    rows = {row["engine"]: row for row in report["engines"]}
    assert list(rows) == ["teacher (torch)", "teacher-2 (torch)", "student (torch)", "onnx-fp32"]
    test, val = (load_dataset(tiny_data, split) for split in ("test", "val"))
    for name, path in zip(("teacher (torch)", "teacher-2 (torch)"), teachers, strict=True):
        assert rows[name]["mAP"] == pytest.approx(mean_average_precision(test.targets, predicted(path, test)), abs=1e-6)
    digests = [Bundle.open(tmp_path / "run" / name).digest for name in ("teacher", "teacher-2")]
    assert [one["digest"] for one in report["teacher"]["ensemble"]] == digests
    together = np.mean([predicted(path, val) for path in teachers], axis=0)
    assert report["teacher"]["val_mAP"] == pytest.approx(mean_average_precision(val.targets, together), abs=1e-6)


def test_its_flags_are_those_that_it_heeds(edgepress):
    shown = {verb: set(re.findall(r"--[a-z][a-z-]*", edgepress(verb, "--help-all").out)) for verb in ("run", "compare")}
    sections = ("--engines", "--required", "--decisions", "--quantize", "--compile", "--bench", "--verify")
    sections += (
        "--finetune",
        "--latency-budget",
        "--students",
        "--host",
        "--ssh-option",
        "--ablation",
        "--no-ablation",
        "--attention",
        "--no-attention",
        "--generated-pictures",
        "--no-generated-pictures",
        "--no-compile",
    )
    ignored = {flag for flag in shown["run"] if flag.startswith(sections)}
    assert len(ignored) > 8
    assert shown["run"] - shown["compare"] == ignored
    assert shown["compare"] - shown["run"] == {"--methods", "--seeds", "--tune", "--folds"}


def test_a_changed_method_does_not_stand_beside_its_older_self(edgepress, recipe, tmp_path):
    """Two seeds under one weight, then one seed under another: the row of the other seed is gone."""
    values = yaml.safe_load(recipe.read_text()) | {"out": str(tmp_path / "run")}
    file = tmp_path / "recipe.yaml"
    for weight, seeds, expected in ((2.0, "0,1", 2), (3.0, "0", 1)):
        values["methods"] = {"mine": {"mld": weight}}
        file.write_text(yaml.safe_dump(values))
        assert edgepress("compare", "--recipe", file, "--methods", "mine", "--seeds", seeds).code == 0
        record = json.loads((tmp_path / "run" / "compare.json").read_text())
        assert [row["training"]["mld"] for row in record["students"]] == [weight] * expected
        assert record["methods"][0]["seeds"] == expected


def test_a_method_s_unlabelled_pictures_are_not_those_of_test(edgepress, recipe, tiny_data, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    values["methods"] = {"more": {"mld": 1.0, "unlabelled": str(tiny_data / "test")}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    answer = edgepress("compare", "--recipe", file, "--methods", "alone,more")
    assert answer.code == 2
    assert "is unlabelled and is in the split 'test' as well" in answer.err


@pytest.mark.parametrize("name", ["..", "../../elsewhere", "/elsewhere", "."])
def test_a_method_s_students_stay_in_the_run_s_folder(bad, recipe, tmp_path, name):
    values = yaml.safe_load(recipe.read_text())
    values["methods"] = {name: {"mld": 1.0}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    assert f"methods: {name!r} cannot be the name of a folder" in bad("compare", "--recipe", file, "--tune", 2)


@pytest.mark.parametrize(("name", "code"), [("mld", 2), ("mine", 0)])
def test_a_method_of_one_s_own_needs_a_name_of_its_own(edgepress, recipe, tmp_path, name, code):
    values = yaml.safe_load(recipe.read_text())
    values["methods"] = {name: {"mld": 1.0}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    answer = edgepress("compare", "--recipe", file, "--methods", name)
    assert answer.code == code, answer.err
    assert ("preset's name already" in answer.err) == (code == 2)


def test_a_wrong_setting_of_one_s_own_method_is_named(edgepress, recipe, tmp_path):
    values = yaml.safe_load(recipe.read_text())
    values["methods"] = {"mine": {"mldd": 1.0}}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(values))
    answer = edgepress("compare", "--recipe", file, "--methods", "alone,mine")
    assert answer.code == 2
    assert "method mine: unknown key 'mldd'" in answer.err


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_has_its_own_terms_whatever_the_distill_section_says(preset):
    own = {"mld": 3.0, "kd": 2.0, "kd_temperature": 2.0, "review_kd": 0.7, "review_kd_warmup": 0.5, "task": 0.3}
    own["review_kd_width"] = 7
    recipe = CompareRecipe.parse({"data": "pictures", "distill": {**own, "size": 96, "epochs": 7}}, "test")
    made, alone = _settings(recipe, preset, 5), DistillConfig.parse({"preset": preset}, "test")
    reviewed = "review_kd_warmup", "review_kd_width"
    for name in ("reduction", "task", "inherit_head", "mixup", *reviewed, "kd_temperature", *TERMS):
        assert getattr(made, name) == getattr(alone, name), name
    assert (made.size, made.epochs, made.seed) == (96, 7, 5)


def test_an_unknown_method_is_named(edgepress, recipe):
    answer = edgepress("--quiet", "compare", "--recipe", recipe, "--methods", "alone,best")
    assert answer.code == 2
    assert "'best'" in answer.err
    assert "l2d" in answer.err


def test_mean_and_deviation_by_hand():
    students = [
        ComparedStudent.model_construct(method="a", seed=seed, test_mAP=value, val_mAP=0.5)
        for seed, value in enumerate((0.30, 0.32, 0.34))
    ]
    (row,) = summarise(students)
    assert row.test_mAP_points == pytest.approx(32.0)
    assert row.deviation == pytest.approx(2.0)
    assert summarise(students[:1])[0].deviation is None


def test_frequent_and_rare_labels_are_told_apart_where_every_student_has_both(capsys):
    def student(seed: int, parts: tuple[float, ...]) -> ComparedStudent:
        given = {"method": "a", "seed": seed, "test_mAP": 0.3, "val_mAP": 0.5, "teacher_val_mAP": None, "digest": ""}
        return ComparedStudent.model_construct(**given, by_frequency=parts)

    students = (student(0, (0.5, 0.3, 0.1)), student(1, (0.7, 0.3, 0.2)))
    methods = summarise(students)
    assert methods[0].by_frequency_points == pytest.approx((60, 30, 15))
    assert summarise((*students, student(2, ())))[0].by_frequency_points == ()  # of an earlier version
    facts = ModelFacts.model_construct(backbone="net", size=32)
    record = MethodComparison.model_construct(
        students=students, methods=methods, teacher=facts, student=facts, epochs=1, prevalence=0.1
    )
    print_comparison(record, stdout())
    said = capsys.readouterr().out
    for text in ("head", "60.00", "tail", "15.00"):
        assert text in said


def test_tuning_takes_no_folder_of_the_user_s_own(bad, recipe, tmp_path):
    own = tmp_path / "run" / "compare" / "alone-seed1" / "thesis.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    command = ("compare", "--recipe", recipe, "--out", tmp_path / "run", "--methods", "alone", "--seeds", "0,1")
    assert "alone-seed1: a folder with other files in it" in bad(*command, "--tune", 2)
    assert not (tmp_path / "run" / "teacher").exists()
