"""One call, sent until it is answered: choosing a server, repeating, telling observers."""

import dataclasses
from collections.abc import Callable, Sequence

from .addresses import Address
from .calls import Call, Reply, context_of
from .errors import CallCancelledError, DeadlineExceededError, MaskServingError, ServerUnavailableError
from .observers import ObservedCall, Observer
from .retries import Balancer, RetryBudget, RetryPolicy, may_repeat
from .security import Credentials, Metadata
from .steps import Pause, Script, Send

_SHORT_ATTEMPT_S = 0.2


@dataclasses.dataclass(frozen=True)
class Terms:
    """What the caller allows and adds.

    Attributes:
        deadline: the clock's time at which it must be over.
        pairs: metadata, besides the client's own.
    """

    deadline: float
    pairs: Metadata = ()


class Caller:
    """Sends calls to one or more servers that serve the same.

    Args:
        addresses: of the servers.
        credentials: sent with every call.
        retries: how calls are repeated.
        observers: told of every call.
        clock: seconds that never go back.
    """

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

    def call(self, call: Call, terms: Terms) -> Script[Reply]:
        """Sends a call until it is answered, as the retry policy allows.

        Args:
            call: what to send.
            terms: of the call.
        """
        observed = ObservedCall(call.name, context_of(call))
        started = self.clock()
        for observer in self._observers:
            observer.call_started(observed)
        try:
            reply: Reply = yield from self._attempts(call, terms, observed)
        except BaseException as error:
            if isinstance(error, MaskServingError):
                error.add_context(dataclasses.replace(observed.context, address=observed.address or None))
                observed.error = error
            else:
                observed.error = CallCancelledError("the caller gave up", context=observed.context)
            raise
        else:
            observed.request_bytes, observed.response_bytes = reply.request_bytes, reply.response_bytes
            return reply
        finally:
            observed.seconds = self.clock() - started
            for observer in self._observers:
                observer.call_ended(observed)

    def _attempts(self, call: Call, terms: Terms, observed: ObservedCall) -> Script[Reply]:
        self._budget.earn()
        previous: MaskServingError | None = None
        while True:
            remaining_s = terms.deadline - self.clock()
            if remaining_s <= 0:
                raise previous or DeadlineExceededError("the deadline had passed before the call was sent")
            address = self._balancer.pick()
            observed.address = str(address)
            observed.attempts += 1
            attempt_s = min(remaining_s, self._retries.attempt_timeout_s or remaining_s)
            try:
                sent = self._pairs(address, terms.pairs, observed)
                reply: Reply = yield Send(address, call, attempt_s, sent)
            except MaskServingError as error:
                if isinstance(error, ServerUnavailableError | DeadlineExceededError):
                    self._balancer.report(address, works=False)
                if isinstance(error, DeadlineExceededError) and attempt_s < remaining_s:
                    error = _attempt_timed_out(error, attempt_s)
                elif isinstance(error, DeadlineExceededError) and previous and attempt_s < _SHORT_ATTEMPT_S:
                    raise previous from error  # the last moments tell less than what went before
                delay_s = self._delay_s(call, error, observed.attempts, terms.deadline)
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
                self._balancer.report(address, works=True)
                return dataclasses.replace(reply, address=str(address))

    def _delay_s(self, call: Call, error: MaskServingError, attempts: int, deadline: float) -> float | None:
        """Returns how long to wait before the next attempt; None if there is to be none."""
        policy = self._retries
        if policy.max_attempts is not None and attempts >= policy.max_attempts:
            return None
        if not may_repeat(call, error):
            return None
        # Another address may work at once; when all have failed, they get time.
        rounds = attempts - self._balancer.count + 1
        delay_s = policy.delay_s(rounds) if rounds > 0 else 0.0
        if self.clock() + delay_s >= deadline:
            return None
        costs = not isinstance(error, ServerUnavailableError) or error.sent
        return None if costs and not self._budget.spend() else delay_s

    def _pairs(self, address: Address, pairs: Metadata, observed: ObservedCall) -> Metadata:
        sent = self._credentials.for_call(address, pairs)
        for observer in self._observers:
            sent += observer.metadata(observed)
        return sent


def _attempt_timed_out(error: DeadlineExceededError, attempt_s: float) -> ServerUnavailableError:
    late = ServerUnavailableError(f"no answer to one attempt in {attempt_s:g} s", server_message=error.server_message)
    late.__cause__ = error
    return late
