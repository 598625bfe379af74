"""TensorFlow Lite files, held against TensorFlow Lite's interpreter."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from exporting import export_unchecked
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.sources.preflight import check_source
from maskport.export.sources.tflite.ops import OPS, Node
from maskport.export.spec import make_spec
from PIL import Image
from skimage import data
from tensorflow.lite.python import schema_py_generated as schema

SIZE = (24, 32)
PHOTO = np.asarray(Image.fromarray(data.astronaut()).resize(SIZE[::-1]))
RANDOM = np.random.default_rng(3)


def drawn(*shape):
    return tf.constant(RANDOM.normal(0, 0.4, shape).astype(np.float32))


KERNELS = {
    "3x3": drawn(3, 3, 3, 8), "depthwise": drawn(3, 3, 8, 2), "grouped": drawn(3, 3, 4, 6),
    "transposed": drawn(2, 2, 4, 8), "dense": drawn(8, 5), "slope": drawn(1, 1, 8), "bias": drawn(8),
}  # fmt: skip


def many_operators(x):
    """An output for each operator, of the same features."""
    features = tf.nn.relu6(tf.nn.conv2d(x, KERNELS["3x3"], 1, "SAME") + KERNELS["bias"])
    signed = features - 1.0
    depthwise = KERNELS["depthwise"]
    half = tf.nn.avg_pool2d(features, 2, 2, "VALID")
    yield from (
        features,
        tf.nn.conv2d(x, KERNELS["3x3"], [2, 2], "VALID"),
        tf.nn.relu(tf.nn.conv2d(x, KERNELS["3x3"], 1, "SAME", dilations=2)),
        tf.nn.conv2d(features, KERNELS["grouped"], 1, "SAME"),
        tf.nn.depthwise_conv2d(features, depthwise, [1, 1, 1, 1], "SAME"),
        tf.nn.depthwise_conv2d(features, depthwise, [1, 2, 2, 1], "SAME") + drawn(16),
        tf.nn.depthwise_conv2d(features, depthwise[..., :1], [1, 1, 1, 1], "SAME", dilations=[2, 2]),
        tf.nn.conv2d_transpose(half, KERNELS["transposed"], [1, 24, 32, 4], 2, "SAME"),
        tf.nn.relu(tf.nn.conv2d_transpose(half, drawn(2, 2, 4, 8), [1, 24, 32, 4], 2, "SAME") + drawn(4)),
        tf.nn.max_pool2d(features, 3, 2, "SAME"),
        tf.image.resize(half, SIZE),
        tf.compat.v1.image.resize_bilinear(half, [25, 33], align_corners=True),
        tf.compat.v1.image.resize_bilinear(half, [30, 40]),
        tf.image.resize(half, [36, 48], "nearest"),
        tf.concat([features, signed], 3),
        tf.pad(features, [[0, 0], [1, 2], [3, 0], [0, 0]], constant_values=0.5),
        tf.pad(features, [[0, 0], [1, 2], [3, 0], [0, 0]], "REFLECT"),
        tf.matmul(features, tf.broadcast_to(KERNELS["dense"], [1, 24, 8, 5])),
        tf.reshape(tf.matmul(tf.reshape(features, [-1, 8]), KERNELS["dense"]), [1, 24, 32, 5]),
        tf.nn.softmax(signed),
        tf.sigmoid(signed) * tf.tanh(signed) - tf.exp(-features) / (1.0 + features),
        signed * tf.nn.relu6(signed + 3.0) / 6.0,
        tf.nn.leaky_relu(signed, 0.3) + tf.nn.elu(signed),
        tf.maximum(signed, 0.0) + KERNELS["slope"] * tf.minimum(signed, 0.0),
        features * tf.reduce_mean(features, [1, 2], keepdims=True),
        tf.reduce_max(signed, 3, keepdims=True) + tf.reduce_sum(features, 3, keepdims=True),
        tf.nn.depth_to_space(features, 2),
        tf.nn.space_to_depth(features, 2),
        tf.transpose(tf.transpose(features, [0, 3, 1, 2])[:, ::2], [0, 2, 3, 1]),
        tf.concat(tf.split(features, 2, 3)[::-1], 3),
        tf.stack(tf.unstack(features, axis=3)[:3], 3),
        tf.where(signed > 0.2, features, tf.sqrt(features + 1.0)),
        tf.gather(features, [3, 0, 1], axis=3),
        features[:, 2:-2, ::2, 1:5],
        tf.cast(tf.cast(features * 3.0, tf.int32), tf.float32),
        tf.math.l2_normalize(signed, -1),
        tf.sign(signed) + tf.cast(tf.argmin(signed, 3)[..., tf.newaxis], tf.float32),
        tf.one_hot(tf.argmax(signed, 3, tf.int32), 8, 2.0, -1.0),
        tf.transpose(tf.one_hot(tf.argmax(signed, 3, tf.int32), 8, axis=1), [0, 2, 3, 1]),
        tf.cumsum(features, 3, exclusive=True) + tf.cumsum(features, 3, reverse=True),
        tf.math.top_k(signed, 3)[0] + tf.cast(tf.math.top_k(signed, 3)[1], tf.float32),
        tf.scatter_nd([[0, 3], [0, 1]], features[0, :2], [1, 24, 32, 8]),
    )  # fmt: skip


def convert(function, size=SIZE, **options):
    traced = tf.function(function).get_concrete_function(tf.TensorSpec([1, *size, 3], tf.float32, name="pixels"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    for name, value in options.items():
        setattr(converter, name, value)
    return converter.convert()


def write(path, content):
    path.write_bytes(content)
    return path


def load(path, **fields):
    return load_source(make_spec({"source": str(path), "output_dir": "served", **fields}))


def interpreted(content, images):
    """What the interpreter answers to one picture: all its outputs by name, of quantised ones the real values."""
    interpreter = tf.lite.Interpreter(model_content=content)
    (taken,) = interpreter.get_input_details()
    interpreter.allocate_tensors()
    scale, zero = taken["quantization"]
    stored = np.round(images / scale + zero) if scale and taken["dtype"] != np.uint8 else images
    interpreter.set_tensor(taken["index"], stored.astype(taken["dtype"]))
    interpreter.invoke()
    answers = {}
    for given in interpreter.get_output_details():
        answer, (scale, zero) = interpreter.get_tensor(given["index"]), given["quantization"]
        answers[given["name"]] = (answer.astype(np.float32) - zero) * scale if scale else answer
    return answers


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_every_operator_answers_as_the_interpreter(tmp_path):
    content = convert(lambda x: {f"out{at:02}": one for at, one in enumerate(many_operators(x))})
    path = write(tmp_path / "many.tflite", content)
    images = (PHOTO / 255).astype(np.float32)[np.newaxis]
    wanted = interpreted(content, images)
    assert len(wanted) == 42
    for name, answer in wanted.items():
        model = load(path, source_output=name)
        found = model.forward(tf.constant(np.concatenate([images, images[:, ::-1]]))).numpy()
        assert found.shape == (2, *answer.shape[1:]), name
        np.testing.assert_allclose(found[:1], answer, atol=2e-5, rtol=1e-4, err_msg=name)


def segmenter(x):
    features = tf.nn.relu6(tf.nn.conv2d(x, KERNELS["3x3"], 2, "SAME") + KERNELS["bias"])
    features = tf.nn.relu(tf.nn.depthwise_conv2d(features, KERNELS["depthwise"][..., :1], [1, 1, 1, 1], "SAME"))
    logits = tf.nn.conv2d(features, tf.reshape(KERNELS["dense"], [1, 1, 8, 5])[..., :1], 1, "SAME")
    return {"mask": tf.sigmoid(tf.image.resize(logits, SIZE))}


def pictures():
    for at in range(8):
        yield [np.roll(PHOTO, 4 * at, 1)[np.newaxis].astype(np.float32) / 255]


QUANTISED = {
    "float16": {
        "optimizations": [tf.lite.Optimize.DEFAULT], "target_spec": tf.lite.TargetSpec(supported_types=[tf.float16]),
    },
    "weights": {"optimizations": [tf.lite.Optimize.DEFAULT]},
    "float in and out": {"optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": pictures},
    "int8": {
        "optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": pictures,
        "target_spec": tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
        "inference_input_type": tf.int8, "inference_output_type": tf.int8,
    },
    "uint8": {
        "optimizations": [tf.lite.Optimize.DEFAULT], "representative_dataset": pictures,
        "target_spec": tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8]),
        "inference_input_type": tf.uint8, "inference_output_type": tf.uint8,
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated", "ignore:Statistics for quantized inputs")
@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_files_answer_nearly_as_the_interpreter(tmp_path, kind):
    content = convert(segmenter, **QUANTISED[kind])
    model = load(write(tmp_path / "quantised.tflite", content))
    assert model.input_dtype == (tf.uint8 if kind == "uint8" else tf.float32)
    images = (PHOTO if kind == "uint8" else PHOTO / 255).astype(np.float32)[np.newaxis]
    (wanted,) = interpreted(content, images).values()
    found = model.forward(tf.constant(images)).numpy()
    assert np.ptp(wanted) > 0.2
    assert np.abs(found - wanted).max() <= (0.002 if kind == "float16" else 0.03)
    reference = model.reference.call(tf.constant(images)).numpy()
    np.testing.assert_allclose(reference, wanted, atol=1e-6 if kind == "float16" else 0.02)


def pruned(shape, kept, block=1):
    """Weights [..., inputs, outputs] of which whole blocks along the inputs are 0."""
    values = RANDOM.normal(0, 1, shape).astype(np.float32)
    blocks = RANDOM.random((*shape[:-2], shape[-2] // block, shape[-1])) < kept
    return values * blocks.repeat(block, -2)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_sparse_weights_are_read(tmp_path):
    kernel, separable = pruned((3, 3, 3, 16), 0.1), pruned((1, 1, 16, 32), 0.1)
    dense = pruned((32, 32), 0.2, block=4)

    def sparse(x):
        x = tf.nn.relu(tf.nn.conv2d(tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME")), separable, 1, "SAME"))
        return {"map": tf.reshape(tf.matmul(tf.reshape(x, [-1, 32]), dense), [1, *SIZE, 32])}

    content = convert(sparse, optimizations=[tf.lite.Optimize.EXPERIMENTAL_SPARSITY])
    tensors = schema.ModelT.InitFromPackedBuf(content, 0).subgraphs[0].tensors
    forms = [one.sparsity for one in tensors if one.sparsity is not None]
    assert len(forms) > 1
    assert any(len(form.blockMap) for form in forms)
    images = (PHOTO / 255).astype(np.float32)[np.newaxis]
    (wanted,) = interpreted(content, images).values()
    found = load(write(tmp_path / "sparse.tflite", content)).forward(tf.constant(images)).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_a_file_is_exported_and_compared(tmp_path):
    content = convert(segmenter)
    version = export_unchecked(write(tmp_path / "net.tflite", content), tmp_path / "served", scaling="unit")
    mask = tf.saved_model.load(str(version)).signatures["mask"](tf.constant(PHOTO[np.newaxis]))["mask"].numpy()
    (wanted,) = interpreted(content, (PHOTO / 255).astype(np.float32)[np.newaxis]).values()
    decided = np.abs(wanted - 0.5) > 1e-4
    np.testing.assert_array_equal(mask[decided], (wanted > 0.5)[decided])
    compared = json.loads((version / "assets.extra/maskport.json").read_text())["probe"]["compared"]
    assert compared["reference"].startswith("TensorFlow Lite ")
    assert compared["largest"] < 1e-5


def test_class_indices_come_out_of_an_argmax(tmp_path):
    def labels(x):
        return {"labels": tf.argmax(tf.nn.conv2d(x, KERNELS["3x3"], 1, "SAME"), -1)}

    model = load(write(tmp_path / "labels.tflite", convert(labels)))
    assert (model.answers_classes, model.output_channels) == (True, 1)


def test_what_is_no_model_is_told_in_one_line(tmp_path):
    whole = convert(segmenter)
    for content, told in (
        (b"", "it is empty"),
        (b"GIF89a and more", "it is no TensorFlow Lite model (its bytes 4 to 8 are not TFL3)"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a pointer of Git LFS"),
    ):
        path = write(tmp_path / "bad.tflite", content)
        with pytest.raises(SourceError, match=re.escape(f"source {path}: {told}")):
            check_source(make_spec({"source": str(path), "output_dir": "o"}))
    for length in (20, 300, len(whole) // 2):
        with pytest.raises(SourceError, match="it is a broken or truncated TensorFlow Lite model"):
            load(write(tmp_path / "short.tflite", whole[:length]))


def test_operators_that_are_not_read_are_all_named(tmp_path):
    def unusual(x):
        return {"y": tf.reverse_sequence(x, [5], 1) + tf.linalg.diag(tf.math.floormod(x, 0.3))[..., 0]}

    with pytest.raises(SourceError, match=r"holds operators that are not read here: MATRIX_DIAG, REVERSE_SEQUENCE$"):
        load(write(tmp_path / "unusual.tflite", convert(unusual, (24, 32))))


def custom(padding, strides, window=()):
    """The options of one of MediaPipe's operators: of strides and window the width first."""
    return Node(np.array([padding, *strides[::-1], *window[::-1], 0, 0], np.int32).tobytes(), tf.float32, tf.constant)


