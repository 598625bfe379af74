"""Models that take more than the image: the spec gives the rest, whatever kind of file they come in."""

import importlib.util
import re
from pathlib import Path

import keras
import numpy as np
import onnx
import onnx_networks
import pytest
import tensorflow as tf
from maskport.export import SourceError, SpecError
from maskport.export.sources import load_source
from maskport.export.spec import load_spec, make_spec
from onnx import helper

KEPT = np.array([0.5, -1.0, 2.0], np.float32)  # of each channel
PICTURE = [None, 8, 12, 3]


def compute(images, gain, shift):
    """What every model here does: to [B, H, W, 3], gain [B, 1] and shift [1], in NumPy's or TensorFlow's terms."""
    return images * gain[:, :, None, None] * KEPT + shift[0]


def of_keras(path):
    image, gain, shift = (
        keras.Input(PICTURE[1:], name="image"),
        keras.Input((1,), name="gain"),
        keras.Input((1,), name="shift"),
    )
    as_map = keras.layers.Reshape((1, 1, 1))
    scaled = keras.layers.Rescaling(KEPT.tolist())(keras.layers.Multiply()([image, as_map(gain)]))
    keras.Model({"shift": shift, "image": image, "gain": gain}, scaled + as_map(shift)).save(f"{path}.keras")
    return f"{path}.keras"


def of_tensorflow(path, *, positional=False):
    forms = {"image": PICTURE, "gain": [None, 1], "shift": [1]}
    module = tf.Module()
    module.run = tf.function(
        compute if positional else lambda image, gain, shift: {"map": compute(image, gain, shift)},
        input_signature=[tf.TensorSpec(shape, tf.float32, name=name) for name, shape in forms.items()],
    )
    if positional:
        module.__call__ = module.run
    tf.saved_model.save(module, path, signatures=None if positional else module.run)
    return path


def placeholders():
    v1 = tf.compat.v1
    takes = {"image": PICTURE, "gain": [None, 1], "shift": [1]}
    starts = {name: v1.placeholder(tf.float32, shape, name=name) for name, shape in takes.items()}
    return starts, tf.identity(compute(*starts.values()), name="map")


def of_tensorflow_1(path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        starts, end = placeholders()
        tf.compat.v1.saved_model.simple_save(session, path, starts, {"map": end})
    return path


def of_a_frozen_graph(path):
    with tf.Graph().as_default() as graph:
        placeholders()
    Path(f"{path}.pb").write_bytes(graph.as_graph_def().SerializeToString())
    return f"{path}.pb"


def of_lite(path):
    forms = {"image": [1, *PICTURE[1:]], "gain": [1, 1], "shift": [1]}
    traced = tf.function(compute).get_concrete_function(
        *(tf.TensorSpec(shape, tf.float32, name=name) for name, shape in forms.items())
    )
    Path(f"{path}.tflite").write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert())
    return f"{path}.tflite"


def of_onnx(path):
    net = onnx_networks.Network(13)
    gain = net.add("Reshape", "gain", net.as_node(-1, 1, 1, 1))
    scaled = net.add("Mul", net.add("Mul", "image", gain), net.constant(KEPT[:, None, None]))
    y = net.add("Add", scaled, "shift")
    net.save(f"{path}.onnx", [("image", ["b", 3, 8, 12]), ("gain", ["n", 1]), ("shift", [1])], [(y, "map")])
    return f"{path}.onnx"


MAKERS = [
    of_keras, of_tensorflow, lambda path: of_tensorflow(path, positional=True), of_tensorflow_1, of_a_frozen_graph,
    of_lite, of_onnx,
]  # fmt: skip


def load(source, **fields):
    return load_source(make_spec({"source": str(source), "output_dir": "served", **fields}))


