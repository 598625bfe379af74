"""What flows through an ONNX graph: constants as NumPy arrays, and tensors with a layout of their own.

ONNX states the axes of a picture as [B, C, H, W]; TensorFlow computes on [B, H, W, C]. So a tensor says in which order
its axes are stored, ops take the order that suits them, and a transposition is only made where two orders meet.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array = npt.NDArray[Any]
Order = tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor that is computed, stored with its axes in some order.

    Attributes:
        data: as stored.
        order: for each axis of `data`, which axis it is in ONNX.
    """

    data: Any
    order: Order

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.order)

    @property
    def shape(self) -> list[int | None]:
        """The sizes in ONNX's order; None where they are not known yet."""
        return [self.data.shape[place] for place in inverse(self.order)]

    def place(self, axis: int) -> int:
        """Returns which axis of `data` an axis of ONNX is; it may be negative."""
        return self.order.index(axis % self.rank)

    def in_order(self, order: Order) -> Any:
        """Returns the data with its axes in another order."""
        if order == self.order:
            return self.data
        return tf.transpose(self.data, [self.order.index(axis) for axis in order])

    def permuted(self, permutation: Sequence[int]) -> "Tensor":
        """Returns the same numbers with ONNX's axes in another order; only what the stored axes mean changes."""
        return Tensor(self.data, tuple(permutation.index(axis) for axis in self.order))

    def size(self, axis: int) -> Any:
        """Returns the size of an axis of ONNX: an int, or an int64 scalar where it is not known before a run."""
        place = self.place(axis)
        known = self.data.shape[place]
        return tf.shape(self.data, tf.int64)[place] if known is None else int(known)


Value = Array | Tensor
"""An array of dtype object holds sizes: ints, and int64 scalars where they are not known before a run.

A sequence of ONNX's is a list of values, which only the operators of `ops.arrays.sequences`, graphs and loops take.
"""


def inverse(order: Sequence[int]) -> Order:
    """Returns the permutation that undoes another."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def natural(rank: int) -> Order:
    """Returns the order of the axes in ONNX."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """Returns the order that TensorFlow's ops on pictures want: axis 1 behind all others."""
    return (0, *range(2, rank), 1) if rank > 2 else natural(rank)


def wrap(data: Any) -> Tensor:
    """Returns what is stored in ONNX's order as a tensor; ValueError where not even its rank is known."""
    if data.shape.rank is None:
        raise ValueError("the number of axes of its answer depends on the picture")
    return Tensor(data, natural(data.shape.rank))


def is_sizes(value: Any) -> bool:
    """Whether a value holds sizes of which not all are known."""
    return isinstance(value, np.ndarray) and value.dtype == object


def as_sizes(items: Sequence[Any]) -> Array:
    """Returns a list of ints and scalars as a constant, of dtype object where it holds any that are not known."""
    if all(isinstance(item, int | np.integer) for item in items):
        return np.array([int(item) for item in items], np.int64)
    sizes = np.empty(len(items), object)
    for place, item in enumerate(items):
        sizes[place] = item
    return sizes


def pack(sizes: Value, dtype: Any = None) -> Any:
    """Returns sizes, of any rank, as one tensor: int64 unless a dtype is given."""
    if isinstance(sizes, Tensor):
        return tf.cast(sizes.data, dtype or tf.int64)
    if sizes.dtype != object:
        return tf.constant(sizes, dtype)
    items = [tf.cast(item, dtype or tf.int64) for item in sizes.ravel()]
    return tf.reshape(tf.stack(items), sizes.shape) if sizes.ndim != 1 else tf.stack(items)


def as_plain(value: Value) -> Any:
    """Returns a value as a tensor of TensorFlow's, in ONNX's order of axes."""
    return value.in_order(natural(value.rank)) if isinstance(value, Tensor) else pack(value, None)


def static(value: Any, what: str) -> Array:
    """Returns the numbers of a constant; ValueError where they depend on the picture."""
    if isinstance(value, Tensor):
        found = tf.get_static_value(value.in_order(natural(value.rank)))
        if found is not None:
            return np.asarray(found)
    elif not is_sizes(value):
        return np.asarray(value)
    raise ValueError(f"its {what} depends on the picture")
