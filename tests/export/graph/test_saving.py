"""Graphs are saved so that what TensorFlow's optimizer makes of them answers as they do."""

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.graph.saving import save

RANDOM = np.random.default_rng(0)
KERNEL = RANDOM.normal(0, 0.5, (3, 3, 3, 8)).astype(np.float32)
BIAS = RANDOM.normal(0, 0.5, 8).astype(np.float32)


def relu6(x):
    return tf.nn.relu6(x)


FORMS = {
    "a factor near to a sixth": lambda x: x * relu6(x + 3.0) * 0.1667,
    "a sixth of float16": lambda x: x * (relu6(3.0 + x) * tf.cast(tf.constant(1 / 6, tf.float16), tf.float32)),
    "a quotient": lambda x: x * relu6(x + 3.0) / 6.1,
    "a product of constants": lambda x: (x * relu6(x + 3.0) / 6.0) * 1.03,
    "a product before it": lambda x: x * ((relu6(x + 3.0) / 6.0) * 1.03),
    "a function's result": lambda x: tf.function(lambda x: x * relu6(x + 3.0))(x) * 0.1667,
    "another sum": lambda x: x * (relu6(x + 3.005) * (1 / 6)),
    "a hard swish": lambda x: x * (relu6(x + 3.0) * (1 / 6)),
    "a hard swish by a product first": lambda x: x * relu6(x + 3.0) * (1 / 6),
    "a hard swish by a quotient": lambda x: x * (relu6(x + 3.0) / 6.0),
}


def wanted(form, x):
    """The same by NumPy, in double precision."""
    factor, added = {
        "a factor near to a sixth": (0.1667, 3),
        "a sixth of float16": (float(np.float16(1 / 6)), 3),
        "a quotient": (1 / 6.1, 3),
        "another sum": (1 / 6, 3.005),
        "a function's result": (0.1667, 3),
    }.get(form, (1 / 6 if "hard swish" in form else 1.03 / 6, 3))
    return x * np.clip(x + added, 0, 6) * factor


@pytest.mark.parametrize("form", FORMS)
def test_a_server_computes_what_the_graph_says(tmp_path, form):
    module = tf.Module()
    module.kernel = tf.Variable(KERNEL)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def run(images):
        return {"y": FORMS[form](tf.nn.bias_add(tf.nn.conv2d(images, module.kernel, 1, "SAME"), BIAS))}

    module.run = run
    graph = save(module, tmp_path, run)
    images = RANDOM.normal(0, 2, (1, 16, 16, 3)).astype(np.float32)
    convolved = tf.nn.conv2d(images, KERNEL, 1, "SAME").numpy().astype(float) + BIAS
    answer = tf.saved_model.load(tmp_path).signatures["serving_default"](images=tf.constant(images))["y"]
    np.testing.assert_allclose(answer, wanted(form, convolved), atol=2e-5)
    # What is one stays what TensorFlow looks for.
    ops = {node.op for function in graph.library.function for node in function.node_def}
    assert ("Sub" in ops) is not form.startswith("a hard swish")


def leaky(x, slope=0.3):
    return tf.nn.leaky_relu(x, slope)


RESIDUALS = {
    "sum": lambda y, x: leaky(y + x),
    "sum the other way": lambda y, x: leaky(x + y),
    "sum of several": lambda y, x: leaky(tf.add_n([y, x])),
    "identity between": lambda y, x: leaky(tf.identity(tf.stop_gradient(y + x))),
    "function's argument": lambda y, x: tf.function(leaky)(y + x),
    "function's result": lambda y, x: leaky(tf.function(lambda y, x: y + x)(y, x)),
    "two of them": lambda y, x: leaky(leaky(y + x) + x),
    "slope above 1": lambda y, x: leaky(y + x, 1.5),
    "default slope": lambda y, x: leaky(y + x, 0.2),
    "no sum": lambda y, x: leaky(y),
}


@pytest.mark.parametrize("swaps", [False, True])
def test_mish_behind_a_sum_can_be_run(tmp_path, swaps):
    module = tf.Module()
    module.kernel = tf.Variable(RANDOM.normal(0, 0.2, (3, 3, 8, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 8])])
    def run(images):
        added = tf.nn.bias_add(tf.nn.conv2d(images, module.kernel, 1, "SAME"), BIAS) + images
        factor = tf.tanh(tf.identity(tf.nn.softplus(added)) if swaps else tf.nn.softplus(added))
        return {"y": factor * added if swaps else added * factor}

    module.run = run
    save(module, tmp_path, run)
    images = RANDOM.normal(0, 2, (1, 16, 16, 8)).astype(np.float32)
    added = tf.nn.conv2d(images, module.kernel, 1, "SAME").numpy().astype(float) + BIAS + images
    answer = tf.saved_model.load(tmp_path).signatures["serving_default"](images=tf.constant(images))["y"]
    np.testing.assert_allclose(answer, added * np.tanh(np.log1p(np.exp(added))), atol=2e-5)


@pytest.mark.parametrize("form", RESIDUALS)
def test_a_leaky_relu_keeps_its_slope(tmp_path, form):
    module = tf.Module()
    module.kernel = tf.Variable(RANDOM.normal(0, 0.2, (3, 3, 8, 8)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 8])])
    def run(images):
        return {"y": RESIDUALS[form](tf.nn.bias_add(tf.nn.conv2d(images, module.kernel, 1, "SAME"), BIAS), images)}

    module.run = run
    graph = save(module, tmp_path, run)
    images = RANDOM.normal(0, 2, (1, 16, 16, 8)).astype(np.float32)
    convolved = tf.nn.conv2d(images, module.kernel, 1, "SAME").numpy().astype(float) + BIAS
    added = convolved + (0 if form == "no sum" else images)
    slope = {"slope above 1": 1.5, "default slope": 0.2}.get(form, 0.3)
    wanted = np.where(added > 0, added, slope * added)
    if form == "two of them":
        wanted = np.where(wanted + images > 0, wanted + images, slope * (wanted + images))
    answer = tf.saved_model.load(tmp_path).signatures["serving_default"](images=tf.constant(images))["y"]
    np.testing.assert_allclose(answer, wanted, atol=2e-5)
    ops = {node.op for function in graph.library.function for node in function.node_def}
    assert ("LeakyRelu" in ops) is (form in ("default slope", "no sum"))
