"""Whatever tests start ends with them, however they end."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from processes import find, running
from waiting import wait_until

ROOT = Path(__file__).parents[1]
TESTS = "tests/support/leaving_children.py"


@pytest.fixture
def mark():
    return f"mark{uuid.uuid4().hex}"


def marked(mark):
    """The processes with a mark in their command line, by pgrep."""
    found = subprocess.run(["pgrep", "-f", f"time.sleep.*{mark}"], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


@pytest.fixture
def started(mark):
    """scripts/test on tests that wait for children, two of each kind with the shells around them."""
    words = [ROOT / "scripts/test", "-n2", "-p", "no:cacheprovider", TESTS, "-k", "waits", "--dist=load"]
    environment = {**os.environ, "MASKPORT_TEST_MARK": mark}
    with running(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_until(lambda: len(marked(mark)) >= 6, "the children's start")
        yield process


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process(started, mark, ended_by):
    started.send_signal(ended_by)
    wait_until(lambda: not marked(mark), "the children's end")
    assert started.wait() != 0


def test_a_killed_worker_leaves_no_process(started, mark):
    (worker, *_) = subprocess.check_output(
        ["pgrep", "-P", str(started.pid), "-f", "sys.stdin.readline"], text=True
    ).split()
    before = set(marked(mark))
    os.kill(int(worker), signal.SIGKILL)
    wait_until(lambda: len(before - set(marked(mark))) == 3, "the end of the killed worker's children")


def test_a_test_that_leaves_a_process_fails_and_the_process_ends(mark):
    words = [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", TESTS, "-k", "leaves"]
    environment = {**os.environ, "MASKPORT_TEST_MARK": mark}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "tests of this file left processes running" in done.stdout
    assert mark in done.stdout
    assert not marked(mark)


def test_a_process_ends_with_its_block_and_so_do_those_that_it_started(mark):
    script = f"sleep 3600 & echo started; exec {sys.executable} -S -c 'import time; time.sleep(3600)' {mark}"

    def interrupted():
        with running(["sh", "-c", script], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            wait_until(lambda: marked(mark), "its start")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not marked(mark)
    assert not find(mark)
