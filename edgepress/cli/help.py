"""Lay out a verb's help as plain text of at most 80 columns in which no name is cut."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

NAMES = 24
"""Columns of an option's name; a longer name has its explanation in the line below it."""


class VerbHelp(TyperCommand):
    """A command whose options are listed by section; where some are hidden, it says how to see them all."""

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write what the verb does."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write(f"\n{_filled(paragraph, formatter.width, 2)}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, options and sections."""
        parameters = self.get_params(ctx)
        hidden = sum(getattr(parameter, "hidden", False) for parameter in parameters)
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in parameters:
            record = parameter.get_help_record(ctx)
            section = None if hidden else getattr(parameter, "rich_help_panel", None)
            if record is not None:
                heading = "Arguments:" if parameter.param_type_name == "argument" else section or "Options:"
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            formatter.write(f"\n{_filled(heading, formatter.width, 0)}\n")
            for name, said in records:
                said = _first_clause(said) if hidden else said
                text = _filled(said, formatter.width, NAMES + 4)
                fits = len(name) <= NAMES
                formatter.write(f"  {name:<{NAMES}}  {text.lstrip()}\n" if fits else f"  {name}\n{text}\n")
        if hidden:
            formatter.write(f"\n{ctx.command_path} --help-all lists {hidden} more settings.\n")


def _first_clause(said: str) -> str:
    """The first clause of an explanation; its asides (choices, default) follow two spaces."""
    text, _, asides = said.partition("  ")
    first = re.split("[.;:] ", text)[0]
    if first.count("(") > first.count(")"):  # cut within an aside
        first = first[: first.rindex("(")].rstrip()
    return f"{first.rstrip('.')} {asides}"


def _filled(text: str, width: int, indent: int) -> str:
    """Wrap a paragraph between words only, because names and flags have hyphens."""
    space = " " * indent
    words = " ".join(text.split())
    return textwrap.fill(words, width, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)


def _show_all(ctx: typer.Context, asked: bool) -> None:
    if asked:
        for parameter in ctx.command.params:
            parameter.hidden = False  # type: ignore[attr-defined] # an argument is never hidden
        typer.echo(ctx.get_help())
        raise typer.Exit


HELP_ALL = inspect.Parameter(
    "help_all",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--help-all", is_eager=True, callback=_show_all, help="Show every setting and exit.")
    ],
)
