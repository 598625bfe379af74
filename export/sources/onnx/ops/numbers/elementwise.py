"""Operators that treat every number alike, wherever it stands."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Value, is_sizes
from ..registry import OPS, Node, elementwise

_ONE = {
    "Abs": tf.abs, "Acos": tf.acos, "Acosh": tf.acosh, "Asin": tf.asin, "Asinh": tf.asinh, "Atan": tf.atan,
    "Atanh": tf.atanh, "BitwiseNot": tf.bitwise.invert, "Ceil": tf.math.ceil, "Cos": tf.cos, "Cosh": tf.cosh,
    "Erf": tf.math.erf, "Exp": tf.exp, "Floor": tf.floor, "IsNaN": tf.math.is_nan, "Log": tf.math.log,
    "Neg": tf.negative, "Not": tf.logical_not, "Reciprocal": tf.math.reciprocal, "Relu": tf.nn.relu, "Round": tf.round,
    "Sigmoid": tf.sigmoid, "Sign": tf.sign, "Sin": tf.sin, "Sinh": tf.sinh, "Softplus": tf.math.softplus,
    "Softsign": tf.nn.softsign, "Sqrt": tf.sqrt, "Tan": tf.tan, "Tanh": tf.tanh,
}  # fmt: skip
_TWO = {
    "Add": tf.add, "And": tf.logical_and, "BitwiseAnd": tf.bitwise.bitwise_and, "BitwiseOr": tf.bitwise.bitwise_or,
    "BitwiseXor": tf.bitwise.bitwise_xor, "Equal": tf.equal, "Greater": tf.greater, "GreaterOrEqual": tf.greater_equal,
    "Less": tf.less, "LessOrEqual": tf.less_equal, "Mul": tf.multiply, "Or": tf.logical_or, "Sub": tf.subtract,
    "Xor": tf.math.logical_xor,
}  # fmt: skip
_MANY = {"Max": tf.maximum, "Min": tf.minimum, "Sum": tf.add}


for _name, _function in {**_ONE, **_TWO}.items():
    elementwise(_name)(lambda node, *values, function=_function: function(*values))

for _name, _function in _MANY.items():
    elementwise(_name)(lambda node, *values, function=_function: functools.reduce(function, values))


@elementwise("Div")
def divide(node: Node, numerator: Any, denominator: Any) -> Any:
    """Returns quotients; those of integers are rounded towards 0."""
    return (tf.truediv if numerator.dtype.is_floating else tf.truncatediv)(numerator, denominator)


@elementwise("Mean")
def mean(node: Node, *values: Any) -> Any:
    """Returns the mean of several tensors."""
    return tf.add_n([tf.broadcast_to(value, _shape(values)) for value in values]) / len(values)


def _shape(values: Any) -> Any:
    return functools.reduce(tf.broadcast_dynamic_shape, [tf.shape(value) for value in values])


@elementwise("Mod")
def modulo(node: Node, first: Any, second: Any) -> Any:
    """Returns remainders, with the sign of the divisor, or with fmod of the dividend."""
    return (tf.truncatemod if node.get("fmod", 0) else tf.math.floormod)(first, second)


@elementwise("Pow")
def power(node: Node, base: Any, exponent: Any) -> Any:
    """Returns powers, of the base's dtype."""
    if exponent.dtype.is_floating and not base.dtype.is_floating:
        return tf.cast(tf.pow(tf.cast(base, exponent.dtype), exponent), base.dtype)
    known = tf.get_static_value(exponent)
    if known is not None and known.size == 1 and known.item() == 2 and exponent.shape.rank <= base.shape.rank:
        return tf.square(base)
    return tf.pow(base, tf.cast(exponent, base.dtype))


@elementwise("BitShift")
def shift(node: Node, first: Any, second: Any) -> Any:
    """Returns shifted integers."""
    return (tf.bitwise.left_shift if node.get("direction") == "LEFT" else tf.bitwise.right_shift)(first, second)


@elementwise("Where")
def where(node: Node, condition: Any, yes: Any, no: Any) -> Any:
    """Returns numbers of one tensor where a condition holds, else of another."""
    return tf.where(condition, yes, no)


@elementwise("IsInf")
def is_infinite(node: Node, x: Any) -> Any:
    """Tells infinities, of one sign or both."""
    signs = [float(sign) for sign, name in ((1, "detect_positive"), (-1, "detect_negative")) if node.get(name, 1)]
    return functools.reduce(tf.logical_or, [tf.equal(x, sign * math.inf) for sign in signs], tf.zeros_like(x, tf.bool))


@elementwise("Clip")
def clip(node: Node, x: Any, low: Any = None, high: Any = None) -> Any:
    """Returns numbers kept within bounds, which are attributes before opset 11."""
    low = node.get("min") if low is None else low
    high = node.get("max") if high is None else high
    bounds = [None if bound is None else tf.get_static_value(tf.convert_to_tensor(bound)) for bound in (low, high)]
    numbers = [bound.item() for bound in bounds if bound is not None and bound.size == 1]
    if len(numbers) == 2:
        return _within(x, *numbers)
    x = x if low is None else tf.maximum(x, tf.cast(low, x.dtype))
    return x if high is None else tf.minimum(x, tf.cast(high, x.dtype))


def _within(x: Any, low: float, high: float) -> Any:
    """Returns numbers within bounds, by one op. ReLU6 is one that TensorFlow fuses with a convolution before it."""
    if (low, high) == (0, 6):
        return tf.nn.relu6(x)
    return tf.raw_ops.ClipByValue(t=x, clip_value_min=tf.cast(low, x.dtype), clip_value_max=tf.cast(high, x.dtype))


