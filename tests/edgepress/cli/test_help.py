"""What --help shows in a terminal of 80 columns: one screen, and no name is cut."""

from __future__ import annotations

import re
from importlib import import_module

import pytest

from edgepress.cli.flags import command_line
from edgepress.cli.main import VERBS, command_line_of
from edgepress.run.recipe import Recipe

SCREEN = 50


@pytest.fixture
def page(edgepress, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def read(*arguments: str) -> str:
        answer = edgepress(*arguments)
        assert (answer.code, answer.err) == (0, "")
        return answer.out

    return read


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_s_help_is_one_screen_with_whole_names(page, verb):
    text = page(verb, "--help")
    lines = text.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 80
    assert not re.search(r"…|\w\.\.\.$", text, re.MULTILINE)
    assert not re.search(r"\w-$", text, re.MULTILINE), "a name is broken at a hyphen"
    assert not set("│╭─┃") & set(text)


def test_predict_s_help_says_what_brackets_in_its_lines_mean(page):
    assert "a label in (brackets) is none of them" in " ".join(page("predict", "--help").split())


@pytest.mark.parametrize("verb", ["run", "compare", "teach", "distill"])
def test_help_all_has_every_flag_whole_and_help_those_that_most_people_change(page, verb):
    flags = {
        f"--{name.replace('_', '-')}"
        for name in command_line(import_module(f"edgepress.cli.{verb}").verb).__signature__.parameters
        if name != "data" or verb in ("run", "compare")
    }
    everything = set(page(verb, "--help-all").replace(" / ", " ").split())
    assert flags <= everything
    some = page(verb, "--help")
    assert 10 < len(flags & set(some.split())) < len(flags)
    assert f"edgepress {verb} --help-all lists" in some.replace("\n", " ")


def test_help_all_says_what_a_section_is_for(page):
    lines = page("run", "--help-all").splitlines()
    sections = [name for name, field in Recipe.model_fields.items() if hasattr(field.annotation, "model_fields")]
    assert len(sections) == 8
    for name in sections:
        (heading,) = [line for line in lines if line.startswith(f"{name}: ")]
        assert len(heading) > len(name) + 20


def test_the_list_of_verbs_cuts_no_sentence(page):
    text = page("--help")
    commands = text.partition("Commands:\n")[2]
    assert [line.split()[0] for line in commands.splitlines()] == list(VERBS)
    assert "..." not in commands


def test_a_verb_alone_is_imported():
    app = command_line_of(["--quiet", "sign", "bundle"])
    assert [command.name for command in app.registered_commands] == ["sign"]


@pytest.mark.parametrize(
    ("given", "meant"), [(("verfy",), "verify"), (("run", "--tech-backbone", "x"), "--teach-backbone")]
)
def test_a_near_name_is_offered(edgepress, given, meant):
    answer = edgepress(*given)
    assert answer.code == 2
    assert meant in answer.err


def test_the_version_alone_loads_no_verb():
    """Each verb with --host first asks the other machine for it, and to load all verbs would take longer."""
    assert command_line_of(["--quiet", "--version"]).registered_commands == []
    for arguments in (["--help"], ["nonsense", "--version"]):
        assert len(command_line_of(arguments).registered_commands) == len(VERBS)
