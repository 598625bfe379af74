"""Resizing: by TensorFlow's own ops where their rules are the same, else by a matrix for each axis."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Tensor, Value, channels_last, static
from ..registry import Node, op

Number = Any
"""An int, or a scalar tensor."""


@op("Upsample")
def upsample(node: Node, x: Value, scales: Value | None = None) -> Value:
    """Returns a larger picture: Resize before opset 10."""
    return _resize(node, node.tensor(x), node.get("scales") if scales is None else scales, None, None)


@op("Resize")
def resize(node: Node, x: Value, *others: Value | None) -> Value:
    """Returns a picture of other sizes, which are given, or by how much they grow."""
    roi, scales, sizes = (*([None] if node.opset < 11 else []), *others, None, None, None)[:3]
    return _resize(node, node.tensor(x), scales, sizes, roi)


def _resize(node: Node, x: Tensor, scales: Any, sizes: Value | None, roi: Value | None) -> Value:
    axes = [axis % x.rank for axis in node.get("axes", range(x.rank))]
    places = {axis: at for at, axis in enumerate(axes)}
    wanted = _numbers(sizes) or None
    factors = _factors(scales) if wanted is None else []
    edges = {axis: x.size(axis) for axis in axes}
    # Of a picture whose channels are last, as TensorFlow's files have them, axis 1 is the height.
    is_last = x.shape[1] is None and x.shape[-1] is not None
    kept = 1 if is_last else 2
    shared = None
    if wanted is not None and node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        wanted, shared = _keeping_aspect(node, wanted, [edges[axis] for axis in axes])
    plans = []
    for axis in axes:
        edge = edges[axis]
        if wanted is not None:
            size = wanted[places[axis]]
            if isinstance(size, int) and isinstance(edge, int) and size == edge:
                continue
            # Sizes that a run knows are of height and width; of batch and channels it has what the picture has.
            is_kept = axis == 0 or (axis < kept and x.rank > 3 and node.get("axes") is None)
            if is_kept and (tf.is_tensor(size) or tf.is_tensor(edge)):
                continue
            factor = shared or (size / edge if isinstance(size, int) and isinstance(edge, int) else None)
        else:
            factor = factors[places[axis]]
            # Scales that a run computes are for height and width.
            if (axis < kept) if tf.is_tensor(factor) else factor == 1:
                continue
            size = _floor(edge, factor)
        plans.append((axis, edge, size, factor))
    if not plans:
        return x
    rules = _Rules(node)
    pictures = [axis for axis, *_ in plans] == [2, 3] and x.rank == 4
    if pictures and rules.name is not None and all(_is_exact(rules, plan) for plan in plans):
        order = channels_last(4)
        return Tensor(_by_tensorflow(rules, _before_ones(rules, x.in_order(order), plans), plans), order)
    order = channels_last(x.rank) if all(axis > 1 for axis, *_ in plans) else x.order
    data = x.in_order(order)
    dtype = data.dtype
    for axis, edge, size, factor in plans:
        ratio = factor if factor is not None else tf.cast(size, tf.float32) / tf.cast(edge, tf.float32)
        corners = None
        if rules.coordinates == "tf_crop_and_resize":
            numbers = static(roi, "roi").ravel()
            corners = float(numbers[places[axis]]), float(numbers[places[axis] + len(axes)])
        positions = rules.positions(edge, size, ratio, corners)
        data = rules.apply(data, order.index(axis), edge, positions, ratio)
    return Tensor(tf.cast(data, dtype), order)


def _numbers(value: Value | None) -> list[Number]:
    if value is None or (isinstance(value, np.ndarray) and not value.size):
        return []
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(value)
    if isinstance(value, Tensor):
        known = tf.get_static_value(value.data)
        if known is None:
            count = value.shape[0]
            if count is None:
                raise ValueError("the number of its sizes depends on the picture")
            return [value.data[place] for place in range(count)]
        value = np.asarray(known)
    return [int(number) for number in value.ravel()]


def _factors(scales: Any) -> list[Number]:
    known = tf.get_static_value(scales.data) if isinstance(scales, Tensor) else scales
    if known is None:
        return [scales.data[place] for place in range(scales.shape[0])]
    return [float(factor) for factor in np.asarray(known, np.float32).ravel()]


def _keeping_aspect(node: Node, wanted: list[Number], edges: list[Number]) -> tuple[list[Number], float]:
    """Returns sizes that keep a picture's shape, and the scale of all its axes."""
    if not all(isinstance(number, int) for number in [*wanted, *edges]):
        raise ValueError("keep_aspect_ratio_policy needs a fixed size")
    ratios = [size / edge for size, edge in zip(wanted, edges, strict=True)]
    ratio = (min if node.get("keep_aspect_ratio_policy") == "not_larger" else max)(ratios)
    return [int(ratio * edge + 0.5) for edge in edges], ratio


