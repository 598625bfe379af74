"""Simulates a fleet of servers through an outage: which retries keep it alive, and which hold it under.

    scripts/simulate_fleet                     the tables and the plot of docs/scale.md
    scripts/simulate_fleet --load=8 --lost=6   another fleet; see --help

A discrete-event simulation (SimPy). The client is the real one: maskport's own procedures of balancing, retries, budget
and pace say when to send, where to, and when to give up; only the clock, the network and the servers are simulated. A
server works on two calls at one time, which take as long as the benchmark measured; others wait in its queue, and are
refused where that is full: UNAVAILABLE, as by a batching queue of TensorFlow Serving, or RESOURCE_EXHAUSTED, as by its
gRPC threads (`--grpc_max_threads`). Calls come at random (Poisson), from many client processes.
"""

import argparse
import dataclasses
import json
import random
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import simpy
from benchmarks.plots import write_plots
from benchmarks.results import Plot, Series
from maskport.serving.client import NO_RETRIES, RetryPolicy, errors
from maskport.serving.client.calling.observers import ObservedCall, Observer
from maskport.serving.client.calling.sending import Caller, Terms
from maskport.serving.client.calling.steps import Pause, Script, Send
from maskport.serving.client.transport.addresses import Address, parse_address
from maskport.serving.client.transport.calls import Reply, StatusCall, Target
from maskport.serving.client.transport.security import Credentials

ROOT = Path(__file__).resolve().parents[1]
CORES = 2
_CALL = StatusCall(Target("model"))  # whichever: none is carried out
_REFUSED_S = 0.001  # until a call that is not taken is answered
_ATTEMPT_S = 1.5

POLICIES = {
    "no retries": NO_RETRIES,
    "retries with the budget": RetryPolicy(attempt_timeout_s=_ATTEMPT_S),
    "retries without a budget": RetryPolicy(attempt_timeout_s=_ATTEMPT_S, budget=float("inf")),
}


@dataclasses.dataclass(frozen=True)
class Server:
    """How a server meets more calls than it can work on."""

    queue: int  # calls that it takes, those it works on included
    refusal: type[errors.MaskServingError] = errors.ServerUnavailableError
    notices: bool = False  # whether it drops calls whose callers have given up


SERVERS = {
    "8 gRPC threads, no queue": Server(8, errors.ServerBusyError),
    "short queue (8)": Server(8),
    "long queue (500)": Server(500),
    "long queue, drops abandoned calls": Server(500, notices=True),
}


@dataclasses.dataclass(frozen=True)
class Fleet:
    """What is simulated. Loads are in multiples of what one server answers; times in seconds."""

    rate: float  # calls per second that one server answers
    replicas: int = 13
    load: float = 10.0
    lost: int = 5
    outage: tuple[float, float] = (60.0, 90.0)
    seconds: float = 300.0
    server: Server = SERVERS["long queue (500)"]
    clients: int = 40
    deadline: float = 5.0
    policy: RetryPolicy = POLICIES["retries with the budget"]
    seed: int = 1


class Replica:
    """One server: a queue, and two calls of it under way."""

    def __init__(self, env: simpy.Environment, fleet: Fleet):
        self._env = env
        self._fleet = fleet
        self._queue = simpy.Store(env)
        self._taken: set[simpy.Event] = set()
        self.is_up = True
        for _ in range(CORES):
            env.process(self._work())

    def _work(self) -> Generator[simpy.Event, Any, None]:
        while True:
            job = yield self._queue.get()
            if job not in self._taken:
                continue
            yield self._env.timeout(CORES / self._fleet.rate)
            if job in self._taken:
                self._taken.remove(job)
                job.succeed()

    def answer(self, timeout_s: float) -> Generator[simpy.Event, Any, None]:
        """Takes a call; raises what a client would see."""
        if not self.is_up:
            yield self._env.timeout(_REFUSED_S)
            error = errors.ServerUnavailableError("connection refused")
            error.sent = False
            raise error
        if len(self._taken) >= self._fleet.server.queue:
            yield self._env.timeout(_REFUSED_S)
            raise self._fleet.server.refusal("the queue is full")
        job = self._env.event()
        self._taken.add(job)
        self._queue.put(job)
        yield job | self._env.timeout(timeout_s)  # a job that fails raises here
        if not job.triggered:
            if self._fleet.server.notices:
                self._taken.discard(job)
            raise errors.DeadlineExceededError("no answer in time")

    def lose(self) -> None:
        """Ends as a machine does that is taken away: with all that it had."""
        self.is_up = False
        for job in self._taken:
            job.fail(errors.ServerUnavailableError("connection lost"))
            job.defused = True  # nobody may wait for it any more
        self._taken.clear()


