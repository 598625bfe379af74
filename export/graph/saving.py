"""Saving a module so that servers compute what its graph says.

TensorFlow's graph optimizer takes x relu6(x + 3) c behind a convolution for a hard swish, whatever c is, as long as it
is near to 1/6, also where c comes of several constants that it multiplied: masks change then. What it could mistake is
saved with x - (-3) instead, which is the same to the bit, and which it does not look for.

And it makes one operation of a convolution, its bias, a sum and a leaky ReLU, but forgets the slope: what is negative
is multiplied by 0.2, that operation's default. Behind a sum a leaky ReLU is saved as the choice that it is. With Mish
instead it makes one that it then cannot run: there the softplus in it, which is never negative, is saved with a bound
of 0.
"""

import collections
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from ..model.model_graph import origin
from .slimming import slim

_NEAR = 0.1
"""How far from 3 a number is not taken for it; the optimizer takes less."""
_SIXTH = float(np.float32(1 / 6))
_DEFAULT_SLOPE = np.float32(0.2)
_SAME = ("Identity", "PreventGradient", "Snapshot", "StopGradient")
"""What the optimizer takes out."""
_MAY_END_IN_SUM = ("Add", "AddV2", "AddN", "PartitionedCall", "StatefulPartitionedCall")


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
    """Rewrites what the optimizer would get wrong, in place, in a graph and its functions."""
    _Body(graph.node, "").protect()
    for function in graph.library.function:
        renamed = _Body(function.node_def, ":output:0").protect()
        for name, value in list(function.ret.items()):
            function.ret[name] = renamed.get(value, value)


class _Body:
    """The nodes of a graph, or of one of its functions."""

    def __init__(self, nodes: Any, output_suffix: str) -> None:
        self.nodes = nodes
        self.output_suffix = output_suffix  # of a constant's name where it is an input
        self.by_name = {node.name: node for node in nodes}
        self.takers = collections.defaultdict(list)
        for node in nodes:
            for name in node.input:
                self.takers[origin(name)].append(node)

    def protect(self) -> dict[str, str]:
        """Rewrites it in place; returns new names by old of values that have others then, where values are named."""
        self._protect_from_hard_swish()
        self._keep_mish_apart()
        return self._keep_slopes()

    def _keep_slopes(self) -> dict[str, str]:
        renamed = {}
        leaky = [node for node in self.nodes if node.op == "LeakyRelu" and "alpha" in node.attr]
        for node in leaky:
            slope = node.attr["alpha"].f
            if slope == _DEFAULT_SLOPE or not self._may_be_sum(node.input[0]):
                continue
            dtype = tf.as_dtype(node.attr["T"].type or tf.float32)  # defaults are not written
            value = node.input[0]
            zero = self._add_constant(f"{node.name}/zero", 0, dtype, node.device)
            factor = self._add_constant(f"{node.name}/slope", slope, dtype, node.device)
            positive = self._add_binary(f"{node.name}/positive", "Greater", value, zero, dtype, node.device)
            scaled = self._add_binary(f"{node.name}/scaled", "Mul", value, factor, dtype, node.device)
            node.op = "SelectV2"
            node.attr["T"].type = dtype.as_datatype_enum
            del node.attr["alpha"]
            controls = [name for name in node.input if name.startswith("^")]
            node.input[:] = [positive, value, scaled, *controls]
            if self.output_suffix:
                renamed[f"{node.name}:activations:0"] = f"{node.name}:output:0"
        for node in self.nodes:
            for at, name in enumerate(node.input):
                node.input[at] = renamed.get(name, name)
        return renamed

    def _keep_mish_apart(self) -> None:
        for tanh in [node for node in self.nodes if node.op == "Tanh"]:
            softplus = self._behind(tanh.input[0])
            if softplus is None or softplus.op != "Softplus" or not self._may_be_sum(softplus.input[0]):
                continue
            dtype = tf.as_dtype(tanh.attr["T"].type)
            zero = self._add_constant(f"{tanh.name}/zero", 0, dtype, tanh.device)
            name = f"{tanh.name}/positive"
            tanh.input[0] = self._add_binary(name, "Maximum", tanh.input[0], zero, dtype, tanh.device)

    def _may_be_sum(self, name: str) -> bool:
        node = self._behind(name)
        return node is None or node.op in _MAY_END_IN_SUM  # None: it is the function's argument

    def _behind(self, name: str) -> Any:
        """Returns the node that makes a value, but for those that hand it on; None where it is an argument."""
        node = self.by_name.get(origin(name))
        while node is not None and node.op in _SAME:
            node = self.by_name.get(origin(node.input[0]))
        return node

    def _protect_from_hard_swish(self) -> None:
        for bounded in [node for node in self.nodes if node.op == "Relu6"]:
            added = self.by_name.get(origin(bounded.input[0]))
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
        node = self.by_name.get(origin(name))
        while node is not None and node.op in ("Cast", "Identity"):
            node = self.by_name.get(origin(node.input[0]))
        if node is None or node.op != "Const":
            return None
        tensor = node.attr["value"].tensor
        is_single = all(dimension.size == 1 for dimension in tensor.tensor_shape.dim)
        return float(tf.make_ndarray(tensor).item()) if is_single and tf.as_dtype(tensor.dtype).is_floating else None

    def _subtract(self, node: Any, value: str, number: float) -> None:
        """Makes a difference of the sum of a value and a number, in place."""
        dtype = tf.as_dtype(node.attr["T"].type)
        opposite = self._add_constant(f"{node.name}/opposite", -number, dtype, node.device)
        node.op = "Sub"
        node.input[:2] = [value, opposite]

    def _add_binary(self, name: str, op: str, one: str, other: str, dtype: tf.DType, device: str) -> str:
        """Adds an operation of two values whose result is called z; returns its name as an input."""
        self.nodes.add(name=name, op=op, input=[one, other], device=device).attr["T"].type = dtype.as_datatype_enum
        return f"{name}:z:0" if self.output_suffix else name

    def _add_constant(self, name: str, number: float, dtype: tf.DType, device: str) -> str:
        """Adds a constant; returns its name as an input."""
        added = self.nodes.add(name=name, op="Const", device=device)
        added.attr["dtype"].type = dtype.as_datatype_enum
        added.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(number, dtype))
        return f"{name}{self.output_suffix}"
