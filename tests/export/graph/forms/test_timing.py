import time

import pytest
from maskport.export.graph.forms.timing import median_seconds


def test_calls_are_made_in_turn_after_a_round_that_does_not_count():
    made = []

    def call(name, seconds):
        made.append(name)
        # The first call is slow, as that of a graph is.
        time.sleep(seconds if made.count(name) > 1 else 1)

    found = median_seconds({"a": lambda: call("a", 0.01), "b": lambda: call("b", 0.2)}, rounds=3)
    assert made == ["a", "b"] * 4
    assert 0.01 <= found["a"] < found["b"] < 1


@pytest.mark.parametrize(("budget_s", "rounds"), [(0.0, 1), (0.05, 3)])
def test_no_round_begins_after_the_budget(budget_s, rounds):
    made = []
    median_seconds({"a": lambda: made.append(time.sleep(0.02))}, 100, budget_s)
    assert 2 <= len(made) <= rounds + 1
