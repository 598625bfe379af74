"""How a job and its workers hear of each other where they are in one process, as on Beam's DirectRunner.

Workers tell how far they are and why they fail, and are told to stop. Elsewhere nobody listens to them, and Beam's own
metrics tell.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

from ..client.errors import CallCancelledError

PLANNED, DONE = "planned", "done"


class Stoppable(Protocol):
    """What waits for others, and can be told not to."""

    def close(self) -> None:
        """Ends what it waits for."""


class Watch:
    """One job, as its workers see it."""

    def __init__(self, tell: Callable[[str, int], None] = lambda what, count: None):
        self.error: Exception | None = None
        self._tell = tell
        self._changed = threading.Condition()
        self._is_stopped = False
        self._writing = 0
        self._calling: weakref.WeakSet[Stoppable] = weakref.WeakSet()

    def tell(self, what: str, count: int) -> None:
        """Tells that some pictures are planned, or done."""
        with self._changed:
            self._tell(what, count)

    def fail(self, error: Exception) -> Exception:
        """Notes why the job cannot go on, the first time, and returns it."""
        self.error = self.error or error
        return error

    def check(self) -> None:
        """Raises `CallCancelledError` where the job was stopped."""
        if self._is_stopped:
            raise CallCancelledError("the job was stopped")

    def add(self, calling: Stoppable) -> None:
        """Has something closed when the job is stopped, as long as it is there."""
        self._calling.add(calling)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Writes something in the block, whose end a stop waits for; raises `CallCancelledError` after that."""
        with self._changed:
            self.check()
            self._writing += 1
        try:
            yield
        finally:
            with self._changed:
                self._writing -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """Has the workers stop; nothing is written once this returns."""
        with self._changed:
            self._is_stopped = True
            self._changed.wait_for(lambda: not self._writing)
        for calling in list(self._calling):
            calling.close()


_UNWATCHED = Watch()
_WATCHES: dict[str, Watch] = {}


def watch_of(job: str) -> Watch:
    """Returns the watch of a job by its name; where the job is not of this process, one that nobody looks at."""
    return _WATCHES.get(job, _UNWATCHED)


@contextlib.contextmanager
def watching(job: str, tell: Callable[[str, int], None]) -> Iterator[Watch]:
    """Watches a job that runs in the block; where that fails, workers that are still at it stop."""
    watch = _WATCHES[job] = Watch(tell)
    try:
        yield watch
    except BaseException:
        watch.stop()
        raise
    del _WATCHES[job]
