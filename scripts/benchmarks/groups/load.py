"""Many callers at one time: rates and latencies, beside what the bare model does from two threads.

The callers have a process of their own. A rate is that of the steady part: neither the first call of each caller
nor the last ones count. Latencies of calls at fixed times begin when the call was due, so that a server that stalls
cannot hide the wait of those behind.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .. import pictures
from ..callers import Callers, Closed, Open, run_closed, start_callers
from ..lab import Lab
from ..measuring import ratio, spread
from ..models import ROOT, SIZE, Subject
from ..results import Finding, Goal, Plot, Row, Series, Table, at_least, at_most, number_text
from ..servers import Served
from .latency import forward_call

_MANY = 16
_LOAD = 0.8
_BATCHING = ("--enable_batching", f"--batching_parameters_file={ROOT / 'configs/serving/batching.config'}")
_MIXED_SIZES = [(256, 256), (640, 360), (512, 768), (800, 600), (384, 512), (320, 240)]


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields throughput, its tail latencies and what mixed sizes cost, and a table and plots over callers."""
    equal = pictures.write_files(pictures.variants(24, [(SIZE, SIZE)]), lab.folder / "equal")
    subjects = (lab.subjects.unet, lab.subjects.light)
    lines, rates, tails = [], [], []
    with lab.serve(*subjects) as plain, lab.serve(*subjects, lab.subjects.coins, flags=_BATCHING) as batching:
        for subject in subjects:
            goals = (at_least(0.9), at_most(3)) if subject.name == "unet" else (None, None)
            with start_callers(plain.grpc, subject.name) as callers:
                callers.run(Closed(str(equal), 2, requests=20))
                found = {}
                for count in lab.effort.callers:
                    answered = callers.run(Closed(str(equal), count, lab.effort.load_s))
                    p50, p99 = (1000 * float(np.percentile(answered.latencies, q)) for q in (50, 99))
                    found[count] = answered.rate, p50, p99
                    texts = [number_text(number) for number in found[count]]
                    lines.append([f"{subject.name}, {count}", *texts, str(len(answered.latencies))])
                numbers = list(found)
                rates.append(Series(subject.name, numbers, [rate for rate, _, _ in found.values()]))
                tails.append(Series(f"{subject.name}, median", numbers, [p50 for _, p50, _ in found.values()]))
                tails.append(Series(f"{subject.name}, 99th of 100", numbers, [p99 for _, _, p99 in found.values()]))
                throughput, row = _against_two_threads(lab, subject, callers, equal, goals[0])
                yield row
                yield from _tail(lab, subject, callers, equal, throughput, goals[1])
                yield _with_batching(lab, subject, callers, batching, equal)
        for subject in (lab.subjects.light, lab.subjects.coins):
            yield _mixed_sizes(lab, subject, batching)
    yield Table(
        f"Closed loop: callers who wait for their last call, mask_png over gRPC, {SIZE}² JPEGs, no batching",
        ["model, callers", "requests/s", "median, ms", "99th of 100, ms", "calls"],
        lines,
    )
    yield Plot("rates", "Throughput, mask_png over gRPC", "callers", "requests per second", rates)
    yield Plot("tails", "Latency under load, mask_png over gRPC", "callers", "milliseconds", tails)


def _against_two_threads(
    lab: Lab, subject: Subject, callers: Callers, folder: Path, goal: Goal | None
) -> tuple[float, Row]:
    forward = forward_call(subject, pictures.square_jpeg(SIZE))
    served, bare = [], []
    for _ in range(lab.effort.load_turns):
        served.append(callers.run(Closed(str(folder), _MANY, lab.effort.load_s)).rate)
        bare.append(run_closed(lambda _: forward(), [b""], Closed("", 2, lab.effort.load_s)).rate)
    throughput = spread(served).median
    note = f"{number_text(throughput)} requests/s; bare {number_text(spread(bare).median)} per second"
    name = f"throughput, {_MANY} callers ÷ bare forward from 2 threads, {subject.name}"
    return throughput, Row.of(name, ratio(served, bare), goal=goal, note=note)


