"""Inputs and outputs of ONNX files: found, chosen, or listed."""

import numpy as np
import onnx
import onnx_networks as networks
import pytest
import tensorflow as tf
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.spec import make_spec
from onnx import helper
from onnx.parser import parse_model


def load(path, **fields):
    return load_source(make_spec({"source": str(path), "output_dir": "served", **fields}))


def test_several_outputs_are_listed_by_name_and_shape(tmp_path):
    path = networks.torch_unet(tmp_path / "net.onnx")
    with pytest.raises(SourceError) as caught:
        load(path)
    listed = ", ".join(f"'{name}' float32[-1, 1, -1, -1]" for name in ("out", "side1", "side2"))
    assert str(caught.value) == f"source {path} has 3 outputs; choose one by source_output: {listed}"
    with pytest.raises(SourceError, match=r"source_output: source .* has no output 'masks'; it has: 'out'"):
        load(path, source_output="masks")


def test_what_the_chosen_output_does_not_need_is_left_out(tmp_path):
    path = networks.yolo_segmenter(tmp_path / "net.onnx")
    whole, part = load(path, source_output="output1"), onnx.load(path)
    used = {name for node in part.graph.node for name in node.input}
    assert whole.parameter_count < sum(
        np.prod(one.dims) for one in part.graph.initializer if one.name in used and one.data_type == 1
    )
    assert (whole.size, whole.batch, whole.channels, whole.output_channels) == ((32, 32), 1, 3, 4)


def test_advice_for_keras_models_is_not_given_for_an_output_that_is_no_map(tmp_path):
    net = networks.Network(13)
    row = net.add("Reshape", net.conv("x", 3, 4), net.as_node(0, 4, -1))
    part = net.add("Slice", row, *map(net.as_node, (0, 5000, 2)))
    path = net.save(tmp_path / "net.onnx", [("x", ["b", 3, 64, 96])], [(part, "y")])
    with pytest.raises(SourceError, match=r"which is no map of it; wanted .* or \[B, H\*W, classes\]$"):
        load(path)


def test_an_input_beside_the_image_is_no_matter_where_the_output_does_not_need_it(tmp_path):
    path = networks.paddle_detector(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("scale_factor", 1, [-1, 2]))
    # Before IR 4 weights were inputs as well.
    model.graph.input.extend(helper.make_tensor_value_info(one.name, 1, one.dims) for one in model.graph.initializer)
    onnx.save(model, tmp_path / "more.onnx")
    images = tf.constant(np.random.default_rng(0).random((1, 32, 32, 3), np.float32))
    more = load(tmp_path / "more.onnx")
    np.testing.assert_array_equal(more.forward(images), load(path).forward(images))
    np.testing.assert_allclose(more.reference.call(images), load(path).forward(images), atol=1e-4)
    model.graph.node.append(helper.make_node("ReduceMax", ["scale_factor"], ["scale"], keepdims=0))
    model.graph.node.append(helper.make_node("Mul", [model.graph.output[0].name, "scale"], ["scaled"]))
    model.graph.output.append(helper.make_empty_tensor_value_info("scaled"))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(SourceError, match=r"takes 2 inputs; an export has one, the image: 'x' float32.*'scale_factor'"):
        load(tmp_path / "two.onnx", source_output="scaled")


def test_what_is_against_the_standard_is_said_in_one_line(tmp_path):
    net = networks.Network(13)
    x = net.add("Reshape", net.conv("x", 3, 4), net.add("Concat", net.as_node(0, 7), net.as_node(-1)))
    path = net.save(tmp_path / "net.onnx", [("x", ["b", 3, 8, 8])], [(x, "y")])
    model = onnx.load(path)
    model.graph.initializer[0].dims[:] = [9, 9]
    onnx.save(model, path)
    with pytest.raises(SourceError, match=r"^source .*net\.onnx: its graph cannot be read: .+$"):
        load(path)


def test_weights_are_variables_that_are_shared_between_traces(tmp_path):
    model = load(networks.paddle_detector(tmp_path / "net.onnx"))
    before = len(model.trackable.variables)
    for edge in (32, 48):
        tf.function(model.forward, autograph=False).get_concrete_function(tf.TensorSpec([None, edge, edge, 3]))
    assert len(model.trackable.variables) == before > 0
    assert sum(np.prod(one.shape) for one in model.trackable.variables) <= model.parameter_count


def test_constants_that_depend_on_the_size_are_made_in_every_trace(tmp_path):
    net = networks.Network(13)
    rows = net.add("Gather", net.add("Shape", "x"), net.constant(2, np.int64))
    ramp = net.add("Cast", net.add("Range", net.constant(0, np.int64), rows, net.constant(1, np.int64)), to=1)
    x = net.add("Add", net.conv("x", 3, 4), net.add("Unsqueeze", ramp, net.as_node(1)))
    model = load(net.save(tmp_path / "net.onnx", [("x", ["b", 3, "h", "w"])], [(x, "y")]))
    forward = tf.function(model.forward, autograph=False)
    for edge in (80, 96):
        images = tf.constant(np.random.default_rng(edge).random((1, edge, edge, 3), np.float32))
        np.testing.assert_allclose(forward(images), model.reference.call(images), rtol=1e-5, atol=1e-5)


