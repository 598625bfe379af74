"""A short run of every fuzz target, in which nothing may be found; and that a target finds what is wrong."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import fuzz
import numpy as np
import pytest
from maskport.serving.client.pictures.files import png
from processes import running
from waiting import PATIENCE_S

SCRIPT = Path(fuzz.__file__)
RUNS = 2000


def run(*words):
    command = [sys.executable, str(SCRIPT), *words]
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said, _ = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


# Not imported here: it is loaded in no process that does anything else.
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is made for Linux on x86-64")
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_a_short_run_of_a_target_finds_nothing(tmp_path, name):
    code, said = run(name, f"--runs={RUNS}", "--seconds=0", f"--corpus_dir={tmp_path}")
    assert code == 0, said
    ((told, count),) = re.findall(r"^(\w+) +Done (\d+) runs", said, re.MULTILINE)
    assert told == name
    assert int(count) >= RUNS
    assert any((tmp_path / name).iterdir())


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # Pillow's, of odd Exif
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_what_a_target_begins_with_is_taken(name):
    read, seeds = fuzz.TARGETS[name](), fuzz.seeds(name)
    assert len(seeds) > 2
    for seed in seeds:
        read(seed)


def test_a_target_finds_what_is_wrong(monkeypatch):
    real = png.decode_png
    monkeypatch.setattr(png, "decode_png", lambda data: np.flipud(real(data)))
    read = fuzz.png()
    with pytest.raises(AssertionError):
        read((fuzz.PICTURES / "gray_alpha.png").read_bytes())


def test_an_unknown_target_is_told():
    code, said = run("picture")
    assert code == 2
    assert "no target 'picture': there are header, png, " in said
