"""The client's procedures, written once for threads and asyncio.

A script is a generator that says step by step what is to be done, and is told what came of it. It does no I/O
and never waits: the clients carry out its steps, each in its own way.
"""

import dataclasses
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, TypeVar

from ..transport.addresses import Address
from ..transport.calls import Call

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Send:
    """Send a call to an address, once. Gives a `calls.Reply`, or raises a `MaskServingError`."""

    address: Address
    call: Call
    timeout_s: float
    pairs: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Pause:
    """Wait. Raises `ClientClosedError` when the client is closed meanwhile."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Compute:
    """Do something that keeps a processor or a disk busy. Gives its result."""

    function: Callable[[], Any]
    to_its_end: bool = False  # whether a caller that gives up waits for it: what it uses is let go of then


@dataclasses.dataclass(frozen=True)
class Together:
    """Run several scripts at one time. Gives the list of their results, or raises the first one's error."""

    scripts: "Sequence[Script[Any]]"


@dataclasses.dataclass(frozen=True)
class InTurn:
    """Run some scripts of many at one time, each taken when there is room, and hand their results on in order."""

    scripts: "Iterator[Script[Any]]"  # asked for the next as `Compute` would
    concurrency: int
    take: Callable[[Any], None]  # gets each result, likewise


Step = Send | Pause | Compute | Together | InTurn
Script = Generator[Step, Any, T]
