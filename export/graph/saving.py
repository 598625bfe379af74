"""Saving a module so that servers compute what its graph says.

TensorFlow's graph optimizer takes x relu6(x + 3) c behind a convolution for a hard swish, whatever c is, as long as it
is near to 1/6, also where c comes of several constants that it multiplied: masks change then. What it could mistake is
saved with x - (-3) instead, which is the same to the bit, and which it does not look for.
"""

import collections
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from .slimming import slim

_NEAR = 0.1
"""How far from 3 a number is not taken for it; the optimizer takes less."""
_SIXTH = float(np.float32(1 / 6))


def save(module: tf.Module, directory: Path, signatures: Any = None) -> Any:
    """Saves a module as a small SavedModel whose answers are those of its graph; returns the graph that was written."""
    tf.saved_model.save(module, str(directory), signatures=signatures)
    path = directory / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    meta_graph = saved.meta_graphs[0]
    protect(meta_graph.graph_def)
    slim(meta_graph)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(directory))  # the saver's was of the file before
    return meta_graph.graph_def


def protect(graph: Any) -> None:
    """Rewrites what could be taken for a hard swish, in place, in a graph and its functions."""
    _Body(graph.node, "").protect()
    for function in graph.library.function:
        _Body(function.node_def, ":output:0").protect()


class _Body:
    """The nodes of a graph, or of one of its functions."""

    def __init__(self, nodes: Any, output_suffix: str) -> None:
        self.nodes = nodes
        self.output_suffix = output_suffix  # of a constant's name where it is an input
        self.by_name = {node.name: node for node in nodes}
        self.takers = collections.defaultdict(list)
        for node in nodes:
            for name in node.input:
                self.takers[_origin(name)].append(node)

    def protect(self) -> None:
        for bounded in [node for node in self.nodes if node.op == "Relu6"]:
            added = self.by_name.get(_origin(bounded.input[0]))
            if added is None or added.op not in ("Add", "AddV2"):
                continue
            for place in (0, 1):
                number = self._constant(added.input[place])
                if number is None or abs(number - 3) >= _NEAR:
                    continue
                if number != 3 or not self._is_sixth(bounded):
                    self._subtract(added, added.input[1 - place], number)
                break

    def _is_sixth(self, bounded: Any) -> bool:
        """Whether all that comes of a ReLU6 is its sixth, or a product's, and stays so: no other constant follows.

        What a function returns may meet another one outside of it.
        """
        takers = self._takers_of([bounded])
        if all(node.op == "Mul" and not self._has_constant(node) for node in takers):
            takers = self._takers_of(takers)
        last = self._takers_of(takers)
        return (
            bool(takers and last)
            and all(
                (node.op == "Mul" and _SIXTH in map(self._constant, node.input))
                or (node.op == "RealDiv" and self._constant(node.input[1]) == 6)
                for node in takers
            )
            and not any(map(self._has_constant, last))
        )

    def _takers_of(self, nodes: list[Any]) -> list[Any]:
        return [taker for node in nodes for taker in self.takers[node.name]]

    def _has_constant(self, node: Any) -> bool:
        return any(self._constant(name) is not None for name in node.input)

    def _constant(self, name: str) -> float | None:
        """Returns a constant of a single floating point number by its name; None of others."""
        node = self.by_name.get(_origin(name))
        while node is not None and node.op in ("Cast", "Identity"):
            node = self.by_name.get(_origin(node.input[0]))
        if node is None or node.op != "Const":
            return None
        tensor = node.attr["value"].tensor
        is_single = all(dimension.size == 1 for dimension in tensor.tensor_shape.dim)
        return float(tf.make_ndarray(tensor).item()) if is_single and tf.as_dtype(tensor.dtype).is_floating else None

    def _subtract(self, node: Any, value: str, number: float) -> None:
        """Makes a difference of the sum of a value and a number, in place."""
        dtype = tf.as_dtype(node.attr["T"].type)
        opposite = self.nodes.add(name=f"{node.name}/opposite", op="Const", device=node.device)
        opposite.attr["dtype"].type = dtype.as_datatype_enum
        opposite.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(-number, dtype))
        node.op = "Sub"
        node.input[:2] = [value, opposite.name + self.output_suffix]


def _origin(name: str) -> str:
    return name.lstrip("^").partition(":")[0]