def _tail(
    lab: Lab, subject: Subject, callers: Callers, folder: Path, throughput: float, goal: Goal | None
) -> Iterator[Finding]:
    # The slow model needs the longer time for as many calls.
    seconds = lab.effort.open_s * (2 if subject.name == "unet" else 1)
    found: dict[bool, list[list[float]]] = {False: [], True: []}
    for turn in range(lab.effort.open_turns):
        for is_poisson, latencies in found.items():
            task = Open(str(folder), _LOAD * throughput, seconds, is_poisson, turn)
            latencies.append(callers.run(task).latencies)
    for is_poisson, runs in found.items():
        ratios = [float(np.percentile(run, 99) / np.percentile(run, 50)) for run in runs]
        together = [latency for run in runs for latency in run]
        p50, p99 = (number_text(1000 * float(np.percentile(together, q))) for q in (50, 99))
        when = "random (Poisson) times" if is_poisson else "even intervals"
        note = f"{p99} ÷ {p50} ms, {len(together)} calls in {len(runs)} {'run' if len(runs) == 1 else 'runs'}"
        if is_poisson:
            note += f"; a perfect queue, one call at a time, each as long: {number_text(perfect_tail(_LOAD))}"
        yield Row.of(
            f"p99 ÷ p50 at {_LOAD:.0%} of that throughput, sent at {when}, {subject.name}",
            spread(ratios),
            # At random times not even a perfect queue would reach it.
            goal=None if is_poisson else goal,
            note=note,
        )


def perfect_tail(load: float, calls: int = 200_000) -> float:
    """Returns p99 ÷ p50 of calls at random times that all take equally long, one at a time, at a load below 1.

    This is the limit for a server whose every call uses the whole machine: nothing but chance makes calls wait.
    """
    gaps = np.random.default_rng(0).exponential(1 / load, calls)
    latencies, wait = np.empty(calls), 0.0
    for index, gap in enumerate(gaps):
        wait = max(0.0, wait - gap)
        wait += 1
        latencies[index] = wait
    return float(np.percentile(latencies, 99) / np.percentile(latencies, 50))


def _with_batching(lab: Lab, subject: Subject, to_plain: Callers, batching: Served, folder: Path) -> Row:
    rates: tuple[list[float], list[float]] = [], []
    task = Closed(str(folder), _MANY, lab.effort.load_s)
    with start_callers(batching.grpc, subject.name) as to_batching:
        to_batching.run(Closed(str(folder), _MANY, requests=3 * _MANY))
        for _ in range(lab.effort.load_turns):
            rates[0].append(to_batching.run(task).rate)
            rates[1].append(to_plain.run(task).rate)
    note = f"with {number_text(spread(rates[0]).median)}, without {number_text(spread(rates[1]).median)} requests/s"
    name = f"throughput, {_MANY} callers, with configs/serving/batching.config ÷ without, {subject.name}"
    return Row.of(name, ratio(*rates), note=note)


def _mixed_sizes(lab: Lab, subject: Subject, batching: Served) -> Row:
    edge = round((sum(width * height for width, height in _MIXED_SIZES) / len(_MIXED_SIZES)) ** 0.5)
    rates: dict[str, list[float]] = {}
    for kind, sizes in (("mixed", _MIXED_SIZES), ("same", [(edge, edge)])):
        files = pictures.variants(4 * len(_MIXED_SIZES), sizes)
        rates[str(pictures.write_files(files, lab.folder / subject.name / kind))] = []
    with start_callers(batching.grpc, subject.name) as callers:
        for folder in rates:
            callers.run(Closed(folder, _MANY, requests=3 * _MANY))
        for _ in range(lab.effort.load_turns):
            for folder, found in rates.items():
                found.append(callers.run(Closed(folder, _MANY, lab.effort.load_s)).rate)
    note = f"{len(_MIXED_SIZES)} sizes from 320×240 to 800×600, beside {edge}²; {_MANY} callers"
    if subject.edge is None:
        note += "; this model runs at each picture's own size"
    return Row.of(
        f"throughput, mixed sizes ÷ equal sizes, encoded, batching on, {subject.name}",
        ratio(*rates.values()),
        goal=at_least(0.95) if subject.name == "light" else None,
        note=note,
    )
