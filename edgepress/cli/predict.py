"""predict: print an engine's answers for pictures, folders, videos and stdin, one line per picture."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from edgepress.cli.options import BundlePath, Device, Rebuild, Threads, Unproven, print_json
from edgepress.multilabel.bundle import Bundle
from edgepress.multilabel.errors import InputError, NoNumberError
from edgepress.multilabel.folder_kinds import is_bundle, refuse_swapped

log = logging.getLogger("edgepress")
MOST_BROKEN = 20
"""Pictures without an answer that are named at the end; with --json and --csv each has its own line besides."""
Answer = dict[str, float] | InputError
Write = Callable[[str, list[str], Answer], None]
"""A function of a picture's name, its tags, and every label's probability or why there is none."""

Top = Annotated[
    int | None,
    typer.Option("--top", min=1, help="Tell so many labels, the most probable; in (brackets) if not a tag."),
]


def verb(
    bundle: BundlePath,
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, folders, patterns, videos, or - for stdin: paths, one per line, or a picture's bytes."
        ),
    ],
    device: Device = "cpu",
    threads: Threads = None,
    unproven: Unproven = False,
    rebuild: Rebuild = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures per call of the engine.")] = 8,
    every: Annotated[float, typer.Option("--every", help="Seconds between two pictures of a video.")] = 1.0,
    top: Top = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first picture that cannot be read.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A table: file, labels, probabilities, error.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per picture, with every probability (or the best).")
    ] = False,
) -> None:
    """Tag pictures with an engine.

    Prints a line for each picture, with the labels at or above their thresholds (and what label groups make of them)
    and their probabilities. With --top, a label in (brackets) is none of them.

    What cannot be read is told at the end; exit code 2 where nothing could be, where the engine answered a picture with
    no finite number, or with --strict.
    """
    from edgepress.deploy.tag.sources import pictures
    from edgepress.deploy.tag.tagger import open_tagger

    if as_csv and as_json:
        raise InputError("--csv and --json: expected one of them")
    broken: list[InputError] = []
    told = 0
    opened = _opened(bundle, sources, rebuild)
    with open_tagger(opened, device, threads=threads, unproven=unproven) as tagger, _progress() as advance:
        write = _writer(tagger.engine.labels.names, top, as_csv, as_json)
        try:
            for name, answer in tagger.stream(pictures(sources, tagger.engine.preprocess, every=every), batch):
                if isinstance(answer, InputError):
                    if strict:
                        raise answer
                    broken.append(answer)
                    write(name, [], answer)
                else:
                    write(name, tagger.tags(answer), answer if top is None else tagger.best(answer, top))
                    told += 1
                advance()
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has what it wanted, as `head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    _tell(broken)
    if not broken and not told:
        raise InputError("nothing to tag: stdin named no picture; expected paths, one a line, or a picture's bytes")
    if any(isinstance(error, NoNumberError) for error in broken) or (broken and not told):
        raise typer.Exit(2)


def _opened(bundle: Path, sources: list[str], rebuild: bool) -> Bundle:
    """The bundle as this machine runs it.

    Raises:
        InputError: it is none; where one of the sources is, the message says which way round the two go.
    """
    from edgepress.deploy.build.rebuild import fitted

    bundles = [Path(source) for source in sources if is_bundle(Path(source))]
    refuse_swapped("predict {bundle} {data}", bundle, bundles[0] if bundles else None)
    return fitted(Bundle.open(bundle), rebuild=rebuild)


def _writer(labels: tuple[str, ...], top: int | None, as_csv: bool, as_json: bool) -> Write:
    """How answers are written; raises InputError for more labels than there are."""
    if top is not None and top > len(labels):
        raise InputError(f"--top {top}: the bundle has {len(labels)} labels; expected at most so many")
    if as_csv:
        return _csv(labels, top)
    return _json if as_json else _line if top is None else _top_line


def _line(name: str, tags: list[str], answer: Answer) -> None:
    if isinstance(answer, InputError):
        return  # it is told at the end
    shown = "  ".join(f"{tag} {answer[tag]:.2f}" for tag in tags)
    print(f"{_printable(name)}  {shown or '(no label over its threshold)'}", flush=True)


def _top_line(name: str, tags: list[str], answer: Answer) -> None:
    if isinstance(answer, InputError):
        return  # it is told at the end
    shown = (f"{label} {p:.2f}" if label in tags else f"({label} {p:.2f})" for label, p in answer.items())
    print(f"{_printable(name)}  {'  '.join(shown)}", flush=True)


def _json(name: str, tags: list[str], answer: Answer) -> None:
    failed = isinstance(answer, InputError)
    row = {"file": name} | ({"error": str(answer)} if failed else {"tags": tags, "probabilities": answer})
    print_json(row)


def _csv(labels: tuple[str, ...], top: int | None) -> Write:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    joined = _joined_by(labels)
    if top is not None:
        return _csv_of_the_best(writer, top, joined)
    columns = ["file", "labels", *labels, "error"]
    for place, label in enumerate(labels, 2):
        while columns.count(columns[place]) > 1:  # a label may be called file, labels or error
            columns[place] = f"label {columns[place]}"
        if columns[place] != label:
            log.info("the column of the label %r is named %r", label, columns[place])
    writer.writerow(columns)

    def write(name: str, tags: list[str], answer: Answer) -> None:
        file = name if _is_text(name) else ascii(name)
        if isinstance(answer, InputError):
            reason = str(answer)
            writer.writerow([file, "", *("" for _ in labels), reason if _is_text(reason) else ascii(reason)])
        else:
            writer.writerow([file, joined(tags), *(repr(float(answer[label])) for label in labels), ""])
        sys.stdout.flush()

    return write


def _joined_by(labels: tuple[str, ...]) -> Callable[[list[str]], str]:
    """How tags share a cell: with bars between them, or as a JSON list where a bar is part of a label's name."""
    barred = next((label for label in labels if "|" in label), None)
    if barred is None:
        return "|".join
    log.info("the label %r has a bar in its name, so the cells of 'labels' are lists in JSON", barred)
    return lambda tags: json.dumps(tags, ensure_ascii=False)


