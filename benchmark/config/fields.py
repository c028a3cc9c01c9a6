"""Fields of a configuration: each is a command-line option, and says what it means for the identity of a run."""

from __future__ import annotations

from typing import Any, Literal, cast

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

Role = Literal["protocol", "variant", "seed", "execution"]
"""What a field decides: whom a run is compared with, which method it is, which repetition, or only how it is run."""


def option(
    role: Role,
    group: str,
    description: str,
    default: Any = ...,
    *,
    earlier: Any = None,
    single: bool = False,
    **constraints: Any,
) -> Any:
    """A field that becomes a command-line option.

    Args:
        role: what the field decides.
        group: its heading in ``--help``.
        description: its line there.
        default: of the field; without one it has to be given.
        earlier: of a field of the protocol that came later: the value that all runs had before, which do not record it.
        single: it has one value for all runs of a grid.
        constraints: of the value, as pydantic has them.
    """
    extra = {"role": role, "group": group, "earlier": earlier, "single": single}
    return Field(default, description=description, json_schema_extra=extra, **constraints)


def role_of(field: FieldInfo) -> Role:
    """The role of a field that :func:`option` made."""
    return cast(Role, _extra(field)["role"])


def with_role(model: type[BaseModel], role: Role) -> list[str]:
    """Names of the fields of ``model`` that have this role, in order."""
    return [name for name, field in model.model_fields.items() if role_of(field) == role]


def earlier_values(model: type[BaseModel]) -> dict[str, Any]:
    """Field that came later -> the value that runs had which do not record it."""
    values = {name: _extra(field)["earlier"] for name, field in model.model_fields.items()}
    return {name: value for name, value in values.items() if value is not None}


def single_fields(model: type[BaseModel]) -> frozenset[str]:
    """Names of the fields that have one value for all runs of a grid."""
    return frozenset(name for name, field in model.model_fields.items() if _extra(field)["single"])


def by_group(model: type[BaseModel]) -> dict[str, dict[str, FieldInfo]]:
    """Heading of ``--help`` -> field name -> field, in the order of the class."""
    groups: dict[str, dict[str, FieldInfo]] = {}
    for name, field in model.model_fields.items():
        groups.setdefault(str(_extra(field)["group"]), {})[name] = field
    return groups


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict)
    return extra