@elementwise("LeakyRelu")
def leaky_relu(node: Node, x: Any) -> Any:
    """Returns x, and alpha x below 0."""
    return tf.nn.leaky_relu(x, node.get("alpha", 0.01))


@elementwise("PRelu")
def parametric_relu(node: Node, x: Any, slope: Any) -> Any:
    """Returns x, and slope times x below 0."""
    return tf.nn.relu(x) + slope * tf.minimum(x, 0)


@elementwise("Elu")
def elu(node: Node, x: Any) -> Any:
    """Returns x, and alpha (e^x - 1) below 0."""
    alpha = node.get("alpha", 1.0)
    return tf.nn.elu(x) if alpha == 1 else tf.where(x < 0, alpha * tf.math.expm1(tf.minimum(x, 0)), x)


@elementwise("Celu")
def celu(node: Node, x: Any) -> Any:
    """Returns x, and alpha (e^(x / alpha) - 1) below 0."""
    alpha = node.get("alpha", 1.0)
    return tf.nn.relu(x) + alpha * tf.math.expm1(tf.minimum(x, 0) / alpha)


@elementwise("Selu")
def selu(node: Node, x: Any) -> Any:
    """Returns gamma x, and gamma alpha (e^x - 1) below 0."""
    alpha, gamma = node.get("alpha", 1.67326319217681884765625), node.get("gamma", 1.05070102214813232421875)
    return gamma * (tf.nn.relu(x) + alpha * tf.math.expm1(tf.minimum(x, 0)))


@elementwise("ThresholdedRelu")
def thresholded_relu(node: Node, x: Any) -> Any:
    """Returns what is above alpha, else 0."""
    return tf.where(x > node.get("alpha", 1.0), x, tf.zeros_like(x))


@elementwise("Shrink")
def shrink(node: Node, x: Any) -> Any:
    """Returns what is far enough from 0, moved towards it by the bias."""
    lambd, bias = node.get("lambd", 0.5), node.get("bias", 0.0)
    moved = tf.cast(tf.sign(x), x.dtype) * tf.cast(bias, x.dtype)
    return tf.where(tf.abs(tf.cast(x, tf.float32)) > lambd, x - moved, tf.zeros_like(x))


@elementwise("HardSigmoid")
def hard_sigmoid(node: Node, x: Any) -> Any:
    """Returns alpha x + beta within [0, 1]."""
    return _within(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


@elementwise("HardSwish")
def hard_swish(node: Node, x: Any) -> Any:
    """Returns x (x + 3) / 6, with x + 3 within [0, 6]: in a form that TensorFlow fuses with a convolution before it."""
    return x * (tf.nn.relu6(x + 3.0) * (1 / 6))


@elementwise("Mish")
def mish(node: Node, x: Any) -> Any:
    """Returns x tanh(log(1 + e^x))."""
    return x * tf.tanh(tf.math.softplus(x))


@elementwise("Swish", "QuickGelu")
def swish(node: Node, x: Any) -> Any:
    """Returns x sigmoid(alpha x)."""
    return x * tf.sigmoid(node.get("alpha", 1.702 if node.op == "QuickGelu" else 1.0) * x)


@elementwise("Gelu", "FastGelu", "BiasGelu")
def gelu(node: Node, x: Any, bias: Any = None) -> Any:
    """Returns x times the normal distribution's share below x, exactly or by its tanh formula."""
    x = x if bias is None else x + bias
    return tf.nn.gelu(x, approximate=node.get("approximate", "none") == "tanh" or node.op == "FastGelu")


def _equal_sizes(first: Any, second: Any) -> bool:
    if not tf.is_tensor(first) and not tf.is_tensor(second):
        return bool(first == second)
    if any(not tf.is_tensor(size) and size < 0 for size in (first, second)):
        return False  # -1 stands for what is not given; no size is negative
    raise LookupError("only a run can tell")


def _divided(first: Any, second: Any) -> Any:
    """Returns a quotient without its fraction, whichever sign it has."""
    if tf.is_tensor(first) or tf.is_tensor(second):
        return tf.truncatediv(tf.cast(first, tf.int64), tf.cast(second, tf.int64))
    return abs(first) // abs(second) * (1 if (first < 0) == (second < 0) else -1)


_OF_SIZES: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b, "Sub": lambda a, b: a - b, "Mul": lambda a, b: a * b, "Div": _divided,
    "Equal": _equal_sizes, "Where": lambda condition, yes, no: yes if condition else no,
}  # fmt: skip


def _of_sizes(name: str) -> None:
    """Lets an operator compute with sizes one by one, so that the known ones stay known."""
    of_tensors, compute = OPS[name], _OF_SIZES[name]

    def handler(node: Node, *values: Value) -> Any:
        arrays = [one for one in values if isinstance(one, np.ndarray) and one.dtype.kind in "Oiub"]
        if any(map(is_sizes, arrays)) and len(arrays) == len(values):
            spread = np.broadcast_arrays(*arrays)
            result = np.empty(spread[0].shape, object)
            try:
                for place in np.ndindex(result.shape):
                    result[place] = compute(*(one[place] for one in spread))
            except LookupError:
                return of_tensors(node, *values)
            return result.astype(bool) if name == "Equal" else result
        return of_tensors(node, *values)

    OPS[name] = handler


for _name in _OF_SIZES:
    _of_sizes(_name)
