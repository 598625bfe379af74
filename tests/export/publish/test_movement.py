"""How far a model's own answers move, and that goldens are a server's answers with a tolerance that knows of it."""

import json
import logging
import math

import numpy as np
import pytest
import tensorflow as tf
import toy_models
from maskport.export import export_model
from maskport.export.model.tracing import without_graph_optimization
from maskport.export.publish.golden import read_goldens, tensors_of
from maskport.export.publish.movement import Movement, _rounded_up

SIGNATURES = ["mask", "mask_png", "masked_image", "probability", "export_info"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A version directory of a model whose answers move, and what was logged."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("maskport.export")
    logger.addHandler(handler)
    try:
        folder = tmp_path_factory.mktemp("served") / "moving"
        fields = {"scaling": "unit", "threshold": 0.45, "signatures": SIGNATURES, "warmup": False}
        return export_model(toy_models.moving_model(), folder, **fields), records
    finally:
        logger.removeHandler(handler)


@pytest.fixture(scope="module")
def goldens(exported):
    directory = exported[0] / "assets.extra/golden"
    return {golden.signature.name: golden for golden in read_goldens(directory)}


@pytest.fixture(scope="module")
def answers(exported, goldens):
    """The saved graph's probabilities of the golden pictures, optimized and plain, run by TensorFlow alone."""
    signature = tf.saved_model.load(str(exported[0])).signatures["probability"]
    image = tf.constant(tensors_of(goldens["probability"].request)["image"])
    optimized = signature(image=image)["probability"].numpy()
    with without_graph_optimization():
        return optimized, signature(image=image)["probability"].numpy()


def recorded(exported):
    return json.loads((exported[0] / "assets.extra/maskport.json").read_text())["reproducibility"]


def test_the_model_of_these_tests_moves(answers):
    optimized, plain = answers
    assert 0.01 < np.abs(optimized - plain).max() < 0.05


def test_how_far_the_answers_move_is_written_down_and_said(exported, answers):
    found = recorded(exported)
    optimized, plain = answers
    # The encoded golden pictures were measured, too, so it can be more.
    assert np.abs(optimized - plain).max() <= found["plain"] < 0.05
    assert 0 <= found["other_onednn"] <= 0.05
    assert found["tolerance"] == pytest.approx(max(found["plain"], found["other_onednn"]) + 0.001)
    (warning,) = [text for text in exported[1] if "move" in text]
    assert f"by {found['plain']:.2g} (plain graph), {found['other_onednn']:.2g} (oneDNN switched)" in warning


def test_golden_answers_are_those_of_the_optimized_graph(goldens, answers):
    optimized, plain = answers
    golden = tensors_of(goldens["probability"].response)["probability"]
    np.testing.assert_allclose(golden, optimized, rtol=0, atol=1e-6)
    assert np.abs(golden - plain).max() > 0.01


def test_a_mask_may_differ_only_where_the_probability_is_within_the_tolerance(exported, goldens, answers):
    optimized, _ = answers
    tolerance = recorded(exported)["tolerance"]
    distance = np.abs(optimized.astype(np.float64) - 0.45)
    undecided = goldens["mask"].tolerances["mask"].undecided.reshape(distance.shape)
    assert undecided[distance < tolerance - 1e-6].all()
    assert not undecided[distance > tolerance + 1e-6].any()
    assert 0.01 < undecided.mean() < 0.5
    of_masked = goldens["masked_image"].tolerances["masked_image"].undecided
    np.testing.assert_array_equal(of_masked.reshape(*undecided.shape[:3], 3), np.repeat(undecided, 3, -1))


@pytest.mark.parametrize(
    ("movement", "least", "tolerance"),
    [
        (Movement(), 0.001, 0.001),
        (Movement(0.0, None), 0.02, 0.02),
        (Movement(0.027, 0.031), 0.001, 0.032),
        (Movement(0.031, None), 0.02, 0.032),
    ],
)
def test_the_tolerance_is_the_movement_and_what_rounding_adds(movement, least, tolerance):
    assert movement.tolerance(least) == pytest.approx(tolerance)


@pytest.mark.parametrize("value", [0.0, 3e-8, 1.2345e-6, 0.0123, 0.01, 0.0265212, 0.999, 1.0])
def test_what_is_written_down_is_rounded_up_to_two_digits(value):
    rounded = _rounded_up(value)
    if value < 1e-7:
        assert rounded == 0
    else:
        assert value <= rounded + 1e-9
        assert rounded <= value * 1.1 + 1e-9
        assert float(f"{rounded:.2g}") == pytest.approx(rounded)
        assert math.isfinite(rounded)
