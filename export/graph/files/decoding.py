"""Decoding pictures inside a graph so that a bad one fails nobody but itself.

TensorFlow Serving merges the requests of strangers into one run of the graph, where any error fails all of
them. So the header is checked first, by ops that cannot fail, and the decoder runs inside a one-element
tf.data pipeline that ignores errors: these are core ops and work in any signature.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from ....serving import contract
from ...spec import FULL_SCALE, ExportSpec
from ..maps.geometry import Geometry
from ..maps.resizing import View
from . import headers

_UINT8_SCALE, _UINT16_SCALE = FULL_SCALE["uint8"], FULL_SCALE["uint16"]
_JPEG_RATIOS = (1, 2, 4, 8)
"""The scales, as 1/ratio, that a JPEG can be decoded at: an edge of n pixels becomes one of n/ratio, rounded up."""
_LEFT_TO_SHRINK = 2.0
"""How many pixels along each edge must be left for one of the model's (docs/how_to/camera_pictures.md says why)."""

_Decode = Callable[[tf.Tensor, headers.Header], tf.Tensor]


class Picture(NamedTuple):
    """A decoded picture; where `error` is not empty it has no pixels.

    Attributes:
        image: uint8 (uint16 where the export keeps 16 bits) [h, w, C], upright. C is 3 or 4 for models that take as
            many; 1 or 3, as in the file, for gray models.
        full_scale: float32 scalar, the value of `image` that means full scale, of its alpha too.
        error: string scalar, empty or beginning with one of `contract.IMAGE_ERRORS`.
        view: how the picture lies in `image`; of size 0, 0 where there are no pixels.
    """

    image: tf.Tensor
    full_scale: tf.Tensor
    error: tf.Tensor
    view: View

    def refused_for(self, reason: tf.Tensor) -> "Picture":
        """Returns it with a reason for its error, an empty text for none, unless it has an error already."""
        return self._replace(error=tf.where(tf.equal(self.error, ""), reason, self.error))


