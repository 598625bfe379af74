"""Random numbers, which are constants here: what is exported answers the same each time."""

import zlib
from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Value, as_sizes
from ..arrays.shapes import expand
from ..registry import Node, op

RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


@op(*RANDOM)
def draw(node: Node, like: Value | None = None) -> Value:
    """Returns numbers that depend on the node's seed alone, or else on its name.

    Where they have three axes or more, the first is that of pictures, each of which gets the same: an answer must not
    depend on what else is in a batch.
    """
    edges = list(node.get("shape") if like is None else like.shape)
    shape = [1, *edges[1:]] if len(edges) > 2 else edges
    if None in shape:
        raise ValueError("the number of its random numbers depends on the picture")
    random = np.random.default_rng(zlib.crc32(str(node.get("seed", node.name)).encode()))
    drawn: Any
    if "Uniform" in node.op:
        drawn = random.uniform(node.get("low", 0.0), node.get("high", 1.0), shape)
    else:
        drawn = random.normal(node.get("mean", 0.0), node.get("scale", 1.0), shape)
    dtype = node.get("dtype") or (tf.float32 if like is None else node.tensor(like).data.dtype)
    drawn = drawn.astype(dtype.as_numpy_dtype)
    if edges == shape:
        return drawn
    count = edges[0] if like is None else node.tensor(like).size(0)
    return expand(node, drawn, as_sizes([count, *shape[1:]]))
