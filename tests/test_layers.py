"""The layers of the house: who may import whom, read from the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What both sides stand on; it imports nothing of the house.
FLOORS = {"contract", "agreement", "command_line", "model_directories", "status_codes", "texts", "entry"}
ALLOWED = {
    "serving.wire": set(),
    "serving.playground": set(),
    "serving.client": {"serving.wire", "serving.playground", "contract", "command_line", "status_codes", "entry"},
    "serving.server": {"serving.playground", "command_line", "model_directories", "status_codes", "entry"},
    "serving.verify": {
        *("serving.client", "serving.wire", "contract", "agreement", "command_line", "model_directories", "texts"),
        "entry",
    },
    "serving.batch": {
        *("serving.client", "serving.server", "serving.wire", "contract", "command_line", "model_directories"),
        "entry",
    },
    "export": {"contract", "agreement", "command_line", "model_directories", "texts", "entry"},
    # A pipeline's components go all the way: from the exporter to the gate before a server.
    "export.tfx": {"export", "serving.verify", "contract", "agreement", "command_line", "texts"},
}
# The rooms of a house in their order: each may import of those before it, never of one after it.
ORDER = {
    "export": "errors spec pages masks model sources graph probing publish "
    "exporter entry cli calibrate evaluate inspect __init__ __main__",
    "export.tfx": "fingerprints artifacts baseline executors components __init__",
    "serving.client": "errors transport calling pictures results segmenting telemetry configuration procedures "
    "client async_client commands __init__ __main__",
    "serving.batch": "watching bookkeeping local_client models inference planning mask_images job runner_flags cli "
    "__init__ __main__",
    "serving.server": "errors calls metrics log_limit unsupported_flags inference models service fronts "
    "server from_flags cli __init__ __main__",
}
WITHOUT_TENSORFLOW = ("serving.wire", "serving.playground", "serving.client", "serving.verify", *FLOORS)
COMMAND_LINES = {"cli", "command_line", "connection_flags", "flags", "from_flags", "unsupported_flags"}


def sources():
    for top in ("export", "serving"):
        yield from sorted((ROOT / top).rglob("*.py"))


def house_of(parts):
    """The house that a module (or an imported name) belongs to, or the floor that it is."""
    if parts[:1] == ["export"]:
        return "export.tfx" if parts[1:2] == ["tfx"] else "export"
    if parts[:1] == ["serving"] and len(parts) > 1:
        return parts[1] if parts[1] in FLOORS else ".".join(parts[:2])
    return None


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
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    house = house_of(parts)
    depth = len((house or "").split("."))
    for name in imports_of(path):
        imported = name.split(".")
        assert imported[0] not in ("tests", "scripts", "maskport"), f"imports {name}; in a package imports are relative"
        if house in WITHOUT_TENSORFLOW:
            assert imported[0] not in ("tensorflow", "tensorflow_serving", "keras"), f"imports {name}"
        if imported[0] == "absl":
            assert parts[-1] in COMMAND_LINES, f"imports {name}; only command lines read flags"
        target = house_of(imported)
        if target is None:
            continue
        if target != house:
            assert target in ALLOWED.get(house, ()), f"{house} imports {name}"
        elif house in ORDER:
            order = ORDER[house].split()
            room = parts[depth]
            wanted = imported[depth] if imported[depth] in order else "__init__"
            assert order.index(wanted) <= order.index(room), f"{room} imports {name}, which stands above it"


def test_every_room_has_its_place():
    for house, order in ORDER.items():
        folder = ROOT / house.replace(".", "/")
        rooms = {path.stem for path in folder.glob("*.py")} | {
            path.parent.name for path in folder.glob("*/__init__.py") if f"{house}.{path.parent.name}" not in ORDER
        }
        assert rooms == set(order.split())
    houses = {house_of(list(path.relative_to(ROOT).with_suffix("").parts)) for path in sources()}
    assert houses - {"serving.__init__"} == {*ALLOWED, *FLOORS}
