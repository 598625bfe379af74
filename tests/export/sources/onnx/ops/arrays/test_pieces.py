"""Operators that join, cut, pad and rearrange."""

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

X = drawn(2, 4, 6, 8)
FAR = 2**63 - 1


def sizes(*numbers):
    return np.array(numbers, np.int64)


def test_joined():
    check(*(Case("Concat", X, X[:, ::-1], X, fed=2, axis=axis) for axis in (0, 1, 2, -1)))
    check(Case("Concat", sizes(1, 2), sizes(3), fed=1, axis=0))


def test_split():
    check(
        Case("Split", X, sizes(1, 3), axis=1, outputs=2),
        Case("Split", X, sizes(2, 2, 4), axis=-1, outputs=3),
        Case("Split", X, axis=1, num_outputs=3, outputs=3),
    )
    check(Case("Split", X, axis=2, outputs=3), opset=13)
    check(Case("Split", X, axis=1, split=[3, 1], outputs=2), Case("Split", X, axis=1, outputs=2), opset=11)


def test_cut():
    check(
        Case("Slice", X, sizes(1), sizes(3), sizes(1)),
        Case("Slice", X, sizes(0, 1), sizes(2, FAR), sizes(0, -1)),
        Case("Slice", X, sizes(-3), sizes(-1), sizes(2)),
        Case("Slice", X, sizes(1), sizes(FAR), sizes(3), sizes(2)),
        Case("Slice", X, sizes(-1), sizes(-FAR), sizes(2), sizes(-1)),
        Case("Slice", X, sizes(5), sizes(1), sizes(2), sizes(-2)),
        Case("Slice", X, sizes(0, 0), sizes(1, 2)),
        Case("Slice", X, sizes(20), sizes(FAR), sizes(1)),
        Case("Slice", X, sizes(-99), sizes(99), sizes(3)),
    )
    check(Case("Slice", X, starts=[1, 0], ends=[3, FAR], axes=[1, 2]), opset=9)


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
def test_padded(mode):
    check(
        Case("Pad", X, sizes(0, 0, 1, 2, 0, 0, 3, 4), mode=mode),
        Case("Pad", X, sizes(0, 1, 0, 0, 0, 2, 0, 0), mode=mode),
        Case("Pad", X, sizes(2, 1, 0, 3), None, sizes(-1, 2), mode=mode),
        opset=19,
    )
    check(Case("Pad", X, pads=[0, 0, 1, 0, 0, 0, 2, 3], mode="constant" if mode == "wrap" else mode), opset=9)


def test_padded_by_a_value_or_cropped():
    pads = sizes(0, 0, 1, -2, 0, 0, -3, 4)
    check(Case("Pad", X, pads, np.float32(7)), Case("Pad", X, pads), Case("Pad", X, pads, mode="edge"))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks_of_pixels(mode):
    check(Case("DepthToSpace", X, blocksize=2, mode=mode), Case("SpaceToDepth", X, blocksize=2))


@pytest.mark.parametrize(
    ("size", "kernel", "attributes"),
    [
        ((6, 9), (2, 3), {"strides": [2, 3]}),  # as MobileViT puts its patches together
        ((7, 9), (2, 3), {"strides": [2, 3]}),  # a row is left out
        ((6, 5), (3, 2), {}),
        ((7, 8), (3, 3), {"strides": [2, 1], "pads": [1, 0, 1, 2]}),
        ((9, 10), (2, 3), {"strides": [2, 2], "dilations": [2, 3], "pads": [1, 1, 0, 2]}),
        ((9, 10), (2, 2), {"strides": [4, 3]}),
    ],
)
def test_windows_that_are_put_together(size, kernel, attributes):
    strides, dilations, pads = (
        attributes.get(name, one) for name, one in (("strides", [1, 1]), ("dilations", [1, 1]), ("pads", [0] * 4))
    )
    counts = [
        (edge + pads[axis] + pads[axis + 2] - (many - 1) * dilations[axis] - 1) // strides[axis] + 1
        for axis, (edge, many) in enumerate(zip(size, kernel, strict=True))
    ]
    columns = drawn(2, 4 * kernel[0] * kernel[1], counts[0] * counts[1])
    check(Case("Col2Im", columns, sizes(*size), sizes(*kernel), **attributes))
