"""The loss over a mask against an oracle in plain NumPy, in eager code, in graphs and in fit()."""

import functools
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from maskport.export.masks import MaskedLoss, masked_loss

quick = settings(max_examples=100, deadline=None, derandomize=True)
shapes = st.lists(st.integers(1, 3), min_size=1, max_size=5).map(tuple)
MASK_FORMS = ("elements", "pixels", "pixels with channel axis")
EPSILON = 1e-7  # Keras clips probabilities to [EPSILON, 1 - EPSILON]


def bce_oracle(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    # In float32, as 1 - EPSILON is rounded there; the logarithms in float64.
    clipped = np.clip(y_pred.astype(np.float32), np.float32(EPSILON), np.float32(1) - np.float32(EPSILON))
    p, t = clipped.astype(np.float64), y_true.astype(np.float64)
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def masked_mean_oracle(losses: np.ndarray, mask: np.ndarray, form: str) -> float:
    """Σ(loss·mask)/Σmask of losses [..., C]."""
    if form != "elements":
        losses = losses.mean(axis=-1)
        mask = mask if form == "pixels" else mask[..., 0]
    mask = mask.astype(np.float64)
    return float((losses * mask).sum() / mask.sum()) if mask.sum() else 0.0


def mask_shape(shape: tuple[int, ...], form: str) -> tuple[int, ...]:
    return {"elements": shape, "pixels": shape[:-1], "pixels with channel axis": (*shape[:-1], 1)}[form]


@functools.cache
def graph_of_unknown_dimensions(*ranks: int) -> tf.types.experimental.ConcreteFunction:
    return tf.function(masked_loss).get_concrete_function(*(tf.TensorSpec([None] * rank) for rank in ranks))


@functools.cache
def graph_of_unknown_ranks() -> tf.types.experimental.ConcreteFunction:
    return tf.function(masked_loss).get_concrete_function(*[tf.TensorSpec(None)] * 3)


@quick
@given(
    shape=shapes,
    form=st.sampled_from(MASK_FORMS),
    is_soft=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_loss_equals_the_oracle_in_eager_code_in_graphs_and_as_a_keras_loss(shape, form, is_soft, seed):
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, 2, shape).astype(np.float32)
    y_pred = rng.random(shape, np.float32)
    mask = rng.random(mask_shape(shape, form), np.float32)
    if not is_soft:
        mask = np.round(mask)
    expected = masked_mean_oracle(bce_oracle(y_true, y_pred), np.asarray(mask), form)
    tensors = [tf.constant(array) for array in (y_true, y_pred, mask)]

    answers = {
        "eager": masked_loss(y_true, y_pred, mask),
        "graph": graph_of_unknown_dimensions(*(tensor.shape.rank for tensor in tensors))(*tensors),
        "graph of unknown ranks": graph_of_unknown_ranks()(*tensors),
        "Keras": MaskedLoss()(y_true, y_pred, sample_weight=mask),
        "Keras, summed": MaskedLoss(reduction="sum")(y_true, y_pred, sample_weight=mask)
        / max(float(np.sum(mask)), 1e-9),
    }

    for way, loss in answers.items():
        assert loss.dtype == tf.float32, way
        assert loss.shape == (), way
        assert float(loss) == pytest.approx(expected, rel=2e-5, abs=1e-6), way


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("label_dtype", ["int32", "uint8", "bool", "float64"])
def test_every_dtype_is_averaged_in_float32(dtype, label_dtype):
    rng = np.random.default_rng(2)
    y_pred = tf.cast(rng.random((2, 64, 64, 1)), dtype)  # 8192 pixels: a float16 sum would be far off
    y_true = rng.integers(0, 2, (2, 64, 64, 1)).astype(label_dtype)
    loss = masked_loss(y_true, y_pred, np.ones((2, 64, 64), bool))
    assert loss.dtype == tf.float32
    expected = bce_oracle(y_true, tf.cast(y_pred, tf.float32).numpy()).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def gradient_of(loss_of, y_pred):
    y_pred = tf.convert_to_tensor(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(y_pred)
        loss = loss_of(y_pred)
    return float(loss), tape.gradient(loss, y_pred).numpy()


@pytest.mark.parametrize("form", MASK_FORMS)
@pytest.mark.parametrize("from_logits", [True, False])
def test_an_all_zero_mask_gives_zero_and_a_gradient_of_zero(form, from_logits):
    shape = (1, 2, 1, 3)
    mask = np.zeros(mask_shape(shape, form), np.float32)
    y_pred = np.float32([0, 1, 0.5, np.nan, np.inf, -np.inf]).reshape(shape)
    loss, gradient = gradient_of(
        lambda y_pred: masked_loss(np.ones(shape), y_pred, mask, from_logits=from_logits), y_pred
    )
    assert loss == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(shape))


def test_what_the_mask_leaves_out_changes_neither_loss_nor_gradient():
    y_true, mask = np.float32([1, 0, np.nan, 255]), np.float32([1, 0.5, 0, 0])
    poisoned = gradient_of(lambda y_pred: masked_loss(y_true, y_pred, mask), np.float32([0.3, 0.6, np.nan, np.inf]))
    clean = gradient_of(
        lambda y_pred: masked_loss(np.float32([1, 0, 0, 0]), y_pred, mask), np.float32([0.3, 0.6, 0.5, 0.5])
    )
    assert poisoned[0] == clean[0]
    np.testing.assert_array_equal(poisoned[1], clean[1])
    assert poisoned[1][:2].all()
    assert not poisoned[1][2:].any()


def test_a_prediction_that_is_not_a_number_inside_the_mask_is_not_hidden():
    assert np.isnan(masked_loss([1.0, 0.0], [np.nan, 0.5], [1.0, 1.0]))


def test_certain_predictions_have_the_finite_loss_of_keras():
    y_true, y_pred = np.float32([[1, 0, 0, 1]]), np.float32([[0, 1, 0, 1]])
    loss, gradient = gradient_of(lambda p: masked_loss(y_true, p, np.ones((1, 4))), y_pred)
    assert loss == pytest.approx(float(keras.losses.binary_crossentropy(y_true, y_pred)[0]), rel=1e-6)
    assert loss == pytest.approx(bce_oracle(y_true, y_pred).mean(), rel=1e-6)
    assert np.isfinite(gradient).all()


def test_logits_are_stable_far_from_zero():
    y_true, logits = np.float32([1, 0, 1, 0]), np.float32([-200, 200, 200, 0])
    loss, gradient = gradient_of(lambda x: masked_loss(y_true, x, [1, 1, 1, 1], from_logits=True), logits)
    assert loss == pytest.approx((200 + 200 + 0 + np.log(2)) / 4, rel=1e-6)
    np.testing.assert_allclose(gradient, (1 / (1 + np.exp(-logits.astype(float))) - y_true) / 4, atol=1e-7)


def test_gradient_is_that_of_the_masked_mean():
    y_true, mask = np.float32([[1, 0], [1, 1]]), np.float32([[1, 0.5], [0, 0.25]])
    y_pred = np.float32([[0.3, 0.6], [0.5, 0.9]])
    _, gradient = gradient_of(lambda p: masked_loss(y_true, p, mask), y_pred)
    expected = (-y_true / y_pred + (1 - y_true) / (1 - y_pred)) * mask / mask.sum()
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


misfits = [
    ((2, 3, 4, 1), (2, 3)),
    ((2, 3, 4, 1), (3, 4)),
    ((2, 3, 4, 1), (1, 3, 4, 1)),
    ((2, 3, 4, 5), (2, 3, 4, 2)),
    ((2, 3, 4, 5), (2, 4, 3)),
    ((2, 3, 4, 5), (2,)),  # Keras' one weight per image
    ((3,), (3, 1)),
]


@pytest.mark.parametrize(("shape", "wrong_shape"), misfits)
def test_a_mask_of_another_shape_is_refused_with_both_shapes(shape, wrong_shape):
    for call in (
        lambda: masked_loss(tf.zeros(shape), tf.zeros(shape), tf.ones(wrong_shape)),
        lambda: MaskedLoss()(tf.zeros(shape), tf.zeros(shape), sample_weight=tf.ones(wrong_shape)),
    ):
        with pytest.raises(ValueError, match="the mask must have the shape of y_true") as caught:
            call()
        assert f"mask {wrong_shape}, y_true {shape}" in str(caught.value)


@pytest.mark.parametrize(("shape", "wrong_shape"), misfits)
def test_a_graph_of_unknown_shapes_refuses_it_with_both_shapes(shape, wrong_shape):
    with pytest.raises(tf.errors.InvalidArgumentError, match="the mask must have the shape") as caught:
        graph_of_unknown_ranks()(tf.zeros(shape), tf.zeros(shape), tf.ones(wrong_shape))
    for either in (shape, wrong_shape):
        assert "[" + " ".join(map(str, either)) + "]" in caught.value.message


def test_predictions_of_another_shape_are_refused_rather_than_broadcast():
    y_true, mask = tf.zeros([2, 3, 4, 3]), tf.ones([2, 3, 4])
    for shape in ([2, 3, 4, 1], [2, 3, 1, 3], [1, 3, 4, 3]):
        with pytest.raises(ValueError, match="y_pred and y_true must have one shape"):
            masked_loss(y_true, tf.zeros(shape), mask)
        with pytest.raises(tf.errors.InvalidArgumentError, match="y_pred and y_true must have one shape"):
            graph_of_unknown_dimensions(4, 4, 3)(y_true, tf.zeros(shape), mask)


def test_a_graph_of_static_shapes_holds_no_check():
    specs = [tf.TensorSpec(shape) for shape in ([2, 3, 4, 1], [2, 3, 4, 1], [2, 3, 4])]
    graph = tf.function(masked_loss).get_concrete_function(*specs).graph
    assert not {"Assert", "Shape", "If"} & {operation.type for operation in graph.get_operations()}


def test_a_loss_that_ignores_a_class_leaves_its_pixels_out_of_the_mean():
    random = np.random.default_rng(0)
    predictions = random.dirichlet([1, 1, 1], (2, 5, 6)).astype(np.float32)
    labels = random.choice([0, 1, 2, 255], (2, 5, 6))
    mask = random.random((2, 5, 6)).astype(np.float32)
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=255)
    right = np.take_along_axis(predictions, np.minimum(labels, 2)[..., None], -1)[..., 0]
    weights = mask * (labels != 255)
    expected = -(np.log(right) * weights).sum() / weights.sum()
    assert float(masked_loss(labels, predictions, mask, loss=loss)) == pytest.approx(expected, rel=1e-5)
    assert float(MaskedLoss(loss)(labels, predictions, mask)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mask_shape", [(2, 3, 4), (2, 3, 4, 1)])
def test_labels_and_predictions_may_lack_the_channel_axis(mask_shape):
    rng = np.random.default_rng(4)
    y_true = rng.integers(0, 2, (2, 3, 4)).astype(np.uint8)
    y_pred, mask = rng.random((2, 3, 4), np.float32), rng.integers(0, 2, (2, 3, 4))
    expected = masked_mean_oracle(bce_oracle(y_true, y_pred), mask, "elements")
    mask = mask.reshape(mask_shape)
    assert float(masked_loss(y_true, y_pred[..., None], mask)) == pytest.approx(expected, rel=1e-5)
    assert float(masked_loss(y_true[..., None], y_pred, mask)) == pytest.approx(expected, rel=1e-5)


def squared_oracle(y_true, y_pred):
    return (y_true - y_pred) ** 2


def softmax_loss_oracle(labels, probabilities):
    return -np.log(np.take_along_axis(probabilities, labels[..., None], axis=-1)[..., 0].astype(np.float64))


def softmax(x):
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("form", MASK_FORMS)
@pytest.mark.parametrize(
    "loss",
    [
        "mean_squared_error",
        "MeanSquaredError",
        keras.losses.mean_squared_error,
        keras.losses.MeanSquaredError(reduction="sum"),  # its own reduction does not count
        lambda y_true, y_pred: tf.reduce_mean((y_true - y_pred) ** 2, axis=-1),
        lambda y_true, y_pred: (y_true - y_pred) ** 2,
    ],
    ids=["id", "class id", "function", "object", "own function", "own function of elements"],
)
def test_another_loss_per_element_takes_the_place_of_cross_entropy(loss, form):
    rng = np.random.default_rng(6)
    y_true, y_pred = rng.random((2, 3, 2, 4), np.float32), rng.random((2, 3, 2, 4), np.float32)
    mask = rng.random(mask_shape(y_true.shape, form), np.float32)
    expected = masked_mean_oracle(squared_oracle(y_true, y_pred), mask, form)
    assert float(masked_loss(y_true, y_pred, mask, loss=loss)) == pytest.approx(expected, rel=1e-5)
    assert float(MaskedLoss(loss)(y_true, y_pred, sample_weight=mask)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("label_shape", [(2, 3, 4), (2, 3, 4, 1)])
@pytest.mark.parametrize("mask_shape", [(2, 3, 4), (2, 3, 4, 1)])
@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", keras.losses.SparseCategoricalCrossentropy()])
def test_class_indices_are_taken_with_or_without_a_channel_axis(loss, label_shape, mask_shape):
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 5, (2, 3, 4))
    y_pred = softmax(rng.normal(size=(2, 3, 4, 5))).astype(np.float32)
    mask = rng.integers(0, 2, (2, 3, 4))
    expected = masked_mean_oracle(softmax_loss_oracle(labels, y_pred), mask, "elements")
    # Labels under the mask's zeros need not be classes at all.
    y_true = np.where(mask, labels, 255).astype(np.uint8).reshape(label_shape)
    loss_value = masked_loss(y_true, y_pred, mask.reshape(mask_shape), loss=loss)
    assert float(loss_value) == pytest.approx(expected, rel=1e-5)


def test_class_indices_with_logits():
    rng = np.random.default_rng(8)
    labels, logits = rng.integers(0, 3, (4, 5)), rng.normal(size=(4, 5, 3)).astype(np.float32)
    expected = softmax_loss_oracle(labels, softmax(logits)).mean()
    for loss in (
        MaskedLoss("sparse_categorical_crossentropy", from_logits=True),
        MaskedLoss(keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
    ):
        assert float(loss(labels, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mask_shape", [(2, 3), (2, 3, 1)])
def test_one_hot_classes_are_weighed_pixel_by_pixel(mask_shape):
    rng = np.random.default_rng(9)
    labels, y_pred = rng.integers(0, 4, (2, 3)), softmax(rng.normal(size=(2, 3, 4))).astype(np.float32)
    mask = rng.random((2, 3))
    expected = masked_mean_oracle(softmax_loss_oracle(labels, y_pred), mask, "elements")
    one_hot = np.eye(4)[labels]
    loss = masked_loss(one_hot, y_pred, mask.reshape(mask_shape), loss="categorical_crossentropy")
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="one value for all channels of a pixel"):
        masked_loss(one_hot, y_pred, np.ones((2, 3, 4)), loss="categorical_crossentropy")


@pytest.mark.parametrize("form", MASK_FORMS)
def test_another_loss_in_a_graph_that_does_not_know_the_number_of_channels(form):
    shape = (2, 3, 4)
    specs = [tf.TensorSpec([None] * 3), tf.TensorSpec([None] * 3)]
    graph = tf.function(functools.partial(masked_loss, loss="mean_squared_error")).get_concrete_function(
        *specs, tf.TensorSpec([None] * len(mask_shape(shape, form)))
    )
    rng = np.random.default_rng(10)
    y_true, y_pred = rng.random(shape, np.float32), rng.random(shape, np.float32)
    mask = rng.random(mask_shape(shape, form), np.float32)
    expected = masked_mean_oracle(squared_oracle(y_true, y_pred), mask, form)
    assert float(graph(*map(tf.constant, (y_true, y_pred, mask)))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("dice", "does not give one value per pixel"),
        (lambda y_true, y_pred: tf.reduce_mean(y_pred), "does not give one value per pixel"),
        (None, "loss must be a Keras loss"),
        ("no_such_loss", "no_such_loss"),
    ],
)
def test_what_is_no_loss_per_pixel_is_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        masked_loss(tf.zeros([2, 3, 4, 2]), tf.zeros([2, 3, 4, 2]), tf.ones([2, 3, 4]), loss=loss)


@pytest.mark.parametrize("loss", ["mean_squared_error", keras.losses.BinaryCrossentropy()])
def test_from_logits_is_refused_where_it_would_be_ignored(loss):
    with pytest.raises(ValueError, match="from_logits"):
        MaskedLoss(loss, from_logits=True)


@pytest.mark.parametrize(("ignore_value", "dtype"), [(255, np.uint8), (-1, np.int32), (np.nan, np.float32)])
def test_ignore_value_marks_pixels_that_do_not_count(ignore_value, dtype):
    rng = np.random.default_rng(11)
    y_true, y_pred = rng.integers(0, 2, (2, 3, 4, 1)), rng.random((2, 3, 4, 1), np.float32)
    counts, weights = rng.integers(0, 2, (2, 3, 4, 1)), rng.random((2, 3, 4), np.float32)
    losses = bce_oracle(y_true, y_pred)
    labels = np.where(counts, y_true, ignore_value).astype(dtype)
    loss = MaskedLoss(ignore_value=ignore_value)

    alone = masked_mean_oracle(losses, counts, "elements")
    assert float(loss(labels, y_pred)) == pytest.approx(alone, rel=1e-5)
    both = masked_mean_oracle(losses, counts * weights[..., None], "elements")
    assert float(loss(labels, y_pred, sample_weight=weights)) == pytest.approx(both, rel=1e-5)
    assert float(loss(np.full_like(labels, ignore_value), y_pred)) == 0.0


def test_without_a_mask_the_loss_is_the_plain_mean():
    rng = np.random.default_rng(12)
    y_true, y_pred = rng.integers(0, 2, (3, 4, 2)), rng.random((3, 4, 2), np.float32)
    expected = bce_oracle(y_true, y_pred).mean()
    assert float(MaskedLoss()(y_true, y_pred)) == pytest.approx(expected, rel=1e-5)


def losses_of_fit(model, x, y_true, mask):
    """Returns the loss that one step of fit() reports, and the one of evaluate() before it."""
    before = model.evaluate(x, y_true, sample_weight=mask, batch_size=len(x), verbose=0)
    history = model.fit(x, y_true, sample_weight=mask, batch_size=len(x), epochs=1, verbose=0)
    return before, history.history["loss"][0]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", MASK_FORMS)
def test_fit_and_evaluate_report_the_masked_mean(form, channels, policy):
    rng = np.random.default_rng(13)
    x, shape = rng.random((3, 4, 5, 2), np.float32), (3, 4, 5, channels)
    y_true = rng.integers(0, 2, shape)
    mask = rng.random(mask_shape(shape, form), np.float32)
    model = keras.Sequential(
        [
            keras.Input([4, 5, 2]),
            keras.layers.Conv2D(channels, 3, padding="same", activation="sigmoid", dtype=policy),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), loss=MaskedLoss())
    y_pred = model(x).numpy()
    assert y_pred.dtype == (np.float16 if policy == "mixed_float16" else np.float32)
    expected = masked_mean_oracle(bce_oracle(y_true, y_pred), mask, form)
    assert losses_of_fit(model, x, y_true, mask) == pytest.approx(
        (expected, expected), rel=2e-3 if policy == "mixed_float16" else 1e-5
    )


def test_fit_with_an_all_zero_mask_reports_zero_and_leaves_the_weights():
    model = keras.Sequential([keras.Input([4, 5, 2]), keras.layers.Conv2D(1, 3, padding="same")])
    model.compile(keras.optimizers.SGD(0.1), loss=MaskedLoss(from_logits=True))
    before = [weight.copy() for weight in model.get_weights()]
    x = np.ones((2, 4, 5, 2), np.float32)
    losses = losses_of_fit(model, x, np.ones((2, 4, 5, 1)), np.zeros((2, 4, 5)))
    assert losses == (0.0, 0.0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_fit_with_classes_and_ignored_labels():
    rng = np.random.default_rng(14)
    x, labels = rng.random((2, 4, 4, 3), np.float32), rng.integers(0, 3, (2, 4, 4))
    counts = rng.integers(0, 2, labels.shape)
    model = keras.Sequential([keras.Input([None, None, 3]), keras.layers.Conv2D(3, 1, activation="softmax")])
    model.compile(loss=MaskedLoss("sparse_categorical_crossentropy", ignore_value=255))
    expected = masked_mean_oracle(softmax_loss_oracle(labels, model(x).numpy()), counts, "elements")
    y_true = np.where(counts, labels, 255).astype(np.uint8)
    assert losses_of_fit(model, x, y_true, None) == pytest.approx((expected, expected), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        MaskedLoss(),
        MaskedLoss(from_logits=True, ignore_value=255, name="coins", reduction="sum"),
        MaskedLoss(keras.losses.mean_squared_error),
        MaskedLoss("MeanSquaredError"),
        MaskedLoss(keras.losses.BinaryFocalCrossentropy(gamma=3.0)),
    ],
    ids=["default", "options", "function", "class id", "object"],
)
def test_config_makes_the_same_loss_again(loss):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert isinstance(again, MaskedLoss)
    assert again is not loss
    assert again.get_config() == loss.get_config()
    rng = np.random.default_rng(15)
    y_true, y_pred = rng.integers(0, 2, (2, 3, 1)), rng.random((2, 3, 1), np.float32)
    assert float(again(y_true, y_pred)) == float(loss(y_true, y_pred))


LOAD_AND_EVALUATE = """
    import sys
    import keras
    import numpy as np
    import maskport.export.masks  # registers the loss
    model = keras.saving.load_model(sys.argv[1])
    data = np.load(sys.argv[2])
    loss = model.evaluate(data["x"], data["y"], sample_weight=data["mask"], batch_size=2, verbose=0)
    print(repr(float(loss)))
"""


def test_a_model_compiled_with_it_goes_on_in_a_new_process(tmp_path):
    rng = np.random.default_rng(16)
    data = {
        "x": rng.random((2, 4, 5, 1), np.float32),
        "y": rng.integers(0, 2, (2, 4, 5, 1)),
        "mask": rng.random((2, 4, 5), np.float32),
    }
    model = keras.Sequential([keras.Input([4, 5, 1]), keras.layers.Conv2D(1, 3, padding="same")])
    model.compile(loss=MaskedLoss(keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1)))
    expected = model.evaluate(data["x"], data["y"], sample_weight=data["mask"], batch_size=2, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", **data)
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(LOAD_AND_EVALUATE),
            tmp_path / "model.keras",
            tmp_path / "data.npz",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    assert float(answer.stdout) == pytest.approx(expected, rel=1e-6)
