"""When a failed call is sent again, and to which address."""

import dataclasses
import random
import threading
from collections.abc import Callable, Sequence

from ..errors import MaskServingError, ServerBusyError, ServerUnavailableError
from ..transport.addresses import Address
from ..transport.calls import Call, ReloadCall


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """How calls are repeated that found no server, or one that says UNAVAILABLE.

    Everything happens within the call's deadline. Calls that cannot have reached a server (no connection
    could be made) are repeated until then. Those that may have are repeated too, as a prediction changes
    nothing; but they cost the server work, so a budget bounds their number over all calls of the client:
    when a server drowns, retries must not hold it under. A call that was refused before it began, as all of the
    server's threads were busy, costs no budget; it waits, and the client makes fewer calls at one time.

    Attributes:
        first_delay_s: before the first repetition; each further one waits twice as long. All are shortened at
            random by up to a half, so that many clients do not return at one time.
        max_delay_s: longest wait.
        max_attempts: of one call; None leaves it to the deadline. 1 switches retries off.
        counts_refusals: whether attempts that a busy server refused before they began count among those.
        attempt_timeout_s: how long one attempt may take; None is all the time there is. With several
            addresses, something well above the model's slowest answer moves calls off a server that swallows
            them.
        budget: repetitions that may be made at once.
        budget_per_call: what each call gives back to the budget.
    """

    first_delay_s: float = 0.05
    max_delay_s: float = 1.0
    max_attempts: int | None = None
    counts_refusals: bool = True
    attempt_timeout_s: float | None = None
    budget: float = 20.0
    budget_per_call: float = 0.2

    def delay_s(self, repetition: int) -> float:
        """Returns how long to wait before a repetition, the first being 1."""
        longest = min(self.max_delay_s, self.first_delay_s * 2.0 ** min(repetition - 1, 30))
        return longest * random.uniform(0.5, 1.0)


NO_RETRIES = RetryPolicy(max_attempts=1)


class RetryBudget:
    """What is left of a policy's budget; shared by all calls of a client."""

    def __init__(self, policy: RetryPolicy):
        self._policy = policy
        self._left = policy.budget
        self._lock = threading.Lock()

    def earn(self) -> None:
        """Gives back what one call is worth."""
        with self._lock:
            self._left = min(self._policy.budget, self._left + self._policy.budget_per_call)

    def spend(self) -> bool:
        """Takes one repetition from the budget; False if it is used up."""
        with self._lock:
            if self._left < 1:
                return False
            self._left -= 1
            return True


def may_repeat(call: Call, error: MaskServingError) -> bool:
    """Returns whether sending a call again can help, and does no harm."""
    if isinstance(error, ServerBusyError):
        return True
    if not isinstance(error, ServerUnavailableError):
        return False
    # Told twice to load models, a server might load them twice.
    return not error.sent or not isinstance(call, ReloadCall)


class Balancer:
    """Takes addresses of servers that serve the same in turn, and leaves out for a while those that failed."""

    _FIRST_REST_S = 0.2
    _LONGEST_REST_S = 10.0

    def __init__(self, addresses: Sequence[Address], clock: Callable[[], float]):
        self._addresses = tuple(addresses)
        self._failures = dict.fromkeys(addresses, 0)
        self._rests_until = dict.fromkeys(addresses, 0.0)
        self._clock = clock
        self._next = random.randrange(len(self._addresses))
        self._lock = threading.Lock()

    def pick(self) -> Address:
        """Returns the next address that works, or else the one whose rest is over first."""
        with self._lock:
            now = self._clock()
            count = len(self._addresses)
            in_turn = [self._addresses[(self._next + step) % count] for step in range(count)]
            working = [address for address in in_turn if self._rests_until[address] <= now]
            picked = working[0] if working else min(in_turn, key=lambda address: self._rests_until[address])
            self._next = (self._addresses.index(picked) + 1) % count
            return picked

    def report(self, address: Address, *, works: bool) -> None:
        """Notes whether an address answered."""
        with self._lock:
            if works:
                self._failures[address], self._rests_until[address] = 0, 0.0
                return
            rest_s = min(self._LONGEST_REST_S, self._FIRST_REST_S * 2.0 ** min(self._failures[address], 20))
            self._failures[address] += 1
            self._rests_until[address] = self._clock() + rest_s
