"""tune: a recipe that val likes best, from a search that may be killed."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time

import pytest
import yaml

from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError
from edgepress.report.terminal import stdout
from edgepress.run.recipe import Recipe, load_recipe
from edgepress.run.trials import Trial, TrialTraining
from edgepress.run.tune import TuneConfig, TuneRecord, _tuned, print_tuned


@pytest.fixture(scope="module", autouse=True)
def _optuna():
    pytest.importorskip("optuna", reason="optuna is not installed; tune asks it for trials")


def written(tiny_data, micro, folder):
    """A recipe of a student that two epochs teach, with a run in the folder."""
    folder.mkdir(exist_ok=True)
    values = {**micro, "data": str(tiny_data), "out": str(folder / "run")}
    values["distill"] = {**micro["distill"], "epochs": 2, "mld": 1.0, "review_kd": 0.0}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values))
    return folder / "recipe.yaml"


FLAGS = ("--time-budget", "1h", "--trials", 3, "--sizes", "64,32")


@pytest.fixture(scope="module")
def undisturbed(edgepress, tiny_data, micro, tmp_path_factory):
    recipe = written(tiny_data, micro, tmp_path_factory.mktemp("tune"))
    answer = edgepress("tune", "--recipe", recipe, *FLAGS)
    assert answer.code == 0, answer.err
    return recipe.parent / "run", answer.out


def test_it_writes_the_recipe_that_val_likes_best(edgepress, undisturbed, tmp_path):
    run, printed = undisturbed
    record = json.loads((run / "tune.json").read_text())
    assert [one["name"] for one in record["space"]] == ["lr", "mld", "size"]
    finished = [one for one in record["trials"] if one["state"] == "finished"]
    best = max(finished, key=lambda one: one["trainings"][-1]["val_mAP"])
    assert (record["best"], len(record["trials"]), len(finished)) == (best["number"], 3, 1)
    assert f"has those of trial {best['number'] + 1}" in " ".join(printed.split())
    recipe = load_recipe(run / "tuned.yaml", {}, Recipe)
    assert {name: getattr(recipe.distill, name) for name in best["settings"]} == best["settings"]
    assert recipe.quantize.pictures == 8  # the rest of the recipe is as it was

    # `run` goes on with the student of the best trial, and `distill` makes the same one.
    student = Bundle.open(run / "student")
    assert student.manifest.facts.val_mAP == best["trainings"][-1]["val_mAP"]
    out = tmp_path / "student"
    answer = edgepress(
        *("distill", recipe.data, "--recipe", run / "tuned.yaml", "--teacher", run / "teacher", "--out", out)
    )
    assert answer.code == 0, answer.err
    assert Bundle.open(out).manifest.inputs == student.manifest.inputs
    assert sorted(path.name for path in (run / "trials").iterdir()) == ["journal.jsonl"]


def test_killed_and_continued_it_ends_with_the_same_best_trial(edgepress, undisturbed, tiny_data, micro, tmp_path):
    recipe = written(tiny_data, micro, tmp_path / "killed")
    run, journal = tmp_path / "killed" / "run", tmp_path / "killed" / "run" / "trials" / "journal.jsonl"
    # A fork, because a new process would import torch for seconds.
    process = multiprocessing.get_context("fork").Process(target=edgepress, args=("tune", "--recipe", recipe, *FLAGS))
    process.start()
    while not (journal.is_file() and journal.read_bytes().count(b"\n") >= 2):
        assert process.is_alive()
        time.sleep(0.005)
    process.kill()
    process.join()
    assert len(journal.read_bytes().splitlines()) < 4
    answer = edgepress("tune", "--recipe", recipe, *FLAGS)
    assert answer.code == 0, answer.err
    records = [json.loads((one / "tune.json").read_text()) for one in (undisturbed[0], run)]
    for record in records:
        for trial in record["trials"]:
            trial["trainings"] = [(one["epochs"], one["val_mAP"]) for one in trial["trainings"]]
    assert records[0]["trials"] == records[1]["trials"]
    assert records[0]["best"] == records[1]["best"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--time-budget", "soon"), "--time-budget soon: expected hours, minutes or seconds, such as 2h"),
        (("--time-budget", "2h2h"), "--time-budget 2h2h: a unit is named twice; expected each once"),
        (("--time-budget", "0s"), "--time-budget 0s: expected more than no time"),
        (("--time-budget", "0.01s"), "time budget 0.01 s: one trial takes at least"),
        (("--time-budget", "1h", "--trials", "0"), "--trials 0: input should be greater than or equal to 1"),
        (("--time-budget", "1h", "--sizes", "64,x"), "--sizes x: input should be a valid integer"),
        (("--time-budget", "1h", "--sizes", "64,7"), "--sizes 7: input should be greater"),
        (("--time-budget", "1h", "--backbones", "test_efficientnet,efficientnot"), "'efficientnot'"),
        (("--time-budget", "1h", "--distill-epochs", "0"), "--distill-epochs 0"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_training(bad, tiny_data, micro, tmp_path, flags, said):
    recipe = written(tiny_data, micro, tmp_path)
    assert said in bad("tune", "--recipe", recipe, *flags)
    assert not (tmp_path / "run" / "teacher").exists()


def test_the_result_of_another_search_is_not_replaced_silently(edgepress, undisturbed, tiny_data, micro, tmp_path):
    recipe = written(tiny_data, micro, tmp_path)
    shutil.copytree(undisturbed[0], tmp_path / "run")
    same_data = f"{tiny_data.parent}/./{tiny_data.name}"
    again = edgepress("tune", "--recipe", recipe, *FLAGS, "--data", same_data)
    assert (again.code, "another search" in again.err) == (0, False)
    other = edgepress("tune", "--recipe", recipe, "--time-budget", "1h", "--trials", 1)
    assert other.code == 0, other.err
    assert (
        "tune.json: the result of another search (another space) is replaced, and so is tuned.yaml, and so is student, "
        "once a trial is trained for all epochs; name another folder (--out) to keep both"
    ) in other.err
    assert "the recipe's own settings alone were trained, so val chose among 1" in other.err
    assert "give --trials 3 or more" in other.err


def cut_short(run, trials, seconds):
    """The record of a search that the budget ended after so many short trainings of so many seconds each."""
    record = TuneRecord.model_validate_json((run / "tune.json").read_bytes())
    tried = [
        one.model_copy(
            update={
                "trainings": (one.trainings[0].model_copy(update={"epochs": 1, "seconds": seconds}),),
                "state": "pruned",
            }
        )
        for one in record.trials[:trials]
    ]
    return record.model_copy(update={"trials": tuple(tried), "best": 0, "budget_seconds": 45.0})


@pytest.mark.parametrize(
    ("trials", "said"),
    [
        # 3 short trainings of 1 epoch and 1 of 2 epochs at 30 seconds each, in whole minutes.
        (1, "own settings alone were trained, so val chose among 1: a search compares 3 trials or more"),
        (2, "only 2 trials were trained, so val chose among 2: a search compares 3 trials or more"),
        (3, "no trial was trained for all epochs"),
    ],
)
def test_what_is_no_search_is_told_with_the_time_that_one_takes(undisturbed, tmp_path, caplog, capsys, trials, said):
    print_tuned(cut_short(undisturbed[0], trials, 30.0), None, tmp_path, stdout())
    assert said in caplog.text
    assert "give a time budget of 3 min or more, or fewer epochs" in caplog.text
    shown = " ".join(capsys.readouterr().out.split())
    assert "pruned: trained for 1 of 2 epochs only, because others were better then, or the time was over" in shown


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("2h", 7200), ("90min", 5400), ("90m", 5400), ("1h30min", 5400), ("1.5 h", 5400), (3600, 3600), (0.5, 0.5)],
)
def test_durations(given, seconds):
    assert TuneConfig.parse({"time_budget": given}, "test").time_budget == seconds


@pytest.mark.parametrize("given", ["1m1min", 0, -1.0, float("inf"), float("nan"), True, None])
def test_what_is_no_duration_is_refused(given):
    with pytest.raises(InputError, match=r"time_budget is .*: (expected|a unit)"):
        TuneConfig.parse({"time_budget": given}, "test")


def test_a_folder_of_the_user_s_own_is_refused_before_a_training_and_stays(bad, tiny_data, micro, tmp_path):
    recipe = written(tiny_data, micro, tmp_path)
    own = tmp_path / "run" / "student" / "thesis.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    said = "student: a folder with other files in it; name a new folder"
    assert said in bad("tune", "--recipe", recipe, "--time-budget", "5s")
    assert own.read_text() == "mine"
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_tuned_recipe_names_the_default_s_terms(tmp_path):
    recipe = Recipe.parse({"data": "pictures", "distill": {"epochs": 3}}, "test")
    training = TrialTraining(inputs="x", epochs=3, val_mAP=0.5, best_epoch=1, seconds=1.0)
    trial = Trial(method="ours", number=0, settings={"review_kd": 0.2}, state="finished", trainings=(training,))
    (tmp_path / "tuned.yaml").write_text(_tuned(recipe, trial))
    tuned = load_recipe(tmp_path / "tuned.yaml", {}, Recipe).distill
    assert tuned.terms == ("review_kd", "simkd")
    assert (tuned.review_kd, tuned.simkd, tuned.inherit_head, tuned.epochs) == (0.2, 4.0, "auto", 3)
