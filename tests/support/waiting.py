"""How long tests wait for what must happen: until it has, on however slow a machine."""

import time

PATIENCE_S = 300
"""Until a wait is given up: many times what it takes. Where a test is about a call's own time-out, it gives its own."""


def wait_until(condition, what="it"):
    """Waits until a condition holds; returns what it gave.

    Args:
        condition: of no arguments; what it returns is looked at until it is true.
        what: that is waited for, for people: a text, or a function that gives one when it is given up.
    """
    until = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{what() if callable(what) else what} has not happened in {PATIENCE_S} s")
        time.sleep(0.02)
    return found


def processor_use(seconds):
    """The seconds of processor time that this process takes within some seconds."""
    before = time.process_time()
    time.sleep(seconds)
    return time.process_time() - before
