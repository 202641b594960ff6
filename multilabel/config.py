"""Config: frozen settings that are checked when they are made; each mistake is reported in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgepress.multilabel.errors import InputError, did_you_mean

_C = TypeVar("_C", bound="Config")


class Config(BaseModel):
    """Base of every settings class: it is frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def parse(cls: type[_C], values: Mapping[str, Any], where: str) -> _C:
        """Check values from a file or from flags.

        Raises:
            InputError: the first mistake: an unknown key (the message lists valid ones), a wrong type or value.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(f"{where}: {_explain(cls, error)}") from None


def _explain(config: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    names = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        said = first["msg"].removeprefix("Value error, ")
        if not names and first["type"] == "value_error":  # a check of several settings names them itself
            return said
        if first["type"] == "literal_error":
            said += did_you_mean(str(first["input"]), re.findall("'([^']*)'", first["ctx"]["expected"]))
        return f"{'.'.join(names) or 'value'} is {first['input']!r}: {said[:1].lower()}{said[1:]}"
    owner: Any = config
    for name in names[:-1]:
        owner = getattr(owner, "model_fields", {}).get(name)
        owner = owner.annotation if owner is not None else None
    valid = getattr(owner, "model_fields", {})
    meant = did_you_mean(names[-1], valid)
    return f"unknown key {'.'.join(names)!r}{meant}; valid keys: {', '.join(valid) or 'none'}"
