"""Pascal VOC's annotations: one XML file per picture."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.denials import denied_in_json
from edgepress.multilabel.datasets.values import Values, canonical
from edgepress.multilabel.datasets.voc_lists import DIFFICULT, PRESENT, TO_IGNORE, without_suffix
from edgepress.multilabel.errors import InputError, shown

MAX_XML_BYTES = 4 * 1024 * 1024
_VALUES = Values.parse(None)


@dataclass(frozen=True, slots=True)
class Annotation:
    """What one file says."""

    objects: dict[str, int]
    """From label to `PRESENT`, or to `TO_IGNORE` or `DIFFICULT` if none of its objects is more than that."""
    filename: str = ""
    """The picture that it names, which tools leave as it was when they rename their files."""
    attributes: frozenset[str] = frozenset()
    """The names of its objects' attributes, none of which is a label; see `_attributes`."""


def annotations_below(folder: Path) -> tuple[dict[str, Path], int]:
    """From id (the path below the folder, without .xml) to file, sorted by id; and the number of hidden files."""
    found: dict[str, Path] = {}
    hidden = 0
    for below, _, names in os.walk(folder):
        here = Path(below)
        inside = here.relative_to(folder)
        before = "" if here == folder else f"{inside.as_posix()}/"
        out_of_sight = any(part.startswith(".") for part in inside.parts)
        for name in names:
            if not name.lower().endswith(".xml"):
                continue
            if out_of_sight or name.startswith("."):
                hidden += 1
            else:
                found[f"{before}{name[: -len('.xml')]}"] = here / name
    return {name: found[name] for name in sorted(found)}, hidden


def of_hidden(hidden: int, folder: Path) -> list[str]:
    """Say how many hidden files were left out."""
    return [f"{hidden} hidden files below {folder.name}/ left out"] if hidden else []


def parse_xml(path: Path, expected: str, most: int = MAX_XML_BYTES) -> ElementTree.Element:
    """Parse an XML file that declares nothing, and return its root.

    Raises:
        InputError: not UTF-8, not XML, too large, or with a DOCTYPE or an ENTITY.
    """
    text = files.read_text(path, expected, most)
    # Entities can turn a few bytes into gigabytes and read other files; an annotation needs neither them nor a DTD.
    if "<!doctype" in (lowered := text.lower()) or "<!entity" in lowered:
        raise InputError(f"{path}: declares a DOCTYPE or an ENTITY; expected a plain annotation")
    try:
        return ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(f"{path}: not XML ({error}); expected {expected}") from None


def read_annotation(path: Path) -> Annotation:
    """Read an annotation; objects that LabelMe's users deleted, and those with a low score, are none.

    Raises:
        InputError: see `parse_xml`; also an object without a name, or a value that is not known.
    """
    found: dict[str, int] = {}
    attributes: set[str] = set()
    root = parse_xml(path, "an annotation in XML")
    objects = [item for item in root if _local(item) == "object"]
    for number, item in enumerate(objects, start=1):
        texts: dict[str, str] = {}
        for child in item:
            texts.setdefault(_local(child), (child.text or "").strip())
        attributes.update(_attributes(item))
        if texts.get("deleted") == "1":  # LabelMe keeps what its users took back
            continue
        name = sys.intern(texts.get("name", ""))  # there are far more objects than names
        hard = (texts.get("difficult") or "0").lower()
        if not name:
            raise InputError(f"{path}: object {number} has no name")
        if hard not in ("0", "1", "unspecified", "true", "false"):
            raise InputError(f"{path}: object {number} ({name!r}) has difficult {hard!r}; expected 0 or 1")
        score = texts.get("score") or texts.get("confidence")
        if score and not files.score_says_yes(_number(score), f"{path}: object {number} ({name!r})"):
            continue
        said = DIFFICULT if hard in ("1", "true") else PRESENT
        if texts.get("ignore", "").lower() in ("1", "true"):
            said = TO_IGNORE
        found[name] = max(found.get(name, said), said)
    named = next((item.text or "" for item in root if _local(item) == "filename"), "")
    return Annotation(found, named.strip(), frozenset(attributes))


def _attributes(item: ElementTree.Element) -> Iterator[str]:
    """The names of an object's attributes, as CVAT, Datumaro and LabelMe write them.

    One whose value is `no` or empty says nothing of the object, unless it may deny the label, as `present` does.
    """
    for child in item:
        if _local(child) == "attributes":
            if len(child) == 0 and (text := (child.text or "").strip()):  # LabelMe's are free text
                yield text
            for one in child:
                texts = {_local(part): (part.text or "").strip() for part in one}
                name, value = texts.get("name", ""), texts.get("value", "")
                if (canonical(value) and _VALUES.of(value) != "no") or denied_in_json(name, value):
                    yield name


def attributes_in(annotations: Iterable[Annotation]) -> list[str]:
    """Say which attributes the objects have, none of which is a label."""
    found = {sys.intern(name) for one in annotations for name in one.attributes}
    return [f"attributes of objects are no labels, and are left out: {shown(sorted(found), 5)}"] if found else []


def naming_another(annotations: Mapping[str, Annotation]) -> list[str]:
    """Say which annotations name the picture of another one. Each is read as of the picture with its own name.

    Args:
        annotations: by their ids, as `annotations_below` gives them.
    """
    stems = {identity: _stem(identity) for identity in annotations}
    known = set(stems.values())
    found = [
        f"{identity}.xml names {one.filename}"
        for identity, one in annotations.items()
        if one.filename and (named := _stem(one.filename)) != stems[identity] and named in known
    ]
    if not found:
        return []
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"read as of the pictures with their own names, although <filename> differs: {', '.join(found[:3])}{more}"]


def _stem(name: str) -> str:
    """A picture's name without its folders and its ending."""
    return without_suffix(re.split(r"[/\\]", name)[-1])


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _local(item: ElementTree.Element) -> str:
    """The name of an element without its XML namespace."""
    return item.tag.rpartition("}")[2]
