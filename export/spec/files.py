"""Spec files: YAML or JSON, of which every key is a field of the spec."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import SpecError
from .fields import ExportSpec, make_spec


def load_spec(path: str | None, overrides: Mapping[str, Any]) -> ExportSpec:
    """Returns the spec of a YAML file, or none, with fields overridden by values or by the texts of flags.

    Raises:
        SpecError: the file is not readable or not YAML, or the spec is not valid. Names the key.
    """
    fields = read_spec_fields(path) if path else {}
    return make_spec({**fields, **overrides}, origin=path)


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which plain YAML takes the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


# Of YAML 1.1 neither 010 for eight nor 8:30 for 510.
_INT = "tag:yaml.org,2002:int"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in resolvers if tag != _INT]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))


def read_spec_fields(path: str) -> dict[str, Any]:
    """Returns a spec file's fields as they stand there; SpecError where it is not readable, or holds no mapping."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(f"spec {path}: cannot be read: {reason}") from error
    return parse_spec_fields(text, path)


def parse_spec_fields(text: str, origin: str) -> dict[str, Any]:
    """Returns the fields of a spec's text, YAML or JSON, as they stand there; SpecError where it holds no mapping."""
    try:
        fields = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise SpecError(f"spec {origin}:{where} is not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(fields, dict):
        found = "is empty" if fields is None else f"holds a {type(fields).__name__}"
        raise SpecError(f"spec {origin}: {found}; wanted lines such as 'source: model.keras'")
    return fields
