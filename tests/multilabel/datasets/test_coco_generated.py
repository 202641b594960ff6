"""Generated COCO trees against an independent parse of the same files: equal or refused, never different."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from edgepress.multilabel.datasets import list_splits
from tests.multilabel.generated import Answers, found_in

FILES = ["a.jpg", "b.png", "c.JPG", "d e.jpg", "1.jpg", "2.jpg"]
NAMES = st.sampled_from(["boat", "dock", "tree house", "Ä", "7", "no"])
WRITTEN: dict[str, Callable[[str, str], str]] = {
    "plain": lambda split, name: name,
    "dot": lambda split, name: f"./{name}",
    "folder": lambda split, name: f"{split}/{name}",
    "windows": lambda split, name: f"C:\\data\\{split}\\{name}",
    "absolute": lambda split, name: f"/home/me/data/{split}/{name}",
    "url": lambda split, name: f"https://pictures.example/{split}/{name.replace(' ', '%20')}?size=1",
    "elsewhere": lambda split, name: f"upload/{name}",
}
LAYOUTS = {
    "instances": "annotations/instances_{}.json",
    "labels": "annotations/labels_{}.json",
    "plain": "annotations/{}.json",
    "roboflow": "{}/_annotations.coco.json",
    "root": "{}.json",
}


def drawn_file(draw: Any, split: str, written: str) -> dict[str, Any]:
    """A file of annotations, now and then with what ought to be refused."""
    kind = draw(st.sampled_from([int, str]))
    numbers = draw(st.permutations(range(1, 10)))
    names = draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=5))
    images = [
        {"id": kind(number), "file_name": WRITTEN[written](split, name)}
        for number, name in zip(numbers, names, strict=False)
    ]
    categories = [
        {"id": kind(number), "name": name, "supercategory": ""}
        for number, name in zip(
            draw(st.permutations(range(9))), draw(st.lists(NAMES, min_size=1, max_size=4)), strict=False
        )
    ]
    wrong = draw(st.sampled_from([False] * 12 + [True]))
    known = [category["id"] for category in categories] + ([kind(99)] if wrong else [])
    pairs = st.tuples(st.sampled_from([image["id"] for image in images]), st.sampled_from(known))
    scores = draw(st.sampled_from([(None,), (None,), (None, 1, 1.0), (1, 0, 0.0), (1, 0.5)]))
    annotations = []
    for number, (image, category) in enumerate(draw(st.lists(pairs, max_size=8))):
        score = draw(st.sampled_from(scores))
        more = {} if score is None else {"score": score}
        annotations.append({"id": number, "image_id": image, "category_id": category, "bbox": [0, 0, 1, 1], **more})
    if draw(st.sampled_from([False, False, False, True])):
        for image in images:
            image["neg_category_ids"] = draw(st.lists(st.sampled_from(known), max_size=2))
            image["not_exhaustive_category_ids"] = []
    return {"images": images, "annotations": annotations, "categories": categories}


def parsed(contents: list[dict[str, Any]]) -> Answers | None:
    """What the files say, in the plainest way; None where they contradict themselves or need a refusal."""
    names = {category["name"] for content in contents for category in content["categories"]}
    yes: set[tuple[str, str]] = set()
    no: set[tuple[str, str]] = set()
    pictures: set[str] = set()
    told = False
    for content in contents:
        called = {category["id"]: category["name"] for category in content["categories"]}
        file_of = {}
        for image in content["images"]:
            last = image["file_name"].replace("\\", "/").split("?")[0].split("/")[-1].replace("%20", " ")
            file_of[image["id"]] = last
            pictures.add(last)
        for annotation in content["annotations"]:
            if annotation["category_id"] not in called or annotation.get("score", 1) not in (0, 1):
                return None
            cell = file_of[annotation["image_id"]], called[annotation["category_id"]]
            told = told or annotation.get("score", 1) == 0
            (yes if annotation.get("score", 1) else no).add(cell)
        for image in content["images"]:
            told = told or "neg_category_ids" in image
            for identity in image.get("neg_category_ids", ()):
                if identity not in called:
                    return None
                no.add((file_of[image["id"]], called[identity]))
    if yes & no:
        return None
    return {
        name: {label: 1 if (name, label) in yes else None if told and (name, label) not in no else 0 for label in names}
        for name in pictures
    }


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_tree_is_read_as_it_is_meant_or_refused(data):
    draw = data.draw
    layout = draw(st.sampled_from(sorted(LAYOUTS)))
    splits = draw(st.lists(st.sampled_from(["train", "val", "test2017"]), min_size=1, max_size=2, unique=True))
    written = draw(st.sampled_from(sorted(WRITTEN)))
    place = draw(st.sampled_from(["{}", "images/{}", "images"])) if layout != "roboflow" else "{}"
    with tempfile.TemporaryDirectory() as folder:
        root, contents = Path(folder), {}
        for split in splits:
            contents[split] = [drawn_file(draw, split, written)]
            targets = [LAYOUTS[layout].format(split)]
            if layout == "instances" and draw(st.booleans()):
                contents[split].append(drawn_file(draw, split, written))
                targets.append(LAYOUTS["labels"].format(split))
            for target, content in zip(targets, contents[split], strict=True):
                (root / target).parent.mkdir(parents=True, exist_ok=True)
                (root / target).write_text(json.dumps(content), encoding="utf-8")
            for name in FILES:  # names alone are looked at
                picture = root / place.format(split) / name
                picture.parent.mkdir(parents=True, exist_ok=True)
                picture.touch()
        assert list_splits(root, format="coco") == sorted(splits)
        for split in splits:
            found, expected = found_in(root, split, lambda path: path.name, format="coco"), parsed(contents[split])
            if found is None and expected is not None:  # refused without need: only where there is nothing to learn
                cells = [value for answers in expected.values() for value in answers.values()]
                assert all(len(answers) == 1 for answers in expected.values())
                assert set(cells) == {1}
            else:
                assert found == expected
