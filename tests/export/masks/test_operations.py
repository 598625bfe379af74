"""The mask operations against oracles in plain NumPy, and their Keras layers through saving and loading."""

import subprocess
import sys
import textwrap

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from maskport.export import masks
from maskport.export.masks import (
    ApplyMask,
    BinaryMask,
    apply_mask_to_image,
    create_binary_mask,
)

FLOATS = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}

quick = settings(max_examples=150, deadline=None, derandomize=True)
shapes = st.lists(st.integers(1, 3), min_size=1, max_size=5).map(tuple)
threshold_values = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5001, 0.7, 1.0]) | st.floats(
    0, 1, width=32, allow_subnormal=False
)


def draw_map(data: st.DataObject, shape: tuple[int, ...], dtype: np.dtype, thresholds: np.ndarray) -> np.ndarray:
    """Probabilities at, just below and just above the thresholds, at the ends, outside, and not numbers."""
    nearest = np.broadcast_to(thresholds, shape).astype(dtype)
    candidates = [
        nearest,
        np.nextafter(nearest, dtype.type(2)),
        np.nextafter(nearest, dtype.type(-1)),
        *(np.full(shape, value, dtype) for value in (0, 1, np.nan, np.inf, -np.inf, 0.3, 0.8)),
    ]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    choice = rng.integers(len(candidates), size=shape)
    chosen = np.choose(choice, [c.astype(np.float64) for c in candidates])
    # The neighbours of 0: TensorFlow takes numbers below the normal ones for 0.
    least = float(np.finfo(np.float32).tiny)
    is_denormal = (np.abs(chosen) < least) & (chosen != 0)
    return np.where(is_denormal, np.copysign(least, chosen), chosen).astype(dtype)


