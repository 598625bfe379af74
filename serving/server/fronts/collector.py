"""Keeps Python's garbage collector from looking through a large JSON document while it is being read.

A picture as JSON is a quarter of a million small lists. While they are made the collector runs again and again
over all objects of the process, TensorFlow's included, and takes ten times as long as the parser. Lists of
numbers cannot be garbage in cycles, so it is held off until they are an array.
"""

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_pauses = 0
_was_enabled = False


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Holds the collector off during the block; blocks in several threads may overlap."""
    global _pauses, _was_enabled  # noqa: PLW0603  (the collector is one per process)
    with _lock:
        if not _pauses:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if not _pauses and _was_enabled:
                gc.enable()
