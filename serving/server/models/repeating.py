"""Looks at something now and then."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

_LAST_S = 2.0
"""How long the end waits for a look under way: a disk that hangs must not keep a server from its end."""


class Repeating:
    """Calls a function again and again, from a thread of its own, until it is stopped."""

    def __init__(self, action: Callable[[], None], interval_s: float, name: str) -> None:
        """Prepares the calls; the first is made `interval_s` after the start."""
        self._action = action
        self._interval_s = min(interval_s, threading.TIMEOUT_MAX)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)

    def start(self) -> None:
        """Begins to call."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the calls, and waits a moment for one under way."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_S)

    def _repeat(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self._action()
            except Exception:
                logger.exception("%s", self._thread.name)
