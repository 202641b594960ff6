"""From what a label file calls a picture to the file on disk, where the two are not written alike."""

from __future__ import annotations

import json
import unicodedata

import pytest

from edgepress.multilabel.datasets import load_dataset
from tests.multilabel.layouts import check, picture, refusal, write


@pytest.mark.parametrize(
    ("here", "told"),
    [
        ("IMG_1.JPG", "img_1.jpg"),
        ("Images/IMG_1.JPG", "images\\img_1.JPG"),
        (unicodedata.normalize("NFD", "kätzchen é.jpg"), unicodedata.normalize("NFC", "kätzchen é.jpg")),
        (unicodedata.normalize("NFC", "Bürö/é.jpg"), unicodedata.normalize("NFD", "Bürö/é.jpg")),
        ("Sub/A.Jpeg", "sub/a"),
    ],
)
def test_another_case_and_another_unicode_form_are_found_and_told(tmp_path, here, told):
    picture(tmp_path / here, 1)
    picture(tmp_path / "b.jpg", 2)
    write(tmp_path / "train.csv", "path,cat,dog", f"{told},1,0", "b.jpg,0,1")
    data = load_dataset(tmp_path, "train")
    assert [path.relative_to(tmp_path).as_posix() for path in data.paths] == [here, "b.jpg"]
    if not (tmp_path / told.replace("\\", "/")).is_file():  # a file system may take both for one name
        name = here.rpartition("/")[2]
        assert data.notes == (f"1 name was found in another case or Unicode form, such as {name!r}",)


def test_a_name_that_fits_two_files_in_other_letters_is_refused(tmp_path):
    for shade, name in enumerate(("A.jpg", "a.JPG", "b.jpg")):
        picture(tmp_path / name, shade)
    if (tmp_path / "a.jpg").is_file():
        pytest.skip("this file system takes a and A for one name")
    write(tmp_path / "train.csv", "path,cat", "a.jpg,1", "b.jpg,0")
    assert "'a.jpg' may be " in refusal(tmp_path, "train")


def test_two_names_that_lead_to_one_file_in_other_letters_are_refused(tmp_path):
    for shade, name in enumerate(("A.jpg", "b.jpg")):
        picture(tmp_path / name, shade)
    if (tmp_path / "a.jpg").is_file():
        pytest.skip("this file system takes a and A for one name")
    write(tmp_path / "train.csv", "path,cat", "a.jpg,1", "b.jpg,0", "a.JPG,0")
    assert "both lead to" in refusal(tmp_path, "train")


@pytest.mark.parametrize("place", ["/data/upload/3/{}", "http://localhost:8080/data/upload/3/{}"])
def test_pictures_that_were_uploaded_to_label_studio_are_found_under_their_own_names(tmp_path, place):
    tasks = []
    for shade, (name, labels) in enumerate({"a.jpg": ["cat"], "b-c.jpg": ["cat", "dog"]}.items()):
        picture(tmp_path / "photos" / name, shade)
        result = {"type": "choices", "from_name": "choice", "value": {"choices": labels}}
        image = place.format(f"{shade:08x}-{name}")
        tasks.append({"id": shade, "data": {"image": image}, "annotations": [{"id": shade, "result": [result]}]})
    (tmp_path / "photos").rename(tmp_path / "images")
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    data = load_dataset(tmp_path, "train")
    check(data, ["cat", "dog"], ["a.jpg", "b-c.jpg"], [[1, 0], [1, 1]])
    assert "2 names were found without the eight characters that Label Studio writes before uploads" in data.notes
