"""The charts' SVG: points in their places, texts as text, in two sets of colours."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
from maskport.export.pages.charts import Line, Mark, draw_line_chart

SVG = "{http://www.w3.org/2000/svg}"
ENDS = np.array([0.0, 1.0])


def drawn(lines, marks=()):
    return ET.fromstring(draw_line_chart("a title", "share", lines, marks))


def points(chart, position=0):
    (group,) = (group for group in chart.iter(f"{SVG}g") if group.get("id") == f"line-{position}")
    return [tuple(map(float, pair)) for pair in re.findall(r"[ML] (\S+) (\S+)", group.find(f"{SVG}path").get("d"))]


def test_a_curve_runs_from_lower_left_to_upper_right_when_it_rises():
    chart = drawn([Line("rising", np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.25, 1.0]))])
    (left, bottom), (middle, half), (right, top) = points(chart)
    assert left < middle < right
    assert bottom > half > top
    np.testing.assert_allclose(middle - left, right - middle)
    np.testing.assert_allclose(bottom - half, (bottom - top) / 4)


def test_values_outside_0_to_1_stay_in_the_chart():
    outside = points(drawn([Line("x", ENDS, np.array([-3.0, 7.0]))]))
    assert outside == points(drawn([Line("x", ENDS, ENDS)]))


def test_flat_stretches_take_few_points():
    x = np.linspace(0, 1, 1001)
    assert len(points(drawn([Line("step", x, (x > 0.4995).astype(float))]))) <= 8


def test_names_and_labels_are_texts_and_no_markup():
    name, label = "<script>alert(1)</script>", "a & b < c, $x^2$"
    chart = drawn([Line(name, ENDS, ENDS)] * 2, [Mark(0.5, label)])
    texts = [element.text for element in chart.iter(f"{SVG}text")]
    assert {name, label, "threshold", "share", "0.4"} <= set(texts)
    assert not list(chart.iter("script"))
    assert chart.find(f"{SVG}title").text == "a title"


def test_labels_of_marks_in_one_place_do_not_lie_on_each_other():
    chart = drawn([], [Mark(0.5, "one"), Mark(0.51, "two", is_dashed=True)])
    heights = {element.text: float(element.get("y") or element.get("transform").split()[-1].rstrip(")").split(",")[-1])
               for element in chart.iter(f"{SVG}text") if element.text in ("one", "two")}  # fmt: skip
    assert abs(heights["one"] - heights["two"]) > 13


def test_lines_differ_in_dashes_and_have_a_colour_for_the_dark():
    svg = draw_line_chart("t", "y", [Line(str(index), ENDS, ENDS) for index in range(4)], [Mark(0.3, "here")])
    chart = ET.fromstring(svg)
    groups = {group.get("id"): group for group in chart.iter(f"{SVG}g")}
    styles = [groups[f"line-{index}"].find(f"{SVG}path").get("style") for index in range(4)]
    assert len({re.sub(r"stroke: #\w+", "", style) for style in styles}) == 4
    used = set(re.findall(r"(?:stroke|fill): (#\w{6})", " ".join(e.get("style", "") for e in chart.iter())))
    dark = dict(re.findall(r'"stroke: (#\w{6})"\]\{stroke:(#\w{6})', svg))
    assert used <= set(dark)
    assert len(set(dark.values())) == len(dark)


def test_the_chart_needs_nothing_else_and_is_the_same_each_time():
    svg = draw_line_chart("t", "y", [Line("x", ENDS, ENDS)])
    assert set(re.findall(r"https?://[^\"'\s]+", svg)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)|href=\"([^\"]*)", svg)[0] if address)
    with mpl.rc_context({"text.usetex": True, "font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert svg == draw_line_chart("t", "y", [Line("x", ENDS, ENDS)])


def test_neither_charts_nor_pages_load_their_libraries_before_they_are_made():
    program = (
        "import sys, maskport.export.pages.charts; print({'matplotlib', 'jinja2', 'tensorflow'} & {*sys.modules})\n"
        "from maskport.export.pages.charts import draw_line_chart; draw_line_chart('t', 'y', [])\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["set()", "False"]
