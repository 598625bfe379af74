"""What scripts start ends with them, however they end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from children import bound
from processes import is_running, running
from waiting import PATIENCE_S, wait_until

SCRIPTS = Path(__file__).parents[2] / "scripts"
STARTS = {
    "bound": "subprocess.Popen(bound(['sleep', '3600']))",
    "benchmark": "stack.enter_context(servers.serve(['sleep', '3600', '-s'], {}))",
    "show_rollback": "stack.enter_context(show_rollback.serve(Path('/nowhere/models.config')))",
    "train_demo_model": "train_demo_model._draw = wait\n"
    "    train_demo_model.draw_training_scenes(types.SimpleNamespace(scenes=2), print)",
}
PROGRAM = """
import contextlib, os, subprocess, sys, time, types
from pathlib import Path
from children import bound, interrupt_on_sigterm
{imports}
interrupt_on_sigterm()
def wait(*_):
    print("started", flush=True)
    time.sleep(3600)
with contextlib.ExitStack() as stack:
    {start}
    wait()
"""


def children_of(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("start", STARTS)
def test_what_a_script_starts_ends_with_it(start, ended_by):
    imports = {"benchmark": "from benchmarks import servers", "bound": ""}.get(start, f"import {start}")
    program = PROGRAM.format(imports=imports, start=STARTS[start])
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-c", program]
    with running(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as script:
        assert script.stdout.readline() == b"started\n"
        (child, *_) = wait_until(lambda: children_of(script), f"the child of {start}")
        script.send_signal(ended_by)
        script.wait(PATIENCE_S)
        wait_until(lambda: not is_running(child), f"the end of the child of {start}")


def test_a_bound_command_keeps_its_words_and_its_exit_code():
    done = subprocess.run(bound(["sh", "-c", 'echo "$1"; exit 3', "sh", "a  b"]), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (3, b"a  b\n")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        bound(["nowhere"])