def _floor(edge: Number, factor: Number) -> Number:
    if isinstance(edge, int) and not tf.is_tensor(factor):
        return int(np.floor(np.float32(edge) * np.float32(factor)))
    if not tf.is_tensor(factor) and factor == int(factor):
        return edge * int(factor)
    return tf.cast(tf.floor(tf.cast(edge, tf.float32) * factor), tf.int64)


def _is_exact(rules: "_Rules", plan: tuple[int, Number, Number, Number | None]) -> bool:
    """Whether the scale is the ratio of the sizes, which TensorFlow's ops compute with, or plays no part."""
    _, edge, size, factor = plan
    if factor is None or rules.coordinates == "align_corners":
        return True
    if tf.is_tensor(factor):
        return False
    if factor == int(factor):
        return True
    return isinstance(edge, int) and size == edge * factor


def _before_ones(rules: "_Rules", x: Any, plans: list[Any]) -> Any:
    """Returns what is resized: where PyTorch makes one pixel of many, the first of these alone."""
    if rules.coordinates != "pytorch_half_pixel":
        return x
    ends = [None, None]
    for axis, edge, size, factor in plans:
        grows = factor is not None and not tf.is_tensor(factor) and factor >= 1
        if not grows and not (isinstance(size, int) and size > 1):
            ends[axis - 2] = tf.where(tf.cast(size, tf.int64) == 1, tf.constant(1, tf.int64), tf.cast(edge, tf.int64))
    return x if ends == [None, None] else x[:, : ends[0], : ends[1]]


def _by_tensorflow(rules: "_Rules", x: Any, plans: list[Any]) -> Any:
    sizes = [size for _, _, size, _ in plans]
    shape = sizes if all(isinstance(size, int) for size in sizes) else tf.stack([tf.cast(s, tf.int32) for s in sizes])
    run = tf.raw_ops.ResizeBilinear if rules.name == "linear" else tf.raw_ops.ResizeNearestNeighbor
    halves = rules.coordinates in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
    result = run(images=x, size=shape, align_corners=rules.coordinates == "align_corners", half_pixel_centers=halves)
    # The op answers in float32, whatever it is given.
    return tf.cast(result, x.dtype)


