"""Timing in turn, and the statistics of what comes out."""

import contextlib
import dataclasses
import functools
import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

Clock = Callable[[], float]
Call = Callable[[], object]
Timer = Callable[[], float]

_MIN_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median and the quartiles of some measurements (between neighbours, linearly)."""

    median: float
    low: float
    high: float
    count: int

    def scaled(self, factor: float) -> "Spread":
        """Returns the spread in another unit; `factor` is above 0."""
        return Spread(self.median * factor, self.low * factor, self.high * factor, self.count)


def spread(values: Sequence[float]) -> Spread:
    """Returns the spread of at least one value."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return Spread(float(median), float(low), float(high), len(values))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Returns the spread of the ratios of pairs that were measured one after the other."""
    return spread([a / b for a, b in zip(numerators, denominators, strict=True)])


def difference(minuends: Sequence[float], subtrahends: Sequence[float]) -> Spread:
    """Returns the spread of the differences of pairs that were measured one after the other."""
    return spread([a - b for a, b in zip(minuends, subtrahends, strict=True)])


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keeps Python's garbage collector from running meanwhile; it runs once before."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def timed(call: Call, settle_s: float | None = None, clock: Clock = time.perf_counter) -> float:
    """Returns how many seconds of `clock` a call takes.

    Where what ran before it runs in another process, that has filled the processor's caches, and may still be tidying
    up: then the call is made for `settle_s` seconds before that, and once at least; None is not at all.
    """
    settling = clock()
    while settle_s is not None:
        call()
        if clock() - settling >= settle_s:
            break
    started = clock()
    call()
    return clock() - started


def take_turns(
    calls: Mapping[str, Call],
    rounds: int,
    warmup: int = 3,
    budget_s: float = float("inf"),
    settle_s: float | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Returns the seconds of each round, by the name of the call; see `in_turn` and `timed`."""
    timers = {name: functools.partial(timed, call, settle_s, clock) for name, call in calls.items()}
    return in_turn(timers, rounds, warmup, budget_s, clock)


def in_turn(
    timers: Mapping[str, Timer],
    rounds: int,
    warmup: int = 3,
    budget_s: float = float("inf"),
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Times calls in turn (A B C A B C …), so that the machine's moods hit all of them alike.

    Args:
        timers: each makes a call and returns how many seconds it took; by name.
        rounds: how often each is timed.
        warmup: rounds before these, which do not count.
        budget_s: no further round begins after so many seconds, once three are done.
        clock: in seconds.
    """
    for _ in range(warmup):
        for timer in timers.values():
            timer()
    found: dict[str, list[float]] = {name: [] for name in timers}
    with without_collector():
        begun = clock()
        for done in range(rounds):
            if done >= _MIN_ROUNDS and clock() - begun > budget_s:
                break
            for name, timer in timers.items():
                found[name].append(timer())
    return found


def steady_rate(ends: Sequence[float], callers: int) -> float:
    """Returns calls per second, of the times in seconds at which they ended.

    The first call of each caller began together with the others' and does not count; nor do the last ones, which ran
    while fewer and fewer others did.
    """
    steady = sorted(ends)[callers - 1 : len(ends) - callers + 1]
    if len(steady) < 2 or steady[-1] == steady[0]:
        raise ValueError(f"{len(ends)} calls of {callers} callers are too few for a rate")
    return (len(steady) - 1) / (steady[-1] - steady[0])
