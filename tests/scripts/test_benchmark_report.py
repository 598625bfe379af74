import re
import xml.etree.ElementTree as ET

import pytest
from benchmarks import plots, report
from benchmarks.results import (
    JSON,
    Goal,
    Group,
    Plot,
    Results,
    Row,
    Series,
    Table,
    at_least,
    at_most,
    number_text,
)

RESULTS = """{
 "machine": {"processor": "a drawn one", "cores": "2"},
 "is_quick": false,
 "is_whole": false,
 "groups": [
  {"name": "latency", "about": "How long a call takes.", "failure": "", "seconds": 3.5,
   "rows": [
    {"name": "fast", "value": 1.04, "unit": "", "low": 1.01, "high": 1.07,
     "goal": {"bound": "<=", "number": 1.1}, "note": "a | b"},
    {"name": "small", "value": 0.06, "unit": "", "low": 0.05, "high": 0.07,
     "goal": {"bound": "<=", "number": 0.05}, "note": ""},
    {"name": "told only", "value": 12.34, "unit": "ms", "low": null, "high": null, "goal": null, "note": ""},
    {"name": "absent", "value": null, "unit": "", "low": null, "high": null,
     "goal": {"bound": ">=", "number": 0.9}, "note": "not installed"}],
   "tables": [{"title": "By size", "columns": ["size", "ms"], "lines": [["256²", "1.0"]], "note": "Medians."}],
   "plots": [{"name": "sizes", "title": "By size", "x_label": "pixels", "y_label": "ms", "is_log_x": true,
    "is_log_y": true, "series": [{"label": "gRPC", "x": [256, 512], "y": [1.0, 30.0]},
    {"label": "REST", "x": [256, 512], "y": [2.0, 40.0]}]}]},
  {"name": "load", "about": "Many callers.", "failure": "ServerError: gone", "seconds": 1, "rows": [], "tables": [],
   "plots": []}]
}"""


@pytest.fixture
def results():
    return JSON.validate_json(RESULTS)


def test_results_survive_their_file(results):
    assert JSON.validate_json(JSON.dump_json(results)) == results


def test_the_report_judges_each_goal_once(results, tmp_path):
    report.write_report(results, tmp_path / "report.md", "docs/benchmarks", "## By hand\n\nKept | as it is.\n")
    text = (tmp_path / "report.md").read_text()
    goals = text.partition("## The goals")[2].partition("## latency")[0]
    assert [line for line in goals.splitlines() if line.startswith("| ")][1:] == [
        "| fast | ≤ 1.1 | 1.04 | 1.01 … 1.07 | yes |",
        "| small | ≤ 1/20 | 0.0600 (1/17) | 0.0500 … 0.0700 | **no** |",
        "| absent | ≥ 0.9 | – |  | **not measured** |",
    ]
    assert [row.name for row in results.missed] == ["small", "absent"]


def test_the_report_holds_every_figure_table_plot_and_note(results, tmp_path):
    report.write_report(results, tmp_path / "report.md", "docs/benchmarks", "## By hand\n\nKept | as it is.\n")
    text = (tmp_path / "report.md").read_text()
    assert "| told only | 12.3 ms |  |  |" in text
    assert r"| fast | 1.04 | 1.01 … 1.07 | a \| b |" in text
    assert "### By size\n\n| size | ms |\n|---|--:|\n| 256² | 1.0 |\n\nMedians." in text
    assert "![By size](docs/benchmarks/sizes.svg)" in text
    assert "This group ended early: ServerError: gone" in text
    assert "| processor | a drawn one |" in text
    assert "quick run" not in text
    assert text.endswith("## By hand\n\nKept | as it is.\n")
    # Every line of a table has as many cells as its heading.
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_quick_run_says_so(results, tmp_path):
    results.is_quick = True
    report.write_report(results, tmp_path / "report.md", "", "")
    text = (tmp_path / "report.md").read_text()
    assert "A quick run" in text
    assert "![By size](sizes.svg)" in text


def test_plots_are_the_same_bytes_each_time_and_name_axes_and_series(results, tmp_path):
    drawn = [plot for group in results.groups for plot in group.plots]
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        plots.write_plots(drawn, tmp_path / name)
    first, second = ((tmp_path / name / "sizes.svg").read_bytes() for name in ("first", "second"))
    assert first == second
    assert ET.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"
    axes = plots.draw(drawn[0]).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("pixels", "ms")
    assert [text.get_text() for text in axes.figure.legends[0].get_texts()] == ["gRPC", "REST"]
    assert list(axes.lines[1].get_ydata()) == [2.0, 40.0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_goal_is_met_at_its_bound():
    assert Row("r", 1.1, goal=at_most(1.1)).verdict == "met"
    assert Row("r", 1.11, goal=at_most(1.1)).verdict == "missed"
    assert Row("r", 0.95, goal=at_least(0.95)).verdict == "met"
    assert Row("r", 0.94, goal=at_least(0.95)).verdict == "missed"
    assert Row("r", None, goal=at_least(0.95)).verdict == "not measured"
    assert not Row("r", 0.94).verdict


@pytest.mark.parametrize(
    ("goal", "text"),
    [(at_most(1 / 20), "≤ 1/20"), (at_most(1 / 9), "≤ 1/9"), (at_most(1.35), "≤ 1.35"), (Goal(">=", 0.95), "≥ 0.95")],
)
def test_small_goals_are_written_as_fractions(goal, text):
    assert goal.text == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (12345.6, "12,346"),
        (99.96, "100.0"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.5, "0.500"),
        (-45.9, "-45.9"),
    ],
)
def test_numbers_are_written_with_three_digits_or_so(number, text):
    assert number_text(number) == text


def test_a_group_keeps_findings_by_kind():
    group = Group("g", "about")
    findings = [Row("r", 1.0), Table("t", ["a"], [["1"]]), Plot("p", "p", "x", "y", [Series("s", [1], [1])])]
    for finding in findings:
        group.add(finding)
    assert [*group.rows, *group.tables, *group.plots] == findings
    assert Results({}, False, False, [group]).missed == []
