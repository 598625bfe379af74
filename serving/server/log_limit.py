"""Keeps callers from filling the log: what one of them can cause, all can cause again and again."""

import contextlib
import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO


class LogLimit(logging.Filter):
    """Lets so many warnings and errors of one place in the code pass in a minute, and tells how many it left out."""

    def __init__(self, lines: int = 20, period_s: float = 60, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._lines, self._period_s, self._clock = lines, period_s, clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}  # by place: since when, and how many

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether a line is written; the first after a flood says how long that was."""
        if record.levelno < logging.WARNING:
            return True
        place, now = (record.pathname, record.lineno), self._clock()
        with self._lock:
            since, count = self._seen.get(place, (now, 0))
            left_out = 0
            if now - since >= self._period_s:
                since, count, left_out = now, 0, max(count - self._lines, 0)
            self._seen[place] = since, count + 1
        if left_out:
            record.msg = f"{record.getMessage()} (before it {left_out} more such lines, which were left out)"
            record.args = ()
        return count < self._lines


@contextlib.contextmanager
def native_output_limited(
    handler: "logging.StreamHandler[TextIO]", lines: int = 50, period_s: float = 60
) -> Iterator[None]:
    """Lets so many lines a minute pass that native code writes to standard error during the block.

    The decoder of JPEG writes one for each bad picture, whatever TensorFlow's own log is told. What a handler logs has
    a way of its own, and so has what Python tells of a crash.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)  # nobody waits for a line to be read
    os.dup2(write_end, 2)
    os.close(write_end)
    with open(kept, "w", buffering=1, encoding="utf-8", errors="replace") as stream:
        before = handler.setStream(stream)
        faulthandler.enable(stream)
        reader = threading.Thread(target=_pass_on, args=(read_end, stream, lines, period_s), daemon=True)
        reader.start()
        try:
            yield
        finally:
            os.dup2(kept, 2)  # which closes the pipe's other end
            reader.join()
            faulthandler.disable()
            if before is not None:
                handler.setStream(before)


def _pass_on(read_end: int, stream: TextIO, lines: int, period_s: float) -> None:
    since, count = time.monotonic(), 0
    with open(read_end, encoding="utf-8", errors="replace") as written:
        for line in written:
            if time.monotonic() - since >= period_s:
                if count > lines:
                    stream.write(f"({count - lines} more lines of native code were left out)\n")
                since, count = time.monotonic(), 0
            count += 1
            if count <= lines:
                stream.write(line)
