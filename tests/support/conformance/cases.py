"""The recorded requests with their answers, and the set-ups they were made in."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

DATA = pathlib.Path(__file__).parents[2] / "conformance"

Json = Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One request and what TensorFlow Serving answered.

    Attributes:
        request: the case as recorded.
        answers: the recorded answer; several where they differed from time to time.
    """

    request: dict[str, Json]
    answers: tuple[dict[str, Json], ...]

    @property
    def id(self) -> str:
        return self.request["id"]

    @property
    def setup(self) -> str:
        return self.request["server"]

    @property
    def is_stable(self) -> bool:
        return len(self.answers) == 1

    def located(self, models: str) -> "Case":
        """Returns the case with a folder in place of `{MODELS}`."""
        return Case(replaced(self.request, models), tuple(replaced(answer, models) for answer in self.answers))


@dataclasses.dataclass(frozen=True)
class Setup:
    """How a server is started.

    Attributes:
        name: of the set-up.
        flags: with `{MODELS}`, `{FILES}`, `{GRPC}` and `{REST}` in them.
        files: texts of configuration files by name, with the same words in them.
        is_sequence: its cases change the server, and so are sent in order to a fresh one.
    """

    name: str
    flags: tuple[str, ...]
    files: dict[str, str]
    is_sequence: bool


@functools.cache
def setups() -> dict[str, Setup]:
    described = json.loads((DATA / "servers.json").read_text())
    return {
        name: Setup(name, tuple(entry["flags"]), entry.get("files", {}), entry.get("sequence", False))
        for name, entry in described.items()
        if not name.startswith("_")
    }


@functools.cache
def cases(setup: str) -> tuple[Case, ...]:
    return tuple(case for case in _all_cases() if case.setup == setup)


def _all_cases() -> Iterator[Case]:
    for file in sorted((DATA / "cases").glob("*.json")):
        records = {record["id"]: record for record in json.loads((DATA / "recorded" / file.name).read_text())}
        for request in json.loads(file.read_text()):
            record = records[request["id"]]
            yield Case(request, (record["answer"], *record.get("other_answers", ())))


def replaced(value: Json, models: str) -> Json:
    """Returns a value with a folder in place of `{MODELS}` in all its texts."""
    if isinstance(value, str):
        return value.replace("{MODELS}", models)
    if isinstance(value, list):
        return [replaced(item, models) for item in value]
    if isinstance(value, dict):
        return {name: replaced(item, models) for name, item in value.items()}
    return value
