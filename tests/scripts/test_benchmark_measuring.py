import gc

import pytest
from benchmarks import measuring


class FakeClock:
    """Stands still but for what calls take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def call_taking(self, *seconds):
        remaining = list(seconds)

        def call():
            self.now += remaining.pop(0)

        return call


def test_calls_are_timed_in_turn_and_warm_up_rounds_do_not_count():
    clock, order = FakeClock(), []

    def noted(name, call):
        return lambda: (order.append(name), call())

    calls = {
        "a": noted("a", clock.call_taking(100, 1, 2, 3)),
        "b": noted("b", clock.call_taking(200, 10, 20, 30)),
    }
    found = measuring.take_turns(calls, rounds=3, warmup=1, clock=clock)
    assert order == ["a", "b"] * 4
    assert found == {"a": [1, 2, 3], "b": [10, 20, 30]}


def test_calls_that_settle_are_made_for_so_long_before_each_that_counts():
    clock = FakeClock()
    calls = {"a": clock.call_taking(100, 5, 7, 7, 1, 8, 8, 2), "b": clock.call_taking(200, 6, 70, 10, 80, 20)}
    found = measuring.take_turns(calls, rounds=2, warmup=1, settle_s=14, clock=clock)
    assert found == {"a": [1, 2], "b": [10, 20]}


def test_no_round_begins_beyond_the_budget_once_three_are_done():
    clock = FakeClock()
    found = measuring.take_turns({"a": clock.call_taking(*[4] * 10)}, rounds=10, warmup=0, budget_s=13, clock=clock)
    assert found == {"a": [4, 4, 4, 4]}
    slow = measuring.take_turns({"a": clock.call_taking(*[40] * 10)}, rounds=10, warmup=0, budget_s=13, clock=clock)
    assert slow == {"a": [40, 40, 40]}


def test_the_collector_is_off_while_calls_are_timed_and_on_again_afterwards():
    states = []
    measuring.take_turns({"a": lambda: states.append(gc.isenabled())}, rounds=2, warmup=1)
    assert states == [True, False, False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        measuring.take_turns({"a": lambda: 1 / 0}, rounds=1, warmup=0)
    assert gc.isenabled()


def test_quartiles_lie_linearly_between_neighbours():
    # Of 1 to 5 the quartiles are members; of four values they lie a quarter of the way to the neighbour.
    assert measuring.spread([5, 1, 4, 2, 3]) == measuring.Spread(3, 2, 4, 5)
    assert measuring.spread([40, 10, 20, 30]) == measuring.Spread(25, 17.5, 32.5, 4)
    assert measuring.spread([7]) == measuring.Spread(7, 7, 7, 1)
    assert measuring.spread([2, 4]).scaled(1000) == measuring.Spread(3000, 2500, 3500, 2)


def test_a_ratio_is_that_of_pairs_not_of_medians():
    # The medians' ratio would be 20 / 10 = 2; the machine was slow in the last round, for both.
    found = measuring.ratio([20, 10, 60], [10, 10, 20])
    assert found == measuring.Spread(2, 1.5, 2.5, 3)
    assert measuring.ratio([10, 10, 90], [1, 10, 30]).median == 3
    assert measuring.difference([20, 10, 60], [10, 9, 20]).median == 10


def test_a_steady_rate_leaves_out_how_calls_begin_and_end():
    # Two callers: calls end at 1, 1, 2, 2 … 5, 5; from the second to the last but one are 7 steps in 4 s.
    ends = [second for second in range(1, 6) for _ in range(2)]
    assert measuring.steady_rate(ends, callers=2) == 7 / 4
    assert measuring.steady_rate([0, 1, 2, 3], callers=1) == 1
    # The first calls of four callers wait for a slow start at 10; the rate after it is 2 per second.
    assert measuring.steady_rate([10, 10, 10, 10, 10.5, 11, 11.5, 12, 12.5, 13], callers=4) == 2
    with pytest.raises(ValueError, match="3 calls of 2 callers are too few"):
        measuring.steady_rate([1, 2, 3], callers=2)
