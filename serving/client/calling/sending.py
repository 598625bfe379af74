"""One call, sent until it is answered: choosing a server, repeating, telling observers."""

import bisect
import dataclasses
import itertools
import random
import threading
from collections.abc import Callable, Sequence

from .. import errors
from ..transport.addresses import Address
from ..transport.calls import Call, Reply, context_of
from ..transport.security import Credentials, Metadata, as_metadata
from .observers import ObservedCall, Observer
from .pacing import Pace
from .retries import Balancer, RetryBudget, RetryPolicy, may_repeat
from .steps import Pause, Script, Send

_SHORT_ATTEMPT_S = 0.2
# Who waits for its turn looks so often whether it is there; the further back it is, the more seldom.
_LOOK_S = 0.002
_LONGEST_LOOK_S = 0.2


@dataclasses.dataclass
class Terms:
    """What the caller allows and adds."""

    deadline: float  # the clock's time at which it must be over
    pairs: Metadata = ()  # besides the client's own
    # Seconds that a call of many has once its turn has come: while others of the client are answered, it is no failure
    # to wait for a busy server, and the deadline moves on. None leaves the deadline as it is.
    turn_s: float | None = None


class Caller:
    """Sends calls to one or more servers that serve the same; the clock gives seconds that never go back."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        credentials: Credentials,
        retries: RetryPolicy,
        observers: Sequence[Observer],
        clock: Callable[[], float],
    ):
        self.addresses = tuple(addresses)
        self.clock = clock
        self._credentials = credentials
        self._retries = retries
        self._observers = tuple(observers)
        self._balancer = Balancer(addresses, clock)
        self._budget = RetryBudget(retries)
        self._paces = {address: Pace() for address in self.addresses}
        self._numbers = itertools.count()
        self._waiting: list[int] = []
        self._answered_at = float("-inf")
        self._lock = threading.Lock()
        self.refusals = 0
        """Attempts that a busy server refused before they began."""

    def call(self, call: Call, terms: Terms) -> Script[Reply]:
        """Sends a call until it is answered, as the retry policy allows."""
        observed = ObservedCall(call.name, context_of(call))
        started = self.clock()
        for observer in self._observers:
            observer.call_started(observed)
        try:
            reply: Reply = yield from self._attempts(call, terms, observed)
            observed.request_bytes, observed.response_bytes = reply.request_bytes, reply.response_bytes
            return reply
        except BaseException as error:
            if isinstance(error, errors.MaskServingError):
                error.add_context(dataclasses.replace(observed.context, address=observed.address or None))
                observed.error = error
            else:
                observed.error = errors.CallCancelledError("the caller gave up", context=observed.context)
            raise
        finally:
            observed.seconds = self.clock() - started
            for observer in self._observers:
                observer.call_ended(observed)

    def _attempts(self, call: Call, terms: Terms, observed: ObservedCall) -> Script[Reply]:
        self._budget.earn()
        previous: errors.MaskServingError | None = None
        refusals = 0
        number = next(self._numbers)
        while True:
            if terms.deadline <= self.clock():
                raise previous or errors.DeadlineExceededError("the deadline had passed before the call was sent")
            address = yield from self._turn(number, terms, previous)
            remaining_s = terms.deadline - self.clock()
            observed.address = str(address)
            observed.attempts += 1
            attempt_s = min(remaining_s, self._retries.attempt_timeout_s or remaining_s)
            try:
                reply = yield from self._attempt(address, call, attempt_s, terms, observed)
            except errors.MaskServingError as error:
                if isinstance(error, errors.ServerUnavailableError | errors.DeadlineExceededError):
                    self._balancer.report(address, works=False)
                if isinstance(error, errors.DeadlineExceededError) and attempt_s < remaining_s:
                    late, words = error, f"no answer to one attempt in {attempt_s:g} s"
                    error = errors.ServerUnavailableError(words, server_message=late.server_message)
                    error.__cause__ = late
                elif isinstance(error, errors.DeadlineExceededError) and previous and attempt_s < _SHORT_ATTEMPT_S:
                    raise previous from error  # the last moments tell less than what went before
                if isinstance(error, errors.ServerBusyError):
                    refusals += 1
                    with self._lock:
                        self.refusals += 1
                    self._move_deadline(terms)
                delay_s = self._delay_s(call, error, observed.attempts, refusals, terms.deadline)
                if delay_s is None:
                    if observed.attempts > 1:
                        error.problem += f" (after {observed.attempts} attempts)"
                    raise error from error.__cause__
                for observer in self._observers:
                    observer.attempt_failed(observed, error, delay_s)
                previous = error
                if delay_s > 0:
                    yield Pause(delay_s)
            else:
                self._answered_at = self.clock()
                self._balancer.report(address, works=True)
                return dataclasses.replace(reply, address=str(address))

    def _attempt(
        self, address: Address, call: Call, attempt_s: float, terms: Terms, observed: ObservedCall
    ) -> Script[Reply]:
        """Sends a call whose turn it is, once."""
        refused = False
        try:
            pairs = self._credentials.for_call(address, terms.pairs)
            for observer in self._observers:
                pairs += as_metadata(observer.metadata(observed))
            reply: Reply = yield Send(address, call, attempt_s, pairs)
            return reply
        except errors.ServerBusyError:
            refused = True
            raise
        finally:
            self._paces[address].leave(refused=refused)

    def _turn(self, number: int, terms: Terms, previous: errors.MaskServingError | None) -> Script[Address]:
        """Waits until an address takes one call more; gives it, and counts the call as under way there.

        What was begun first (has the lower number) goes first; `previous` is what its last attempt failed with.
        """
        if not self._waiting and (address := self._free_address()) is not None:
            return address
        with self._lock:
            bisect.insort(self._waiting, number)
        try:
            while True:
                position = bisect.bisect_left(self._waiting, number)
                if position == 0 and (address := self._free_address()) is not None:
                    return address
                self._move_deadline(terms)
                remaining_s = terms.deadline - self.clock()
                if remaining_s <= 0:
                    limits = sum(pace.limit or 0 for pace in self._paces.values())
                    raise previous or errors.ServerBusyError(
                        f"its turn did not come in time: the server takes {limits} calls of this client at one time"
                    )
                look_s = min(_LOOK_S * (position + 1), _LONGEST_LOOK_S) * random.uniform(0.5, 1.0)
                yield Pause(min(look_s, remaining_s))
        finally:
            with self._lock:
                self._waiting.remove(number)

    def _free_address(self) -> Address | None:
        for _ in range(len(self.addresses)):
            address = self._balancer.pick()
            if self._paces[address].enter():
                return address
        return None

    def _move_deadline(self, terms: Terms) -> None:
        if terms.turn_s is not None:
            terms.deadline = max(terms.deadline, self._answered_at + terms.turn_s)

    def _delay_s(
        self, call: Call, error: errors.MaskServingError, attempts: int, refusals: int, deadline: float
    ) -> float | None:
        """Returns how long to wait before the next attempt; None if there is to be none."""
        policy = self._retries
        counted = attempts if policy.counts_refusals else attempts - refusals
        if policy.max_attempts is not None and counted >= policy.max_attempts:
            return None
        if not may_repeat(call, error):
            return None
        # Another address may work at once; when all have failed, they get time.
        rounds = attempts - len(self.addresses) + 1
        delay_s = policy.delay_s(rounds) if rounds > 0 else 0.0
        if self.clock() + delay_s >= deadline:
            return None
        costs = isinstance(error, errors.ServerUnavailableError) and error.sent
        return None if costs and not self._budget.spend() else delay_s