class _Counts(Observer):
    """How calls ended, by the second in which they began."""

    def __init__(self, env: simpy.Environment):
        self._env = env
        self.answered: Counter[int] = Counter()
        self.asked: Counter[int] = Counter()
        self.attempts: Counter[int] = Counter()

    def call_ended(self, call: ObservedCall) -> None:
        second = int(self._env.now - call.seconds)
        self.asked[second] += 1
        self.attempts[second] += call.attempts
        self.answered[second] += call.error is None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a fleet's calls: counts for each second, of those that began in it."""

    fleet: Fleet
    asked: Sequence[int]
    answered: Sequence[int]
    attempts: Sequence[int]

    def share(self, begin: float, end: float) -> float:
        """Returns the share of calls answered, of those that began in a span of time."""
        span = slice(int(begin), int(end))
        return sum(self.answered[span]) / max(1, sum(self.asked[span]))

    def attempts_a_call(self, begin: float, end: float) -> float:
        """Returns how often each call was sent, on average, of those that began in a span of time."""
        span = slice(int(begin), int(end))
        return sum(self.attempts[span]) / max(1, sum(self.asked[span]))

    @property
    def recovery_s(self) -> float | None:
        """Seconds from the outage's end until 99 of 100 calls are answered for ten seconds on end; None for never."""
        over = int(self.fleet.outage[1])
        for second in range(over, len(self.answered) - 10):
            if self.share(second, second + 10) >= 0.99:
                return second - over
        return None


def simulate(fleet: Fleet) -> Outcome:
    """Runs a fleet through its outage; the same fleet always gives the same outcome."""
    random.seed(fleet.seed)  # the client's waits are random, too
    env = simpy.Environment()
    addresses = [parse_address(f"grpc://10.0.0.{number + 1}:8500") for number in range(fleet.replicas)]
    replicas = {address: Replica(env, fleet) for address in addresses}
    counts = _Counts(env)
    for _ in range(fleet.clients):
        caller = Caller(
            addresses, credentials=Credentials(), retries=fleet.policy, observers=[counts],
            clock=lambda: env.now,
        )  # fmt: skip
        env.process(_send_calls(env, fleet, caller, replicas))
    env.process(_outage(env, fleet, list(replicas.values())[: fleet.lost]))
    env.run(fleet.seconds)
    # Calls that began in the last seconds have not ended.
    seconds = range(int(fleet.seconds - fleet.deadline))
    return Outcome(
        fleet, *([by[second] for second in seconds] for by in (counts.asked, counts.answered, counts.attempts))
    )


def _send_calls(
    env: simpy.Environment, fleet: Fleet, caller: Caller, replicas: dict[Address, Replica]
) -> Generator[simpy.Event, Any, None]:
    while True:
        yield env.timeout(random.expovariate(fleet.rate * fleet.load / fleet.clients))
        script = caller.call(_CALL, Terms(deadline=env.now + fleet.deadline))
        env.process(_carry_out(env, script, replicas))


def _carry_out(
    env: simpy.Environment, script: Script[Reply], replicas: dict[Address, Replica]
) -> Generator[simpy.Event, Any, None]:
    """Does what a call's script says, as the clients do it in threads and in asyncio."""
    answer: Reply | None = None
    error: errors.MaskServingError | None = None
    while True:
        try:
            step = script.send(answer) if error is None else script.throw(error)
        except (StopIteration, errors.MaskServingError):
            return
        answer, error = None, None
        if isinstance(step, Pause):
            yield env.timeout(step.seconds)
        elif isinstance(step, Send):
            try:
                yield from replicas[step.address].answer(step.timeout_s)
                answer = Reply(None, 0, 0)
            except errors.MaskServingError as failed:
                error = failed


