"""A saved graph without what its server pays for at every start and never uses.

TensorFlow copies the whole library of functions several times for each signature's first call, and saves each signature
with functions of its own: those of branches and loops, though they are the same.
"""

from collections.abc import Iterator, Sequence

from tensorflow.core.framework import attr_value_pb2, function_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from ...serving import contract

_SHAPES = "_output_shapes"
"""What shapes Python had inferred; servers infer them again."""


def slim(meta_graph: meta_graph_pb2.MetaGraphDef) -> None:
    """Makes a SavedModel's graph smaller, in place, without changing an answer.

    `serving_default` becomes another name of the tensors of `mask`: one graph for both, which is optimized once.
    """
    library = meta_graph.graph_def.library
    for function in library.function:
        for node in function.node_def:
            node.attr.pop(_SHAPES, None)
        for argument in function.arg_attr.values():
            argument.attr.pop(_SHAPES, None)
    functions = _without_copies(library.function, frozenset(meta_graph.object_graph_def.concrete_functions))
    library.ClearField("function")
    library.function.extend(functions)
    signatures = meta_graph.signature_def
    if {contract.DEFAULT_SIGNATURE, contract.MASK} <= signatures.keys():
        signatures[contract.DEFAULT_SIGNATURE].CopyFrom(signatures[contract.MASK])


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
            return [function_pb2.FunctionDef.FromString(one.SerializeToString()) for one in functions]
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
