"""Running an ONNX graph by TensorFlow: as it is traced, or on constants."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...model.causes import cause_of
from ..conversion import Weights
from .ops import OPS
from .ops.registry import Node
from .values import Tensor, Value, is_sizes, natural


def run(graph: Any, feeds: Sequence[Value], weights: Weights, around: Mapping[str, Value] | None = None) -> list[Value]:
    """Returns the outputs of a graph.

    Args:
        graph: a `Graph`.
        feeds: its inputs, in order.
        weights: makes tensors of large constants.
        around: values of the graph that this one is a part of.

    Raises:
        ValueError: an operator fails, or cannot do what is asked of it; names the node.
    """
    values: dict[str, Value] = {**(around or {}), **graph.constants, **dict(zip(graph.inputs, feeds, strict=True))}
    for node in graph.nodes:
        for name in node.inputs:
            if name and name not in values:
                raise ValueError(f"{node.op} {node.name!r}: no operator makes its input {name!r}")
        inputs = [values[name] if name else None for name in node.inputs]
        run_graph = functools.partial(run, weights=weights, around=values)
        results = compute(dataclasses.replace(node, weight=weights, run_graph=run_graph), inputs)
        values.update({name: result for name, result in zip(node.outputs, results, strict=False) if name})
    if missing := [name for name in graph.outputs if name not in values]:
        raise ValueError(f"no operator makes the output {missing[0]!r}")
    return [values[name] for name in graph.outputs]


def compute(node: Node, values: Sequence[Value | None]) -> list[Value]:
    """Returns what an operator makes of values, as arrays where all of them are; ValueError names the node."""
    while values and values[-1] is None:
        values = values[:-1]
    try:
        if all(value is None or (isinstance(value, np.ndarray) and not is_sizes(value)) for value in values):
            with tf.init_scope():
                constant = dataclasses.replace(node, weight=tf.constant)
                if not any(hasattr(part, "nodes") for part in node.attributes.values()):
                    return [_as_array(result) for result in _listed(OPS[node.op](constant, *values))]
        return [_known(result) for result in _listed(OPS[node.op](node, *values))]
    except Exception as error:
        raise ValueError(f"{node.op} {node.name!r}: {cause_of(error)}") from error


def _listed(results: Any) -> list[Any]:
    return list(results) if isinstance(results, list | tuple) else [results]


def _known(result: Any) -> Any:
    """Returns sizes as a plain constant where all of them are known."""
    if is_sizes(result) and not any(map(tf.is_tensor, result.ravel())):
        return result.astype(np.int64)
    return result


def _as_array(result: Any) -> Any:
    if isinstance(result, list):
        return [_as_array(one) for one in result]
    return np.asarray(result.in_order(natural(result.rank))) if isinstance(result, Tensor) else result
