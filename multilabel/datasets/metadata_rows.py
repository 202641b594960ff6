"""The rows of metadata.jsonl and metadata.parquet: a picture's name, its labels and what nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from edgepress.multilabel.datasets import files
from edgepress.multilabel.datasets.columns import LIST_COLUMNS, SPLIT_NAMES
from edgepress.multilabel.datasets.denials import meant_ignore, refuse_answer, refuse_denied_in_json
from edgepress.multilabel.datasets.label_lists import names_of
from edgepress.multilabel.datasets.options import DataOptions
from edgepress.multilabel.errors import InputError, shown
from edgepress.multilabel.json_text import unique_json

_KEYS = {"file_name", "labels", "ignore"}
_SPLIT_KEYS = ("split", "subset", "partition", "phase", "set")


def metadata_rows(listing: Path, options: DataOptions, names: Collection[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line (in Parquet: row), file_name, labels and ignore of every picture.

    Beside these a row may have `text` (labels that were one text), `split` (what keys such as `split` say) and `others`
    (keys that hold something else).

    Args:
        listing: metadata.jsonl or metadata.parquet.
        names: what labels.txt or the card calls numbered labels; empty if neither does.

    Raises:
        InputError: a row names no picture, or it is unclear which key lists its labels.
    """
    key = options.label_columns[0] if len(options.label_columns) == 1 else None
    for number, row in _lines(listing) if listing.suffix == ".jsonl" else enumerate(_parquet(listing), start=1):
        yield number, _checked(row, f"{listing}, line {number}", key, options, names)


def _parquet(listing: Path) -> list[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise InputError(f"{listing}: Parquet is read by pyarrow: pip install 'edgepress[parquet]'") from None
    try:
        return parquet.read_table(listing).to_pylist()
    except (ArrowException, OSError) as error:
        raise InputError(f"{listing}: not Parquet ({' '.join(str(error).split())[:120]}); write it again") from None


def _lines(listing: Path) -> Iterator[tuple[int, Any]]:
    for number, line in files.numbered_lines(listing, "one JSON object a line"):
        try:
            row = unique_json(line)
        except (ValueError, RecursionError) as error:
            where = f"{listing}, line {number}"
            raise InputError(f"{where}: not JSON ({error}); expected an object with file_name and labels") from None
        yield number, row


def _checked(row: Any, where: str, key: str | None, options: DataOptions, names: Collection[str]) -> dict[str, Any]:
    if not isinstance(row, dict) or not isinstance(row.get("file_name"), str) or not row["file_name"]:
        got = f"no file_name among {shown(row, 5)}; " if isinstance(row, dict) and "file_name" not in row else ""
        raise InputError(f"{where}: {got}expected an object with a file_name and a list of labels")
    labels = row.get("labels")
    if key is None and row.keys() <= _KEYS and isinstance(labels, list) and "ignore" not in row and _are_names(labels):
        return {**row, "ignore": []}  # most lines are of this kind
    chosen, key = key, key or _labels_key(row, where)
    meant = [name for name in row if name not in _KEYS and chosen is None and meant_ignore(name, row[name])]
    if meant:  # other keys may hold anything; this one would lose what it says
        raise InputError(
            f"{where}: unknown key {meant[0]!r}; did you mean 'ignore'? (--label-columns {key} leaves it out)"
        )
    others = [
        name for name, value in row.items() if name not in (*_KEYS, *_SPLIT_KEYS, key) and value not in (None, "", [])
    ]
    if chosen is None:
        refuse_denied_in_json({name: row[name] for name in others}, key, where)
    if key not in row and chosen is not None:
        raise InputError(f"{where}: no key {key!r}, which --label-columns names; keys: {shown(row)}")
    if key.lower() not in LIST_COLUMNS and (not names or key in names):
        refuse_answer(row, key, where)
    found = row.get(key)
    text = [found] if key != "labels" and isinstance(found, str) else []
    if key != "labels" and isinstance(found, str | int) and not isinstance(found, bool):
        found = names_of(found, options.separator, where) if isinstance(found, str) else [found]
    for name, items in (("labels" if key == "labels" else key, found), ("ignore", row.get("ignore") or [])):
        if not isinstance(items, list) or not all(
            isinstance(item, str | int) and not isinstance(item, bool) for item in items
        ):
            raise InputError(f"{where}: {name} of {row['file_name']!r} is {items!r}; expected a list of label names")
    split = [row[name] for name in row if name.lower() in _SPLIT_KEYS and str(row[name]).lower() in SPLIT_NAMES]
    return {
        "file_name": row["file_name"],
        "labels": found,
        "ignore": row.get("ignore") or [],
        "text": text,
        "split": split,
        "others": others,
    }


def _are_names(items: list) -> bool:
    return all(type(item) is str for item in items)


def _misspelt(keys: list[str]) -> str:
    """The key among a row's that may be 'labels' with a slip of the pen."""
    close = difflib.get_close_matches("labels", keys, n=1, cutoff=0.8)
    return f" (is {close[0]!r} misspelt?)" if close else ""


def _labels_key(row: dict[str, Any], where: str) -> str:
    found = ["labels"] if "labels" in row else [name for name in row if name.lower() in LIST_COLUMNS]
    if len(found) > 1:
        raise InputError(f"{where}: {shown(found)} may each list labels; --label-columns says which does")
    if not found and row.keys() > {"file_name"}:
        others = sorted(row.keys() - {"file_name", "ignore"})
        answers = [name for name in others if not isinstance(row[name], list | dict) and row[name] in (0, 1)]
        are = "is" if len(answers) == 1 else "are"
        table = f"{shown(answers, 4)} {are} 0 or 1; a yes or no for each label is read from metadata.csv with a column"
        lists = [name for name in others if isinstance(row[name], list) and row[name]]
        texts = [name for name in others if isinstance(row[name], str) and row[name]]
        if answers and not lists and not texts:
            raise InputError(
                f"{where}: no key 'labels', and {table} for each (expected here: a list of the labels that the picture "
                "has)"
            )
        if others:
            also = f"; {table} for each" if answers and not lists else ""
            raise InputError(
                f"{where}: no key 'labels' among {shown(others)}{_misspelt(others)}; --label-columns says which "
                f"lists labels{also}"
            )
    return found[0] if found else "labels"
