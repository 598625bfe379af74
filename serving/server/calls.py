"""The terms on which one request is answered: its time, and whether its caller still waits."""

import threading
import time
from collections.abc import Callable

from ..status_codes import StatusCode
from .errors import RequestError, deadline_exceeded

_MAX_TIMEOUT_S = threading.TIMEOUT_MAX / 2
"""Longer than anybody waits, and well below what a lock can be waited for."""


class Call:
    """One request on its way through the core."""

    def __init__(self, timeout_s: float | None = None) -> None:
        """Begins a call whose caller gives up after a time; None is no limit."""
        self._deadline = None if timeout_s is None else time.monotonic() + min(timeout_s, _MAX_TIMEOUT_S)
        self._lock = threading.Lock()
        self._is_cancelled = False
        self._on_cancel: Callable[[], None] | None = None
        self.run_s = 0.0  # that the graph took, waiting for a batch included; set by whoever ran it

    @property
    def left_s(self) -> float | None:
        """Seconds until the caller gives up; None where it does not."""
        return None if self._deadline is None else self._deadline - time.monotonic()

    def check(self) -> None:
        """Raises RequestError if there is nobody left to answer."""
        if self._is_cancelled:
            raise cancelled()
        if self._deadline is not None and self._deadline <= time.monotonic():
            raise deadline_exceeded()

    def cancel(self) -> None:
        """Tells whoever works on the call that its caller has gone."""
        with self._lock:
            self._is_cancelled = True
            tell = self._on_cancel
        if tell is not None:
            tell()

    def when_cancelled(self, tell: Callable[[], None] | None) -> None:
        """Sets what is called, once or more, when the caller goes; at once if it has gone already."""
        with self._lock:
            self._on_cancel = tell
            is_late = self._is_cancelled and tell is not None
        if is_late and tell is not None:
            tell()


def cancelled() -> RequestError:
    """Returns the error of a call whose caller has gone."""
    return RequestError(StatusCode.CANCELLED, "the caller cancelled the call")
