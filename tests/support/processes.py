"""Whatever tests start ends with them, however they end.

tests/conftest.py puts a word of its own into pytest's environment, which all that tests start inherits, and starts this
file as a guard: once pytest has gone (ended, interrupted or killed), it kills every process that has the word. And a
file of tests that leaves one behind fails. Where there is no /proc, nothing of that is done.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time


@contextlib.contextmanager
def running(command, **options):
    """A process (subprocess.Popen) that is killed where the block ends, with all that it started in its group."""
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_running(process_id):
    """Whether there is a process of this number that has not ended, be it known to its parent or not."""
    try:
        return pathlib.Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start_guard(word):
    """Starts the process that kills those with a word in their environment when this one has gone."""
    # In a session of its own, as Ctrl-C is for all processes of a terminal's.
    return subprocess.Popen(
        [sys.executable, "-S", __file__, word, str(os.getpid())],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def find(word):
    """The processes that began with a word in their environment, but this one: command lines by number."""
    found = {}
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another's, or it has ended
            if word.encode() in (place / "environ").read_bytes() and int(place.name) != os.getpid():
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def kill(word):
    """Kills the processes that have a word in their environment, and those that they start meanwhile."""
    while found := find(word):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)


def _guard(word, parent):
    # A pipe's end would tell it too, but not while a forked process still holds the other end.
    while os.getppid() == parent:
        time.sleep(0.2)
    kill(word)


if __name__ == "__main__":
    _guard(sys.argv[1], int(sys.argv[2]))
