"""Changing one field of a YAML file and nothing else."""

import os
import stat
from pathlib import Path

import pytest
import yaml
from maskport.export.calibrate import CalibrationError, write_threshold
from maskport.export.calibrate.spec_file import with_threshold

ROOT = Path(__file__).parents[3]

CASES = {
    "in place": ("a: 1 # one\nthreshold: 0.5   # half\nb: 2\n", "a: 1 # one\nthreshold: 0.42   # half\nb: 2\n"),
    "quoted": ("'threshold': \"0.5\"\n", "'threshold': 0.42\n"),
    "without a line end": ("threshold: 0.5", "threshold: 0.42"),
    "Windows line ends": ("a: 1\r\nthreshold: 0.5\r\nb: 2\r\n", "a: 1\r\nthreshold: 0.42\r\nb: 2\r\n"),
    "in one line": ("{a: 1, threshold: 0.5, b: [2]}\n", "{a: 1, threshold: 0.42, b: [2]}\n"),
    "not that of another": ("sub:\n  threshold: 0.5\nthreshold: .3\n", "sub:\n  threshold: 0.5\nthreshold: 0.42\n"),
    "a text that looks like it": ("a: 'threshold: 0.5'\n", "a: 'threshold: 0.5'\nthreshold: 0.42\n"),
    "not a comment": ("# threshold: 0.5\na: 1\n", "# threshold: 0.5\na: 1\nthreshold: 0.42\n"),
    "absent, before what follows": ("a: 1  # one\n# end\n", "a: 1  # one\nthreshold: 0.42\n# end\n"),
    "absent, no line end": ("a: 1", "a: 1\nthreshold: 0.42\n"),
    "absent, Windows line ends": ("a: 1\r\nb:\r\n  - 2\r\n", "a: 1\r\nb:\r\n  - 2\r\nthreshold: 0.42\r\n"),
    "absent, after a list": ("a:\n- 1\n- 2 # two\n\n", "a:\n- 1\n- 2 # two\nthreshold: 0.42\n\n"),
    "absent, after a map": ("a:\n  b: {c: 1}\n", "a:\n  b: {c: 1}\nthreshold: 0.42\n"),
    "absent, after a text block": ("a: |\n  one\n  two\n", "a: |\n  one\n  two\nthreshold: 0.42\n"),
    "absent, after nothing": ("a: 1\nb:\n", "a: 1\nb:\nthreshold: 0.42\n"),
    "absent, in one line": ("{a: 1, b: 2}\n", '{a: 1, b: 2, "threshold": 0.42}\n'),
    "absent, in JSON": ('{\n  "a": 1,\n  "b": [2]\n}\n', '{\n  "a": 1,\n  "b": [2], "threshold": 0.42\n}\n'),
    "absent, after a comma": ("{a: 1,}\n", '{a: 1, "threshold": 0.42,}\n'),
    "absent, indented": ("---\n  a: 1\n  b: 2\n...\n", "---\n  a: 1\n  b: 2\n  threshold: 0.42\n...\n"),
    "a byte order mark": ("\ufeffthreshold: 0.5\n", "\ufeffthreshold: 0.42\n"),
    "other alphabets": ("a: Münze # ж\nthreshold: 0.5\n", "a: Münze # ж\nthreshold: 0.42\n"),
    "twice, of which the last counts": ("threshold: 0.1\nthreshold: 0.5\n", "threshold: 0.1\nthreshold: 0.42\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_only_the_threshold_changes(name):
    before, after = CASES[name]
    assert with_threshold(before, 0.42) == after


def test_the_specs_of_this_project_can_be_changed():
    for path in sorted((ROOT / "configs/export").glob("*.yaml")):
        text = path.read_text()
        edited = with_threshold(text, 0.123)
        assert yaml.safe_load(edited) == {**yaml.safe_load(text), "threshold": 0.123}
        assert [line for line in edited.splitlines() if "#" in line and "threshold" not in line] == [
            line for line in text.splitlines() if "#" in line and "threshold" not in line
        ]


@pytest.mark.parametrize(
    "text",
    ["a: &x 0.5\nthreshold: *x\n", "threshold: &x 0.5\na: *x\n", "- threshold\n", "", "a: [\n"],
)
def test_forms_that_cannot_be_changed_alone_are_left_as_they_are(tmp_path, text):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"spec\.yaml: cannot be changed: .*; set it by hand: threshold: 0\.42$"):
        write_threshold(path, 0.42)
    assert path.read_text() == text


def test_a_file_keeps_its_mode_and_a_link_its_target(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes("a: ж\r\nthreshold: 0.5\r\n".encode())
    path.chmod(0o640)
    (tmp_path / "link.yaml").symlink_to(path)
    write_threshold(tmp_path / "link.yaml", 0.25)
    assert path.read_bytes() == "a: ж\r\nthreshold: 0.25\r\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert (tmp_path / "link.yaml").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link.yaml", "spec.yaml"]


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CalibrationError, match=r"none\.yaml: cannot be changed: No such file or directory"):
        write_threshold(tmp_path / "none.yaml", 0.42)
