"""Single operators of ONNX, held against onnxruntime: many cases make one model, so that they cost one session."""

import contextlib

import numpy as np
import onnxruntime
import tensorflow as tf
from maskport.export.model.tracing import without_graph_optimization
from maskport.export.sources.conversion import Weights
from maskport.export.sources.onnx.graph import read_graph
from maskport.export.sources.onnx.running import run
from maskport.export.sources.onnx.values import Tensor, as_plain, natural
from onnx import helper, numpy_helper

RANDOM = np.random.default_rng(7)


def drawn(*shape, low=-2.0, high=2.0, dtype=np.float32):
    """Random numbers; integers include both bounds."""
    if np.issubdtype(dtype, np.integer):
        return RANDOM.integers(low, high, shape, dtype, endpoint=True)
    return RANDOM.uniform(low, high, shape).astype(dtype)


class Case:
    """An operator with its inputs: the first `fed` of them are what flows through a graph, the others are constants."""

    def __init__(self, op, *inputs, fed=1, outputs=1, domain="", **attributes):
        self.op, self.inputs, self.fed, self.outputs = op, inputs, fed, outputs
        self.domain, self.attributes = domain, attributes


def check(*cases, opset=18, rtol=1e-4, atol=1e-5, free=True):
    """Runs the cases by onnxruntime and by TensorFlow: with all sizes known, and with those of channels alone."""
    model, feeds = _model_of(cases, opset)
    wanted = [output.name for output in model.graph.output]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers = dict(zip(wanted, session.run(wanted, feeds), strict=True))
    for is_free in (False, True) if free else (False,):
        for name, answer in _by_tensorflow(model, feeds, is_free).items():
            context = f"{name}, {'free' if is_free else 'known'} sizes"
            assert answer.shape == answers[name].shape, context
            assert answer.dtype == answers[name].dtype, context
            np.testing.assert_allclose(answer, answers[name], rtol, atol, err_msg=context)


def check_network(net, output, x, known, rtol=1e-5):
    """Runs a network's output on its input "x" by onnxruntime and by TensorFlow; returns the traced function.

    Of `x` the sizes are known that `known` has: None are free.
    """
    inputs = [helper.make_tensor_value_info("x", 1, [edge or f"d{axis}" for axis, edge in enumerate(known)])]
    graph = helper.make_graph(net.nodes, "g", inputs, [helper.make_empty_tensor_value_info(output)], net.constants)
    opsets = [helper.make_opsetid("", net.opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    wanted = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]
    read = read_graph(model, "g")
    order = natural(x.ndim)
    traced = tf.function(lambda x: as_plain(run(read, [Tensor(x, order)], Weights())[0]), autograph=False)
    concrete = traced.get_concrete_function(tf.TensorSpec(known))
    answer = concrete(tf.constant(x)).numpy()
    assert answer.shape == wanted.shape
    np.testing.assert_allclose(answer, wanted, rtol=rtol, atol=1e-6)
    return concrete


def answer_of(case, opset=18):
    """What TensorFlow answers for a case of one output: for what onnxruntime is no oracle of."""
    (answer,) = _by_tensorflow(*_model_of([case], opset), is_free=False).values()
    return answer


def _model_of(cases, opset):
    nodes, inputs, constants, feeds = [], [], [], {}
    for number, case in enumerate(cases):
        names = []
        for place, value in enumerate(case.inputs):
            names.append("" if value is None else f"{case.op}_{number}_in{place}")
            if value is None:
                continue
            if place < case.fed:
                kind = helper.np_dtype_to_tensor_dtype(value.dtype)
                inputs.append(helper.make_tensor_value_info(names[-1], kind, value.shape))
                feeds[names[-1]] = value
            else:
                constants.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        outputs = [f"{case.op}_{number}_out{place}" for place in range(case.outputs)]
        nodes.append(helper.make_node(case.op, names, outputs, domain=case.domain, **case.attributes))
    infos = [helper.make_empty_tensor_value_info(name) for node in nodes for name in node.output]
    graph = helper.make_graph(nodes, "cases", inputs, infos, constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 21 else 10), feeds


def _by_tensorflow(model, feeds, is_free):
    graph, weights = read_graph(model, "cases"), Weights()

    def free(shape):
        return [edge if axis == 1 or len(shape) < 3 or not is_free else None for axis, edge in enumerate(shape)]

    @tf.function(
        input_signature=[tf.TensorSpec(free(value.shape), value.dtype) for value in feeds.values()],
        autograph=False,  # which would rewrite all of the reader
    )
    def answer(*values):
        results = run(graph, [Tensor(value, natural(value.shape.rank)) for value in values], weights)
        return [as_plain(result) for result in results]

    # Optimizing takes longest; it has its say where the sizes are known.
    with without_graph_optimization() if is_free else contextlib.nullcontext():
        results = answer(*(tf.constant(value) for value in feeds.values()))
    return dict(zip(graph.outputs, (result.numpy() for result in results), strict=True))
