"""The fields of the spec as absl flags, for the commands that take a spec."""

import typing
from collections.abc import Collection

from absl import flags
from pydantic.fields import FieldInfo

from .spec import ExportSpec


class SpecFlags:
    """One flag for each field; none has a value unless it is given.

    Args:
        without: fields that get no flag.
        prefix: put before each field's description.
    """

    def __init__(self, without: Collection[str] = (), prefix: str = ""):
        self._holders = {}
        for name, field in ExportSpec.model_fields.items():
            if name not in without:
                define = flags.DEFINE_boolean if field.annotation is bool else flags.DEFINE_string
                self._holders[name] = define(name, None, prefix + _help_text(field))

    def given(self) -> dict[str, object]:
        """Returns the values that were given, by field."""
        return {name: holder.value for name, holder in self._holders.items() if holder.value is not None}


def _help_text(field: FieldInfo) -> str:
    text = field.description or ""
    if typing.get_origin(field.annotation) is typing.Literal:
        text += f" One of: {', '.join(typing.get_args(field.annotation))}."
    if field.default not in (None, []) and not field.is_required():
        text += f" Default: {_as_flag_text(field.default)}."
    return text


def _as_flag_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, int | float | str):
        return str(value)
    return "off"
