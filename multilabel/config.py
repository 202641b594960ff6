"""Config: frozen settings that are checked when they are made; each mistake is reported in one line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from edgepress.multilabel.errors import InputError, did_you_mean

_C = TypeVar("_C", bound="Config")
FLAGS = "flags"
"""Where values come from that were given on the command line alone."""
_EXPECTED = {
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list, such as [first, second]"),
    **dict.fromkeys(
        ("model_type", "model_attributes_type"), "expected settings below it, a line each, as in key: value"
    ),
    "string_type": "expected text",
    "bool_parsing": "expected true or false",
}
"""What messages say in place of pydantic's words for the types of Python."""


class Config(BaseModel):
    """Base of every settings class: it is frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _says_something(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse an empty text, which pathlib takes for the current folder, and true or false for a number, which
        pydantic takes for 1 or 0."""
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            raise ValueError("expected a value, and no empty text")
        kind = cls.model_fields[info.field_name or ""].annotation
        kinds = {kind, *get_args(kind)}
        if isinstance(value, bool) and kinds & {int, float} and bool not in kinds:
            raise ValueError("expected a number")
        return value

    @classmethod
    def parse(cls: type[_C], values: Mapping[str, Any], where: str, given: Mapping[str, Any] | None = None) -> _C:
        """Check values from a file or from flags.

        Args:
            where: names their source in messages; for `FLAGS`, every value is named as the flag that gives it.
            given: those of the values that flags gave over a file, nested as `values` is.

        Raises:
            InputError: the first mistake: an unknown key (the message lists valid ones), a wrong type or value.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(_explain(cls, error, where, values if where == FLAGS else given or {})) from None


def _explain(config: type[BaseModel], error: ValidationError, where: str, given: Mapping[str, Any]) -> str:
    first = error.errors(include_url=False)[0]
    names = [str(part) for part in first["loc"]]
    source = "" if where == FLAGS else f"{where}: "
    if first["type"] != "extra_forbidden":
        said = first["msg"].removeprefix("Value error, ")
        said = said.removeprefix(f"received {first['input']!r}; ")  # it is named below
        if not names and first["type"] == "value_error":  # a check of several settings names them itself
            return source + said
        if first["type"] == "literal_error":
            said += did_you_mean(str(first["input"]), re.findall("'([^']*)'", first["ctx"]["expected"]))
        said = _EXPECTED.get(first["type"], f"{said[:1].lower()}{said[1:]}")
        if (flag := _flag(first["loc"], given)) is not None:
            value = first["input"]
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            return f"{flag} {shlex.quote(text)}: {said}"
        return f"{source}{'.'.join(names) or 'value'} is {first['input']!r}: {said}"
    owner: Any = config
    for name in names[:-1]:
        owner = getattr(owner, "model_fields", {}).get(name)
        owner = owner.annotation if owner is not None else None
    valid = getattr(owner, "model_fields", {})
    meant = _meant(names[-1], valid)
    return f"{source}unknown key {'.'.join(names)!r}{meant}; valid keys: {', '.join(valid) or 'none'}"


def _meant(name: str, valid: Mapping[str, Any]) -> str:
    """The end of a message about an unknown key: the key that is like it, also where it is written as its flag is."""
    plain = name.replace("-", "_").lstrip("_")
    if plain in valid:
        return f"; did you mean {plain!r}?"
    for section, field in valid.items():
        inside = getattr(field.annotation, "model_fields", {})
        key = plain.removeprefix(f"{section}_")
        if inside and key != plain:
            known = key if key in inside else "<key>"
            near = "" if key in inside else did_you_mean(key, inside)
            return f"; settings of {section} are written below it, as in {section}: {{{known}: ...}}{near}"
    return did_you_mean(name, valid)


def _flag(path: tuple[int | str, ...], given: Mapping[str, Any]) -> str | None:
    """The flag that gave the value at a path; None if none did."""
    names: list[str] = []
    inside: Any = given
    for part in path:
        if not isinstance(part, str) or not isinstance(inside, Mapping):
            break  # one of several values of a flag
        if part not in inside:
            return None
        names, inside = [*names, part], inside[part]
    return "--" + "-".join(names).replace("_", "-") if names else None
