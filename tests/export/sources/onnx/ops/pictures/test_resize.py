"""Resizing: every mode with its rules for coordinates, by scales and by sizes."""

import itertools

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

X = drawn(2, 3, 5, 8)
NOTHING = np.array([], np.float32)
FACTORS = [(2, 2), (3, 2), (0.6, 0.5), (1.7, 2.3), (1, 4), (0.2, 0.125)]
COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def by_factor(*factors, op="Resize", **attributes):
    scales = np.array([1, 1, *factors], np.float32)
    return Case(op, X, NOTHING, scales, **attributes)


def to_size(*size, **attributes):
    return Case("Resize", X, None, None, np.array([2, 3, *size], np.int64), **attributes)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_linear(coordinates):
    rules = {"mode": "linear", "coordinate_transformation_mode": coordinates}
    check(*(by_factor(*factors, **rules) for factors in FACTORS))
    check(*(to_size(*size, **rules) for size in [(10, 16), (7, 3), (5, 8), (1, 1), (13, 9)]), free=False)


@pytest.mark.parametrize("coordinates", [*COORDINATES, "tf_half_pixel_for_nn"])
def test_nearest(coordinates):
    rules = {"coordinate_transformation_mode": coordinates}
    opset = 11 if coordinates == "tf_half_pixel_for_nn" else 19
    # Where a coordinate falls on a whole number but for rounding, either neighbour is right.
    factors = [(2, 2), (1, 4), (0.2, 0.125)] if coordinates == "half_pixel_symmetric" else FACTORS
    cases = itertools.product(factors, ROUNDINGS)
    check(*(by_factor(*factors, nearest_mode=rounding, **rules) for factors, rounding in cases), opset=opset)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_cubic(coordinates):
    rules = {"mode": "cubic", "coordinate_transformation_mode": coordinates}
    check(
        *(by_factor(*factors, **rules) for factors in FACTORS),
        by_factor(2, 2, cubic_coeff_a=-0.5, **rules),
        by_factor(2, 0.6, exclude_outside=1, **rules),
        free=False,
    )


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialias(mode):
    check(*(by_factor(*factors, mode=mode, antialias=1) for factors in FACTORS), atol=1e-4)


def test_crop_and_resize():
    region = np.array([0, 0, 0.2, -0.1, 1, 1, 0.9, 1.2], np.float32)
    sizes = np.array([2, 3, 7, 6], np.int64)
    rules = {"coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 9.0}
    check(*(Case("Resize", X, region, None, sizes, mode=mode, **rules) for mode in ("linear", "nearest")), free=False)


def test_axes_and_aspect():
    sizes = np.array([9, 11], np.int64)
    rules = {"mode": "linear", "axes": [2, 3]}
    check(
        Case("Resize", X, None, np.array([2, 3], np.float32), **rules),
        Case("Resize", X, None, np.array([3, 2], np.float32), mode="linear", axes=[3, 2]),
        Case("Resize", X, None, None, sizes, keep_aspect_ratio_policy="not_larger", **rules),
        Case("Resize", X, None, None, sizes, keep_aspect_ratio_policy="not_smaller", **rules),
        Case("Resize", drawn(2, 3, 7), None, np.array([1, 1, 2], np.float32), mode="linear"),
        free=False,
    )


def test_as_it_was_before_opset_11():
    scales = np.array([1, 1, 2, 3], np.float32)
    check(*(Case("Resize", X, scales, mode=mode) for mode in ("nearest", "linear")), opset=10)
    check(*(Case("Upsample", X, scales, mode=mode) for mode in ("nearest", "linear")), opset=9)
    check(*(Case("Upsample", X, scales=scales.tolist(), mode=mode) for mode in ("nearest", "linear")), opset=7)


def test_bytes():
    small = drawn(1, 2, 4, 5, low=0, high=255, dtype=np.uint8)
    check(Case("Resize", small, None, np.array([1, 1, 2, 2], np.float32), mode="nearest"))
