"""Labels moved in the shipped configurations; the official message is the oracle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format
from move_label import LabelError, move_labels
from tensorflow_serving.config import model_server_config_pb2

ROOT = Path(__file__).parents[2]
CANARY = (ROOT / "configs/serving/canary.config").read_text()


def read(text):
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    return model


def test_a_label_is_moved_and_nothing_else():
    moved, before = read(move_labels(CANARY, "coins", {"canary": 1})), read(CANARY)
    assert dict(moved.version_labels) == {"stable": 1, "canary": 1}
    moved.version_labels["canary"] = 2
    assert moved == before


def test_comments_at_the_head_stay():
    assert move_labels(CANARY, "coins", {"canary": 1}).startswith(CANARY[: CANARY.index("model_config_list")])


def test_labels_are_added_and_taken_away_together():
    moved = read(move_labels(CANARY, "coins", {"canary": None, "stable": 2, "next": 2}))
    assert dict(moved.version_labels) == {"stable": 2, "next": 2}


@pytest.mark.parametrize(
    ("text", "model", "labels", "words"),
    [
        (CANARY, "coin", {"canary": 1}, "no model 'coin'; there are: coins"),
        (CANARY, "coins", {"canary": 3}, "version 3 is not one that model 'coins' is to serve; those are: 1, 2"),
        (CANARY, "coins", {"nope": None}, "has no label 'nope' to take away"),
        ((ROOT / "configs/serving/models.config").read_text(), "coins", {"a": 1}, "its policy is not `specific`"),
        ("model_config_list { config { nam", "coins", {"a": 1}, "no ModelServerConfig"),
    ],
)
def test_what_makes_no_sense_is_refused(text, model, labels, words):
    with pytest.raises(LabelError, match=words):
        move_labels(text, model, labels)


def run(*words):
    return subprocess.run(
        [sys.executable, ROOT / "scripts/move_label.py", *words], capture_output=True, text=True, check=False
    )


def test_the_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(CANARY)
    file.chmod(0o644)
    with file.open() as opened_before:
        done = run(file, "--model=coins", "canary=1")
        assert (done.returncode, done.stderr) == (0, "")
        assert opened_before.read() == CANARY
    assert dict(read(file.read_text()).version_labels) == {"stable": 1, "canary": 1}
    assert file.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["models.config"]


def test_a_refused_change_leaves_the_file(tmp_path):
    file = tmp_path / "models.config"
    file.write_text(CANARY)
    done = run(file, "--model=coins", "canary=9")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert file.read_text() == CANARY
    assert run(file, "--model=coins", "canary").returncode == 2
