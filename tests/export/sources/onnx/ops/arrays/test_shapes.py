"""Operators that only change axes: what they answer, and that shapes stay numbers where they can."""

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.sources.onnx.ops import OPS
from maskport.export.sources.onnx.ops.arrays.shapes import reshaped
from maskport.export.sources.onnx.ops.registry import Node
from maskport.export.sources.onnx.values import Tensor
from onnx import TensorProto, helper
from onnx_cases import Case, check, drawn

X = drawn(2, 3, 4, 5)


def sizes(*numbers):
    return np.array(numbers, np.int64)


def test_transposed_and_reshaped():
    check(
        Case("Transpose", X), Case("Transpose", X, perm=[0, 2, 3, 1]), Case("Transpose", drawn(3, 4)),
        Case("Reshape", X, sizes(0, 3, -1)), Case("Reshape", X, sizes(2, -1)), Case("Reshape", X, sizes(-1)),
        Case("Reshape", X, sizes(0, 0, 2, 2, 5)), Case("Reshape", X, sizes(0, 0, 0, 5, 1)),
        Case("Reshape", X, sizes(2, 1, 3, -1, 5)), Case("Reshape", X, sizes(6, 20)), Case("Reshape", X, sizes(4, 30)),
        Case("Flatten", X), Case("Flatten", X, axis=3), Case("Flatten", X, axis=0), Case("Flatten", X, axis=-1),
    )  # fmt: skip


def test_squeezed_and_unsqueezed():
    thin = drawn(1, 3, 1, 5)
    check(
        Case("Squeeze", thin, sizes(0)), Case("Squeeze", thin, sizes(-2, 0)), Case("Unsqueeze", X, sizes(1)),
        Case("Unsqueeze", X, sizes(-1, 0)), Case("Unsqueeze", X, sizes(5, 2)),
    )  # fmt: skip
    check(Case("Squeeze", thin), free=False)
    check(Case("Squeeze", thin, axes=[2]), Case("Unsqueeze", X, axes=[0, 4]), opset=11)


def test_sizes():
    check(Case("Shape", X), Case("Shape", X, start=1, end=-1), Case("Shape", X, start=-3), Case("Size", X))
    check(
        Case("Expand", drawn(1, 3, 1, 5), sizes(2, 1, 4, 1)), Case("Expand", drawn(3, 1), sizes(2, 3, 4)),
        Case("Expand", X, sizes(1)), Case("Tile", X, sizes(1, 2, 1, 3)), free=False,
    )  # fmt: skip


def test_dtypes():
    check(
        Case("Cast", X, to=TensorProto.INT64), Case("Cast", X, to=TensorProto.BOOL),
        Case("Cast", X > 0, to=TensorProto.FLOAT), Case("Cast", X, to=TensorProto.INT32),
        Case("CastLike", X, sizes(1)), Case("Identity", X), Case("Dropout", X),
    )  # fmt: skip


def test_made():
    graph_value = helper.make_tensor("value", TensorProto.INT64, [1], [7])
    check(
        Case("ConstantOfShape", sizes(2, 3), fed=0), Case("ConstantOfShape", sizes(2), fed=0, value=graph_value),
        Case("Range", np.float32(1), np.float32(4), np.float32(0.5), fed=0), Case("Range", *sizes(9, 1, -3), fed=0),
        Case("Identity", X),
    )  # fmt: skip


CHANNELS_LAST = (0, 2, 3, 1)


@pytest.mark.parametrize(
    ("shape", "edges", "moves"),
    [
        ([2, 3, 4, 5], [2, 3, 20], False),  # pixels in a row
        ([2, 3, 4, 5], [2, 3, -1], False),
        ([2, 3, 4, 5], [2, 3, 2, 2, 5], False),  # rows in blocks
        ([2, 6, 4, 5], [2, 2, 3, 4, 5], False),  # channels in groups
        ([2, 3, 4, 5], [2, 3, 4, 5, 1], False),
        ([2, 3, 4, 5], [2, 60], True),  # channels among pixels
        ([2, 3, 4, 5], [2, 12, 5], True),
        ([2, 3, 4, 5], [6, 4, 5], True),
    ],
)
def test_only_numbers_that_change_neighbours_are_moved(shape, edges, moves):
    array = drawn(*shape)
    with tf.Graph().as_default() as graph:
        stored = tf.constant(array.transpose(CHANNELS_LAST))
        answer = reshaped(Tensor(stored, CHANNELS_LAST), edges)
        transposed = [node for node in graph.get_operations() if node.type == "Transpose"]
        plain = answer.in_order(tuple(range(answer.rank)))
        with tf.compat.v1.Session(graph=graph) as session:
            np.testing.assert_array_equal(session.run(plain), array.reshape(edges))
    assert bool(transposed) == moves


def test_a_transposition_moves_nothing():
    stored = np.zeros([2, 4, 5, 3])
    answer = OPS["Transpose"](Node("Transpose", "t", [], [], {"perm": [0, 2, 3, 1]}, 18), Tensor(stored, CHANNELS_LAST))
    assert answer.data is stored
    assert answer.order == (0, 1, 2, 3)
    assert answer.shape == [2, 4, 5, 3]
