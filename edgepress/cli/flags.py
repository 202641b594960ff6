"""Every field of a settings class as a flag of a verb, so that recipe and command line cannot drift apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo


def with_flags(config: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a verb `f(..., flags)`: its command line gets a flag a field, and `flags` the values that were given.

    Fields of a section become `--section-field`, and `flags` is nested as the class is.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        paths: dict[str, tuple[str, ...]] = {}
        signature = inspect.signature(verb, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "flags"]
        taken = {parameter.name for parameter in own}
        added = [
            parameter
            for path, field in _leaves(config)
            if (parameter := _parameter(path, field)).name not in taken and not paths.update({parameter.name: path})
        ]

        def wrapper(**values: Any) -> None:
            flags: dict[str, Any] = {}
            for name, path in paths.items():
                value = values.pop(name)
                if value is None or value == []:
                    continue
                if isinstance(value, list):  # repeated, by commas, or both
                    value = [part for one in value for part in one.split(",")]
                section = flags
                for part in path[:-1]:
                    section = section.setdefault(part, {})
                section[path[-1]] = value
            verb(**values, flags=flags)

        wrapper.__name__, wrapper.__doc__ = verb.__name__, verb.__doc__
        wrapper.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
        return wrapper

    return decorate


def _leaves(config: type[BaseModel]) -> list[tuple[tuple[str, ...], FieldInfo]]:
    found: list[tuple[tuple[str, ...], FieldInfo]] = []
    for name, field in config.model_fields.items():
        if get_origin(field.annotation) is dict:
            continue  # names that a person chooses: only a file has room for them
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += [((name, *path), leaf) for path, leaf in _leaves(field.annotation)]
        else:
            found.append(((name,), field))
    return found


def _parameter(path: tuple[str, ...], field: FieldInfo) -> inspect.Parameter:
    annotation, choices = _flag_type(field.annotation)
    help = field.description or ""
    if choices:
        help += f" ({', '.join(choices)})"
    default = field.default
    if annotation == list[str]:
        help += " (by commas, or repeated)"
    if isinstance(default, tuple):
        default = "all" if len(default) > 1 else "none"
    if not field.is_required() and default is not None:
        help += f" (default: {default})"
    flag = "--" + "-".join(path).replace("_", "-")
    if annotation is bool:  # so that a flag can also undo what a recipe says
        flag += f"/--no-{flag[2:]}"
    panel = f"{path[0]}" if len(path) > 1 else None
    option = typer.Option(flag, help=help, rich_help_panel=panel, show_default=False)
    return inspect.Parameter(
        "_".join(path),
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[annotation | None, option],
    )


def _flag_type(annotation: Any) -> tuple[Any, tuple[str, ...]]:
    """What the command line parses, and the words allowed; the settings class checks the value."""
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    if get_origin(annotation) is tuple:
        return list[str], _flag_type(get_args(annotation)[0])[1]
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    if arguments:  # Optional
        return _flag_type(arguments[0])
    return annotation, ()
