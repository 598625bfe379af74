import collections
import itertools

from maskport.serving.client import NO_RETRIES, RetryPolicy, ServerUnavailableError
from maskport.serving.client.calling.retries import Balancer, RetryBudget, may_repeat
from maskport.serving.client.errors import DeadlineExceededError
from maskport.serving.client.transport.addresses import parse_address
from maskport.serving.client.transport.calls import PredictCall, ReloadCall, StatusCall, Target
from maskport.serving.wire.messages import ModelServerConfig

A, B, C = (parse_address(f"grpc://{name}:1") for name in "abc")


class _Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_delays_double_up_to_the_longest_with_jitter():
    policy = RetryPolicy(first_delay_s=0.1, max_delay_s=1.0)
    for repetition, longest in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (5000, 1.0)):
        delays = {policy.delay_s(repetition) for _ in range(200)}
        assert longest / 2 <= min(delays) < longest * 0.6
        assert longest * 0.9 < max(delays) <= longest


def test_the_budget_is_spent_and_earned():
    budget = RetryBudget(RetryPolicy(budget=2, budget_per_call=0.5))
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend()
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


def test_only_unavailable_is_repeated_and_a_reload_only_if_it_was_never_sent():
    sent, unsent = ServerUnavailableError("x"), ServerUnavailableError("x")
    unsent.sent = False
    target = Target("m")
    reload_call, status = ReloadCall(ModelServerConfig()), StatusCall(target)
    assert may_repeat(status, sent)
    assert may_repeat(status, unsent)
    assert not may_repeat(reload_call, sent)
    assert may_repeat(reload_call, unsent)
    assert not may_repeat(status, DeadlineExceededError("x"))
    assert NO_RETRIES.max_attempts == 1
    assert PredictCall.name == "Predict"


def test_addresses_are_taken_in_turn():
    balancer = Balancer([A, B, C], _Clock())
    picked = [balancer.pick() for _ in range(9)]
    assert set(picked[:3]) == {A, B, C}
    assert picked[:3] * 3 == picked


def test_an_address_that_failed_rests_for_longer_each_time_and_is_back_when_it_works():
    clock = _Clock()
    balancer = Balancer([A, B], clock)
    rests = []
    for _ in range(9):
        balancer.report(B, works=False)
        began = clock.now
        while B not in {balancer.pick(), balancer.pick()}:
            clock.now += 0.05
        rests.append(clock.now - began)
    assert rests[0] < 0.3
    assert all(later > earlier - 0.06 for earlier, later in itertools.pairwise(rests))
    assert 9 < rests[-1] < 11
    balancer.report(B, works=True)
    balancer.report(B, works=False)
    clock.now += 0.25
    assert B in {balancer.pick(), balancer.pick()}


def test_when_all_have_failed_the_one_that_has_rested_longest_is_tried():
    clock = _Clock()
    balancer = Balancer([A, B, C], clock)
    for address in (B, A, C):
        balancer.report(address, works=False)
        clock.now += 0.01
    assert balancer.pick() == B


def test_the_share_of_each_address_is_even_when_one_of_three_is_out():
    balancer = Balancer([A, B, C], _Clock())
    balancer.report(C, works=False)
    counts = collections.Counter(balancer.pick() for _ in range(100))
    assert set(counts) == {A, B}
    assert abs(counts[A] - counts[B]) <= 2
