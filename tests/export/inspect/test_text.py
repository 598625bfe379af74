"""What the terminal shows."""

import dataclasses

import pytest
from maskport.export.inspect import format_inspection, inspect_version


@pytest.fixture(scope="module")
def text(inspection):
    return format_inspection(inspection)


def test_it_begins_with_the_model_and_what_is_known_of_it(text, exported):
    first, *lines = text.splitlines()
    assert first == "toy, version 1"
    facts = dict(line.strip().split("  ", 1) for line in lines[: lines.index("")])
    facts = {name: value.strip() for name, value in facts.items()}
    assert facts["directory"] == str(exported.path)
    assert facts["runs on"] == "RGB at 48×64 pixels (height × width)"
    assert facts["mask"] == "<b>cat</b>, where the probability is above 0.4"
    assert facts["classes"] == "0 sky, 1 <b>cat</b>, 2 sea & shore"
    assert facts["parameters"] == "84"
    total = sum(file.stat().st_size for file in exported.path.rglob("*") if file.is_file())
    assert facts["on disk"].startswith(f"{total / 1e6:.1f} MB in ")


def test_signatures_have_their_tensors_and_times(text):
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  mask_at_threshold "))
    assert lines[at].endswith(" ms")
    words = [line.split() for line in lines[at + 1 : at + 4]]
    assert words[0] == ["in", "image", "uint8", "[?,", "?,", "?,", "?]"]
    assert words[1] == ["in", "threshold", "float32", "[?]"]
    assert words[2] == ["out", "mask", "float32", "[?,", "?,", "?,", "1]"]


def test_the_spec_is_shown_whole(text, inspection):
    lines = text.splitlines()
    start = lines.index("spec") + 1
    shown = [line.split()[0] for line in lines[start : lines.index("", start)]]
    assert shown == list(inspection.record.spec)


def test_all_calls_or_those_asked_for_are_shown_as_they_are(text, inspection):
    for calls in inspection.calls.values():
        for call in calls.values():
            assert f"\n{call}\n" in f"{text}\n"
    some = format_inspection(inspection, ["mask_png"])
    assert inspection.calls["mask_png"]["curl"] in some
    assert inspection.calls["mask"]["curl"] not in some
    assert "calls" not in format_inspection(inspection, []).splitlines()[-1]


def test_escape_sequences_in_names_do_not_reach_the_terminal(inspection):
    directory = dataclasses.replace(inspection.directory, model_name="toy\x1b[2J\r\x07")
    text = format_inspection(dataclasses.replace(inspection, directory=directory), [])
    assert text.startswith("toy\ufffd[2J\ufffd\ufffd, version 1\n")


def test_a_saved_model_of_others_says_so(foreign):
    lines = format_inspection(inspect_version(foreign)).splitlines()
    assert lines[0] == "adder"
    assert "  exported    not by maskport, so its meaning, example calls and times are not known" in lines
    assert "    in   x         int32 [?, 3]" in lines
    assert "spec" not in lines
