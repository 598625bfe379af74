"""Callers in a process of their own, so that they do not share Python's lock with what they measure.

`python -m benchmarks.callers ADDRESS MODEL` reads tasks as lines of JSON and answers each with a line: the results
of a `Closed` or `Open` task.
"""

import contextlib
import dataclasses
import itertools
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

from children import bound
from maskport.serving.client import MaskClient

from .measuring import steady_rate
from .servers import stop

_TIMEOUT_S = 120
_MOST_AT_ONCE = 256
"""Calls under way, of those at fixed times."""
_WARM_SHARE = 0.1
"""Of the calls at fixed times: the first ones do not count."""


@dataclasses.dataclass(frozen=True)
class Closed:
    """Callers of which each waits for its last call: for some seconds and three calls of each, or for some requests."""

    folder: str  # of the pictures
    callers: int
    seconds: float = 0.0
    requests: int = 0


@dataclasses.dataclass(frozen=True)
class Open:
    """Calls that are sent at their times, whether earlier ones were answered or not."""

    folder: str  # of the pictures
    rate: float  # calls per second
    seconds: float
    is_poisson: bool  # whether the times are random ones rather than even ones
    seed: int  # of these


@dataclasses.dataclass(frozen=True)
class Answered:
    """What came of a task: calls per second, and seconds of each call; of an `Open` task from when it was due."""

    rate: float
    latencies: list[float]


def send_times(task: Open) -> list[float]:
    """Returns when calls are due, in seconds from the start."""
    count = max(10, round(task.rate * task.seconds))
    if not task.is_poisson:
        return [index / task.rate for index in range(count)]
    generator = random.Random(task.seed)
    return list(itertools.accumulate(generator.expovariate(task.rate) for _ in range(count)))


def run_closed(call: Callable[[bytes], object], files: Sequence[bytes], task: Closed) -> Answered:
    """Runs the callers, each in a thread."""
    numbers = itertools.count()
    times: list[tuple[float, float]] = []
    until = time.perf_counter() + task.seconds
    failures: list[BaseException] = []

    def loop() -> None:
        try:
            while not failures:
                number, begun = next(numbers), time.perf_counter()
                if number >= task.requests if task.requests else begun > until and number >= 3 * task.callers:
                    return
                call(files[number % len(files)])
                times.append((begun, time.perf_counter()))
        except BaseException as error:
            failures.append(error)
            raise

    with futures.ThreadPoolExecutor(task.callers) as threads:
        for done in [threads.submit(loop) for _ in range(task.callers)]:
            done.result()
    return Answered(steady_rate([end for _, end in times], task.callers), [end - begun for begun, end in times])


def run_open(call: Callable[[bytes], object], files: Sequence[bytes], task: Open) -> Answered:
    """Sends each call at its time, from threads that wait for it."""
    due = send_times(task)

    def timed(number: int, due_at: float) -> tuple[float, float]:
        call(files[number % len(files)])
        ended = time.perf_counter()
        return ended - due_at, ended

    with futures.ThreadPoolExecutor(_MOST_AT_ONCE) as threads:
        begun = time.perf_counter() + 0.1
        running = []
        for number, offset in enumerate(due):
            time.sleep(max(0.0, begun + offset - time.perf_counter()))
            running.append(threads.submit(timed, number, begun + offset))
        done = [one.result() for one in running]
    counted = done[round(_WARM_SHARE * len(done)) :]
    return Answered(len(done) / (max(end for _, end in done) - begun), [latency for latency, _ in counted])


class Callers:
    """The process of callers, seen from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, task: Closed | Open) -> Answered:
        """Carries out a task, and waits for it."""
        words = json.dumps({"kind": type(task).__name__, **dataclasses.asdict(task)})
        self._process.stdin.write(words + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        answer = json.loads(self._process.stdout.readline() or '{"failed": "the callers have gone"}')  # type: ignore[union-attr]
        if "failed" in answer:
            raise CallersError(answer["failed"])
        return Answered(**answer)

    def time_settled(self, folder: str, settle_s: float) -> float:
        """Returns how many seconds one call takes after others, one at a time, for some seconds."""
        return self.run(Closed(folder, 1, settle_s)).latencies[-1]


class CallersError(Exception):
    """A call failed."""


@contextlib.contextmanager
def start_callers(address: str, model: str) -> Iterator[Callers]:
    """Starts the process, until the block ends."""
    process = subprocess.Popen(
        bound([sys.executable, "-m", "benchmarks.callers", address, model]),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield Callers(process)
    finally:
        stop(process)


def main(address: str, model: str) -> None:
    read: dict[str, list[bytes]] = {}
    with MaskClient(address, model, timeout=_TIMEOUT_S) as client:
        for line in sys.stdin:
            fields = json.loads(line)
            kind = fields.pop("kind")
            folder = fields["folder"]
            if folder not in read:
                read[folder] = [path.read_bytes() for path in sorted(Path(folder).glob("*.jpg"))]
            try:
                if kind == "Closed":
                    found = run_closed(client.segment, read[folder], Closed(**fields))
                else:
                    found = run_open(client.segment, read[folder], Open(**fields))
                answer = dataclasses.asdict(found)
            except Exception as error:
                answer = {"failed": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
