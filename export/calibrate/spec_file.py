"""Putting a threshold into a spec file, and leaving every other character of it as it is."""

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from ..errors import CalibrationError

_KEY = "threshold"


def write_threshold(path: Path, threshold: float) -> None:
    """Sets the field `threshold` of a spec file; the file is replaced whole or not at all.

    Raises:
        CalibrationError: the file cannot be read or written, or its form is too unusual to be edited.
    """
    try:
        target = path.resolve(strict=True)  # a link stays a link
        with target.open(encoding="utf-8", newline="") as file:
            text = file.read()
        edited = with_threshold(text, threshold)
        if edited != text:
            _replace(target, edited)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CalibrationError(
            f"spec {path}: cannot be changed: {' '.join(str(reason).split())}; set it by hand: {_KEY}: {threshold}"
        ) from error


def with_threshold(text: str, threshold: float) -> str:
    """Returns a spec's YAML text with another threshold; ValueError where more than that would change."""
    before = yaml.safe_load(text)
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(before, dict) or not isinstance(root, yaml.MappingNode):
        raise ValueError("it holds no fields")
    edited = _edit(text, root, str(threshold))
    # Anchors, merged maps and the like: rather than know them all, see what came of it.
    try:
        after: Any = yaml.safe_load(edited)
    except yaml.YAMLError:
        after = None
    if after != {**before, _KEY: threshold}:
        raise ValueError("its form is too unusual to change one field")
    return edited


def _edit(text: str, root: yaml.MappingNode, value: str) -> str:
    for key, node in reversed(root.value):  # of two, the last counts
        if isinstance(key, yaml.ScalarNode) and key.value == _KEY:
            return text[: node.start_mark.index] + value + text[node.end_mark.index :]
    if root.flow_style:
        end = root.value[-1][1].end_mark.index if root.value else root.end_mark.index - 1
        separator = ", " if root.value else ""
        return f'{text[:end]}{separator}"{_KEY}": {value}{text[end:]}'  # as JSON wants it, too
    newline = "\r\n" if "\r\n" in text else "\n"
    end = _end_of_line(text, _last_scalar_end(root))
    head, tail = text[:end], text[end:]
    if not head.endswith("\n"):
        head += newline
    indent = " " * root.start_mark.column
    return f"{head}{indent}{_KEY}: {value}{newline}{tail}"


def _last_scalar_end(node: yaml.Node) -> int:
    """Returns where the text of a node ends; a block's own end is only where the next one begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last_scalar_end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _end_of_line(text: str, index: int) -> int:
    if text[index - 1] == "\n":
        return index  # after a block scalar
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def _replace(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, path.stat().st_mode & 0o7777)
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
