"""How much is measured: all of it, or a quick look."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Effort:
    """Numbers of rounds and sizes of tasks.

    Attributes:
        rounds: of calls that take milliseconds.
        slow_rounds: of calls that take up to a second.
        budget_s: seconds for one comparison, unless that is fewer than three rounds.
        longest_call_s: what would take longer than this is left out.
        edges: of the pictures whose latency is plotted, in pixels.
        batches: numbers of pictures in a request.
        callers: numbers of callers at one time.
        load_s: seconds of load for one measurement of a rate.
        load_turns: how often rates that are compared are measured.
        open_s: seconds of calls at fixed times, for the light model; the U-Net has twice as many.
        open_turns: how often.
        requests: that the server's memory is watched over; a tenth at a time.
        large_edge: of the large pictures of which a request holds eight, in pixels.
        large_cases: kinds of models that get such a request.
        optimized: names of the models that are exported with each `optimize`.
        imports: fresh interpreters for each import.
        files: photographs for the command line.
        exports: how often an export is timed.
    """

    rounds: int
    slow_rounds: int
    budget_s: float
    longest_call_s: float
    edges: Sequence[int]
    batches: Sequence[int]
    callers: Sequence[int]
    load_s: float
    load_turns: int
    open_s: float
    open_turns: int
    requests: int
    large_edge: int
    large_cases: int
    optimized: Sequence[str]
    imports: int
    files: int
    exports: int


FULL = Effort(
    rounds=60,
    slow_rounds=10,
    budget_s=9,
    longest_call_s=20,
    edges=(256, 512, 1024, 2048, 4096),
    batches=(1, 2, 4, 8, 16),
    callers=(1, 2, 4, 8, 16, 32, 64),
    load_s=2,
    load_turns=4,
    open_s=8,
    open_turns=3,
    requests=10_000,
    large_edge=7071,
    large_cases=2,
    optimized=("coins", "unet", "light"),
    imports=5,
    files=1000,
    exports=2,
)
QUICK = Effort(
    rounds=10,
    slow_rounds=3,
    budget_s=2,
    longest_call_s=2,
    edges=(256, 512, 1024),
    batches=(1, 8),
    callers=(1, 16),
    load_s=1.5,
    load_turns=1,
    open_s=3,
    open_turns=1,
    requests=500,
    large_edge=1000,
    large_cases=1,
    optimized=("light",),
    imports=1,
    files=100,
    exports=1,
)
