"""data: inspect a data set before anything learns from it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from edgepress.cli.options import DataArgument, DataFlags, Json, print_json
from edgepress.report.terminal import stdout


def verb(
    data: DataArgument,
    reader: DataFlags,
    split: Annotated[list[str] | None, typer.Option("--split", help="Only these splits (default: all).")] = None,
    json: Json = False,
) -> None:
    """Look a data set over.

    Tells counts, imbalance, co-occurrence, broken pictures, and duplicates across splits.

    The exit code is 0 whatever it finds.
    """
    from edgepress.multilabel.datasets.passed_over import in_one_line, passed_over
    from edgepress.multilabel.datasets.together import few_to_prove, missing_splits, unlike_labels
    from edgepress.multilabel.inspection import inspect_dataset, unions
    from edgepress.report.summary import print_data

    names = split or reader.splits(data)
    loaded = reader.load_all(data, names, rules=False)  # broken rules are listed below
    splits = dict(zip(names, loaded, strict=True))
    joined = unions(splits)
    report = inspect_dataset({name: one for name, one in splits.items() if name not in joined})
    left = passed_over(data, splits.values())
    unlike = unlike_labels(splits)
    pictures = {name: len(one) for name, one in splits.items()}
    missing = None if split else missing_splits(names, pictures)
    few = few_to_prove(pictures)
    refusal = report.refusal()
    if json:
        below = {"unlike_labels": unlike, "missing_splits": missing, "few_to_prove": few, "refusal": refusal}
        print_json(report.as_dict() | {"unions": joined, "passed_over": [asdict(one) for one in left], **below})
        return
    print_data(report, stdout())
    if (said := in_one_line(left)) is not None:
        print(said)
    for name, parts in joined.items():
        print(f"{name} holds the pictures of {' and '.join(parts)}, and was not looked over twice")
    for said in (*unlike, missing, few, refusal):
        if said is not None:
            print(said)
