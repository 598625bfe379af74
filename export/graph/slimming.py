"""A saved graph without what its server pays for at every start and never uses.

TensorFlow copies the whole library of functions several times for each signature's first call, and saves each signature
with functions of its own: those of branches and loops, though they are the same. In each of them Python wrote the same
numbers, and what follows from them, again wherever they are used.
"""

import collections
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tensorflow.core.framework import attr_value_pb2, function_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import op_def_registry

from ...serving import contract
from ..model.model_graph import origin

_SHAPES = "_output_shapes"
"""What shapes Python had inferred; servers infer them again."""
_LOOP_OPS = ("Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch")
"""Of TensorFlow 1's loops: each variable has one of its own, by which compilers know it."""


def slim(meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    """Makes a SavedModel's graph smaller, in place, without changing an answer.

    `serving_default` becomes another name of the tensors of `mask`: one graph for both, which is optimized once.
    """
    _forget_to_save(meta_graph)
    functions = meta_graph.graph_def.library.function
    for function in functions:
        for node in function.node_def:
            node.attr.pop(_SHAPES, None)
        for argument in function.arg_attr.values():
            argument.attr.pop(_SHAPES, None)
    _keep(functions, _without_copies(functions, _loaded(meta_graph)))
    for function in functions:
        _Function(function).simplify()
    signatures = meta_graph.signature_def
    if {contract.DEFAULT_SIGNATURE, contract.MASK} <= signatures.keys():
        signatures[contract.DEFAULT_SIGNATURE].CopyFrom(signatures[contract.MASK])


def _loaded(meta_graph: meta_graph_pb2.MetaGraphDef) -> frozenset[str]:
    """Returns the names of the functions that TensorFlow 2 makes Python's of."""
    return frozenset(meta_graph.object_graph_def.concrete_functions)


def _forget_to_save(meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    """Takes out what writes the variables: no server does, and who loads the model to save it again makes that anew."""
    graph = meta_graph.graph_def
    nodes = {node.name: node for node in graph.node}
    takers = collections.Counter(origin(value) for node in graph.node for value in node.input)
    gone, unused = set(), {origin(meta_graph.saver_def.save_tensor_name)} & nodes.keys()
    while unused:
        name = unused.pop()
        gone.add(name)
        for value in map(origin, nodes[name].input):
            takers[value] -= 1
            if not takers[value]:
                unused.add(value)
    left = [node for node in graph.node if node.name not in gone]
    bodies = [node for function in graph.library.function for node in function.node_def]
    used = _loaded(meta_graph) | {call.name for call in _calls([*left, *bodies])}
    saving = {call.name for call in _calls([nodes[name] for name in gone])} - used
    _keep(graph.node, left)
    functions = graph.library.function
    _keep(functions, [function for function in functions if function.signature.name not in saving])


def _keep(messages: Any, kept: Iterable[Any]) -> None:
    """Leaves some of a message's repeated ones."""
    copies = [type(message).FromString(message.SerializeToString()) for message in kept]
    del messages[:]
    messages.extend(copies)


class _Function:
    """A function's nodes, of which some can go: they may be used by any other, whatever their order."""

    def __init__(self, function: function_pb2.FunctionDef):
        self._function = function
        self._nodes = list(function.node_def)
        placed = [node for node in self._nodes if "_class" in node.attr]
        beside = {name.decode().removeprefix("loc:@") for node in placed for name in node.attr["_class"].list.s}
        self._fixed = beside | {node.name for node in placed}

    def simplify(self) -> None:
        """Leaves one of the nodes that compute the same of the same, and none that hands a value on."""
        self._hand_on()
        self._merge()
        _keep(self._function.node_def, self._nodes)

    def _hand_on(self) -> None:
        """Takes out what gives its input, unless something waits for it, or it waits itself."""
        awaited = {name[1:] for node in self._nodes for name in node.input if name.startswith("^")}
        awaited |= {*self._function.control_ret.values(), *self._fixed}
        given = {
            f"{node.name}:output:0": node.input[0]
            for node in self._nodes
            if node.op == "Identity" and len(node.input) == 1 and node.name not in awaited
        }
        self._nodes = [node for node in self._nodes if f"{node.name}:output:0" not in given]

        def source(value: str) -> str:
            while value in given:
                value = given[value]
            return value

        for node in self._nodes:
            node.input[:] = [source(value) for value in node.input]
        for name, value in list(self._function.ret.items()):
            self._function.ret[name] = source(value)

    def _merge(self) -> None:
        attributes = {node.name: _digest(node.attr) for node in self._nodes}
        count = 0
        # Nodes mostly stand behind those that they use, so that once and again is enough.
        while count != len(self._nodes):
            count = len(self._nodes)
            first: dict[tuple[object, ...], str] = {}
            names: dict[str, str] = {}
            for node in self._nodes:
                self._rename(node, names)
                if node.name not in self._fixed and _is_pure(node):
                    same = (node.op, node.device, attributes[node.name], *node.input)
                    names[node.name] = first.setdefault(same, node.name)
            self._nodes = [node for node in self._nodes if names.get(node.name, node.name) == node.name]
            for node in self._nodes:
                self._rename(node, names)
            for returned in (self._function.ret, self._function.control_ret):
                for name, value in list(returned.items()):
                    returned[name] = _renamed(value, names)

    def _rename(self, node: node_def_pb2.NodeDef, names: Mapping[str, str]) -> None:
        inputs = [_renamed(value, names) for value in node.input]
        # What waits for two that are one waits once.
        node.input[:] = [value for at, value in enumerate(inputs) if value[0] != "^" or value not in inputs[:at]]


def _digest(attributes: Mapping[str, attr_value_pb2.AttrValue]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(attributes):
        value = attributes[name].SerializeToString(deterministic=True)
        digest.update(f"{name} {len(value)} ".encode() + value)
    return digest.digest()


def _is_pure(node: node_def_pb2.NodeDef) -> bool:
    """Whether a node's values hang on its inputs alone, and not on where in the graph it stands."""
    op = op_def_registry.get(node.op)
    return op is not None and not op.is_stateful and node.op.removeprefix("Ref") not in _LOOP_OPS


def _renamed(value: str, names: Mapping[str, str]) -> str:
    name = origin(value)
    return value.replace(name, names.get(name, name), 1)


def _without_copies(
    functions: Sequence[function_pb2.FunctionDef], kept: frozenset[str]
) -> Sequence[function_pb2.FunctionDef]:
    """Returns one of those functions that differ by name only, with all calls led to it; those of `kept` names stay."""
    while True:
        first: dict[bytes, str] = {}
        names: dict[str, str] = {}
        for function in functions:
            name = function.signature.name
            if name in kept:
                continue
            anonymous = function_pb2.FunctionDef()
            anonymous.CopyFrom(function)
            anonymous.signature.name = ""
            names[name] = first.setdefault(anonymous.SerializeToString(deterministic=True), name)
        remaining = [
            function for function in functions if names.get(function.signature.name) in (None, function.signature.name)
        ]
        if len(remaining) == len(functions):
            return functions
        functions = remaining
        for function in functions:
            for call in _calls(function.node_def):
                call.name = names.get(call.name, call.name)


def _calls(nodes: Sequence[node_def_pb2.NodeDef]) -> Iterator[attr_value_pb2.NameAttrList]:
    for node in nodes:
        for value in node.attr.values():
            if value.HasField("func"):
                yield value.func
            yield from value.list.func
