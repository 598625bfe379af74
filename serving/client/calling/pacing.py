"""How many calls go to a server at one time: as many as are made, until it says that its threads are busy."""

import threading


class Pace:
    """What one address takes.

    TensorFlow Serving refuses at once what goes beyond its gRPC threads. The calls that were under way beside a refused
    one are what it takes, so no more are sent then. After some rounds without a refusal one more is tried: the
    other callers whose calls filled the server may have gone.
    """

    _ROUNDS = 4

    def __init__(self) -> None:
        self._running = 0
        self.limit: int | None = None  # calls that are sent at one time; None where none was refused so far
        self._answered = 0
        self._is_short = False
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Counts a call as under way; False where it must wait for its turn."""
        with self._lock:
            if self.limit is not None and self._running >= self.limit:
                self._is_short = True
                return False
            self._running += 1
            return True

    def leave(self, *, refused: bool) -> None:
        """Counts a call as over; one that was refused never began, as the server's threads were busy."""
        with self._lock:
            self._running -= 1
            if refused:
                beside = max(1, self._running)
                self.limit = beside if self.limit is None else min(self.limit, beside)
                self._answered = 0
            elif self.limit is not None and self._is_short:
                self._answered += 1
                if self._answered >= self._ROUNDS * self.limit:
                    self.limit += 1
                    self._answered = 0
                    self._is_short = False
