"""Sparse weights of TensorFlow Lite files, made dense once.

A tensor is walked through axis by axis, in an order of its own, in which the axes of blocks come after those of the
tensor; an axis has all of its places, or lists those that hold anything (compressed sparse rows).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tensorflow.lite.python import schema_py_generated as schema


def make_dense(values: npt.NDArray[Any], shape: Sequence[int], sparsity: Any) -> npt.NDArray[Any]:
    """Returns the tensor of the values that a file holds of it; ValueError where they do not fit its description.

    Args:
        values: in the order in which they are walked through.
        shape: of the tensor.
        sparsity: its `SparsityParametersT`.
    """
    order = _numbers(sparsity.traversalOrder)
    blocked = _numbers(sparsity.blockMap)
    levels = dict(zip(order.tolist(), sparsity.dimMetadata, strict=True))
    places: dict[int, npt.NDArray[np.int64]] = {}  # of each value so far, along each axis
    count = 1
    for axis, level in levels.items():
        if level.format == schema.DimensionType.DENSE:
            repeats = np.full(count, level.denseSize)
            along = np.tile(np.arange(level.denseSize), count)
        else:
            repeats = np.diff(_numbers(level.arraySegments.values))
            along = _numbers(level.arrayIndices.values)
        places = {before: np.repeat(place, repeats) for before, place in places.items()} | {axis: along}
        count = len(along)
    for block, axis in enumerate(blocked.tolist(), start=len(shape)):
        places[axis] = places[axis] * levels[block].denseSize + places.pop(block)
    dense = np.zeros(shape, values.dtype)
    dense[tuple(places[axis] for axis in range(len(shape)))] = values[:count]
    return dense


def _numbers(values: Any) -> npt.NDArray[np.int64]:
    return np.asarray([] if values is None else values, np.int64)
