"""CVAT's export "CVAT for images 1.1": annotations.xml and images/, of a task and of a project with subsets."""

from __future__ import annotations

import pytest

from edgepress.multilabel.datasets import detect_format, list_splits, load_dataset
from tests.multilabel.layouts import check, picture, refusal, write

BOX = '<box label="crane" source="manual" occluded="0" xtl="1.00" ytl="1.00" xbr="3.00" ybr="3.00" z_order="0"></box>'
LABELS = "".join(
    f"<label><name>{name}</name><color>#aa{number}0aa</color><type>any</type><attributes></attributes></label>"
    for number, name in enumerate(("dock", "boat", "crane"))
)


def tag(label: str) -> str:
    return f'<tag label="{label}" source="manual"></tag>'


def image(number: int, name: str, *inner: str, subset: str = "") -> str:
    more = f' subset="{subset}" task_id="7"' if subset else ""
    return f'<image id="{number}" name="{name}"{more} width="8" height="6">{"".join(inner)}</image>'


def export(root, *images: str, of: str = "task"):
    meta = f"<meta><{of}><id>7</id><name>harbour</name><labels>{LABELS}</labels></{of}></meta>"
    head = '<?xml version="1.0" encoding="utf-8"?>'
    write(root / "annotations.xml", head, "<annotations>", "<version>1.1</version>", meta, *images, "</annotations>")
    return root


IMAGES = [image(0, "b.jpg", tag("boat"), BOX), image(1, "more/a.jpg"), image(2, "c.jpg", tag("dock"), tag("boat"))]


@pytest.fixture
def root(tmp_path):
    for shade, name in enumerate(("b", "more/a", "c")):
        picture(tmp_path / "images" / f"{name}.jpg", shade)
    return export(tmp_path, *IMAGES)


def test_the_tags_and_shapes_of_a_task(root):
    assert (detect_format(root), list_splits(root)) == ("cvat", ["default"])
    labels, names = ["dock", "boat", "crane"], ["b.jpg", "a.jpg", "c.jpg"]
    check(load_dataset(root, "default"), labels, names, [[0, 1, 1], [0, 0, 0], [1, 1, 0]])


def test_a_project_with_subsets(tmp_path):
    for subset in ("train", "validation"):
        picture(tmp_path / "images" / subset / "a.jpg", len(subset))
    rows = [image(0, "a.jpg", tag("boat"), subset="train"), image(0, "a.jpg", tag("dock"), subset="validation")]
    root = export(tmp_path, *rows, of="project")
    assert list_splits(root) == ["train", "validation"]
    data = load_dataset(root, "validation")
    check(data, ["dock", "boat", "crane"], ["a.jpg"], [[1, 0, 0]])
    assert data.paths[0].parent.name == "validation"


def test_one_file_a_split_as_datumaro_writes_it(root):
    text = (root / "annotations.xml").read_text()
    (root / "annotations.xml").unlink()
    write(root / "train.xml", text)
    write(root / "val.xml", text.replace('label="dock"', 'label="quay"').replace("c.jpg", "b.jpg", 1)
          .replace('name="b.jpg" width', 'name="c.jpg" width', 1))  # fmt: skip
    labels = ["dock", "boat", "crane", "quay"]
    assert (detect_format(root), list_splits(root)) == ("cvat", ["train", "val"])
    names = ["b.jpg", "a.jpg", "c.jpg"]
    check(load_dataset(root, "train"), labels, names, [[0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]])
    check(load_dataset(root, "val"), labels, ["c.jpg", "a.jpg", "b.jpg"], [[0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 1]])


def test_one_export_a_split_and_attributes_are_named(tmp_path):
    rows = [image(0, "a.jpg", '<tag label="boat"><attribute name="hull">wood</attribute></tag>')]
    for shade, split in enumerate(("train", "test")):
        picture(tmp_path / split / "images" / "a.jpg", shade)
        export(tmp_path / split, *rows)
    assert list_splits(tmp_path) == ["test", "train"]
    data = load_dataset(tmp_path, "test")
    check(data, ["dock", "boat", "crane"], ["a.jpg"], [[0, 1, 0]])
    assert data.paths[0].parent.parent.name == "test"
    assert data.notes == ("annotations.xml: attributes of labels are no labels, and are left out: hull",)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([image(0, "b.jpg", tag("boat")), image(1, "b.jpg")], "image 1: 'b.jpg' occurs twice"),
        ([image(0, "gone.jpg", tag("boat"))], "gone.jpg: no such file"),
        (["<image id='0' name='b.jpg'>"], "annotations.xml"),
    ],
)
def test_what_is_refused(root, images, said):
    assert said in refusal(export(root, *images), "default")


def test_an_entity_is_never_expanded(root):
    text = (root / "annotations.xml").read_text()
    entity = '<!DOCTYPE annotations [<!ENTITY label "boat">]>'
    (root / "annotations.xml").write_text(text.replace("<annotations>", f"{entity}<annotations>", 1))
    assert "DOCTYPE" in refusal(root, "default")


def test_subsets_that_differ_in_case_alone_are_refused(root):
    export(root, image(0, "b.jpg", tag("boat"), subset="Train"), image(1, "c.jpg", subset="train"), of="project")
    assert "subset names the splits Train and train, which differ in case alone" in refusal(root, "train")


def test_labels_of_a_model_are_told(root):
    export(root, IMAGES[0], IMAGES[1], image(2, "c.jpg", '<tag label="dock" source="auto"></tag>', tag("boat")))
    data = load_dataset(root, "default")
    assert data.targets.sum() == 4
    assert data.notes[-1] == "annotations.xml: 1 label has the source auto, a model's"


def test_tracks_of_a_video_beside_pictures_are_not_passed_over(root):
    box = '<box frame="0" outside="0" xtl="1" ytl="1" xbr="3" ybr="3"/>'
    export(root, *IMAGES, f'<track id="0" label="dock">{box}</track>')
    said = "1 track of a video, whose frames are no files; export the task as CVAT for images"
    assert said in refusal(root, "default")


def test_annotations_alone_beside_a_folder_of_ones_own(root):
    """CVAT exports without the pictures where that is asked for, and their folder has any name."""
    (root / "images").rename(root / "photos")
    data = load_dataset(root, "default")
    assert [path.relative_to(root).as_posix() for path in data.paths] == [
        "photos/b.jpg",
        "photos/more/a.jpg",
        "photos/c.jpg",
    ]
    assert "3 pictures were found by their names alone, in photos/, photos/more/" in data.notes


def test_the_points_of_a_skeleton_are_no_labels(root):
    """A task declares them as labels with a parent, and pictures have them within the skeleton alone."""
    parts = [
        f"<label><name>{name}</name><type>points</type><parent>dock</parent></label>" for name in ("nose", "crane")
    ]
    skeleton = '<skeleton label="dock"><points label="nose" outside="0" points="1,1"></points></skeleton>'
    export(root, IMAGES[0], IMAGES[1], image(2, "c.jpg", skeleton, tag("boat")))
    text = (root / "annotations.xml").read_text()
    parent = text.replace("<labels>", f"<labels>{''.join(parts)}<label><name>quay</name><parent></parent></label>")
    (root / "annotations.xml").write_text(parent)
    data = load_dataset(root, "default")
    labels, names = ["quay", "dock", "boat", "crane"], ["b.jpg", "a.jpg", "c.jpg"]
    check(data, labels, names, [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0]])
    assert data.notes == ("annotations.xml: parts of skeletons are no labels, and are left out: nose",)
