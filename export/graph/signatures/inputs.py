"""What callers may send to the signatures: servers check neither ranks nor values, so the graph does."""

import tensorflow as tf

_IMAGES_WANTED = (
    "image must be a list of pictures, shape [B, H, W, C], with {} and at least one pixel: one picture is "
    "a list of one, and gray pixels have an axis for their channel too"
)
FILES_WANTED = (
    "image_bytes must be a list of encoded pictures, shape [B]: one picture is a list of one, and in REST each of the "
    "instances has one without a list"
)
THRESHOLDS_WANTED = (
    "threshold must have one value for each image, shape [B]: one is a list of one, and in REST each of the instances "
    "has one without a list"
)


def checked_pixels(
    images: tf.Tensor, threshold: tf.Tensor | None, max_pixels: int | None, bands: int | None
) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Returns pictures as [B, H, W, C] and thresholds as [B], once they are known to be what a signature takes.

    An empty list, which has no other axes in JSON, is one of no pictures. Each may have `max_pixels`; None is any. They
    have as many `bands`; None is what pictures have.
    """
    wanted = _IMAGES_WANTED.format("1 to 4 channels" if bands is None else f"{bands} bands")
    images = _of_any_shape(images)
    shape = tf.shape(images)
    is_bare_list = tf.equal(tf.size(shape), 1) & tf.equal(tf.size(images), 0)
    shape = tf.concat([shape, tf.zeros([3 * tf.cast(is_bare_list, tf.int32)], tf.int32)], 0)
    with tf.control_dependencies([_rank_check(shape, 4, wanted)]):
        shape = tf.identity(shape)
    # Of no pictures none lacks pixels.
    least = tf.where(tf.equal(shape[:1], 0), [0, 1, 1, bands or 1], [0, 0, 0, 0])
    images = tf.ensure_shape(tf.reshape(images, tf.maximum(shape, least)), [None] * 4)
    shape = tf.shape(images)
    has_channels = shape[3] <= 4 if bands is None else tf.equal(shape[3], bands)
    is_image = has_channels & tf.reduce_all(shape[1:] >= 1)
    checks = [tf.debugging.Assert(is_image, [f"{wanted}; got shape", shape], summarize=4)]
    if max_pixels is not None:
        is_small = tf.reduce_prod(tf.cast(shape[1:3], tf.int64)) <= max_pixels
        text = f"image must have at most {max_pixels} pixels (max_model_pixels); got shape"
        checks.append(tf.debugging.Assert(is_small, [text, shape], summarize=4))
    if threshold is not None:
        threshold = checked_vector(threshold, THRESHOLDS_WANTED)
        text = "threshold must have one value for each image; got shapes"
        checks.append(tf.debugging.Assert(tf.shape(threshold)[0] == shape[0], [text, tf.shape(threshold), shape]))
        in_range = tf.reduce_all(is_threshold(threshold))
        checks.append(tf.debugging.Assert(in_range, ["threshold must be in [0, 1]; got", threshold]))
    with tf.control_dependencies(checks):
        return tf.identity(images), threshold


def is_threshold(values: tf.Tensor) -> tf.Tensor:
    """Returns whether values are in [0, 1]; NaN is not."""
    return (values >= 0) & (values <= 1)


def checked_vector(values: tf.Tensor, wanted: str) -> tf.Tensor:
    """Returns an input as [B], once its rank is known to be 1."""
    values = _of_any_shape(values)
    with tf.control_dependencies([_rank_check(tf.shape(values), 1, wanted)]):
        return tf.reshape(values, [-1])


def _of_any_shape(value: tf.Tensor) -> tf.Tensor:
    """Returns an input as of unknown shape.

    Its static shape says what callers should send: servers do not check what they do send, and where TensorFlow
    knows a rank, it makes a constant of the check. Its optimizer also concludes from what is done with a tensor
    afterwards; so what is checked goes on through a reshape, behind which it looks no further.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=value, shape=tf.TensorShape(None))


def _rank_check(shape: tf.Tensor, rank: int, wanted: str) -> tf.Operation:
    return tf.debugging.Assert(tf.equal(tf.size(shape), rank), [f"{wanted}; got shape", shape], summarize=16)
