"""The report, as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from .results import Group, Results

NOTES = Path(__file__).with_name("notes.md")

_INTRODUCTION = """\
# Benchmarks

What a mask from a server costs beside the bare model, and beside what people write without maskport. This page is
written by `scripts/benchmark`, all of it in one run on one machine; only the ratios mean something on others.

```sh
scripts/benchmark                      # everything, about 20 minutes; writes this page, its plots and results.json
scripts/benchmark --quick              # few rounds, into benchmark_output/
scripts/benchmark --only latency load  # some of the groups, into benchmark_output/
scripts/benchmark --server=tensorflow_model_server    # another server than the embedded one
```

Two things that make up a ratio are always measured in turn (A B A B …), after a warm-up and without Python's garbage
collector. The ratio is the median of the ratios of the pairs, and the quartiles are theirs.
"""
_QUICK = "**A quick run: few rounds, small tasks. The figures are rough.**\n"
_MODELS = """\
The models: `coins` is the demo model (gray, at the picture's own size); `unet` a U-Net of 16 base channels at 512²;
`light` separable convolutions with skips at 512², and `small` the same at 128². All but `coins` are not trained: their
masks follow the picture's brightness, so that they are as smooth as those of trained networks. The server is a process
of its own with its default flags, unless it says otherwise; the callers of `load` and `memory` are too.
"""


def write_report(results: Results, path: Path, plots: str, notes: str) -> None:
    """Writes the report.

    Args:
        results: to tell.
        path: of the Markdown file.
        plots: the folder of the plots, seen from there; empty for the same one.
        notes: what was written by hand, as it stands at the end.
    """
    machine = "## The machine\n\n" + _table(["", ""], list(results.machine.items()))
    parts = [_INTRODUCTION, _QUICK if results.is_quick else "", machine, _MODELS, _goals(results)]
    parts += [_group(group, f"{plots}/" if plots else "") for group in results.groups]
    parts.append(notes)
    path.write_text("\n".join(part.rstrip() + "\n" for part in parts if part.strip()), encoding="utf-8")


def _goals(results: Results) -> str:
    verdicts = {"met": "yes", "missed": "**no**", "not measured": "**not measured**"}
    lines = [
        [row.name, row.goal.text, row.value_text, row.quartiles_text, verdicts[row.verdict]]  # type: ignore[union-attr]
        for row in results.goals
    ]
    return "## The goals\n\n" + _table(["figure", "goal", "measured", "quartiles", "met"], lines) if lines else ""


def _group(group: Group, plots: str) -> str:
    parts = [f"## {group.name}\n\n{group.about.strip()}\n"]
    if group.failure:
        parts.append(f"**This group ended early: {group.failure}**\n")
    if group.rows:
        lines = [[row.name, row.value_text, row.quartiles_text, row.note] for row in group.rows]
        parts.append(_table(["figure", "measured", "quartiles", ""], lines))
    for table in group.tables:
        note = f"\n{table.note}\n" if table.note else ""
        parts.append(f"### {table.title}\n\n{_table(table.columns, table.lines)}{note}")
    parts += [f"![{plot.title}]({plots}{plot.name}.svg)\n" for plot in group.plots]
    return "\n".join(parts)


def _table(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"

    rule = "|" + "|".join("---" if index == 0 else "--:" for index in range(len(columns))) + "|"
    return "\n".join([line(columns), rule, *(line(cells) for cells in lines)]) + "\n"