class Decoder:
    """Decodes pictures as one export's spec says, for a model of 1, 3 or 4 channels that sees them by a geometry."""

    def __init__(self, spec: ExportSpec, channels: int, geometry: Geometry):
        self._accepted = [name in spec.formats for name in headers.FORMAT_NAMES] + [False]
        self._formats_text = ", ".join(spec.formats)
        self._channels = channels
        self._geometry = geometry
        self._max_pixels = min(spec.max_image_pixels, geometry.max_pixels or spec.max_image_pixels)
        # A smaller scale averages pixels, too: it stands for nothing where the spec takes single ones.
        self.scales_down = spec.decode == "fast" and geometry.smooths and "jpeg" in spec.formats
        self._is_16_bit = spec.decodes_16_bits
        self._input_max = spec.full_scale
        self.dtype = tf.uint16 if self._is_16_bit else tf.uint8
        # In files alpha always has all of the 16 bits.
        self._scales_alpha = self._is_16_bit and channels == 4 and spec.full_scale < _UINT16_SCALE
        self._decoders = {
            headers.PNG: self._decode_png,
            headers.BMP: self._decode_bmp,
            headers.WEBP: self._decode_webp,
        }

    def decode(self, data: tf.Tensor, is_for_model: tf.Tensor) -> Picture:
        """Returns the picture in some bytes (string scalar); never fails.

        Where it is only for the model (a bool scalar), the image may be smaller than the picture.
        """
        header = headers.read_header(data)
        refused = self._refuse(data, header)
        is_accepted = tf.equal(refused, "")
        ratio = self._ratio(header, is_for_model)
        decoders: dict[int, _Decode] = {
            **self._decoders,
            headers.JPEG: functools.partial(self._decode_jpeg, ratio=ratio),
        }
        branches = {
            found: functools.partial(self._decode_isolated, decoder, data, header)
            for found, decoder in decoders.items()
        }
        found = tf.where(is_accepted, header.format, headers.UNKNOWN)
        image = self._finish(tf.switch_case(found, branches, default=self._no_pixels), header)
        stored = tf.stack([header.height, header.width])
        found_size = tf.shape(image, tf.int64)[:2]
        is_broken = is_accepted & ~tf.reduce_all(found_size == (stored + ratio - 1) // ratio)
        image = _turn_upright(image[: found_size[0] * tf.cast(~is_broken, tf.int64)], header.orientation)
        image.set_shape([None, None, None if self._channels == 1 else self._channels])
        error = tf.where(is_broken, f"{contract.ERROR_CANNOT_BE_DECODED}: corrupt, truncated or unsupported", refused)
        view = _view(stored * tf.cast(tf.equal(error, ""), tf.int64), ratio, header.orientation)
        return Picture(image, self.full_scale(header), error, view)

    def _ratio(self, header: headers.Header, is_for_model: tf.Tensor) -> tf.Tensor:
        """Returns one of `_JPEG_RATIOS` (int64 scalar): the largest at which the model sees the same."""
        if not self.scales_down:
            return tf.constant(1, tf.int64)
        size = tf.cast(_upright_size(header), tf.int32)
        shrunk = tf.reduce_min(size / self._geometry.inner_size(tf.maximum(size, 1)))
        ratios = tf.constant(_JPEG_RATIOS, tf.int64)
        fits = tf.cast(ratios, tf.float64) * _LEFT_TO_SHRINK <= shrunk
        return tf.reduce_max(tf.where(fits & is_for_model & (header.format == headers.JPEG), ratios, 1))

    def full_scale(self, header: headers.Header) -> tf.Tensor:
        """Returns the pixel value that means full scale, float32 scalar."""
        if not self._is_16_bit:
            return tf.constant(_UINT8_SCALE)
        return tf.where(header.bits == 16, self._input_max, _UINT8_SCALE)

    def _refuse(self, data: tf.Tensor, header: headers.Header) -> tf.Tensor:
        height, width = tf.unstack(_upright_size(header))
        edges = [tf.strings.as_string(edge) for edge in (height, width)]
        size = tf.strings.join([f"{contract.ERROR_TOO_LARGE}: ", tf.strings.join(edges, "x")])
        too_large = tf.strings.join([size, f" > {self._max_pixels} pixels"])
        # The product of two 32-bit sizes fits 64 bits only just; a quotient always does.
        is_too_large = height > self._max_pixels // tf.maximum(width, 1)
        is_accepted = tf.gather(tf.constant(self._accepted), header.format)
        undecodable = contract.ERROR_CANNOT_BE_DECODED
        reasons = [
            (tf.equal(tf.strings.length(data), 0), f"{contract.ERROR_EMPTY}: no bytes"),
            (~is_accepted, f"{contract.ERROR_UNKNOWN_FORMAT}: accepted are {self._formats_text}"),
            (header.is_animated, f"{undecodable}: animated"),
            (~header.is_supported, f"{undecodable}: unsupported kind of this format"),
            ((height < 1) | (width < 1), f"{undecodable}: no size in its header"),
            (is_too_large, too_large),
        ]
        refused = tf.constant("")
        for applies, reason in reversed(reasons):
            refused = tf.where(applies, reason, refused)
        return refused

    def _no_pixels(self) -> tf.Tensor:
        # One unknown shape for both branches, so that loops over pictures may carry either.
        return tf.zeros(tf.constant([0, 0, self._channels]), self.dtype)

    def _decode_isolated(self, decoder: _Decode, data: tf.Tensor, header: headers.Header) -> tf.Tensor:
        # Only what may fail is in the pipeline: it is made anew for each picture, and the less it holds the better.
        return isolate(lambda data: tf.cast(decoder(data, header), self.dtype), (data,), self._no_pixels)

    def _decode_jpeg(self, data: tf.Tensor, header: headers.Header, ratio: tf.Tensor) -> tf.Tensor:
        # The accurate integer transform gives the very pixels that Pillow gives.
        channels = 0 if self._channels == 1 else 3

        def at(ratio: int) -> tf.Tensor:
            return tf.io.decode_jpeg(data, channels, ratio, dct_method="INTEGER_ACCURATE")

        if not self.scales_down:
            return at(1)
        position = tf.argmax(tf.constant(_JPEG_RATIOS, tf.int64) == ratio, output_type=tf.int32)
        return tf.switch_case(position, [functools.partial(at, ratio) for ratio in _JPEG_RATIOS])

    def _decode_png(self, data: tf.Tensor, header: headers.Header) -> tf.Tensor:
        def decode(dtype: tf.DType) -> tf.Tensor:
            def with_channels(count: int) -> tf.Tensor:
                return tf.io.decode_png(data, channels=count, dtype=dtype)

            if self._channels != 4:
                return with_channels(0 if self._channels == 1 else 3)
            # Asked for four channels, TensorFlow makes up a wrong alpha for less than 8 bits; asked for as many
            # as there are, it drops the transparent colour of gray and RGB.
            is_palette = headers.bytes_at(data, 25, 1)[0] == 3
            return tf.cond(is_palette | (header.bits < 8), lambda: with_channels(0), lambda: with_channels(4))

        if not self._is_16_bit:
            return decode(tf.uint8)
        return tf.cond(header.bits == 16, lambda: decode(tf.uint16), lambda: tf.cast(decode(tf.uint8), self.dtype))

    def as_file(self, image: tf.Tensor, full_scale: tf.Tensor) -> tf.Tensor:
        """Returns an image [h, w, C] of a picture's `full_scale` with its alpha as files have it."""
        return self._scale_alpha(image, tf.where(full_scale > _UINT8_SCALE, _UINT16_SCALE / self._input_max, 1.0))

    def _scale_alpha(self, image: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
        if not self._scales_alpha:
            return image
        alpha = tf.round(tf.cast(image[..., 3:], tf.float32) * factor)
        return tf.concat([image[..., :3], tf.cast(tf.minimum(alpha, _UINT16_SCALE), self.dtype)], 2)

    def _decode_bmp(self, data: tf.Tensor, header: headers.Header) -> tf.Tensor:
        image = tf.io.decode_bmp(data, channels=0)

        def look_up() -> tf.Tensor:
            # TensorFlow gives the indices of a palette as if they were gray values.
            head = headers.bytes_at(data, 0, 54)
            numbers = tf.stack([head[14:18], head[46:50]]) * [1, 1 << 8, 1 << 16, 1 << 24]
            size, count = tf.unstack(tf.reduce_sum(numbers, 1))
            colours = tf.reshape(headers.bytes_at(data, 14 + size, 4 * 256), [256, 4])[:, 2::-1]
            indices = tf.range(256, dtype=tf.int64)[:, None]
            is_given = (indices < count) | (count == 0)
            # To Pillow an index beyond the palette is black, but for a palette of grays that are their own indices.
            is_gray = tf.reduce_all((colours == indices) | ~is_given)
            colours = tf.where(is_given, colours, tf.where(is_gray, indices, 0))
            return tf.gather(tf.cast(colours, tf.uint8), tf.cast(image[..., 0], tf.int32))

        # A fourth byte is padding more often than alpha, and Pillow drops it too.
        return tf.cond(tf.shape(image)[2] == 1, look_up, lambda: image[..., :3])

    def _decode_webp(self, data: tf.Tensor, header: headers.Header) -> tf.Tensor:
        # decode_image, since DecodeWebP as an op of its own is unknown to older releases.
        return tf.io.decode_image(data, channels=0, expand_animations=False)

    def _finish(self, image: tf.Tensor, header: headers.Header) -> tf.Tensor:
        """Brings [h, w, 1 to 4], as a decoder gives it, to the channels that the model's pictures have."""
        image.set_shape([None, None, None])
        found = tf.shape(image)[2]
        # A slice of all channels costs nothing.
        if self._channels == 1:
            # Gray with alpha to gray, RGBA to RGB.
            return image[..., : found - (found + 1) % 2]
        if self._channels == 3:
            return image[..., :3]
        image = tf.cond(found == 4, lambda: image, lambda: _as_rgba(image))
        return self._scale_alpha(image, tf.where(header.bits == 16, self._input_max / _UINT16_SCALE, 1.0))


def isolate(
    function: Callable[..., tf.Tensor], arguments: Sequence[tf.Tensor], otherwise: Callable[[], tf.Tensor]
) -> tf.Tensor:
    """Returns what a function of tensors gives, or another value where it fails; the graph goes on."""
    unconverted = tf.autograph.experimental.do_not_convert
    attempt = tf.data.Dataset.from_tensors(tuple(arguments)).map(unconverted(function)).ignore_errors(log_warning=False)
    instead = tf.data.Dataset.from_tensors(0).map(unconverted(lambda _: otherwise()))
    one = attempt.concatenate(instead).take(1)
    options = tf.data.Options()
    # Rewriting and tuning a pipeline of one element costs more than it could win.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    result: tf.Tensor = one.with_options(options).get_single_element()
    return result


def _as_rgba(image: tf.Tensor) -> tf.Tensor:
    """Returns gray, gray with alpha, or RGB [H, W, 1 to 3], of 8 bits, as RGBA, opaque where it has no alpha."""
    height, width, found = tf.unstack(tf.shape(image))
    opaque = tf.fill([height, width, 1], tf.cast(_UINT8_SCALE, image.dtype))
    sources = tf.constant([[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 2, 3]])
    return tf.gather(tf.concat([image, opaque], 2), sources[found - 1], axis=2)


def _upright_size(header: headers.Header) -> tf.Tensor:
    """Returns int64 [2], the picture's height and width."""
    stored = tf.stack([header.height, header.width])
    return _turned(stored, header.orientation)


def _turned(edges: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns what is of a stored picture's height and width for the upright one's."""
    # Not by a slice: TensorFlow's optimizer fails, and says so, on shapes that were sliced backwards.
    return tf.where(orientation >= 5, tf.reverse(edges, [0]), edges)


def _view(stored: tf.Tensor, ratio: tf.Tensor, orientation: tf.Tensor) -> View:
    """Returns how an upright picture lies in its image: stored in a size (int64 [2]), and decoded at a ratio."""
    extent = tf.cast(stored, tf.float32) / tf.cast(ratio, tf.float32)
    # The last pixels stand for more than there is: these come first where that edge is turned to the top or left.
    beyond = tf.math.ceil(extent) - extent
    stored, extent, beyond = (_turned(one, orientation) for one in (stored, extent, beyond))
    return View(tf.cast(stored, tf.int32), tf.where(_reversals(orientation), beyond, 0.0), extent)


def _reversals(orientation: tf.Tensor) -> tf.Tensor:
    """Returns bool [2]: whether rows, and columns, are put in the opposite order, after a transposition from 5 on."""
    return tf.reduce_any(orientation == tf.constant([[3, 4, 7, 8], [2, 3, 6, 7]]), 1)


def _turn_upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns [H, W, C] as EXIF's orientation says."""

    def turn() -> tf.Tensor:
        axes = tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2])
        return tf.reverse(tf.transpose(image, axes), tf.where(_reversals(orientation))[:, 0])

    return tf.cond(orientation == 1, lambda: image, turn)