@pytest.mark.filterwarnings("ignore")  # TensorFlow 1's, and TensorFlow Lite's of its new package
@pytest.mark.parametrize("make", MAKERS)
def test_constants_are_fed_to_every_picture(tmp_path, make):
    path = make(str(tmp_path / "model"))
    with pytest.raises(
        SourceError, match=r"takes 3 inputs; .*'gain' float32.*; give the others values by source_const"
    ):
        load(path)
    with pytest.raises(SourceError, match=r"takes 2 inputs; .*'shift' float32"):
        load(path, source_constants={"gain": 2})
    model = load(path, source_constants="gain=0.5,shift=-3")
    images = np.random.default_rng(0).random((3, 8, 12, 3)).astype(np.float32)
    wanted = compute(images, np.full([3, 1], 0.5, np.float32), [-3])
    np.testing.assert_allclose(model.forward(tf.constant(images)), wanted, atol=1e-6)
    if model.reference is not None:
        np.testing.assert_allclose(model.reference.call(tf.constant(images)), wanted, atol=1e-6)


def test_what_runs_the_file_itself_is_given_them_too(tmp_path):
    if importlib.util.find_spec("onnxruntime"):
        assert load(of_onnx(str(tmp_path / "a")), source_constants="gain=1,shift=1").reference is not None
    assert load(of_lite(str(tmp_path / "b")), source_constants="gain=1,shift=1").reference is not None


def test_a_switch_of_training_and_a_list_are_taken(tmp_path):
    with tf.Graph().as_default() as graph:
        v1 = tf.compat.v1
        image = v1.placeholder(tf.float32, PICTURE, name="image")
        is_training, steps = (
            v1.placeholder(tf.bool, [], name="is_training"),
            v1.placeholder(tf.int32, None, name="steps"),
        )
        means = v1.placeholder(tf.float32, [3], name="means")
        tf.identity(tf.where(is_training, image * 0, image - means) * tf.cast(steps, tf.float32), name="map")
    (tmp_path / "graph.pb").write_bytes(graph.as_graph_def().SerializeToString())
    (tmp_path / "spec.yaml").write_text(
        f"source: {tmp_path}/graph.pb\noutput_dir: served\n"
        "source_constants: {is_training: false, steps: 4, means: [0.1, 0.2, 0.3]}\n"
    )
    images = np.random.default_rng(0).random((2, 8, 12, 3)).astype(np.float32)
    model = load_source(load_spec(str(tmp_path / "spec.yaml"), {}))
    np.testing.assert_allclose(
        model.forward(tf.constant(images)), (images - np.float32([0.1, 0.2, 0.3])) * 4, atol=1e-6
    )


def test_a_scale_that_sizes_depend_on_and_a_state_are_constants(tmp_path):
    """As video matting has them: the picture made smaller by a factor that is an input, and states that are empty."""
    net = onnx_networks.Network(13)
    scales = net.add("Concat", net.constant([1, 1]), "ratio", "ratio", axis=0)
    small = net.add(
        "Resize", "src", "", scales, mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
    )
    state = net.add("Expand", "state", net.add("Shape", small))
    y = net.add("Mul", net.add("Add", small, state), net.constant([[[2.0]], [[3.0]], [[4.0]]]))
    takes = [("src", ["b", 3, "h", "w"]), ("state", ["s0", "s1", "s2", "s3"]), ("ratio", [1])]
    net.save(tmp_path / "net.onnx", takes, [(y, "alpha")])
    images = np.random.default_rng(0).random((2, 8, 12, 3)).astype(np.float32)
    model = load(tmp_path / "net.onnx", source_constants="state=1,ratio=0.5")
    np.testing.assert_allclose(model.forward(tf.constant(images)), (images[:, ::2, ::2] + 1) * [2, 3, 4], atol=1e-6)


