"""Answers held against those of what a model's file is made for."""

import dataclasses
import logging

import numpy as np
import pytest
import tensorflow as tf
from maskport.export import SourceError
from maskport.export.model.segmentation_model import Reference, SegmentationModel
from maskport.export.probing.comparison import compare

IMAGES = tf.constant(np.random.default_rng(0).random((2, 4, 5, 3), np.float32))


def model_with(call):
    model = SegmentationModel(
        forward=lambda images: 2 * images[..., :1], trackable=None, channels=3, size=None, batch=None,
        data_format="channels_last", input_dtype=tf.float32, output_channels=1, description="", parameter_count=0,
    )  # fmt: skip
    return dataclasses.replace(model, reference=call and Reference("other 1.0", call))


def test_nothing_is_compared_without_another_runtime():
    assert compare(model_with(None), IMAGES, "source m") is None


def test_the_largest_difference_is_found():
    def other(images):
        answers = 2 * images.numpy()[..., :1]
        answers[1, 2, 3] += 0.001
        return tf.constant(answers)

    found = compare(model_with(other), IMAGES, "source m")
    assert found.largest == pytest.approx(0.001, rel=1e-2)
    assert str(found).startswith("other 1.0: answers differ by 0.001 at most, of a range of ")


def test_a_notable_difference_is_warned_of_and_a_wrong_answer_refused(caplog):
    def shifted(by):
        return lambda images: 2 * images[..., :1] + by * tf.cast(images[..., 1:2] > 0.5, tf.float32)

    with caplog.at_level(logging.WARNING):
        compare(model_with(shifted(0.05)), IMAGES, "source m")
    assert "answers differ by 0.05 at most" in caplog.text
    with pytest.raises(
        SourceError, match=r"^source m: its answers differ from those of other 1\.0 by 0\.\d+ on average"
    ):
        compare(model_with(shifted(1.0)), IMAGES, "source m")
    with pytest.raises(SourceError, match="nothing is exported"):
        compare(model_with(lambda images: images[..., :1] * np.nan), IMAGES, "source m")
    with pytest.raises(SourceError, match=r"answers \(2, 4, 5, 1\), and by other 1\.0 \(2, 4, 5, 3\)"):
        compare(model_with(lambda images: images), IMAGES, "source m")


def test_a_runtime_that_moves_as_far_by_itself_proves_nothing(caplog):
    """As onnxruntime does on deep networks that are quantized dynamically, on pictures of one colour above all."""

    def amplified(images):
        return 2 * images[..., :1] + tf.where(images[..., 1:2] == IMAGES[..., 1:2], 0.0, 1.0)

    with caplog.at_level(logging.WARNING):
        found = compare(model_with(lambda images: amplified(images) + 0.5), IMAGES, "source m")
    assert found.largest == pytest.approx(0.5)
    assert "answers differ by 0.5 at most" in caplog.text
    with pytest.raises(SourceError, match="nothing is exported"):
        compare(model_with(lambda images: amplified(images) + 5.0), IMAGES, "source m")


def test_a_runtime_that_fails_is_warned_of(caplog):
    def fail(images):
        raise RuntimeError("no such kernel")

    with caplog.at_level(logging.WARNING):
        assert compare(model_with(fail), IMAGES, "source m") is None
    assert "other 1.0 cannot run the model, so that its answers are not compared: no such kernel" in caplog.text


def test_infinities_that_are_the_same_are_no_difference():
    """As the logits of classes that are masked out have them."""

    def hide(images):
        return tf.where(images[..., :1] > 0.5, 2 * images[..., :1], -np.inf)

    model = dataclasses.replace(model_with(hide), forward=hide)
    assert compare(model, IMAGES, "source m").largest == 0
