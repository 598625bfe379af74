"""Random numbers: of the shape, dtype and distribution that ONNX states, and the same each time."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_cases import Case, answer_of

LIKE = np.zeros([3, 300, 300], np.float32)
SHAPE = {"shape": list(LIKE.shape)}


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("RandomUniform", [], {**SHAPE, "low": 2.0, "high": 5.0, "seed": 3.5}),
        ("RandomNormal", [], {**SHAPE, "mean": 2.0, "scale": 0.5, "dtype": TensorProto.DOUBLE}),
        ("RandomUniformLike", [LIKE], {"seed": 7.0}),
        ("RandomNormalLike", [LIKE.astype(np.float64)], {"seed": 7.0}),
        ("RandomNormalLike", [LIKE], {"dtype": TensorProto.DOUBLE}),
    ],
)
def test_drawn(op, inputs, attributes):
    node = helper.make_node(op, ["x"][: len(inputs)], ["y"], **attributes)
    infos = [helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for x in inputs]
    graph = helper.make_graph([node], "g", infos, [helper.make_empty_tensor_value_info("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (theirs,) = session.run(None, dict(zip(["x"], inputs, strict=False)))
    case = Case(op, *inputs, **attributes)
    ours = answer_of(case)
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    for statistic in (np.mean, np.std, np.min, np.max) if "Uniform" in op else (np.mean, np.std):
        np.testing.assert_allclose(statistic(ours), statistic(theirs), atol=0.02)
    np.testing.assert_array_equal(answer_of(case), ours)
    case.attributes["seed"] = 8.0
    assert not np.array_equal(answer_of(case), ours)
