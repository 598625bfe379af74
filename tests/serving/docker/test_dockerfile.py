"""The Dockerfile, linted; and what no linter asks for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from serving_artefacts import CONFIGS, DOCKER, dockerfile_flags

HADOLINT = Path(sys.executable).with_name("hadolint")
TEXT = (DOCKER / "Dockerfile").read_text()
REAL_FLAGS = (Path(__file__).parents[1] / "server/tensorflow_model_server_flags.txt").read_text().split()


def lint(path):
    return subprocess.run([HADOLINT, "--no-color", path], capture_output=True, text=True, check=False)


def test_the_dockerfile_passes_the_linter():
    done = lint(DOCKER / "Dockerfile")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "rule"),
    [("FROM tensorflow/serving", "DL3006"), ("RUN cd /tmp && sudo ls", "DL3004"), ("WORKDIR here", "DL3000")],
)
def test_the_linter_would_say_so(tmp_path, line, rule):
    (tmp_path / "Dockerfile").write_text(TEXT + line + "\n")
    done = lint(tmp_path / "Dockerfile")
    assert done.returncode != 0
    assert rule in done.stdout


def test_the_image_is_pinned_and_runs_as_nobody():
    assert re.search(r"^ARG TF_SERVING_VERSION=\d+\.\d+\.\d+$", TEXT, re.MULTILINE)
    assert re.search(r"^USER 65532:65532$", TEXT, re.MULTILINE)
    assert TEXT.index("\nUSER ") > TEXT.index("\nCOPY configs/")


def test_its_flags_are_tensorflow_servings_and_its_files_are_there():
    for flag in dockerfile_flags():
        name, value = re.fullmatch(r"--(\w+)(?:=(.*))?", flag).groups()
        assert name in REAL_FLAGS
        if value and value.startswith("/configs/"):
            assert (CONFIGS / value.removeprefix("/configs/")).is_file()


def test_only_what_the_image_needs_is_sent_to_the_engine():
    lines = [
        line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in ("", "#")
    ]
    assert lines[0] == "*"
    sources = re.findall(r"^COPY (\S+)/ ", TEXT, re.MULTILINE)
    assert sources == ["configs/serving", "${EXPORT_BASE}"]
    assert lines[1:] == ["!configs/serving", "!served"]
