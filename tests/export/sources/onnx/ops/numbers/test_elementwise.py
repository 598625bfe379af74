"""Operators on single numbers: their attributes, and how tensors of several shapes and layouts meet."""

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

X = drawn(2, 3, 4, 5, low=-4.0, high=4.0)
WITHIN = drawn(2, 3, 4, low=-0.9, high=0.9)
ABOVE = drawn(2, 3, 4, low=1.1, high=3.0)


def test_functions():
    names = "Abs Atan Ceil Cos Erf Exp Floor Neg Relu Round Sigmoid Sign Sin Softplus Softsign Tanh Asinh Sinh Cosh Tan"
    check(*(Case(name, X) for name in names.split()), opset=22)
    check(*(Case(name, WITHIN) for name in ("Acos", "Asin", "Atanh")))
    check(*(Case(name, ABOVE) for name in ("Acosh", "Log", "Reciprocal", "Sqrt")))
    check(Case("Round", np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)))
    special = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    check(Case("IsNaN", special), Case("IsInf", special), Case("IsInf", special, detect_negative=0))


def test_activations():
    check(
        Case("LeakyRelu", X),
        Case("LeakyRelu", X, alpha=0.3),
        Case("Elu", X),
        Case("Elu", X, alpha=0.7),
        Case("Celu", X, alpha=1.5),
        Case("Selu", X),
        Case("Selu", X, alpha=1.2, gamma=0.8),
        Case("ThresholdedRelu", X, alpha=0.5),
        Case("Shrink", X, lambd=1.0, bias=0.4),
        Case("HardSigmoid", X),
        Case("HardSigmoid", X, alpha=1 / 6, beta=0.5),
        Case("HardSwish", X),
        Case("Mish", X),
        Case("PRelu", X, drawn(3, 1, 1)),
        Case("PRelu", X, drawn(1)),
        Case("PRelu", X, drawn(2, 3, 4, 5)),
        Case("Gelu", X, domain="com.microsoft"),
        Case("FastGelu", X, drawn(5), domain="com.microsoft"),
        Case("BiasGelu", X, drawn(5), domain="com.microsoft"),
        Case("QuickGelu", X, alpha=1.702, domain="com.microsoft"),
    )
    check(Case("Gelu", X), Case("Gelu", X, approximate="tanh"), opset=20, atol=1e-4)


def test_bounds():
    low, high = np.float32(-1), np.float32(2)
    check(
        Case("Clip", X, low, high),
        Case("Clip", X, low),
        Case("Clip", X, None, high),
        Case("Clip", X),
        Case("Clip", X, np.float32(0), np.float32(6)),
        Case("Clip", drawn(4, low=-9, high=9, dtype=np.int32), np.int32(0)),
    )
    check(Case("Clip", X, min=-1.0, max=2.0), Case("Clip", X, max=0.5), Case("Clip", X, min=0.0, max=6.0), opset=10)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 1), (3, 1, 1), (1, 3, 1, 1), (2, 3, 4, 5), (7, 1, 3, 4, 5)])
def test_shapes_meet(shape):
    other = drawn(*shape) if shape else np.array(1.5, np.float32)
    check(*(Case(name, X, other) for name in ("Add", "Sub", "Mul", "Div")), Case("Sub", other, X, fed=2))
    check(*(Case(name, X, other, X[:1]) for name in ("Max", "Min", "Sum", "Mean")), Case("Less", X, other))


def test_comparisons_and_logic():
    one, other = drawn(2, 3, 4, low=0, high=2, dtype=np.int32), drawn(3, 4, low=0, high=2, dtype=np.int32)
    check(*(Case(name, one, other) for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")))
    check(*(Case(name, one > 0, other > 0) for name in ("And", "Or", "Xor")), Case("Not", one > 0))
    check(Case("Where", one > 0, drawn(2, 3, 4), drawn(4)), Case("Where", one > 0, np.float32(1), drawn(2, 3, 1)))
    names = ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
    check(*(Case(name, one, other) for name in names), Case("BitwiseNot", one))
    bits = drawn(3, 4, low=0, high=3, dtype=np.uint8)
    check(*(Case("BitShift", bits, bits, direction=direction) for direction in ("LEFT", "RIGHT")))


def test_integers_are_divided_towards_zero():
    one, other = drawn(40, low=-9, high=9, dtype=np.int64), np.array([2, -2, 3, -3] * 10)
    check(Case("Div", one, other), Case("Mod", one, other), Case("Mod", one, other, fmod=1))
    check(Case("Mod", drawn(9), drawn(9), fmod=1))


def test_powers():
    check(
        Case("Pow", ABOVE, drawn(3, 4)),
        Case("Pow", X, np.float32(2)),
        Case("Pow", X, np.int64(3)),
        Case("Pow", drawn(5, low=0, high=5, dtype=np.int64), np.int32(3)),
        Case("Pow", drawn(5, low=0, high=5, dtype=np.int32), np.float32(1.5)),
        Case("Pow", ABOVE, drawn(2, 2, 3, 4)),
    )
