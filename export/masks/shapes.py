"""Which shapes a mask may have beside an image or a label map, and the error when it has another.

Everything that can be settled while a graph is built is settled then, so that graphs of static shapes hold no
checks. What is left becomes one Assert, which TensorFlow Serving reports as INVALID_ARGUMENT.
"""

from typing import Any

import tensorflow as tf


def align_mask(mask: tf.Tensor, reference: tf.Tensor, *, name: str, may_drop_last: bool = False) -> tf.Tensor:
    """Gives a mask the rank of what it masks.

    Args:
        mask: in the shape of `reference`, or that with a last dimension of 1.
        reference: what is masked; any rank.
        name: what the error is to call the reference, such as "image".
        may_drop_last: accept the shape of `reference` without its last dimension too.

    Returns:
        `mask` in the rank of `reference`; its last dimension is 1 or the reference's, all others are equal.

    Raises:
        ValueError: the mask has another shape, and that is known already.
        tf.errors.InvalidArgumentError: it turns out so when the graph runs.
    """
    # No apostrophes: TensorFlow prints them with backslashes.
    rule = f"the mask must have the shape of {name}, or that with a last dimension of 1"
    if may_drop_last:
        rule += ", or that without its last dimension"
    if reference.shape.rank is None or mask.shape.rank is None:
        return _align_unknown_rank(mask, reference, rule=rule, name=name, may_drop_last=may_drop_last)

    shapes = f"mask {mask.shape}, {name} {reference.shape}"
    aligned = mask
    if may_drop_last and mask.shape.rank == reference.shape.rank - 1:
        aligned = tf.expand_dims(mask, axis=-1)
    if aligned.shape.rank != reference.shape.rank:
        raise ValueError(f"{rule}; got {shapes}")

    wanted = reference.shape.as_list()
    got = aligned.shape.as_list()
    open_axes = []
    for axis, (want, have) in enumerate(zip(wanted, got, strict=True)):
        if axis == len(wanted) - 1 and have == 1:
            continue
        if want is None or have is None:
            open_axes.append(axis)
        elif want != have:
            raise ValueError(f"{rule}; got {shapes}")
    if open_axes:
        have, want = tf.shape(aligned), tf.shape(reference)
        fits = tf.equal(have, want)
        if open_axes[-1] == len(wanted) - 1:
            fits = tf.concat([fits[:-1], fits[-1:] | tf.equal(have[-1:], 1)], axis=0)
        else:
            fits = fits[:-1]  # the last dimension is known to fit
        aligned = _after_check(aligned, tf.reduce_all(fits), [rule, "mask", tf.shape(mask), name, want])
    if wanted and wanted[-1] == 1:
        aligned.set_shape([*got[:-1], 1])
    return aligned


def require_same_shape(first: tf.Tensor, second: tf.Tensor, *, names: tuple[str, str]) -> tf.Tensor:
    """Returns `first` if its shape is that of `second`.

    Args:
        first: any shape.
        second: any shape.
        names: what the error is to call the two.

    Raises:
        ValueError: the shapes differ, and that is known already.
        tf.errors.InvalidArgumentError: it turns out so when the graph runs.
    """
    rule = f"{names[0]} and {names[1]} must have one shape"
    if not first.shape.is_compatible_with(second.shape):
        raise ValueError(f"{rule}; got {names[0]} {first.shape}, {names[1]} {second.shape}")
    if first.shape.is_fully_defined() and second.shape.is_fully_defined():
        return first
    have, want = tf.shape(first), tf.shape(second)
    return _after_check(first, _equal_vectors(have, want), [rule, names[0], have, names[1], want])


def _align_unknown_rank(
    mask: tf.Tensor, reference: tf.Tensor, *, rule: str, name: str, may_drop_last: bool
) -> tf.Tensor:
    aligned = mask
    if may_drop_last:
        lacks_one = tf.equal(tf.rank(reference) - tf.rank(mask), 1)
        ones = tf.ones([tf.cast(lacks_one, tf.int32)], tf.int32)
        aligned = tf.reshape(mask, tf.concat([tf.shape(mask), ones], axis=0))
    have, want = tf.shape(aligned), tf.shape(reference)
    last = tf.reduce_all(tf.equal(have[-1:], 1)) | _equal_vectors(have[-1:], want[-1:])
    fits = _equal_vectors(have[:-1], want[:-1]) & last
    return _after_check(aligned, fits, [rule, "mask", tf.shape(mask), name, want])


def _equal_vectors(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    lengths = {first.shape[0], second.shape[0]}
    if None in lengths or len(lengths) > 1:
        # They may differ in length, where plain equality would fail with a message about vectors.
        length = tf.maximum(tf.size(first), tf.size(second))
        first = tf.pad(first, [[0, length - tf.size(first)]], constant_values=-1)
        second = tf.pad(second, [[0, length - tf.size(second)]], constant_values=-1)
    return tf.reduce_all(tf.equal(first, second))


def _after_check(value: tf.Tensor, condition: tf.Tensor, data: list[Any]) -> tf.Tensor:
    # The bare op: tf.debugging.Assert would wrap it in a conditional and a function of its own.
    check = tf.raw_ops.Assert(condition=condition, data=data, summarize=8)
    with tf.control_dependencies([check]):
        return tf.identity(value)