def _csv_of_the_best(writer: Any, top: int, joined: Callable[[list[str]], str]) -> Write:
    """A table with a pair of columns for each of the most probable labels."""
    pairs = [f"{what} {place}" for place in range(1, top + 1) for what in ("label", "probability")]
    writer.writerow(["file", "labels", *pairs, "error"])

    def write(name: str, tags: list[str], answer: Answer) -> None:
        file = name if _is_text(name) else ascii(name)
        if isinstance(answer, InputError):
            reason = str(answer)
            writer.writerow([file, "", *("" for _ in pairs), reason if _is_text(reason) else ascii(reason)])
        else:
            cells = [cell for label, p in answer.items() for cell in (label, repr(float(p)))]
            writer.writerow([file, joined(tags), *cells, ""])
        sys.stdout.flush()

    return write


def _tell(broken: list[InputError]) -> None:
    for error in broken[:MOST_BROKEN]:
        print(f"edgepress: {_printable(str(error))}", file=sys.stderr)
    if len(broken) > MOST_BROKEN:
        print(f"edgepress: and {len(broken) - MOST_BROKEN:,} more that have no answer", file=sys.stderr)


def _printable(text: str) -> str:
    """A name on one line: it may hold a newline, or bytes that are not text."""
    return text if text.isprintable() else ascii(text)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[], None]]:
    """Show a count on a terminal; nothing in a log file, or if the answers themselves go to the terminal."""
    console = Console(stderr=True)
    if not console.is_terminal or sys.stdout.isatty():
        yield lambda: None  # counting for a hidden bar takes as long as writing a picture's answer
        return
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} pictures, {task.fields[rate]} a second"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, rate="0")
        yield lambda: bar.update(task, advance=1, rate=f"{bar.tasks[0].speed or 0:.0f}")