def _outage(env: simpy.Environment, fleet: Fleet, lost: Sequence[Replica]) -> Generator[simpy.Event, Any, None]:
    begin, end = fleet.outage
    yield env.timeout(begin)
    for replica in lost:
        replica.lose()
    yield env.timeout(end - begin)
    for replica in lost:
        replica.is_up = True


def measured_rate(model: str) -> float:
    """Returns calls per second of one server of two cores with 16 callers, as the benchmark's last run has it."""
    results = json.loads((ROOT / "docs/benchmarks/results.json").read_text())
    (load,) = [group for group in results["groups"] if group["name"] == "load"]
    cells = {row[0]: row[1] for table in load["tables"] for row in table["lines"]}
    return float(str(cells[f"{model}, 16"]).replace(",", ""))


def _cells(outcome: Outcome) -> list[str]:
    end = len(outcome.asked)
    recovery = outcome.recovery_s
    return [
        f"{outcome.share(*outcome.fleet.outage):.0%}",
        f"{outcome.share(end - 30, end):.1%}",
        f"{outcome.attempts_a_call(end - 30, end):.2f}",
        "never" if recovery is None else f"{recovery:.0f} s",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="unet", help="whose measured rate is taken: unet or light (slow to simulate)"
    )
    parser.add_argument("--replicas", type=int, default=Fleet.replicas, help="servers (%(default)s)")
    parser.add_argument("--lost", type=int, default=Fleet.lost, help="of them are gone for half a minute (%(default)s)")
    parser.add_argument("--load", type=float, default=Fleet.load, help="in multiples of one server's (%(default)s)")
    parser.add_argument("--plot_dir", type=Path, help="where fleet.svg goes; none is drawn without it")
    words = parser.parse_args()
    if not 0 <= words.lost < words.replicas:
        parser.error(f"--lost={words.lost}: of {words.replicas} replicas, some must be left")

    fleet = Fleet(measured_rate(words.model), replicas=words.replicas, lost=words.lost, load=words.load)
    begin, end = fleet.outage
    servers = f"{fleet.replicas} servers of {fleet.rate:g} calls/s (measured)"
    print(f"{servers}, {fleet.lost} of them gone from {begin:g} to {end:g} s")
    print(f"load: {fleet.load:g} servers' ({fleet.load / fleet.replicas:.0%} of all); deadline {fleet.deadline:g} s\n")
    print("| server | client | answered in the outage | in the last 30 s | attempts a call then | all well after |")
    print("|---|---|--:|--:|--:|--:|")
    series = []
    for kind, server in SERVERS.items():
        for name, policy in POLICIES.items():
            outcome = simulate(dataclasses.replace(fleet, server=server, policy=policy))
            print(f"| {kind} | {name} | {' | '.join(_cells(outcome))} |", flush=True)
            if server == fleet.server:
                points = range(0, len(outcome.answered) - 5, 5)
                series.append(Series(name, list(points), [100 * outcome.share(at, at + 5) for at in points]))
    print("\nThe same share of the servers lost, each with the long queue\n")
    print("| servers | load | with the budget, in the last 30 s | all well after | without it | all well after |")
    print("|--:|--:|--:|--:|--:|--:|")
    for replicas in range(round(fleet.load) + 1, round(1.8 * fleet.load) + 1, 2):
        cells = [f"{replicas}", f"{fleet.load / replicas:.0%}"]
        lost = round(replicas * fleet.lost / fleet.replicas)
        for policy in list(POLICIES.values())[1:]:
            cells += _cells(simulate(dataclasses.replace(fleet, replicas=replicas, lost=lost, policy=policy)))[1::2]
        print(f"| {' | '.join(cells)} |", flush=True)
    if words.plot_dir:
        words.plot_dir.mkdir(parents=True, exist_ok=True)
        title = (
            f"Calls answered, of each 100; {fleet.lost} of {fleet.replicas} servers gone from {begin:g} to {end:g} s"
        )
        plot = Plot("fleet", title, "seconds", "answered, %", series, is_log_x=False, is_log_y=False)
        write_plots([plot], words.plot_dir)


if __name__ == "__main__":
    main()
