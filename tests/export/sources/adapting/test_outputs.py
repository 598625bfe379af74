"""Outputs as models have them: channels first beside channels last, pixels in one row, class indices."""

import numpy as np
import pytest
import tensorflow as tf
from maskport.export import SourceError
from maskport.export.exporter import Plan
from maskport.export.graph.saving import save
from maskport.export.model.tracing import without_fusion
from maskport.export.sources import load_source
from maskport.export.spec import make_spec
from reference import Toy

TOY = Toy.make(3, 2)


class Model(tf.Module):
    """A toy network whose output is brought into some form; it takes pictures channels last."""

    def __init__(self, form, size=(None, None), stride=1, outputs=2):
        super().__init__()
        self.kernel, self.bias = tf.Variable(TOY.kernel), tf.Variable(TOY.bias)

        @tf.function(input_signature=[tf.TensorSpec([None, *size, 3], tf.float32, name="pixels")])
        def run(pixels):
            maps = (tf.nn.conv2d(pixels, self.kernel, 1, "SAME") + self.bias)[:, ::stride, ::stride, :outputs]
            return {"map": form(maps)}

        self.run = run

    def load(self, folder, **fields):
        tf.saved_model.save(self, str(folder), signatures={"serve": self.run})
        return load_source(make_spec({"source": str(folder), "output_dir": "served", **fields}))


def in_one_row(maps):
    shape = tf.shape(maps)
    return tf.reshape(maps, [shape[0], shape[1] * shape[2], maps.shape[3]])


