"""What is made simpler, once, when a file is read.

Constants of constants are computed, normalizations become parts of convolutions, and convolutions take two pictures as
they are rather than joined.
"""

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from .graph import Graph, names_used
from .ops.numbers.normalization import affine_of
from .ops.numbers.random import RANDOM
from .ops.pictures.convolution import CONV_OF_TWO
from .ops.registry import Node
from .running import compute
from .values import Array

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_MISTAKEN = ("LeakyRelu", "Mish", "Softplus")
"""What TensorFlow fuses with a convolution and a sum, and then gets wrong or fails at; Mish begins with the last."""


def fold(graph: Graph) -> Graph:
    """Returns a graph with the same answers that has fewer nodes."""
    return _part_convolutions(_fold_affine(_fold_constants(graph)))


def _fold_constants(graph: Graph) -> Graph:
    constants, nodes = dict(graph.constants), []
    for node in graph.nodes:
        values = [constants.get(name) if name else None for name in node.inputs]
        is_constant = all(name in constants for name in names_used(node)) and node.op not in RANDOM
        if not is_constant or any(isinstance(part, Graph) for part in node.attributes.values()):
            nodes.append(node)
            continue
        results: list[Any] = compute(node, values)
        if any(isinstance(result, list) for result in results):
            nodes.append(node)
            continue
        constants |= {name: result for name, result in zip(node.outputs, results, strict=False) if name}
    return dataclasses.replace(graph, nodes=nodes, constants=constants)


def _fold_affine(graph: Graph) -> Graph:
    """Multiplies what a constant does to each channel behind a convolution into its weights and bias."""
    constants = dict(graph.constants)
    uses = collections.Counter(name for node in graph.nodes for name in names_used(node))
    uses.update(graph.outputs)
    places = {node.outputs[0]: at for at, node in enumerate(graph.nodes)}
    nodes: list[Node | None] = list(graph.nodes)
    for at, node in enumerate(graph.nodes):
        for data in node.inputs[:2]:
            before = nodes[places[data]] if data in places else None
            if before is None or before.op not in _CONVOLUTIONS or uses[data] != 1:
                continue
            if any(name and name not in constants for name in before.inputs[1:]):
                continue
            weights = constants[before.inputs[1]]
            groups = before.get("group", 1)
            channels = weights.shape[0] if before.op == "Conv" else weights.shape[1] * groups
            found = _affine(node, data, constants, channels, weights.ndim)
            if found is None:
                continue
            bias = constants[before.inputs[2]] if before.inputs[2:] and before.inputs[2] else np.zeros(channels)
            folded = _folded(before, weights, bias, *found)
            names = [f"{node.outputs[0]}/{part}" for part in ("weights", "bias")]
            constants |= dict(zip(names, folded, strict=True))
            nodes[places[data]] = None
            nodes[at] = dataclasses.replace(before, inputs=[before.inputs[0], *names], outputs=node.outputs)
            break
    return dataclasses.replace(graph, nodes=[node for node in nodes if node is not None], constants=constants)


def _part_convolutions(graph: Graph) -> Graph:
    """Lets convolutions take two pictures, where these were joined for nothing else."""
    takers = collections.defaultdict(list)
    for node in graph.nodes:
        for name in names_used(node):
            takers[name].append(node)
    joined = {
        node.outputs[0]: node
        for node in graph.nodes
        if node.op == "Concat" and len(node.inputs) == 2 and node.outputs[0] not in graph.outputs
        if all(_can_be_parted(taker, node, graph.constants, takers) for taker in takers[node.outputs[0]])
    }
    nodes = [
        dataclasses.replace(node, op=CONV_OF_TWO, inputs=[*joined[node.inputs[0]].inputs, *node.inputs[1:]])
        if node.op == "Conv" and node.inputs[0] in joined
        else node
        for node in graph.nodes
        if node.outputs[0] not in joined
    ]
    return dataclasses.replace(graph, nodes=nodes)


def _can_be_parted(node: Node, joined: Node, constants: dict[str, Array], takers: dict[str, list[Node]]) -> bool:
    if node.op != "Conv" or node.inputs[0] != joined.outputs[0] or node.get("group", 1) != 1:
        return False
    weights = constants.get(node.inputs[1])
    if weights is None or joined.get("axis") not in (1, 1 - weights.ndim):
        return False
    # More filters than channels are more to add than there was to copy.
    return weights.shape[0] <= weights.shape[1] and not any(
        taker.op in _MISTAKEN for taker in _takers_behind(node, takers)
    )


def _takers_behind(node: Node, takers: dict[str, list[Node]]) -> Iterator[Node]:
    """Yields what takes a node's answer, also where that is handed on as it is."""
    for taker in takers[node.outputs[0]]:
        yield taker
        if taker.op in ("Identity", "Dropout"):
            yield from _takers_behind(taker, takers)


def _affine(node: Node, data: str, constants: dict[str, Array], channels: int, rank: int) -> tuple[Array, Array] | None:
    """Returns what a node multiplies each channel of a tensor by, and what it adds; None where it does else."""
    others = [name for name in node.inputs if name != data]
    if not others or any(name not in constants for name in others) or any(node.outputs[1:]):
        return None
    if node.op == "BatchNormalization" and node.get("training_mode", 0):
        return None
    if node.op == "BatchNormalization" and node.inputs[0] == data:
        return affine_of(node, *(constants[name] for name in node.inputs[1:]))
    is_first = node.inputs[0] == data
    if len(node.inputs) != 2 or len(others) != 1 or (node.op in ("Sub", "Div") and not is_first):
        return None
    number = _by_channel(constants[others[0]], channels, rank)
    if number is None:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    match node.op:
        case "Add":
            return ones, number
        case "Sub":
            return ones, -number
        case "Mul":
            return number, zeros
        case "Div":
            return 1 / number, zeros
    return None


def _by_channel(constant: Array, channels: int, rank: int) -> Array | None:
    if constant.dtype.kind != "f" or constant.ndim > rank:
        return None
    shape = [1] * (rank - constant.ndim) + list(constant.shape)
    if shape[1] in (1, channels) and all(edge == 1 for at, edge in enumerate(shape) if at != 1):
        return np.broadcast_to(constant.astype(np.float64).ravel(), channels)
    return None


def _folded(convolution: Node, weights: Array, bias: Any, factor: Array, offset: Array) -> tuple[Array, Array]:
    if convolution.op == "Conv":
        by_weight = factor
    else:
        # [C, O / group, …]: each group's rows make channels of their own.
        groups = convolution.get("group", 1)
        by_weight = np.repeat(factor.reshape(groups, -1), weights.shape[0] // groups, 0)
    by_weight = by_weight.reshape([*by_weight.shape, *[1] * (weights.ndim - by_weight.ndim)])
    return (weights * by_weight).astype(weights.dtype), (bias * factor + offset).astype(weights.dtype)