@pytest.mark.parametrize(
    ("padding", "strides", "window"), [(1, (2, 2), (2, 2)), (2, (2, 3), (2, 3)), (1, (2, 1), (3, 2))]
)
def test_the_places_of_maxima(padding, strides, window):
    images = RANDOM.normal(0, 1, (2, 6, 9, 3)).astype(np.float32)
    kind = "SAME" if padding == 1 else "VALID"
    found, places = OPS["MaxPoolingWithArgmax2D"](custom(padding, strides, window), tf.constant(images))
    np.testing.assert_array_equal(found, tf.nn.max_pool2d(images, window, strides, kind))
    before = [
        max((-(-edge // step) - 1) * step + extent - edge, 0) // 2 if padding == 1 else 0
        for edge, step, extent in zip(images.shape[1:3], strides, window, strict=True)
    ]
    for place in np.ndindex(*found.shape):
        row, column = divmod(int(places[place]), window[1])
        at = (place[1] * strides[0] - before[0] + row, place[2] * strides[1] - before[1] + column)
        assert images[place[0], *at, place[3]] == found[place]
    assert np.abs(places - np.floor(places) - 0.1).max() < 1e-6
    if strides == window:
        back = OPS["MaxUnpooling2D"](custom(padding, strides, window), found, places).numpy()
        room = [(0, max(there - edge, 0)) for there, edge in zip(back.shape, images.shape, strict=True)]
        kept = np.where(back != 0, np.pad(images, room)[:, : back.shape[1], : back.shape[2]], 0)
        np.testing.assert_array_equal(back, kept)
        assert (back != 0).sum() == np.size(found)


@pytest.mark.parametrize("padding", [1, 2])
@pytest.mark.parametrize("edge", [4, 5])
def test_mediapipes_transposed_convolution(padding, edge):
    images, kernel = RANDOM.normal(0, 1, (1, edge, edge, 3)), RANDOM.normal(0, 1, (2, 3, 3, 3))
    images, kernel = images.astype(np.float32), kernel.astype(np.float32)  # [out, h, w, in]
    node = custom(padding, (2, 2))
    found = OPS["Convolution2DTransposeBias"](node, tf.constant(images), kernel, tf.constant([1.0, 2.0]))
    whole = np.full((2 * edge + 1, 2 * edge + 1, 2), [1.0, 2.0])
    for row, column in np.ndindex(edge, edge):
        whole[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += images[0, row, column] @ kernel.transpose(
            1, 2, 3, 0
        )
    size = 2 * edge + 1 if padding == 2 else 2 * edge - edge % 2
    before = (2 * (edge - 1) + 3 - size) // 2
    np.testing.assert_allclose(found[0], whole[before : before + size, before : before + size], atol=1e-5)


def test_integers_are_divided_without_their_fractions():
    plain = schema.DivOptionsT()
    node = Node(plain, tf.int32, tf.constant)
    np.testing.assert_array_equal(OPS["DIV"](node, tf.constant([7, -7]), tf.constant([2, 2])), [3, -3])


def test_strides_and_dilations_of_a_depthwise_convolution():
    options = schema.DepthwiseConv2DOptionsT()
    options.padding, options.strideH, options.strideW = schema.Padding.SAME, 2, 2
    options.dilationHFactor = options.dilationWFactor = 2
    images, kernel = RANDOM.normal(0, 1, (1, 9, 10, 4)), RANDOM.normal(0, 1, (1, 3, 3, 4))
    images, kernel = images.astype(np.float32), kernel.astype(np.float32)
    found = OPS["DEPTHWISE_CONV_2D"](Node(options, tf.float32, tf.constant), tf.constant(images), kernel)
    padded = np.pad(images, ((0, 0), (2, 2), (1, 2), (0, 0)))
    for row, column in np.ndindex(5, 5):
        window = padded[0, 2 * row : 2 * row + 5 : 2, 2 * column : 2 * column + 5 : 2]
        np.testing.assert_allclose(found[0, row, column], (window * kernel[0]).sum((0, 1)), atol=1e-5)
