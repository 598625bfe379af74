"""How long calls take on this machine."""

import statistics
import time
from collections.abc import Callable, Mapping


def median_seconds(
    calls: Mapping[str, Callable[[], object]], rounds: int, budget_s: float = float("inf")
) -> dict[str, float]:
    """Returns the median time of each of some calls.

    They are made in turn (A B A B …), so that the machine's moods hit all alike, after a round that does not count,
    as the first run of a graph is slower. After `budget_s` seconds no further round begins.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    began = time.perf_counter()
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
        if time.perf_counter() - began > budget_s:
            break
    return {name: statistics.median(found) for name, found in seconds.items()}
