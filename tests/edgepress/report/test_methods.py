"""A comparison of methods as a document: by label, by frequency, with its trials, from the record alone."""

from __future__ import annotations

from edgepress.compress.config import DistillConfig
from edgepress.report.blocks import to_markdown
from edgepress.report.html import to_html
from edgepress.report.methods import methods_document, print_comparison
from edgepress.report.terminal import stdout
from edgepress.run.compared import ComparedLabel, ComparedStudent, Decided, MethodComparison
from edgepress.run.run_report import ModelFacts
from edgepress.run.significance import MethodDifference, Significance
from edgepress.run.summary import summarise
from edgepress.run.trials import Trial, TrialTraining


def student(method, seed, ap, **given):
    values = {
        "val_mAP": 0.4,
        "best_epoch": 1,
        "test_mAP": sum(one for one in ap if one is not None) / 2,
        "decided": Decided(OF1=0.5, CF1=0.4, OF1_at_half=0.3, CF1_at_half=0.2),
        "AP": ap,
        "F1": ap,
        "seconds": 1.0,
        "teacher_val_mAP": 0.6,
        "training": DistillConfig(),
        "digest": f"{method}{seed}",
    }
    return ComparedStudent(method=method, seed=seed, **{**values, **given})


def record(**given):
    students = (
        student("alone", 0, (0.30, 0.50, None), by_frequency=(0.5, 0.4, 0.3)),
        student("soft|hard", 0, (0.60, 0.40, None), by_frequency=(0.6, 0.5, 0.2), settings={"lr": 0.002, "mld": 4.0}),
        student("alone", 1, (0.40, 0.60, None), by_frequency=(0.5, 0.4, 0.3)),
    )
    trained = [TrialTraining(inputs="", epochs=n, val_mAP=v, best_epoch=1, seconds=30) for n, v in ((1, 0.2), (3, 0.4))]
    trials = (
        Trial(method="soft|hard", number=0, settings={"lr": 0.002, "mld": 4.0}, trainings=trained, state="finished"),
        Trial(method="soft|hard", number=1, settings={"lr": 0.001, "mld": 9.0}, trainings=trained[:1]),
    )
    difference = MethodDifference(method="alone", points=-4.0, interval=(-6.0, -2.0), seeds=1, verdict="worse")
    told = ("Worse than it: alone",)
    values = {
        "data": "pictures",
        "train_pictures": 90,
        "test_pictures": 30,
        "prevalence": 0.2,
        "teacher": ModelFacts(backbone="large"),
        "student": ModelFacts(backbone="small", size=64),
        "epochs": 3,
        "distill": DistillConfig(),
        "splits": ("a", "b", "c"),
        "students": students,
        "methods": summarise(students),
        "labels": tuple(
            ComparedLabel(label=name, train_positives=count, test_positives=count // 3, part=part)
            for name, count, part in (("<rare>", 9, "tail"), ("common", 60, "head"), ("never", 0, "middle"))
        ),
        "significance": (
            Significance(reference="soft|hard", critical_points=2.5, differences=(difference,), told=told),
        ),
        "trials": trials,
    }
    return MethodComparison(**{**values, **given})


def test_what_two_verdicts_say_alike_is_said_once(capsys):
    told = ("48 test pictures were drawn again and again",)
    first, second = (
        Significance(reference=name, critical_points=2.5, differences=(), told=(f"Differences from {name}", *told))
        for name in ("soft|hard", "alone")
    )
    print_comparison(record(significance=(first, second)), stdout())
    shown = " ".join(capsys.readouterr().out.split())
    assert "Differences from soft|hard. 48 test pictures were drawn again and again. Differences from alone" in shown
    assert shown.count("drawn again and again") == 1


def test_it_shows_methods_labels_frequencies_and_trials():
    text = to_markdown(methods_document(record()))
    assert "| soft\\|hard | 1 | 50.00 |  | 40.00 | 50.00 | 40.00 | 30.00 | 20.00 | of 2: lr 0.002, mld 4 |" in text
    assert "| alone | 2 | 45.00 | 7.07 |" in text
    assert "| alone | -4.00 | -6.00 to -2.00 | 1 | worse |" in text
    labels = text.partition("Test AP of each label")[2]
    assert labels.index("common") < labels.index("&lt;rare&gt;") < labels.index("never")  # the most frequent first
    assert "| &lt;rare&gt; | 9 | 3 | 60.0 | 35.0 |" in labels
    assert "| never | 0 | 0 |  |  |" in labels
    assert "soft\\|hard against alone: from -15.0 points of AP at common to +25.0 at &lt;rare&gt;" in text
    assert "head: 1 label with 20 to 20 test pictures" in text
    assert "| alone | 50.00 | 40.00 | 30.00 |" in text
    assert "| soft\\|hard 1 | 1, 3 | 20.00 | 40.00 | 60 | finished | lr 0.002, mld 4 |" in text
    assert "| soft\\|hard 2 | 1 | 20.00 |  | 30 | pruned | lr 0.001, mld 9 |" in text
    page = to_html(methods_document(record()))
    assert "&lt;rare&gt;" in page
    assert "<rare>" not in page
    assert 'aria-label="test mAP by method: soft|hard 50.00; alone 45.00"' in page


def test_a_teacher_that_knows_less_than_the_student_is_said_to_be_below():
    for lead, said in ((4.25, "4.2 points above the student alone"), (-3.0, "3.0 points below the student alone")):
        assert said in to_markdown(methods_document(record(teacher_leads_points=lead)))


def test_a_record_of_an_earlier_version_has_what_it_has():
    students = tuple(
        one.model_copy(update={"decided": None, "AP": (), "F1": (), "by_frequency": ()}) for one in record().students
    )
    earlier = record(students=students, methods=summarise(students), labels=(), significance=(), trials=())
    text = to_markdown(methods_document(earlier))
    assert "| alone | 2 | 45.00 | 7.07 | 40.00 |  |  |  |  | not tuned |" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## Methods"]