@pytest.mark.parametrize("size", [(None, None), (32, 32), (24, 32)])
@pytest.mark.parametrize(
    ("form", "stride", "outputs"),
    [
        (lambda maps: tf.transpose(maps, [0, 3, 1, 2]), 1, 2),
        (in_one_row, 1, 2),
        (in_one_row, 2, 2),
        (lambda maps: tf.transpose(in_one_row(maps), [0, 2, 1]), 1, 2),
        (lambda maps: in_one_row(maps)[..., 0], 2, 1),
        (lambda maps: maps[..., 0], 2, 1),
    ],
    ids=["channels first", "[B, N, K]", "[B, N, K], half", "[B, K, N]", "[B, N], half", "[B, H, W], half"],
)
def test_the_map_is_found_in_every_form(tmp_path, form, stride, outputs, size):
    model = Model(form, size, stride, outputs).load(tmp_path / "m")
    assert (model.data_format, model.output_channels, model.answers_classes) == ("channels_last", outputs, False)
    images = np.random.default_rng(0).random((2, *(size if size[0] else (20, 24)), 3)).astype(np.float32)
    wanted = np.stack([TOY(image)[::stride, ::stride, :outputs] for image in images])
    np.testing.assert_allclose(model.forward(tf.constant(images)).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("channels_first", [True, False])
def test_a_cube_is_read_by_where_a_change_shows(tmp_path, channels_first):
    def cube(maps):  # 16 channels of 16x16 pixels
        maps = tf.repeat(maps, 8, -1)
        return tf.transpose(maps, [0, 3, 1, 2]) if channels_first else maps

    model = Model(cube, (16, 16)).load(tmp_path / "m")
    images = np.random.default_rng(0).random((1, 16, 16, 3)).astype(np.float32)
    wanted = np.repeat(TOY(images[0]), 8, -1)
    np.testing.assert_allclose(model.forward(tf.constant(images)).numpy()[0], wanted, atol=1e-5)


@pytest.mark.parametrize(
    "form",
    [
        lambda maps: tf.argmax(maps, -1),
        lambda maps: tf.argmax(maps, -1, output_type=tf.int32)[..., tf.newaxis],
        lambda maps: tf.cast(tf.argmax(maps, -1), tf.uint8)[:, tf.newaxis],
        lambda maps: maps[..., 1] > maps[..., 0],
        lambda maps: in_one_row(tf.argmax(maps, -1)[..., tf.newaxis])[..., 0],
    ],
    ids=["int64 [B, H, W]", "int32 [B, H, W, 1]", "uint8 [B, 1, H, W]", "bool [B, H, W]", "int64 [B, N]"],
)
def test_integers_are_class_indices(tmp_path, form):
    model = Model(form).load(tmp_path / "m")
    assert (model.output_channels, model.answers_classes) == (1, True)
    images = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
    wanted = np.stack([TOY(image).argmax(-1) for image in images])
    np.testing.assert_array_equal(model.forward(tf.constant(images)).numpy()[..., 0], wanted)


def test_floats_are_class_indices_where_the_spec_says_so(tmp_path):
    model = Model(lambda maps: tf.cast(tf.argmax(maps, -1), tf.float32))
    assert not model.load(tmp_path / "m").answers_classes
    assert model.load(tmp_path / "m", activation="classes").answers_classes


def test_logits_come_before_class_indices(tmp_path):
    model = Model(lambda maps: maps)
    run = model.run

    @tf.function(input_signature=run.input_signature)
    def with_labels(pixels):
        maps = run(pixels)["map"]
        return {"logits": maps, "labels": tf.argmax(maps, -1), "scores": tf.reduce_max(maps, [1, 2])}

    model.run = with_labels
    assert model.load(tmp_path / "m").output_channels == 2
    assert model.load(tmp_path / "m", source_output="labels").answers_classes


def test_indices_with_several_channels_are_refused(tmp_path):
    model = Model(lambda maps: tf.cast(maps, tf.int32))
    with pytest.raises(SourceError, match=r"is int32 of shape \(.*2\): class indices have one channel"):
        model.load(tmp_path / "m")


@pytest.mark.parametrize(("size", "edges"), [((None, None), (21, 25)), ((None, None), (20, 24)), ((21, 26), (21, 26))])
def test_rows_of_strides_beyond_the_edge_are_maps(tmp_path, size, edges):
    """A half is ceil(n / 2) here, as of convolutions with padding SAME: also at sizes that no trial run had."""
    model = Model(in_one_row, size, 2).load(tmp_path / "m")
    images = np.random.default_rng(0).random((2, *edges, 3)).astype(np.float32)
    wanted = np.stack([TOY(image)[::2, ::2] for image in images])
    np.testing.assert_allclose(model.forward(tf.constant(images)).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("size", [(None, None), (64, 96)])
@pytest.mark.parametrize("form", [lambda row: row, lambda row: row[..., 0]], ids=["[B, N, K]", "[B, N]"])
def test_a_row_of_a_larger_map_is_told_to_end_before_it(tmp_path, size, form):
    """As fcn_8 of image-segmentation-keras answers 424x616 for 416x608."""

    def larger(maps):
        return form(in_one_row(tf.pad(maps, [[0, 0], [0, 8], [0, 8], [0, 0]])))

    with pytest.raises(SourceError, match=r"which is no map of it; .*keras\.Model\(model\.input, model\.layers\[-2\]"):
        Model(larger, size).load(tmp_path / "m")


def test_scores_of_whole_pictures_are_told_from_rows_of_pixels(tmp_path):
    with pytest.raises(
        SourceError, match=r"no map of it; .*; a model that tells what a whole picture is has no masks$"
    ):
        Model(lambda maps: tf.reduce_mean(maps, [1, 2]), (64, 96)).load(tmp_path / "m")


@pytest.mark.parametrize("activation", ["mish", "leaky ReLU"])
def test_what_tensorflow_cannot_fuse_is_tried_as_it_is_saved(tmp_path, activation):
    """Behind the sum of a convolution and a picture it has no code for Mish, and forgets the slope of a leaky ReLU."""
    kernel = tf.constant(np.random.default_rng(0).normal(0, 1, (3, 3, 3, 3)), tf.float32)

    class Residual(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)])
        def __call__(self, images):
            added = tf.nn.bias_add(tf.nn.conv2d(images, kernel, 1, "SAME"), [0.1, 0.2, 0.3]) + images
            if activation == "mish":
                added *= tf.tanh(tf.nn.softplus(added))
            return tf.sigmoid(added if activation == "mish" else tf.nn.leaky_relu(added, 0.9))

    tf.saved_model.save(Residual(), str(tmp_path / "m"))
    spec = make_spec({"source": str(tmp_path / "m"), "output_dir": "o", "scaling": "signed", "foreground": 0})
    plan = Plan.make(spec)
    picture = tf.constant(np.random.default_rng(0).uniform(-1, 1, (1, 20, 24, 3)), tf.float32)
    save(plan.module.forward_alone(), tmp_path / "saved")
    found = tf.saved_model.load(str(tmp_path / "saved")).forward(picture)
    with without_fusion():
        np.testing.assert_allclose(found, plan.model.forward(picture), atol=1e-5)
