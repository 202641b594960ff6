"""Label Studio: which questions give labels, which are of regions, and which cannot be read together."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.datasets.test_labelstudio import NAMES, annotation, chosen, export, task
from tests.multilabel.layouts import check, picture, refusal

FILE = "project-1-at-2026-01-01.json"
PLACE = {"x": 1.5, "y": 2, "width": 3, "height": 3, "rotation": 0}
OWN = {"annotator": 1, "annotation_id": 3, "created_at": "2026", "updated_at": "2026", "lead_time": 2.5}


@pytest.fixture
def root(tmp_path):
    for shade, name in enumerate(NAMES):
        picture(tmp_path / "images" / name, shade)
    return tmp_path


def region(identity: str, *names: str, kind: str = "rectanglelabels", source: str = "label", **place) -> dict:
    """A result of a region; with `kind="choices"` what was chosen for it."""
    return {**chosen(*names, kind=kind, source=source), "id": identity, "value": {**place, kind: list(names)}}


def tasks(*results: list[dict]) -> list[dict]:
    return [task(7 + row, NAMES[row], annotation(*given)) for row, given in enumerate(results)]


@pytest.mark.parametrize("kind", ["choices", "taxonomy"])
@pytest.mark.parametrize(
    "about",
    [
        {"identity": "r1"},
        {"identity": "r1", **PLACE},
        {"identity": "another", **PLACE},
        {"identity": "another", "points": [[1, 2], [3, 4]]},
        {"identity": "another", "format": "rle", "rle": [0, 1]},
    ],
)
def test_what_was_chosen_for_a_region_is_no_label(root, kind, about):
    about = dict(about)
    said = region(about.pop("identity"), "truncated", "not a car", kind=kind, source="attr", **about)
    export(root, tasks([region("r1", "car", x=1), said], [region("r2", "dog", **PLACE)]))
    data = load_dataset(root, "train")
    check(data, ["car", "dog"], NAMES[:2], [[1, 0], [0, 1]])
    assert data.notes[1:] == (f"{FILE}: choices that are attributes of regions are no labels, and are left out: attr",)
    check(load_dataset(root, "train", label_columns="label"), ["car", "dog"], NAMES[:2], [[1, 0], [0, 1]])


def test_a_region_may_have_its_labels_apart_from_its_outline(root):
    outline = {"id": "r1", "type": "rectangle", "from_name": "box", "value": PLACE}
    export(root, tasks([outline, region("r1", "car", kind="labels", **PLACE)], [chosen("dog", source="what")]))
    data = load_dataset(root, "train")
    check(data, ["car", "dog"], NAMES[:2], [[1, 0], [0, 1]])


def test_what_was_chosen_for_a_region_without_a_label_is_its_label(root):
    outline = {"id": "r1", "type": "rectangle", "from_name": "box", "value": PLACE}
    what = region("r1", "car", kind="choices", source="what", **PLACE)
    export(root, tasks([outline, what], [chosen("dog", source="what")]))
    check(load_dataset(root, "train"), ["car", "dog"], NAMES[:2], [[1, 0], [0, 1]])


def test_choices_of_regions_alone_are_read_only_where_they_are_named(root):
    export(root, tasks([region("r1", "car", kind="choices", source="what", **PLACE)], [chosen(source="what")]))
    said = "no labels but choices that are attributes of regions (what); --label-columns 'what' reads them as labels"
    assert said in refusal(root, "train")
    data = load_dataset(root, "train", label_columns="what")
    assert data.targets.tolist() == [[1], [0]]
    assert data.notes[-1:] == (f"{FILE}: choices that are attributes of regions are read as labels: what",)


def test_a_choice_for_the_picture_in_another_annotation_is_a_label(root):
    """Results of another annotation, or without an id, are of no region."""
    first = annotation(region("r1", "car", **PLACE))
    bare = {key: value for key, value in chosen("dog").items() if key != "id"}
    second = [task(8, NAMES[1], annotation({**chosen("dog"), "id": "r1"})), task(9, NAMES[2], annotation(bare))]
    export(root, [task(7, NAMES[0], first), *second])
    data = load_dataset(root, "train")
    check(data, ["car", "dog"], NAMES, [[1, 0], [0, 1], [0, 1]])


def test_answers_without_their_questions_are_refused(root):
    given = [
        [chosen("Yes", source="has_cat"), chosen("No", source="has_dog")],
        [chosen("No", source="has_cat"), chosen("not sure", source="has_dog")],
    ]
    export(root, tasks(*given))
    message = refusal(root, "train")
    assert f"{FILE}: the choices of 'has_cat', 'has_dog' are answers (No, Yes, not sure), which say nothing" in message
    assert "export CSV from Label Studio, where --label-columns 'has_cat,has_dog' makes a label of each" in message
    assert "here --label-columns 'has_cat' reads the choices of 'has_cat' as labels" in message
    assert "are answers" in refusal(root, "train", label_columns="has_cat,has_dog")
    data = load_dataset(root, "train", label_columns="has_cat")
    check(data, ["No", "Yes"], NAMES[:2], [[0, 1], [1, 0]])
    assert data.notes[1:] == (f"{FILE}: the choices of has_cat are answers (No, Yes), read as labels",)


def test_one_question_of_answers_beside_another_is_refused(root):
    export(root, tasks([chosen("boat"), chosen("Yes", source="blurred")], [chosen("dock")]))
    message = refusal(root, "train")
    assert "the choices of 'blurred' are answers (Yes), which say nothing without their question" in message
    assert "here --label-columns 'choice' reads the choices of 'choice' as labels" in message
    check(load_dataset(root, "train", label_columns="choice"), ["boat", "dock"], NAMES[:2], [[1, 0], [0, 1]])


@pytest.mark.parametrize("names", [("yes", "dog"), ("not sure", "unknown"), ("Yes, one", "Yes, two")])
def test_names_of_which_not_all_are_answers_are_labels(root, names):
    export(root, tasks([chosen(names[0])], [chosen(names[1])]))
    check(load_dataset(root, "train"), sorted(names), NAMES[:2], [[name == names[row] for name in sorted(names)]
                                                                 for row in range(2)])  # fmt: skip


def test_questions_that_share_a_choice_are_refused_until_they_are_named(root):
    given = [chosen("boat", source="first"), chosen("dock", "gull", source="second")]
    export(root, tasks(given, [chosen("dock", source="first")]))
    message = refusal(root, "train")
    assert f"{FILE}: the questions 'first' and 'second' share choices (dock), and a label would not say" in message
    assert "--label-columns 'first' reads one of them, and --label-columns 'first,second' reads them tog" in message
    check(load_dataset(root, "train", label_columns="first"), ["boat", "dock"], NAMES[:2], [[1, 0], [0, 1]])
    both = load_dataset(root, "train", label_columns="first,second")
    check(both, ["boat", "dock", "gull"], NAMES[:2], [[1, 1, 1], [0, 1, 0]])


def test_questions_with_choices_of_their_own_are_united_and_told(root):
    shapes = [
        region("r1", "boat", **PLACE),
        region("r2", "boat", kind="polygonlabels", source="outline", points=[[1, 2]]),
    ]
    export(root, tasks([chosen("night", source="light"), chosen("boat")], shapes))
    data = load_dataset(root, "train")
    check(data, ["boat", "night"], NAMES[:2], [[1, 1], [1, 0]])
    said = "the choices of several questions are labels together: light, choice, label, outline"
    assert data.notes[1:] == (f"{FILE}: {said}; --label-columns names those that are read",)


def test_a_question_that_no_file_has_is_refused(root):
    export(root, tasks([chosen("boat")], [chosen("dock")]))
    said = "--label-columns names 'choise', of which there is no result; expected one of choice; did you mean 'choice'?"
    assert said in refusal(root, "train", label_columns="choise")


def test_the_questions_of_the_short_form(root):
    rows = [{"id": row, "image": f"/data/upload/1/{name}", "city": "Hamburg", **OWN} for row, name in enumerate(NAMES)]
    boxes = [{**PLACE, "rectanglelabels": ["crane"]}, {**PLACE, "rectanglelabels": ["gull"]}]
    states = [{**PLACE, "choices": ["torn", "old"]}]
    export(root, [{**rows[0], "box": boxes, "state": states}, *rows[1:]])
    data = load_dataset(root, "train")
    check(data, ["crane", "gull"], NAMES, [[1, 1], [0, 0], [0, 0]])
    assert data.notes[1:] == (f"{FILE}: keys that are not read as labels are left out: city, state",)
    export(root, [{**rows[0], "first": "boat", "second": "dock"}, {**rows[1], "first": "dock"}])
    assert "city, first, second may each hold labels; --label-columns says which does" in refusal(root, "train")
    data = load_dataset(root, "train", label_columns="first,second")
    check(data, ["boat", "dock"], NAMES[:2], [[1, 1], [0, 1]])
    assert data.notes[1:] == (
        f"{FILE}: keys that are not read as labels are left out: city",
        f"{FILE}: the choices of several questions are labels together: first, second; --label-columns names those "
        "that are read",
    )
    assert "--label-columns names 'third', of which" in refusal(root, "train", label_columns="third")


def test_answers_of_the_short_form_are_refused(root):
    rows = [{"id": row, "image": f"/data/upload/1/{name}", **OWN} for row, name in enumerate(NAMES[:2])]
    export(root, [{**rows[0], "has_cat": "Yes"}, {**rows[1], "has_cat": "No"}])
    assert "the choices of 'has_cat' are answers (No, Yes), which say nothing without their question" in refusal(
        root, "train"
    )
    check(load_dataset(root, "train", label_columns="has_cat"), ["No", "Yes"], NAMES[:2], [[0, 1], [1, 0]])
