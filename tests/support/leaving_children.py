"""Tests that start processes and never end: what tests/test_processes.py interrupts. Run only when it is named."""

import os
import subprocess
import sys

import pytest

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(3600)", os.environ.get("MASKPORT_TEST_MARK", "")]


@pytest.mark.parametrize("number", range(2))
def test_waits_for_children_of_every_kind(number):
    subprocess.Popen(SLEEP, start_new_session=True)
    shell = subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", *SLEEP], start_new_session=True)
    shell.wait()


def test_leaves_one_behind():
    subprocess.Popen(SLEEP)