def test_an_empty_list_is_none_of_what_there_may_be_any_number_of(tmp_path):
    """As Segment Anything takes boxes and masks: a model that answers how many it was given."""
    forms = {"boxes": [None, None, 2, 2], "masks": [None, None, None, None, 1], "none": [None]}

    def run(image, boxes, masks, none):
        counts = [tf.reduce_prod(tf.shape(boxes)[:2]), tf.shape(boxes)[2], tf.reduce_prod(tf.shape(masks)[1:])]
        count = tf.add_n([scale * part for scale, part in zip((1000, 1, 100), counts, strict=True)])
        agrees = tf.debugging.assert_equal(tf.shape(image)[0], [tf.shape(boxes)[0], tf.shape(masks)[0]])
        with tf.control_dependencies([agrees, tf.debugging.assert_equal(tf.size(none), 0)]):
            return {"map": image[..., :1] + tf.cast(count, tf.float32)}

    module = tf.Module()
    specs = [tf.TensorSpec(PICTURE, name="image"), *(tf.TensorSpec(form, name=name) for name, form in forms.items())]
    module.run = tf.function(run, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.run)
    model = load(tmp_path / "m", source_constants="boxes=[],masks=[],none=[]")
    images = np.random.default_rng(0).random((3, 8, 12, 3)).astype(np.float32)
    np.testing.assert_allclose(model.forward(tf.constant(images)), images[..., :1] + 2, atol=1e-6)


def test_what_an_input_cannot_take_is_told(tmp_path):
    path = of_onnx(str(tmp_path / "model"))
    for given, message in {
        "gain=1,shft=1": r"source_constants: source .*\.onnx takes no input 'shft'; it takes: 'image' .*'gain'",
        "gain=1,shift=1,image=0": r"has no input that could be used",
    }.items():
        with pytest.raises(SourceError, match=message):
            load(path, source_constants=given)
    for shift, message in (
        ([], r"'shift' of source .* is float32\[1\]; got the shape \[0\]"),
        ([1.0, 2.0], r"'shift' of source .* is float32\[1\]; got the shape \[2\]"),
        ([[1.0], [2.0, 3.0]], "the lists differ in length"),
    ):
        with pytest.raises(SourceError, match=message):
            load(path, source_constants={"gain": 1, "shift": shift})
    net = onnx_networks.Network(13)
    y = net.add("Mul", "image", net.add("Cast", "count", to=1))
    path = net.save(tmp_path / "whole.onnx", [("image", ["b", 3, 8, 8])], [(y, "map")])
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("count", onnx.TensorProto.INT64, []))
    onnx.save(model, path)
    for given, message in {"count=0.5": "0.5 is no int64", "count=[]": r"got the shape \[0\]"}.items():
        with pytest.raises(SourceError, match=rf"'count' of source .* is int64\[\]; {message}"):
            load(path, source_constants=given)


@pytest.mark.parametrize(("given", "message"), [
    ("training", "source_constants: 'training': wanted NAME=NUMBER, or NAME=true or false"),
    ("scale=big", "source_constants: 'scale=big': wanted NAME=NUMBER"),
    ("", "source_constants: wants at least one"),
    ({"scale": "big"}, "source_constants: 'scale': wanted a number, true or false, or lists of them"),
    ({"scale": [1, [2, None]]}, "source_constants: 'scale': wanted a number"),
])  # fmt: skip
def test_what_is_no_constant_is_told(given, message):
    with pytest.raises(SpecError, match=re.escape(message)):
        make_spec({"source": "a.keras", "output_dir": "served", "source_constants": given})


@pytest.mark.filterwarnings("ignore")
def test_a_key_that_tensorflow_1_hands_through_is_no_input_of_the_mask(tmp_path):
    """As the signatures of services that answer in any order have it."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = tf.compat.v1.placeholder(tf.float32, [None, *PICTURE[1:]], "image")
        key = tf.compat.v1.placeholder(tf.string, [None], "key")
        outputs = {"map": 2.0 * image + 1.0, "key": tf.identity(key)}
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "saved"), {"image": image, "key": key}, outputs)
    images = np.random.default_rng(0).random((2, *PICTURE[1:]), np.float32)
    loaded = load(tmp_path / "saved", source_output="map")
    np.testing.assert_allclose(loaded.forward(tf.constant(images)), 2 * images + 1, rtol=1e-6)
