"""Processes that scripts start, none of which shall outlive its script, however that ends."""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Has this process get SIGTERM when the thread that started it ends. Linux only; elsewhere nothing is done.

    Args:
        parent: number of the process that started it, which may have ended by now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)


def bound(command: Sequence[object]) -> list[str]:
    """Returns a command that does the same and ends with the thread that starts it.

    (Not by `preexec_fn`: it would fork this process, in which TensorFlow's and gRPC's threads run.)

    Raises:
        FileNotFoundError: there is no such program.
    """
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        raise FileNotFoundError(2, os.strerror(2), words[0])
    return [sys.executable, "-S", __file__, str(os.getpid()), *words]


def interrupt_on_sigterm() -> None:
    """Has SIGTERM end this process as Ctrl-C does: what it started is stopped, what it wrote for a while is removed."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
