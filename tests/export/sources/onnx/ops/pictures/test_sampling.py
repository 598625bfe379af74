"""Operators that look between pixels: by onnxruntime, or where that has none by ONNX's own reference."""

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import Case, answer_of, check, drawn


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_sampled(padding, mode):
    picture, grid = drawn(2, 3, 5, 6), drawn(2, 4, 7, 2, low=-1.5, high=1.5)
    rules = {"padding_mode": padding, "mode": mode}
    check(*(Case("GridSample", picture, grid, fed=2, align_corners=corners, **rules) for corners in (0, 1)), opset=20)
    if mode != "nearest":
        before = {"linear": "bilinear", "cubic": "bicubic"}[mode]
        check(Case("GridSample", picture, grid, fed=2, padding_mode=padding, mode=before), opset=16)


@pytest.mark.parametrize(
    ("groups", "offset_groups", "window"),
    [(1, 1, {"pads": [1, 1, 1, 1]}), (2, 2, {"strides": [2, 1], "pads": [0, 1, 2, 1]}), (1, 4, {"dilations": [2, 1]})],
)
@pytest.mark.parametrize("has_mask", [False, True])
def test_convolved_elsewhere(groups, offset_groups, window, has_mask):
    picture, kernel, bias = drawn(2, 4, 7, 8), drawn(6, 4 // groups, 3, 2), drawn(6)
    strides, pads, dilations = (
        window.get(name, [one] * 4) for name, one in (("strides", 1), ("pads", 0), ("dilations", 1))
    )
    high, wide = (
        (edge + pads[axis] + pads[axis + 2] - (size - 1) * dilations[axis] - 1) // strides[axis] + 1
        for axis, (edge, size) in enumerate(((7, 3), (8, 2)))
    )
    offset = drawn(2, offset_groups * 12, high, wide)
    mask = drawn(2, offset_groups * 6, high, wide, low=0.0) if has_mask else None
    inputs = [picture, kernel, offset, bias, *([mask] if has_mask else [])]
    options = {"group": groups, "offset_group": offset_groups, **window}
    names = ["x", "w", "offset", "b", *(["mask"] if has_mask else [])]
    infos = [helper.make_tensor_value_info(name, 1, value.shape) for name, value in zip(names, inputs, strict=True)]
    nodes = [helper.make_node("DeformConv", names, ["y"], **options)]
    graph = helper.make_graph(nodes, "g", infos, [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    (wanted,) = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
    fed = [picture, kernel, offset, bias, mask]
    answer = answer_of(Case("DeformConv", *fed[: 5 if has_mask else 4], **options), opset=19)
    np.testing.assert_allclose(answer, wanted, rtol=1e-4, atol=1e-5)
