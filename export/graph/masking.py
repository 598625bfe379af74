"""What is done with a probability map at the image's size: cleaning it, and showing the image through it."""

import tensorflow as tf

from ..masks.operations import apply_mask_to_image
from ..spec import FULL_SCALE, Clean
from .scaling import luma


def clean(probability: tf.Tensor, radii: Clean) -> tf.Tensor:
    """Opens, then closes a probability map, float32 [B, H, W, 1], with discs.

    Flat gray-scale morphology commutes with thresholding, so this cleans the mask of every threshold alike.
    What lies outside the picture is neutral. Source: Serra, Image Analysis and Mathematical Morphology (1982).
    """
    if radii.open:
        probability = _dilate(_erode(probability, radii.open), radii.open)
    if radii.close:
        probability = _erode(_dilate(probability, radii.close), radii.close)
    return probability


def _disc(radius: int) -> tf.Tensor:
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    is_inside = offsets[:, tf.newaxis] ** 2 + offsets**2 <= radius**2
    # Added to the pixels: 0 within the disc, and what never wins outside of it.
    return tf.where(is_inside, 0.0, -2.0)[..., tf.newaxis]


def _dilate(maps: tf.Tensor, radius: int) -> tf.Tensor:
    return tf.nn.dilation2d(maps, _disc(radius), [1, 1, 1, 1], "SAME", "NHWC", [1, 1, 1, 1])


def _erode(maps: tf.Tensor, radius: int) -> tf.Tensor:
    return -_dilate(-maps, radius)


def compose(images: tf.Tensor, alpha: tf.Tensor, background: str, full_scale: tf.Tensor | float) -> tf.Tensor:
    """Returns the images where alpha is 1, and the background elsewhere.

    Args:
        images: [..., H, W, C] of any dtype.
        alpha: bool (hard) or float32 in [0, 1] (soft), [..., H, W, 1].
        background: `black` or `#rrggbb`.
        full_scale: the value of `images` that is white.

    Returns:
        As `images`; between the two colours, integers are rounded.
    """
    if background == "black":
        return apply_mask_to_image(images, alpha)
    colour = _colour(images, background, full_scale)
    if alpha.dtype == tf.bool:
        return tf.where(alpha, images, _to_dtype(colour, images.dtype))
    mixed = tf.math.multiply_no_nan(tf.cast(images, tf.float32), alpha) + colour * (1.0 - alpha)
    return _to_dtype(mixed, images.dtype)


def compose_opaque(image: tf.Tensor, alpha: tf.Tensor, background: str, full_scale: float) -> tf.Tensor:
    """Returns `compose` of an RGBA image, as RGB: the background shows, too, where the image itself is transparent."""
    own = tf.cast(image[..., 3:], tf.float32) / full_scale
    return compose(image[..., :3], tf.cast(alpha, tf.float32) * own, background, full_scale)


def _colour(images: tf.Tensor, background: str, full_scale: tf.Tensor | float) -> tf.Tensor:
    """Returns float32 [C] of `#rrggbb` in the images' channels and range."""
    red, green, blue = (int(background[i : i + 2], 16) / 255 for i in (1, 3, 5))
    gray = luma(red, green, blue)
    # By number of channels: gray; gray and alpha; RGB; RGBA.
    by_channels = tf.constant(
        [[gray, 0, 0, 0], [gray, 1, 0, 0], [red, green, blue, 0], [red, green, blue, 1]], tf.float32
    )
    channels = tf.shape(images)[-1]
    return by_channels[channels - 1, :channels] * full_scale


def _to_dtype(values: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    return tf.cast(values if dtype.is_floating else tf.round(values), dtype)


def cut_out(image: tf.Tensor, alpha: tf.Tensor, full_scale: tf.Tensor) -> tf.Tensor:
    """Returns an image as RGBA with the mask as its alpha, and colours of 0 where that is 0: nothing is given away.

    Args:
        image: uint8 or uint16 [H, W, 1, 3 or 4]; an alpha of its own is replaced.
        alpha: bool or float32 in [0, 1], [H, W, 1].
        full_scale: float32 scalar, of the file; above 255 it has 16 bits.
    """
    # A slice of all channels costs nothing, and a product less than a choice by pixel.
    colour = tf.cond(tf.shape(image)[2] < 3, lambda: tf.gather(image, [0, 0, 0], axis=2), lambda: image[..., :3])
    # Alpha fills the file's bits, whatever full scale its colours have.
    opaque = tf.where(full_scale > FULL_SCALE["uint8"], FULL_SCALE["uint16"], FULL_SCALE["uint8"])
    opacity = _to_dtype(tf.cast(alpha, tf.float32) * opaque, image.dtype)
    return tf.concat([colour * tf.cast(opacity > 0, image.dtype), opacity], 2)
