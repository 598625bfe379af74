"""Resizing images and maps inside a graph: bilinear with half-pixel centres, straight from the integer pixels."""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class View(NamedTuple):
    """How a picture lies in an image of it, which has fewer pixels where a file was decoded at a smaller scale.

    Attributes:
        size: int32 [2], the height and width of the picture.
        corner: float32 [2], where in the image, in pixels of it, the picture's top left corner is.
        extent: float32 [2], how many rows and columns of the image the picture fills: not always whole ones.
    """

    size: tf.Tensor
    corner: tf.Tensor
    extent: tf.Tensor

    @classmethod
    def whole(cls, size: tf.Tensor) -> "View":
        """Returns that of an image of the picture's own size, int32 [2]."""
        return cls(size, tf.zeros([2]), tf.cast(size, tf.float32))


def enlarge_columns(maps: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Returns float32 [B, h, w, K] as [B, h, width, K]."""
    if maps.shape[-1] != 1:
        return bilinear(maps, tf.stack([tf.shape(maps)[1], width]))
    # TensorFlow takes as long for each new column of one value as for many values of a pixel.
    sideways = enlarge_rows(tf.transpose(maps, [0, 2, 1, 3]), width)
    return tf.transpose(sideways, [0, 2, 1, 3])


def enlarge_rows(maps: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Returns float32 [B, h, w, K] as [B, height, w, K].

    After `enlarge_columns` the same to the bit as both in one, in half the time: with each column as a channel, values
    that are made alike lie side by side.
    """
    batch, rows, columns, channels = tf.unstack(tf.shape(maps))
    as_channels = tf.reshape(maps, [batch, rows, 1, columns * channels])
    tall = bilinear(as_channels, tf.stack([height, 1]))
    return tf.reshape(tall, [batch, height, columns, maps.shape[3] or channels])


def bilinear(maps: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Returns float32 [B, h, w, K] as [B, *size, K]; what has that size already is copied as it is."""
    return tf.raw_ops.ResizeBilinear(images=maps, size=size, half_pixel_centers=True)


def shrink(images: tf.Tensor, size: tf.Tensor, smooths: bool, view: View | None) -> tf.Tensor:
    """Returns the pictures in [B, H, W, C] as float32 [B, *size, C]."""
    if not smooths:
        return resize(images, size)  # the pictures themselves, since no others are decoded at a smaller scale
    _, corner, extent = view or View.whole(tf.shape(images)[1:3])
    scale = tf.cast(size, tf.float32) / extent
    return resize(
        images,
        size,
        lambda: tf.raw_ops.ScaleAndTranslate(
            images=images, size=size, scale=scale, translation=-corner * scale, kernel_type="triangle", antialias=True
        ),
    )


def resize(
    images: tf.Tensor, size: tf.Tensor, by: Callable[[], tf.Tensor] | None = None, method: str = "bilinear"
) -> tf.Tensor:
    """Returns [B, H, W, C] as float32 [B, *size, C], unless they are so by a method, or by what `by` gives."""
    resized = tf.cond(
        tf.reduce_all(tf.shape(images)[1:3] == size),
        lambda: tf.cast(images, tf.float32),
        by or (lambda: tf.cast(tf.image.resize(images, size, method), tf.float32)),
    )
    known = tf.get_static_value(size)
    static_size: tuple[int | None, int | None] = (None, None) if known is None else tuple(known)
    resized.set_shape([images.shape[0], *static_size, images.shape[3]])
    return resized
