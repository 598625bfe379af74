"""The processes that run what was written."""

import os
import subprocess
import sys

import pytest
from maskport.export.publish import saved_check
from processes import is_running, running
from waiting import wait_until

EXPORTER = """
import os, sys, time
from maskport.export.publish.saved_check import FreshProcess

os.environ["PYTHONPATH"] = sys.argv[1]
with FreshProcess() as fresh:
    print(fresh._process.pid, flush=True)
    time.sleep(3600)
"""


def test_it_ends_in_the_middle_of_its_task_when_the_exporter_is_killed(tmp_path):
    # In place of what takes long, which for one that is loading TensorFlow is that.
    (tmp_path / "tensorflow.py").write_text(f"open({str(tmp_path / 'begun')!r}, 'w'); import time; time.sleep(3600)")
    with running([sys.executable, "-c", EXPORTER, tmp_path], stdout=subprocess.PIPE, text=True) as exporter:
        process = int(exporter.stdout.readline())
        wait_until((tmp_path / "begun").exists, "the task's beginning")
        assert is_running(process)
        exporter.kill()
        wait_until(lambda: not is_running(process), "the fresh process's end")


@pytest.mark.parametrize(
    ("said", "has_by_itself", "switched"),
    [("1", False, "0"), ("0", True, "1"), ("false", True, "1"), (None, True, "0"), (None, False, "1")],
)
def test_onednn_is_switched_over_whether_or_not_somebody_says_that_it_is_on(monkeypatch, said, has_by_itself, switched):
    """By itself it is on where the processor has instructions for it."""
    from tensorflow.python.util import _pywrap_util_port

    monkeypatch.setattr(_pywrap_util_port, "IsMklEnabled", lambda: has_by_itself)
    if said is None:
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    else:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", said)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    shown = "import os, sys; print(os.environ['TF_ENABLE_ONEDNN_OPTS'], os.environ['CUDA_VISIBLE_DEVICES'])"
    monkeypatch.setattr(saved_check, "COMMAND", (sys.executable, "-c", shown))
    with saved_check.FreshProcess(switches_onednn=True) as fresh:
        assert fresh._process.stdout.readline().split() == [switched, "-1"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
