"""Reductions and shares, over axes and layouts."""

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

X = drawn(2, 3, 4, 5, low=0.5, high=2.0)


@pytest.mark.parametrize("keeps", [0, 1])
def test_reduced(keeps):
    names = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
    axes = np.array([-1, 1])
    check(*(Case(f"Reduce{name}", X, axes, keepdims=keeps) for name in names))
    check(*(Case(f"Reduce{name}", X, keepdims=keeps) for name in names))
    check(*(Case(f"Reduce{name}", X, axes=[2, 3], keepdims=keeps) for name in names if name != "Sum"), opset=12)
    check(Case("ReduceSum", X, np.array([], np.int64), noop_with_empty_axes=1, keepdims=keeps))


def test_where_the_extremes_are():
    ties = np.round(drawn(2, 3, 4, low=0.0, high=2.0))
    check(
        *(
            Case(name, ties, axis=axis, keepdims=keeps, select_last_index=last)
            for name in ("ArgMax", "ArgMin")
            for axis, keeps, last in ((1, 1, 0), (-1, 0, 1), (0, 0, 0))
        )
    )


def test_shares():
    names = ("Softmax", "LogSoftmax", "Hardmax")
    check(*(Case(name, X, axis=axis) for name in names for axis in (1, -1, 0)), *(Case(name, X) for name in names))
    check(*(Case(name, X, axis=axis) for name in names for axis in (1, 2, 3)), opset=11)
