"""The charts' SVG: points in their places, texts as text."""

import xml.etree.ElementTree as ET

import numpy as np
from maskport.export.line_chart import Line, Mark, draw_line_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(lines, marks=()):
    return ET.fromstring(draw_line_chart("a title", "share", lines, marks))


def points(chart):
    (line,) = chart.iter(f"{SVG}polyline")
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_a_curve_runs_from_lower_left_to_upper_right_when_it_rises():
    (left, bottom), (middle, half), (right, top) = points(
        drawn([Line("rising", np.array([0.0, 0.5, 1.0]), np.array([0.0, 0.25, 1.0]))])
    )
    assert left < middle < right
    assert bottom > half > top
    assert middle - left == right - middle
    assert bottom - half == round((bottom - top) / 4, 1)


def test_values_outside_0_to_1_stay_in_the_chart():
    inside = points(drawn([Line("x", np.array([0.0, 1.0]), np.array([0.0, 1.0]))]))
    outside = points(drawn([Line("x", np.array([0.0, 1.0]), np.array([-3.0, 7.0]))]))
    assert outside == inside


def test_flat_stretches_keep_their_ends_alone():
    x = np.linspace(0, 1, 101)
    drawn_points = points(drawn([Line("step", x, (x > 0.495).astype(float))]))
    assert len(drawn_points) == 4
    assert drawn_points[1][0] < drawn_points[2][0]


def test_names_and_labels_are_texts_and_no_markup():
    name, label = "<script>alert(1)</script>", "a & b < c"
    line = Line(name, np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    chart = drawn([line, line], [Mark(0.5, label)])
    texts = [element.text for element in chart.iter(f"{SVG}text")]
    assert name in texts
    assert label in texts
    assert not list(chart.iter("script"))


def test_labels_of_marks_in_one_place_do_not_lie_on_each_other():
    marks = [Mark(0.5, "one"), Mark(0.51, "two", is_dashed=True)]
    chart = drawn([], marks)
    heights = {element.text: element.get("y") for element in chart.iter(f"{SVG}text")}
    assert heights["one"] != heights["two"]
