"""What a run finds: rows, tables and plots by group. results.json holds exactly this."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import pydantic

from .measuring import Spread

Verdict = Literal["met", "missed", "not measured", ""]


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on a figure."""

    bound: Literal["<=", ">="]
    number: float

    @property
    def text(self) -> str:
        """The goal as people write it: small ratios as fractions."""
        sign = "≤" if self.bound == "<=" else "≥"
        inverse = 1 / self.number if self.number else 0
        is_fraction = inverse >= 5 and abs(inverse - round(inverse)) < 1e-9
        return f"{sign} 1/{round(inverse)}" if is_fraction else f"{sign} {self.number:g}"

    def is_met(self, value: float) -> bool:
        """Whether a value keeps within the bound."""
        return value <= self.number if self.bound == "<=" else value >= self.number


def at_most(number: float) -> Goal:
    return Goal("<=", number)


def at_least(number: float) -> Goal:
    return Goal(">=", number)


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure."""

    name: str
    value: float | None  # None where it could not be measured; the note says why
    unit: str = ""  # empty for a ratio
    low: float | None = None  # quartiles, where there were several measurements
    high: float | None = None
    goal: Goal | None = None
    note: str = ""  # whatever must be known to read it

    @classmethod
    def of(cls, name: str, spread: Spread, unit: str = "", goal: Goal | None = None, note: str = "") -> "Row":
        """Returns the row of several measurements."""
        return cls(name, spread.median, unit, spread.low, spread.high, goal, note)

    @property
    def verdict(self) -> Verdict:
        """Whether the goal is met; empty where there is none."""
        if self.goal is None:
            return ""
        if self.value is None:
            return "not measured"
        return "met" if self.goal.is_met(self.value) else "missed"

    @property
    def value_text(self) -> str:
        """The value with its unit; a small ratio also as a fraction."""
        if self.value is None:
            return "–"
        if not self.unit and 0 < self.value < 0.2:
            return f"{number_text(self.value)} (1/{1 / self.value:.0f})"
        return f"{number_text(self.value)} {self.unit}".strip()

    @property
    def quartiles_text(self) -> str:
        """The quartiles, or nothing."""
        return "" if self.low is None or self.high is None else f"{number_text(self.low)} … {number_text(self.high)}"


def number_text(number: float) -> str:
    """Returns a number with about three significant digits, and never as a power of ten."""
    size = abs(number)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{number:,.{digits}f}" if number else "0"


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells that belong together; the first column names the line."""

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Series:
    """One line of a plot."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Plot:
    """A plot; `name` is its file's."""

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    is_log_x: bool = True
    is_log_y: bool = True


Finding = Row | Table | Plot


@dataclasses.dataclass
class Group:
    """All findings of one group, in the order in which they were made."""

    name: str
    about: str  # how it is measured
    failure: str = ""  # why it ended early, if it did
    seconds: float = 0.0  # that it took, its exports and servers included
    rows: list[Row] = dataclasses.field(default_factory=list)
    tables: list[Table] = dataclasses.field(default_factory=list)
    plots: list[Plot] = dataclasses.field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Keeps a finding."""
        kinds: dict[type, list[Any]] = {Row: self.rows, Table: self.tables, Plot: self.plots}
        kinds[type(finding)].append(finding)


@dataclasses.dataclass
class Results:
    """A whole run: facts about the machine by heading, and the groups in the order in which they ran."""

    machine: dict[str, str]
    is_quick: bool  # whether rounds were few
    is_whole: bool  # whether every group ran
    groups: list[Group] = dataclasses.field(default_factory=list)

    @property
    def goals(self) -> list[Row]:
        """The rows that have a goal."""
        return [row for group in self.groups for row in group.rows if row.goal]

    @property
    def missed(self) -> list[Row]:
        """The rows whose goal is not met, or could not be looked at."""
        return [row for row in self.goals if row.verdict != "met"]


JSON = pydantic.TypeAdapter(Results)
"""What results.json holds."""
