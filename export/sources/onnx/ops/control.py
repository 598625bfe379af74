"""Operators that choose or repeat graphs."""

import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from ..values import Value, static, wrap
from .registry import Node, op

_MOST_ROUNDS = 1000
"""Of a loop: each becomes operations of its own."""


@op("Constant")
def constant(node: Node) -> Any:
    """Returns the array, number or list that the node holds."""
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            value = np.asarray(node.attributes[name])
            return value if name == "value" else value.astype(np.float32 if "float" in name else np.int64)
    raise ValueError("it holds neither a tensor nor numbers")


@op("If")
def choose(node: Node, condition: Value) -> list[Value]:
    """Returns what one of two graphs answers; both are in the exported graph only where the picture decides."""
    try:
        is_true = bool(static(condition, "condition").all())
    except ValueError:
        branches = [
            lambda branch=branch: [node.plain(value) for value in node.run_graph(node.get(branch), [])]
            for branch in ("then_branch", "else_branch")
        ]
        return [wrap(result) for result in tf.cond(tf.reshape(node.plain(condition), []), *branches)]
    return node.run_graph(node.get("then_branch" if is_true else "else_branch"), [])


@op("Loop")
def repeat(node: Node, count: Value | None, condition: Value | None, *carried: Value) -> list[Value]:
    """Returns what a graph makes of its own answers, a known number of times, or until it says that this is enough."""
    rounds = int(static(count, "trip count").item()) if count is not None else None
    body, values = node.get("body"), list(carried)
    scans: list[list[Any]] = []
    goes_on: Value = np.array(True) if condition is None else condition
    if condition is None and rounds is not None and rounds > _MOST_ROUNDS:
        raise ValueError(f"it takes {rounds} rounds, and at most {_MOST_ROUNDS} are taken")
    for at in itertools.count():
        if (rounds is not None and at >= rounds) or not bool(static(goes_on, "condition").all()):
            break
        if at == _MOST_ROUNDS:
            raise ValueError(f"it takes more than {_MOST_ROUNDS} rounds")
        goes_on, *answers = node.run_graph(body, [np.array(at, np.int64), goes_on, *values])
        values = answers[: len(carried)]
        scans.append([node.plain(value) for value in answers[len(carried) :]])
    return [*values, *(wrap(tf.stack(parts)) for parts in zip(*scans, strict=True))]
