"""Sequences: lists of tensors that are taken apart and put together."""

import numpy as np
import onnx_networks as networks
import pytest
from onnx import helper
from onnx_cases import check_network

X = np.random.default_rng(0).random((2, 3, 6, 8), np.float32)
FREE = [None, 3, None, None]


def number(net, value):
    return net.constant(value, np.int64)


@pytest.mark.parametrize(
    ("split", "attributes"),
    [
        (None, {"axis": 1}),
        (None, {"axis": -3, "keepdims": 0}),
        (1, {"axis": 1, "keepdims": 0}),  # as PyTorch's newer exporter writes unbind
        (2, {"axis": 1}),
        ([1, 2], {"axis": 1}),
        ([4, 1, 3], {"axis": -1}),
    ],
)
@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("known", [[2, 3, 6, 8], [None, 3, None, 8]])
def test_pieces_of_a_tensor(split, attributes, position, known):
    net = networks.Network(13)
    sequence = net.add("SplitToSequence", "x", *([] if split is None else [number(net, split)]), **attributes)
    check_network(net, net.add("Neg", net.add("SequenceAt", sequence, number(net, position))), X, known)


@pytest.mark.parametrize(
    "attributes", [{"axis": 1}, {"axis": -1}, {"axis": 1, "new_axis": 1}, {"axis": -1, "new_axis": 1}]
)
def test_values_that_are_put_together(attributes):
    net = networks.Network(14)  # from which on a sequence may be handed on
    sequence = net.add("SequenceConstruct", "x", net.add("Neg", "x"))
    sequence = net.add("SequenceInsert", sequence, net.add("Abs", "x"))
    sequence = net.add("Identity", sequence)
    sequence = net.add("SequenceInsert", sequence, net.add("Exp", "x"), number(net, -1))
    sequence = net.add("SequenceInsert", sequence, net.add("Sqrt", "x"), number(net, 0))
    check_network(net, net.add("ConcatFromSequence", sequence, **attributes), X, FREE)


def test_sequences_of_constants_and_of_nothing_and_their_lengths():
    net = networks.Network(13)
    constants = net.add("SplitToSequence", net.constant(X[:1]), number(net, 1), axis=3)
    count = net.add("Cast", net.add("SequenceLength", constants), to=1)
    one = net.add("SequenceInsert", net.add("SequenceEmpty"), net.add("Mul", "x", count))
    one = net.add("SequenceInsert", one, net.add("Add", "x", net.add("SequenceAt", constants, number(net, 5))))
    check_network(net, net.add("ConcatFromSequence", one, axis=1), X, FREE)


def test_sizes_that_are_taken_apart():
    net = networks.Network(13)
    edges = net.add("SplitToSequence", net.add("Shape", "x"), axis=0)
    edges = [net.add("SequenceAt", edges, number(net, at)) for at in (0, 1, 3, 2)]
    check_network(net, net.add("Reshape", "x", net.add("Concat", *edges, axis=0)), X, FREE)


def test_a_sequence_that_grows_in_a_loop():
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["goes"]), helper.make_node("Neg", ["last"], ["next"]),
         helper.make_node("SequenceInsert", ["sequence", "next"], ["longer"])],
        "body",
        [helper.make_tensor_value_info("at", 7, []), helper.make_tensor_value_info("go", 9, []),
         helper.make_tensor_value_info("last", 1, None), helper.make_tensor_sequence_value_info("sequence", 1, None)],
        [helper.make_tensor_value_info("goes", 9, []), helper.make_tensor_value_info("next", 1, None),
         helper.make_tensor_sequence_value_info("longer", 1, None)],
    )  # fmt: skip
    net = networks.Network(13)
    sequence = net.add("SequenceConstruct", "x")
    _, grown = net.add("Loop", number(net, 3), "", "x", sequence, outputs=2, body=body)
    check_network(net, net.add("ConcatFromSequence", grown, axis=1), X, FREE)


def test_pieces_of_an_axis_that_depends_on_the_picture():
    net = networks.Network(13)
    output = net.add("SequenceAt", net.add("SplitToSequence", "x", axis=2), number(net, 0))
    with pytest.raises(ValueError, match="SplitToSequence 'node_0': the number of its pieces depends on the picture"):
        check_network(net, output, X, FREE)