class _Rules:
    """The attributes of Resize: where a pixel lies in the picture before, and which of that picture's it is made of."""

    def __init__(self, node: Node) -> None:
        self.mode = node.get("mode", "nearest")
        self.mode = "linear" if self.mode == "bilinear" else self.mode
        before_11 = node.op == "Upsample" or node.opset < 11
        self.coordinates = node.get("coordinate_transformation_mode", "asymmetric" if before_11 else "half_pixel")
        self.rounding = node.get("nearest_mode", "floor" if before_11 else "round_prefer_floor")
        self.cubic = node.get("cubic_coeff_a", -0.75)
        self.excludes = bool(node.get("exclude_outside", 0))
        self.antialias = bool(node.get("antialias", 0))
        self.outside = float(node.get("extrapolation_value", 0.0))
        if self.mode not in ("nearest", "linear", "cubic"):
            raise ValueError(f"its mode {self.mode!r} is not known")

    @property
    def name(self) -> str | None:
        """The kind of TensorFlow's own op that has the same rules; None where there is none."""
        if self.antialias:
            return None
        if self.mode == "linear" and not self.excludes and self.coordinates in (
            "half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric",
        ):  # fmt: skip
            return "linear"
        if self.mode == "nearest" and (self.coordinates, self.rounding) == ("asymmetric", "floor"):
            return "nearest"
        return None

    def positions(self, edge: Number, size: Number, ratio: Any, corners: tuple[float, float] | None) -> Any:
        """Returns where each pixel of the answer lies in the picture before, float32 [size]."""
        x = tf.cast(tf.range(tf.cast(size, tf.int32)), tf.float32)
        edge, size = tf.cast(edge, tf.float32), tf.cast(size, tf.float32)
        ratio = tf.cast(ratio, tf.float32)
        match self.coordinates:
            case "asymmetric":
                return x / ratio
            case "half_pixel":
                return (x + 0.5) / ratio - 0.5
            case "pytorch_half_pixel":
                return tf.where(size > 1, (x + 0.5) / ratio - 0.5, tf.zeros_like(x))
            case "half_pixel_symmetric":
                return edge / 2 * (1 - size / (ratio * edge)) + (x + 0.5) / ratio - 0.5
            case "align_corners":
                return tf.where(size > 1, x * (edge - 1) / tf.maximum(size - 1, 1), tf.zeros_like(x))
            case "tf_half_pixel_for_nn":
                return (x + 0.5) / ratio
            case "tf_crop_and_resize" if corners is not None:
                start, end = corners
                many = start * (edge - 1) + x * (end - start) * (edge - 1) / tf.maximum(size - 1, 1)
                return tf.where(size > 1, many, tf.fill(tf.shape(x), 0.5 * (start + end) * (edge - 1)))
        raise ValueError(f"its coordinate_transformation_mode {self.coordinates!r} is not known")

    def apply(self, data: Any, place: int, edge: Number, positions: Any, ratio: Any) -> Any:
        """Returns data resized along one axis."""
        last = tf.cast(edge, tf.int32) - 1
        if self.mode == "nearest":
            chosen = tf.cast(_ROUNDINGS[self.rounding](positions), tf.int32)
            data = tf.gather(data, tf.clip_by_value(chosen, 0, last), axis=place)
        else:
            matrix = self._matrix(positions, tf.cast(edge, tf.int32), ratio)
            moved = _to_front(data, place)
            flat = tf.matmul(matrix, tf.reshape(tf.cast(moved, tf.float32), [tf.shape(moved)[0], -1]))
            shape = tf.concat([tf.shape(positions), tf.shape(moved)[1:]], 0)
            data = _from_front(tf.ensure_shape(tf.reshape(flat, shape), [positions.shape[0], *moved.shape[1:]]), place)
        if self.coordinates == "tf_crop_and_resize":
            is_outside = (positions < 0) | (positions > tf.cast(last, tf.float32))
            is_outside = tf.reshape(is_outside, [-1, *[1] * (data.shape.rank - 1 - place)])
            data = tf.where(is_outside, tf.cast(self.outside, data.dtype), data)
        return data

    def _matrix(self, positions: Any, edge: Any, ratio: Any) -> Any:
        """Returns how much of each pixel of the picture before goes into each of the answer, float32 [size, edge]."""
        kernel: Callable[[Any], Any] = _triangle if self.mode == "linear" else self._cubic
        shrinking = tf.minimum(tf.cast(ratio, tf.float32), 1) if self.antialias else tf.constant(1.0)
        reach = 1 if self.mode == "linear" else 2
        least = tf.cast(tf.math.ceil(reach / shrinking), tf.int32)
        # As many pixels around each position as weigh anything; those outside stand for the border.
        around = tf.range(1 - least, least + 1)
        pixels = tf.cast(tf.floor(positions), tf.int32)[:, tf.newaxis] + around
        weights = kernel((tf.cast(pixels, tf.float32) - positions[:, tf.newaxis]) * shrinking)
        if self.excludes:
            weights = tf.where((pixels >= 0) & (pixels < edge), weights, 0)
        if self.excludes or self.antialias:
            weights /= tf.reduce_sum(weights, 1, keepdims=True)
        columns = tf.one_hot(tf.clip_by_value(pixels, 0, edge - 1), edge)
        return tf.reduce_sum(weights[..., tf.newaxis] * columns, 1)

    def _cubic(self, x: Any) -> Any:
        return cubic_weight(x, self.cubic)


def cubic_weight(x: Any, a: float) -> Any:
    """Returns how much a pixel at a distance weighs in Keys' cubic convolution ("Cubic convolution", 1981)."""
    x = tf.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return tf.where(x <= 1, near, tf.where(x < 2, far, tf.zeros_like(x)))


_ROUNDINGS: dict[str, Callable[[Any], Any]] = {
    "floor": tf.floor,
    "ceil": tf.math.ceil,
    "round_prefer_floor": lambda x: tf.math.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: tf.floor(x + 0.5),
}


def _triangle(x: Any) -> Any:
    return tf.maximum(1 - tf.abs(x), 0)


def _to_front(data: Any, place: int) -> Any:
    rank = data.shape.rank
    return tf.transpose(data, [place, *(axis for axis in range(rank) if axis != place)])


def _from_front(data: Any, place: int) -> Any:
    rank = data.shape.rank
    return tf.transpose(data, [*range(1, place + 1), 0, *range(place + 1, rank)])
