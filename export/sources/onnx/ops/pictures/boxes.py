"""Operators on the boxes that a network finds in a picture."""

from typing import Any

import tensorflow as tf

from ..registry import Node, plain


@plain("NonMaxSuppression")
def non_max_suppression(
    node: Node, boxes: Any, scores: Any, most: Any = None, overlap: Any = None, least: Any = None
) -> Any:
    """Returns the boxes of each class that overlap with no better one, best first, as rows of picture, class, box."""
    if most is None:
        return tf.zeros([0, 3], tf.int64)
    pictures, classes, count = tf.unstack(tf.shape(scores))
    if node.get("center_point_box", 0):
        middle, size = tf.split(boxes, 2, -1)
        boxes = tf.concat([middle - size / 2, middle + size / 2], -1)
    most = tf.cast(tf.clip_by_value(tf.reshape(most, []), 0, tf.cast(count, tf.int64)), tf.int32)
    overlap = tf.zeros([]) if overlap is None else tf.reshape(overlap, [])
    least = tf.constant(-float("inf")) if least is None else tf.reshape(least, [])

    def of_one_class(index: tf.Tensor, found: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        picture, label = index // classes, index % classes
        chosen = tf.raw_ops.NonMaxSuppressionV3(
            boxes=boxes[picture],
            scores=scores[picture, label],
            max_output_size=most,
            iou_threshold=overlap,
            score_threshold=least,
        )
        places = [tf.fill(tf.shape(chosen), one) for one in (picture, label)]
        return index + 1, found.write(index, tf.cast(tf.stack([*places, chosen], 1), tf.int64))

    rows = tf.TensorArray(tf.int64, pictures * classes, element_shape=[None, 3], infer_shape=False)
    _, rows = tf.while_loop(lambda index, _: index < pictures * classes, of_one_class, (0, rows), parallel_iterations=1)
    return rows.concat()
