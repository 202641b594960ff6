"""A verb's parameters as typer takes them: settings classes become flags, and groups of options become their fields.

So recipe and command line cannot drift apart, and options that several verbs share are written once.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from operator import getitem
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from edgepress.cli.help import HELP_ALL

Flags = dict[str, Any]
"""The given settings, nested as their class is."""


@dataclass(frozen=True)
class FlagsOf:
    """Annotates a verb's parameter of type `Flags`: every field of a settings class is a flag.

    A field of a section becomes `--section-field`. Where `often` names some flags, `--help` shows these alone and
    `--help-all` the rest by section.
    """

    config: type[BaseModel]
    often: tuple[str, ...] = ()


class FolderOrUrl:
    """Annotates a parameter of type `Path` that also takes the URL of a data set; the verb gets the folder of its copy.

    A path that is made of a URL loses one of its two slashes, so typer is told that it is text.
    """


def command_line(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb with the signature that typer reads: a dataclass parameter becomes its fields, and `flags` becomes one
    flag per setting."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[type, list[str]]] = {}
    paths: dict[str, tuple[str, ...]] = {}
    places: list[str] = []
    signature = inspect.signature(verb, eval_str=True)
    for parameter in signature.parameters.values():
        group = parameter.annotation
        if isinstance(group, type) and dataclasses.is_dataclass(group):
            fields = _fields(group)
            groups[parameter.name] = group, [field.name for field in fields]
            parameters += fields
        elif parameter.name != "flags":
            if any(isinstance(said, FolderOrUrl) for said in get_args(group)):
                places.append(parameter.name)
                parameter = parameter.replace(annotation=_as_text(group))
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    if has_flags := "flags" in signature.parameters:
        _, settings = get_args(signature.parameters["flags"].annotation)
        taken = {parameter.name for parameter in parameters}
        flags = {
            "-".join(path).replace("_", "-"): (path, field, purpose)
            for path, field, purpose in _leaves(settings.config)
        }
        for name in dict.fromkeys((*settings.often, *flags)):
            flag = _flag(name, *flags[name], hidden=bool(settings.often) and name not in settings.often)
            if flag.name not in taken:
                parameters.append(flag)
                paths[flag.name] = flags[name][0]
    if any(_is_hidden(parameter) for parameter in parameters):
        parameters.append(HELP_ALL)

    def wrapper(**values: Any) -> None:
        for name, (group, fields) in groups.items():
            values[name] = group(**{field: values.pop(field) for field in fields})
        values.pop(HELP_ALL.name, None)
        if places:
            from edgepress.multilabel.datasets.mirror import dataset_folder  # --help does without its numpy
        for name in places:
            values[name] = None if values[name] is None else dataset_folder(values[name])
        if has_flags:
            values["flags"] = _nested({path: values.pop(name) for name, path in paths.items()})
        verb(**values)

    wrapper.__doc__ = verb.__doc__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _as_text(annotation: Any) -> Any:
    """The annotation of a path as that of text."""
    path, *said = get_args(annotation)
    optional = type(None) in get_args(path)
    return getitem(Annotated, (str | None if optional else str, *said))


def _is_hidden(parameter: inspect.Parameter) -> bool:
    return any(getattr(said, "hidden", False) for said in get_args(parameter.annotation))


def _fields(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(group)
    ]


def _nested(given: dict[tuple[str, ...], Any]) -> Flags:
    flags: Flags = {}
    for path, value in given.items():
        if value is None or value == []:
            continue
        if isinstance(value, list):  # repeated, by commas, or both
            value = [part for one in value for part in one.split(",")]
        section = flags
        for part in path[:-1]:
            section = section.setdefault(part, {})
        section[path[-1]] = value
    return flags


def _leaves(config: type[BaseModel]) -> list[tuple[tuple[str, ...], FieldInfo, str | None]]:
    """Every setting: its path, its field, and the purpose of its section."""
    found: list[tuple[tuple[str, ...], FieldInfo, str | None]] = []
    for name, field in config.model_fields.items():
        kind = field.annotation
        if get_origin(kind) is dict:
            continue  # the user chooses these names, so only a file can hold them
        # This is checked before issubclass, because that refuses list[str] in Python 3.10.
        if get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel):
            inside = inspect.cleandoc(field.description or kind.__doc__ or "").partition("\n\n")[0]
            found += [((name, *path), leaf, f"{name}: {inside}") for path, leaf, _ in _leaves(kind)]
        else:
            found.append(((name,), field, None))
    return found


def _flag(
    name: str, path: tuple[str, ...], field: FieldInfo, purpose: str | None, *, hidden: bool
) -> inspect.Parameter:
    annotation, choices = _flag_type(field.annotation)
    if any(isinstance(said, BeforeValidator) for said in field.metadata):
        annotation = str  # the settings class reads the text
    default = field.default
    if isinstance(default, tuple):
        left_out = [one for one in choices if one not in default]
        default = ("all but " + " and ".join(left_out) if left_out else "all") if len(default) > 1 else "none"
    asides = [", ".join(choices)] if choices else []
    if not field.is_required() and default is not None:
        asides.append(f"default: {default}")
    said = " ".join((field.description or "").split()) + "  " + " ".join(f"({aside})" for aside in asides)
    flag = f"--{name}"
    if annotation is bool:  # so that a flag can also undo what a recipe says
        flag += f"/--no-{name}"
    metavar = "<str,...>" if annotation == list[str] else None
    option = typer.Option(flag, help=said, rich_help_panel=purpose, show_default=False, hidden=hidden, metavar=metavar)
    return inspect.Parameter(
        "_".join(path),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation | None, option],
    )


def _flag_type(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """The type that the command line parses, and the allowed words; the settings class checks the value."""
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    if get_origin(annotation) is tuple:
        return list[str], _flag_type(get_args(annotation)[0])[1]
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    if arguments:  # Optional
        return _flag_type(arguments[0])
    return annotation, ()
