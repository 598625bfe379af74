"""Operators that look up, write and find."""

import itertools

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

X = drawn(3, 4, 5)


def integers(*numbers):
    return np.array(numbers, np.int64)


def test_looked_up():
    check(
        *(
            Case("Gather", X, indices, axis=axis)
            for indices in (np.int64(-1), integers(2, 0, -1), integers(*[[0, 1], [-1, 2]]))
            for axis in (0, 1, -1)
        ),
        Case("Gather", X, integers(1, -1), fed=2, axis=1),
        Case("GatherElements", X, drawn(3, 2, 5, low=-4, high=3, dtype=np.int64), axis=1),
        Case("GatherElements", X, drawn(3, 4, 2, low=0, high=4, dtype=np.int64), fed=2, axis=-1),
        Case("GatherND", X, integers([0, 1], [2, -1])),
        Case("GatherND", X, drawn(3, 2, 1, low=0, high=3, dtype=np.int64), batch_dims=1),
    )


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_written(reduction):
    places = integers([0, 1], [2, -1]) if reduction == "none" else integers([0, 1], [2, -1], [0, 1])
    elements = integers([0, 1, 2, 3, 0], [1, -1, 0, 2, 3])[np.newaxis]
    check(
        Case("ScatterND", X, places, drawn(len(places), 5), reduction=reduction),
        Case("ScatterElements", X, elements, drawn(1, 2, 5), axis=1, reduction=reduction),
    )


def test_found():
    flags = drawn(3, 4, low=0, high=1, dtype=np.int32)
    check(
        Case("NonZero", flags),
        Case("Compress", X, np.array([True, False, True]), axis=1),
        Case("Compress", X, X[0, 0] > 0),
        Case("OneHot", integers(0, 2, -1), np.int64(4), np.array([0.5, 2], np.float32)),
        Case("OneHot", integers(0, 2, -1), np.int64(4), np.array([0, 1], np.int64), axis=0),
        Case("OneHot", integers(0, 2, -1), np.int64(4), np.array([0, 1], np.int64), axis=-2),
    )


def test_largest_and_sums():
    k = integers(2)
    check(
        *(
            Case("TopK", X, k, axis=axis, largest=largest, outputs=2)
            for axis, largest in itertools.product((0, -1), (0, 1))
        ),
        *(
            Case("CumSum", X, np.int64(axis), exclusive=e, reverse=r)
            for axis, e, r in ((1, 0, 0), (-1, 1, 0), (0, 1, 1))
        ),
        Case("Trilu", X),
        Case("Trilu", X, np.int64(1)),
        Case("Trilu", X, np.int64(-1), upper=0),
        Case("EyeLike", X[0], k=1),
    )


def test_the_largest_before_opset_10():
    check(Case("TopK", X, outputs=2, k=2, axis=1), opset=9)