def mask_oracle(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Both sides in float64, which holds every value of the narrower dtypes exactly."""
    wide = probabilities.astype(np.float64)
    return np.where(np.isnan(wide), False, wide > thresholds.astype(np.float64))


@quick
@given(data=st.data(), shape=shapes, dtype=st.sampled_from(sorted(FLOATS)), threshold=threshold_values)
def test_mask_of_a_scalar_threshold_equals_the_oracle(data, shape, dtype, threshold):
    compared = np.asarray(threshold, np.float64 if dtype == "float64" else np.float32)
    probabilities = draw_map(data, shape, np.dtype(FLOATS[dtype]), compared)

    mask = create_binary_mask(probabilities, threshold)

    assert mask.dtype == tf.float32
    np.testing.assert_array_equal(mask, mask_oracle(probabilities, compared).astype(np.float32))


@quick
@given(
    data=st.data(),
    shape=shapes,
    dtype=st.sampled_from(sorted(FLOATS)),
    threshold_dtype=st.sampled_from(["float16", "float32", "float64"]),
    axis=st.sampled_from([None, -1]),
)
def test_mask_of_a_threshold_per_image_or_per_class_equals_the_oracle(data, shape, dtype, threshold_dtype, axis):
    length = shape[0] if axis is None else shape[-1]
    thresholds = np.array(data.draw(st.lists(threshold_values, min_size=length, max_size=length)), threshold_dtype)
    along = thresholds.reshape([-1] + [1] * (len(shape) - 1)) if axis is None else thresholds
    probabilities = draw_map(data, shape, np.dtype(FLOATS[dtype]), along)

    mask = create_binary_mask(probabilities, thresholds, threshold_axis=axis, dtype=tf.bool)

    assert mask.dtype == tf.bool
    np.testing.assert_array_equal(mask, mask_oracle(probabilities, along))


def test_a_bfloat16_probability_of_a_half_is_below_a_threshold_just_above_it():
    probabilities = tf.constant([0.5, 0.50390625], tf.bfloat16)
    assert create_binary_mask(probabilities, 0.5001).numpy().tolist() == [0, 1]
    assert create_binary_mask(probabilities, 0.4999).numpy().tolist() == [1, 1]


def test_float64_is_compared_in_float64():
    just_above = np.nextafter(0.7, 1)
    assert create_binary_mask(np.array([0.7, just_above]), 0.7).numpy().tolist() == [0, 1]
    assert create_binary_mask(np.array([0.7, just_above]), np.array(0.7)).numpy().tolist() == [0, 1]
    # A float64 threshold is not rounded to a float32 map's dtype …
    assert create_binary_mask(np.float32([0.1]), np.array(0.1)).numpy().tolist() == [1]
    # … but a plain Python number means the float32 nearest to it.
    assert create_binary_mask(np.float32([0.1]), 0.1).numpy().tolist() == [0]


def test_a_threshold_that_is_not_a_number_leaves_nothing():
    assert create_binary_mask([0.0, 1.0], float("nan")).numpy().tolist() == [0, 0]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "bool", "float16", "float32", "float64"])
def test_mask_comes_in_the_asked_dtype(dtype):
    mask = create_binary_mask([[0.2, 0.5, 0.6]], dtype=dtype)
    assert mask.dtype == dtype
    assert mask.numpy().tolist() == [[0, 0, 1]]


def test_a_map_that_is_not_floating_point_is_refused():
    with pytest.raises(TypeError, match="floating point, got uint8: scale it"):
        create_binary_mask(np.array([0, 200], np.uint8))


@pytest.mark.parametrize(
    ("shape", "thresholds", "axis"),
    [
        ((4, 2, 2, 1), [0.5] * 3, None),
        ((4, 2, 2, 1), [0.5], None),  # would broadcast
        ((1, 2, 2, 1), [0.5] * 3, None),  # would broadcast the map
        ((4, 2, 2, 3), [0.5] * 2, -1),
        ((4, 2), [[0.5] * 2] * 4, None),
        ((), [0.5], None),
        ((2, 2), [0.5] * 2, 2),
    ],
)
def test_thresholds_that_do_not_fit_are_refused_with_both_shapes(shape, thresholds, axis):
    with pytest.raises(ValueError, match="threshold") as caught:
        create_binary_mask(tf.zeros(shape), thresholds, threshold_axis=axis)
    assert str(np.shape(thresholds)) in str(caught.value)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("axis", [None, -1])
@pytest.mark.parametrize("map_shape", [[None] * 4, None])
def test_a_graph_of_unknown_shapes_gives_the_same_mask_and_refuses_other_thresholds(map_shape, axis):
    graph = tf.function(lambda p, t: create_binary_mask(p, t, threshold_axis=axis)).get_concrete_function(
        tf.TensorSpec(map_shape), tf.TensorSpec([None])
    )
    rng = np.random.default_rng(5)
    probabilities = rng.random((3, 2, 4, 5), np.float32)
    length = 3 if axis is None else 5
    thresholds = rng.random(length, np.float32)
    along = thresholds[:, None, None, None] if axis is None else thresholds

    np.testing.assert_array_equal(
        graph(tf.constant(probabilities), tf.constant(thresholds)), mask_oracle(probabilities, along)
    )
    for wrong in (1, length + 1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{wrong} values.* has {length}"):
            graph(tf.constant(probabilities), tf.fill([wrong], 0.5))


def test_a_graph_that_thresholds_holds_neither_checks_nor_state():
    graph = tf.function(create_binary_mask).get_concrete_function(tf.TensorSpec([None] * 4), 0.5)
    operations = [operation.type for operation in graph.graph.get_operations()]
    assert sorted(set(operations) - {"Placeholder", "Const", "Identity"}) == ["Cast", "Greater"]


def image_oracle(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    product = image.astype(np.float64) * mask.astype(np.float64)
    return np.rint(product).astype(image.dtype) if image.dtype.kind in "iu" else product.astype(image.dtype)


image_dtypes = st.sampled_from(["uint8", "uint16", "int16", "int32", *sorted(FLOATS)])
mask_dtypes = st.sampled_from(["bool", "uint8", "int32", *sorted(FLOATS)])


@quick
@given(
    shape=shapes,
    image_dtype=image_dtypes,
    mask_dtype=mask_dtypes,
    has_channels=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_masked_image_equals_the_oracle(shape, image_dtype, mask_dtype, has_channels, seed):
    rng = np.random.default_rng(seed)
    image_dtype = FLOATS.get(image_dtype, np.dtype(image_dtype))
    image = (rng.integers(0, 256, shape) / (1 if np.dtype(image_dtype).kind in "iu" else 256)).astype(image_dtype)
    mask_shape = shape if has_channels else (*shape[:-1], 1)
    # Quarters: every product is exact in every dtype, so that halves to be rounded are met and not missed.
    steps = 4 if mask_dtype in FLOATS else 1
    mask = (rng.integers(0, steps + 1, mask_shape) / steps).astype(FLOATS.get(mask_dtype, mask_dtype))

    masked = apply_mask_to_image(image, mask)

    assert masked.dtype == image.dtype
    np.testing.assert_array_equal(masked, image_oracle(image, mask))


def test_a_soft_mask_rounds_the_pixels_of_an_integer_image():
    image = np.array([[255, 101, 3, 200]], np.uint8)
    mask = np.float32([[0.5, 0.999, 0.9, np.nan]])
    assert apply_mask_to_image(image, mask).numpy().tolist() == [[128, 101, 3, 0]]


def test_large_integers_keep_every_digit():
    image = np.array([2**31 - 1, 2**30 + 1], np.int32)
    assert apply_mask_to_image(image, np.float32([1, 1])).numpy().tolist() == image.tolist()


@pytest.mark.parametrize("mask_dtype", [np.bool_, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("dtype", FLOATS.values(), ids=FLOATS)
def test_what_the_mask_leaves_out_is_0_whatever_it_was(dtype, mask_dtype):
    image = np.array([[np.nan, 2.0], [np.inf, np.nan]], dtype)
    masked = apply_mask_to_image(image, np.array([[0, 1], [0, 1]], mask_dtype)).numpy().astype(np.float64)
    np.testing.assert_array_equal(masked, [[0, 2], [0, np.nan]])


def test_a_float_image_is_multiplied_as_it_is():
    image = np.float32([np.inf, -np.inf, np.nan, -2.5])
    np.testing.assert_array_equal(apply_mask_to_image(image, np.ones(4, np.float32)), image)


misfits = [
    ((2, 4, 5, 3), (2, 4, 5)),
    ((2, 4, 5, 3), (2, 4, 1, 1)),
    ((2, 4, 5, 3), (1, 4, 5, 1)),
    ((2, 4, 5, 3), (2, 4, 5, 2)),
    ((2, 4, 5, 3), (2, 5, 4, 3)),
    ((2, 4, 5, 3), (1,)),
    ((1, 1, 1, 1), (2, 1, 1, 1)),  # would broadcast the image
    ((4,), (4, 1)),
]


@pytest.mark.parametrize(("image_shape", "mask_shape"), misfits)
def test_a_mask_of_another_shape_is_refused_with_both_shapes(image_shape, mask_shape):
    with pytest.raises(ValueError, match="the mask must have the shape of image") as caught:
        apply_mask_to_image(tf.zeros(image_shape), tf.zeros(mask_shape))
    assert f"mask {mask_shape}, image {image_shape}" in str(caught.value)


@pytest.mark.parametrize(
    ("image_shape", "mask_shape", "knows_rank"),
    # Different ranks, if known, are refused while the graph is built.
    [(*pair, knows) for pair in misfits for knows in (True, False) if not knows or len(pair[0]) == len(pair[1])],
)
def test_a_graph_of_unknown_shapes_refuses_it_with_both_shapes(image_shape, mask_shape, knows_rank):
    specs = [tf.TensorSpec([None] * len(shape) if knows_rank else None) for shape in (image_shape, mask_shape)]
    graph = tf.function(apply_mask_to_image).get_concrete_function(*specs)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the mask must have the shape") as caught:
        graph(tf.zeros(image_shape), tf.zeros(mask_shape))
    for shape in (image_shape, mask_shape):
        assert "[" + " ".join(map(str, shape)) + "]" in caught.value.message


@pytest.mark.parametrize("image_spec", [[None] * 4, [None, None, None, 3], None])
@pytest.mark.parametrize("mask_spec", [[None] * 4, [None, None, None, 1], None])
def test_a_graph_of_unknown_shapes_masks_as_the_oracle(image_spec, mask_spec):
    graph = tf.function(apply_mask_to_image).get_concrete_function(
        tf.TensorSpec(image_spec, tf.uint8), tf.TensorSpec(mask_spec)
    )
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (2, 3, 1, 3), np.uint8)
    mask = (rng.integers(0, 5, (2, 3, 1, 1)) / 4).astype(np.float32)
    np.testing.assert_array_equal(graph(tf.constant(image), tf.constant(mask)), image_oracle(image, mask))


def test_a_graph_of_static_shapes_holds_no_check():
    graph = tf.function(apply_mask_to_image).get_concrete_function(
        tf.TensorSpec([2, 4, 5, 3]), tf.TensorSpec([2, 4, 5, 1])
    )
    operations = {operation.type for operation in graph.graph.get_operations()}
    assert operations - {"Placeholder", "Const", "Identity"} == {"MulNoNan"}


def test_the_gradient_of_a_masked_image_is_the_mask():
    image, mask = tf.ones([1, 2, 2, 3]), tf.constant([[[[1.0], [0.0]], [[0.5], [1.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(image)
        total = tf.reduce_sum(apply_mask_to_image(image, mask))
    np.testing.assert_array_equal(tape.gradient(total, image), np.broadcast_to(mask, [1, 2, 2, 3]))


@pytest.fixture
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.usefixtures("mixed_float16")
def test_layers_keep_probabilities_and_pixels_at_full_precision_under_mixed_float16():
    probability = keras.Input([None, None, 1], dtype="float32")
    image = keras.Input([None, None, 3], dtype="uint8")
    mask = BinaryMask(0.5)(probability)
    model = keras.Model([image, probability], [mask, ApplyMask()(image, mask)])
    assert [output.dtype for output in model.outputs] == ["float32", "uint8"]

    picture = np.full([1, 1, 2, 3], 201, np.uint8)
    found, masked = model([picture, np.float32([[[[0.5], [0.5001]]]])])  # one number in float16

    assert np.float16(0.5001) == np.float16(0.5)
    assert found.numpy().ravel().tolist() == [0, 1]
    assert masked.dtype == tf.uint8
    assert masked.numpy()[0, 0].tolist() == [[0, 0, 0], [201, 201, 201]]


@pytest.mark.usefixtures("mixed_float16")
def test_layer_compares_a_float16_probability_in_float32():
    mask = BinaryMask(0.5001)(tf.constant([0.5, 0.50048828125], tf.float16))
    assert mask.numpy().tolist() == [0, 1]


def test_apply_mask_takes_its_two_inputs_apart_or_as_a_pair():
    image, mask = np.full([1, 2, 1, 3], 7.0, np.float32), np.float32([[[[1]], [[0]]]])
    expected = image_oracle(image, mask)
    np.testing.assert_array_equal(ApplyMask()(image, mask), expected)
    np.testing.assert_array_equal(ApplyMask()([image, mask]), expected)
    with pytest.raises(ValueError, match=r"layer\(image, mask\)"):
        ApplyMask()(image)


def test_layers_give_free_sizes_a_static_shape_with_free_places():
    probability, image = keras.Input([None, None, 4]), keras.Input([None, None, 4])
    mask = BinaryMask([0.1, 0.2, 0.3, 0.4], threshold_axis=-1, mask_dtype="bool")(probability)
    assert (mask.shape, mask.dtype) == ((None, None, None, 4), "bool")
    assert ApplyMask()([image, mask]).shape == (None, None, None, 4)


LOAD_AND_RUN = """
    import sys
    import keras
    import numpy as np
    import maskport.export.masks  # registers the layers
    model = keras.saving.load_model(sys.argv[1])
    images = np.load(sys.argv[2])
    mask, masked = model(images)
    np.savez(sys.argv[3], mask=mask, masked=masked)
"""


def test_a_model_with_the_layers_loads_in_a_new_process(tmp_path):
    image = keras.Input([None, None, 3])
    probability = keras.layers.Conv2D(2, 3, padding="same", activation="sigmoid")(image)
    mask = BinaryMask([0.45, 0.55], threshold_axis=-1, mask_dtype="uint8")(probability)
    masked = ApplyMask()(image, BinaryMask(0.5)(keras.ops.max(probability, axis=-1, keepdims=True)))
    model = keras.Model(image, [mask, masked])
    images = np.random.default_rng(3).random((2, 5, 7, 3), np.float32)
    expected_mask, expected_masked = model(images)
    assert 0 < expected_mask.numpy().mean() < 1

    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(LOAD_AND_RUN),
            *(str(tmp_path / name) for name in ("model.keras", "images.npy", "out.npz")),
        ],
        check=True,
    )

    answer = np.load(tmp_path / "out.npz")
    np.testing.assert_array_equal(answer["mask"], expected_mask)
    np.testing.assert_array_equal(answer["masked"], expected_masked)


def test_all_lists_what_the_module_offers():
    assert masks.__all__ == sorted(masks.__all__)
    own = {
        name
        for name, value in vars(masks).items()
        if getattr(value, "__module__", "").startswith("maskport.") and not name.startswith("_")
    }
    assert own - {"align_mask"} == set(masks.__all__)
