"""The layers of the house: who may import whom, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    # what both sides stand on; it imports nothing of the house
    "serving.contract": set(),
    "serving.agreement": set(),
    "serving.command_line": set(),
    "serving.lazy_names": set(),
    "serving.status_codes": set(),
    "serving.entry": {"serving.entry"},
    "serving.wire": {"serving.wire"},
    "serving.client": {
        "serving.client", "serving.wire", "serving.contract", "serving.command_line", "serving.status_codes",
    },
    "serving.server": {"serving.server", "serving.command_line", "serving.lazy_names", "serving.status_codes"},
    "serving.verify": {
        "serving.verify", "serving.client", "serving.wire", "serving.contract", "serving.agreement",
        "serving.command_line",
    },
    "export": {"export", "serving.contract", "serving.agreement", "serving.command_line", "serving.lazy_names"},
}  # fmt: skip
WITHOUT_TENSORFLOW = {room for room in ALLOWED if room not in ("export", "serving.server")}
COMMAND_LINES = {"cli", "command_line", "spec_flags", "unsupported_flags"}


def sources():
    for top in ("export", "serving"):
        yield from sorted((ROOT / top).rglob("*.py"))


def room_of(parts):
    """The room that a module (or an imported name) belongs to."""
    if not parts or parts[0] not in ("export", "serving"):
        return None
    return "export" if parts[0] == "export" else ".".join(parts[:2])


def imports_of(path):
    """Yields the dotted names that a file imports, also inside functions, seen from the root."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_layers(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    room = room_of(parts)
    for name in imports_of(path):
        top = name.split(".")[0]
        assert top not in ("tests", "scripts", "maskport"), f"imports {name}; inside a package imports are relative"
        if room in WITHOUT_TENSORFLOW:
            assert top not in ("tensorflow", "tensorflow_serving", "keras"), f"imports {name}"
        if top == "absl":
            assert parts[-1] in COMMAND_LINES, f"imports {name}; only command lines read flags"
        target = room_of(name.split("."))
        if target is not None and room not in (None, "serving.__init__"):
            assert target in ALLOWED[room], f"{room} imports {name}"


def test_every_room_has_its_rule():
    rooms = {room_of(path.relative_to(ROOT).with_suffix("").parts) for path in sources()} - {"serving.__init__"}
    assert rooms <= set(ALLOWED)