def test_what_needs_a_fixed_size_is_said_with_the_operator(tmp_path):
    net = networks.Network(13)
    x = net.conv("x", 3, 4, stride=2, auto_pad="SAME_LOWER")
    path = net.save(tmp_path / "net.onnx", [("x", ["b", 3, "h", "w"])], [(x, "y")])
    with pytest.raises(SourceError, match=r"Conv 'node_0': auto_pad SAME_LOWER needs a fixed size; .*--model_size"):
        load(path)
    assert load(path, model_size=(16, 24)).size == (16, 24)


def prepared_as_transformers_js(net):
    return net.conv(net.add("Div", net.add("Sub", "x", net.constant([[[0.5]]])), net.constant(0.25)), 3, 4)


def grouped(net):
    return net.conv("x", 4, 6, group=2)


def quantized(net):
    integers, scale, zero = net.add("DynamicQuantizeLinear", "x", outputs=3)
    weights = net.constant(net.random.integers(-100, 100, [4, 3, 3, 3]), np.int8)
    x = net.add("ConvInteger", integers, weights, zero, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    return net.add("Mul", net.add("Cast", x, to=1), scale)


def channels_last(net):
    x = net.add("Transpose", net.add("Mul", "x", net.constant(2.0)), perm=[0, 3, 1, 2])
    return net.add("Transpose", net.conv(x, 1, 2), perm=[0, 2, 3, 1])


def turned(net):
    """Blue before green before red, which nothing is followed through: as ONNX's pictures usually are, by trying."""
    return net.conv(net.add("Gather", "x", net.constant([2, 1, 0], np.int64), axis=1), 3, 2)


@pytest.mark.parametrize(
    ("write", "channels", "is_first"),
    [(prepared_as_transformers_js, 3, True), (grouped, 4, True), (quantized, 3, True), (channels_last, 1, False),
     (turned, 3, True)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [["batch_size", "num_channels", "height", "width"], None])
def test_a_file_that_leaves_all_sizes_of_its_image_free(tmp_path, write, channels, is_first, shape):
    net = networks.Network(13)
    model = load(net.save(tmp_path / "net.onnx", [("x", shape)], [(write(net), "y")]))
    assert model.data_format == ("channels_first" if is_first else "channels_last")
    assert model.channels == channels
    images = tf.constant(np.random.default_rng(0).random((1, 12, 16, channels), np.float32))
    np.testing.assert_allclose(model.forward(images), model.reference.call(images), atol=1e-5)


@pytest.mark.parametrize(("edge", "is_told"), [(32, True), (96, False), ("h", False)])
def test_a_size_that_is_hardly_meant_is_told(tmp_path, caplog, edge, is_told):
    net = networks.Network(13)
    load(net.save(tmp_path / "net.onnx", [("x", ["b", 3, edge, edge])], [(net.conv("x", 3, 1), "y")]))
    assert ("the file names a size of" in caplog.text) == is_told
    assert ("a size of 32x32 pixels" in caplog.text) == is_told


def test_random_numbers_are_the_same_for_every_picture(tmp_path, caplog):
    """As SegNeXt starts its matrix factorization."""
    net = networks.Network(13)
    x = net.conv("x", 3, 4)
    batch = net.add("Slice", net.add("Shape", x), net.as_node(0), net.as_node(1))
    zeros = net.add("ConstantOfShape", net.add("Concat", batch, net.as_node(4, 1, 1), axis=0))
    x = net.add("Mul", x, net.add("RandomUniformLike", zeros, low=1.0, high=2.0))
    path = net.save(tmp_path / "net.onnx", [("x", ["b", 3, "h", "w"])], [(x, "y")])
    model = load(path)
    assert model.reference is None
    assert f"source {path}: its random numbers (RandomUniformLike) are constants here" in caplog.text
    images = tf.constant(np.random.default_rng(0).random((2, 12, 16, 3), np.float32))
    answers = model.forward(images)
    np.testing.assert_array_equal(load(path).forward(images), answers)
    np.testing.assert_allclose(model.forward(images[1:]), answers[1:], rtol=1e-6)


def squeezed(axis):
    """As PyTorch's older exporter writes x.squeeze(axis), of a size that it does not know."""
    return parse_model(
        '<ir_version: 8, opset_import: ["" : 13]> g (float[b, 3, h, w] x) => (float[n, 3, h, w] y) {'
        f" s = Shape(x) axis = Constant<value_ints: ints = [{axis}]>() one = Constant<value_ints: ints = [1]>()"
        " size = Gather(s, axis) is_one = Equal(size, one)"
        " r = If (is_one) <then_branch = t () => (float[k] u) { u = Squeeze(x, axis) },"
        " else_branch = e () => (float[k, 3, h, w] v) { v = Identity(x) }>"
        " d = Mul(r, r) y = Unsqueeze(d, axis) }"
    )


def test_pictures_are_run_one_by_one_where_their_number_decides(tmp_path, caplog):
    onnx.save(squeezed(0), tmp_path / "net.onnx")
    model = load(tmp_path / "net.onnx")
    assert model.batch == 1
    assert "pictures are run one by one, as their number decides what is done: If 'r': " in caplog.text
    images = np.random.default_rng(0).random((3, 6, 8, 3), np.float32)
    answers = model.forward(tf.constant(images))
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_allclose(answer, model.reference.call(tf.constant(image[np.newaxis]))[0], rtol=1e-6)
    # Where the size decides, that is what is to be given.
    onnx.save(squeezed(2), tmp_path / "net.onnx")
    with pytest.raises(SourceError, match=r"If 'r': the number of axes .* depends on the picture; .*--model_size"):
        load(tmp_path / "net.onnx")
