"""The fields of the spec as absl flags, for the commands that take a spec."""

import typing
from collections.abc import Callable, Collection

from absl import flags
from pydantic.fields import FieldInfo

from .fields import ExportSpec
from .values import Clean


def define(without: Collection[str] = (), prefix: str = "") -> Callable[[], dict[str, object]]:
    """Defines one flag for each field, none of which has a value unless it is given.

    Args:
        without: fields that get no flag.
        prefix: put before each field's description.

    Returns:
        What returns the values that were given, by field.
    """
    holders = {}
    for name, field in ExportSpec.model_fields.items():
        if name not in without:
            define_one = flags.DEFINE_boolean if field.annotation is bool else flags.DEFINE_string
            holders[name] = define_one(name, None, prefix + _help_text(field))
    return lambda: {name: holder.value for name, holder in holders.items() if holder.value is not None}


def _help_text(field: FieldInfo) -> str:
    text = field.description or ""
    if typing.get_origin(field.annotation) is typing.Literal:
        text += f" One of: {', '.join(map(str, typing.get_args(field.annotation)))}."
    if field.default not in (None, []) and not field.is_required():
        default = field.default
        shown = ",".join(map(str, default)) if isinstance(default, list) else str(default)
        text += f" Default: {'off' if isinstance(default, Clean) else shown.lower()}."
    return text
