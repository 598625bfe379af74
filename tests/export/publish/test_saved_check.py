"""The processes that run what was written."""

import subprocess
import sys

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
