"""How an image gets to the size that the model runs at, and a probability map back to the image's.

All resizing is bilinear with half-pixel centres, straight from the integer pixels; maps of class indices are resized to
the nearest pixel.
"""

import abc

import tensorflow as tf

from ....serving import contract
from ...errors import SpecError
from ...model.segmentation_model import SegmentationModel
from ...spec import ExportSpec, Sides
from . import bits
from .class_maps import most_probable
from .resizing import View, bilinear, enlarge_columns, enlarge_rows, resize, shrink

_STRIP_VALUES = 4_000_000
"""How many resized class probabilities are held at once for a class map: 16 MB."""
_WHOLE_PIXELS = 500_000
"""Of a mask made in one piece, rather than in strips: a loop costs as much as these."""
_STRIP_PIXELS = 1_500_000
"""How many resized probabilities a strip of a mask has: 6 MB, of which two stay in a processor's cache."""
_PARALLEL_STRIPS = 2
"""TensorFlow enlarges a map with one processor."""


def make_geometry(spec: ExportSpec, model: SegmentationModel, min_edge: int = 1) -> "Geometry":
    """Returns the geometry that the spec and the model's size ask for.

    A model without a fixed size takes at least `min_edge` by `min_edge` pixels.

    Raises:
        SpecError: they do not fit.
    """
    if model.size is None:
        if spec.resize == "letterbox":
            raise SpecError("resize: 'letterbox' needs a model_size; the model takes any")
        padding = AtImageSize(spec.pad_to_multiple, spec.max_model_pixels, min_edge)
        geometry: Geometry = padding if spec.sides is None else BySides(spec.sides, padding, spec)
    else:
        geometry = (Letterbox if spec.resize == "letterbox" else Stretch)(model.size, spec.antialias)
    geometry.mixes = not model.answers_classes
    return geometry


class Geometry(abc.ABC):
    """Maps images to the model and maps of the model to images."""

    model_size: tuple[int, int] | None = None
    """(height, width) that the model runs at; None where that is the image's."""
    max_pixels: int | None = None
    """Larger images are refused; None is no limit."""
    mixes: bool = True
    """Whether pixels of maps may be mixed when these are resized: between two class indices lies another class."""

    smooths: bool = False
    """Whether several pixels are averaged where a picture is shrunk: of no other does a smaller image do as well."""

    def refuse(self, size: tf.Tensor) -> tf.Tensor | None:
        """Returns why the model takes no image of a size, int32 [2]: a text, empty where it does; None is always."""
        return None

    @abc.abstractmethod
    def inner_size(self, size: tf.Tensor) -> tf.Tensor:
        """Returns int32 [2], the height and width that a picture of a size, int32 [2], has in the model's input."""

    @abc.abstractmethod
    def to_model(self, images: tf.Tensor, view: View | None = None) -> tf.Tensor:
        """Returns integer or float [B, H, W, C] as float32 [B, h, w, C] for the model, values as they were.

        `view` says how the pictures lie in the images; None: they are the pictures.
        """

    @abc.abstractmethod
    def place(self, maps: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds what part of the model's maps, float32 [B, h', w', K], shows an image of a size, int32 [2].

        Returns:
            That part, and float32 [2] the scale at which its top left corner is to be resized to fill the image.
        """

    def to_image(self, maps: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns the model's maps, float32 [B, h', w', K], at the image's size, [B, H, W, K]."""
        placed, full = self._placed_to_fill(maps, size)
        height, width = tf.unstack(size)
        return self._enlarge(placed, full)[:, :height, :width]

    def bits_above(self, maps: tf.Tensor, size: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        """Returns where the model's maps are above a threshold at the image's size, as `bits.pack` does.

        The same pixels as of `to_image`; of large pictures in strips of columns, so that no map is held at full size.

        Args:
            maps: float32 [B, h', w', 1].
            size: int32 [2], the image's height and width.
            threshold: float32, of all or [B].

        Returns:
            uint8 [B, H, W/8, rounded up].
        """
        placed, full = self._placed_to_fill(maps, size)
        threshold = tf.reshape(threshold, [-1, 1, 1])
        batch, rows, *_ = tf.unstack(tf.shape(placed), 4)  # a model may not say how many axes it answers
        (height, width), (full_height, full_width) = tf.unstack(size), tf.unstack(full)

        def whole() -> tf.Tensor:
            enlarged = bilinear(placed, full) if self.mixes else self._enlarge(placed, full)
            return bits.pack(enlarged[:, :height, :width, 0] > threshold)

        def in_strips() -> tf.Tensor:
            wide = enlarge_columns(placed, full_width)[:, :, :width]
            columns = 8 * tf.maximum(_STRIP_PIXELS // (8 * height * batch), 1)

            def strip(index: tf.Tensor, done: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
                part = wide[:, :, index * columns : (index + 1) * columns]
                packed = bits.pack(enlarge_rows(part, full_height)[:, :height, :, 0] > threshold)
                # Columns first, so that the strips can be joined along the leading axis.
                return index + 1, done.write(index, tf.transpose(packed, [2, 0, 1]))

            count = (width + columns - 1) // columns
            done = tf.TensorArray(tf.uint8, count, element_shape=[None, None, None], infer_shape=False)
            _, done = tf.while_loop(
                lambda index, _: index < count, strip, (0, done), parallel_iterations=_PARALLEL_STRIPS
            )
            return tf.transpose(done.concat(), [1, 2, 0])

        if not self.mixes:
            return whole()
        is_large = (batch * height * width > _WHOLE_PIXELS) & (full_height >= rows)
        return tf.cond(is_large, in_strips, whole)

    def _placed_to_fill(self, maps: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the part of maps that shows an image, and int32 [2] the size at which it fills that."""
        placed, scale = self.place(maps, size)
        return placed, tf.cast(tf.round(scale * tf.cast(tf.shape(placed)[1:3], tf.float32)), tf.int32)

    def _enlarge(self, maps: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, h, w, K] as [B, *size, K]."""
        if not self.mixes:
            return resize(maps, size, method=self._method)
        # Of more rows than are wanted in the end, the columns would be made for nothing.
        return tf.cond(
            size[0] >= tf.shape(maps)[1],
            lambda: enlarge_rows(enlarge_columns(maps, size[1]), size[0]),
            lambda: bilinear(maps, size),
        )

    @property
    def _method(self) -> str:
        return "bilinear" if self.mixes else "nearest"

    def most_probable(self, probabilities: tf.Tensor, size: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Returns the most probable class at the image's size, `dtype` [B, H, W, 1]; ties go to the lower index.

        Args:
            probabilities: float32 [B, h', w', K].
            size: int32 [2], the image's height and width.
            dtype: of the result.
        """
        placed, scale = self.place(probabilities, size)
        return most_probable(placed, scale, size, dtype, _STRIP_VALUES)[..., tf.newaxis]


class Stretch(Geometry):
    """The whole image is stretched to the model's size."""

    def __init__(self, model_size: tuple[int, int], antialias: bool):
        self.model_size = self._size = model_size
        self.smooths = antialias

    def inner_size(self, size: tf.Tensor) -> tf.Tensor:  # noqa: D102
        return tf.constant(self._size)

    def to_model(self, images: tf.Tensor, view: View | None = None) -> tf.Tensor:  # noqa: D102
        return shrink(images, tf.constant(self._size), self.smooths, view)

    def place(self, maps: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: D102
        return maps, tf.cast(size, tf.float32) / tf.cast(tf.shape(maps)[1:3], tf.float32)


class Letterbox(Geometry):
    """The image keeps its shape, is centred, and the rest is 0."""

    def __init__(self, model_size: tuple[int, int], antialias: bool):
        self.model_size = self._size = model_size
        self.smooths = antialias

    def inner_size(self, size: tf.Tensor) -> tf.Tensor:  # noqa: D102
        return self._box(size)[1]

    def _box(self, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns int32 [2] the top left corner, and [2] the size of the image within the model's."""
        model_size = tf.constant(self._size)
        scale = tf.reduce_min(tf.cast(model_size, tf.float64) / tf.cast(size, tf.float64))
        inner = tf.cast(tf.round(tf.cast(size, tf.float64) * scale), tf.int32)
        inner = tf.clip_by_value(inner, 1, model_size)
        return (model_size - inner) // 2, inner

    def to_model(self, images: tf.Tensor, view: View | None = None) -> tf.Tensor:  # noqa: D102
        corner, inner = self._box(view.size if view else tf.shape(images)[1:3])
        resized = shrink(images, inner, self.smooths, view)
        after = tf.constant(self._size) - corner - inner
        padding = [[0, 0], [corner[0], after[0]], [corner[1], after[1]], [0, 0]]
        padded = tf.pad(resized, padding)
        padded.set_shape([images.shape[0], *self._size, images.shape[3]])
        return padded

    def place(self, maps: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: D102
        maps = resize(maps, tf.constant(self._size), method=self._method)
        corner, inner = self._box(size)
        end = corner + inner
        cropped = maps[:, corner[0] : end[0], corner[1] : end[1]]
        return cropped, tf.cast(size, tf.float32) / tf.cast(inner, tf.float32)


class AtImageSize(Geometry):
    """The model runs at the image's own size, padded at right and bottom by repeating the edge.

    Images of fewer than `min_edge` rows or columns are padded up to it: a network has nothing to say of what is
    smaller than its own steps, and TensorFlow's fused convolutions answer garbage where nothing is left.
    """

    def __init__(self, multiple: int, max_pixels: int, min_edge: int = 1):
        self.max_pixels = max_pixels
        self._multiple = multiple
        self._min_edge = min_edge

    def padded(self, size: tf.Tensor) -> tf.Tensor:
        """Returns int32 [2], what an image of a size is padded to."""
        size = tf.maximum(size, self._min_edge)
        return (size + self._multiple - 1) // self._multiple * self._multiple

    def inner_size(self, size: tf.Tensor) -> tf.Tensor:  # noqa: D102
        return size

    def to_model(self, images: tf.Tensor, view: View | None = None) -> tf.Tensor:  # noqa: D102
        size = tf.shape(images)[1:3]
        padded = self.padded(size)

        def pad() -> tf.Tensor:
            rows = tf.gather(images, tf.minimum(tf.range(padded[0]), size[0] - 1), axis=1)
            return tf.gather(rows, tf.minimum(tf.range(padded[1]), size[1] - 1), axis=2)

        if self._multiple > 1 or self._min_edge > 1:
            static_shape = [images.shape[0], None, None, images.shape[3]]
            images = tf.cond(tf.reduce_all(padded == size), lambda: images, pad)
            images.set_shape(static_shape)
        return tf.cast(images, tf.float32)

    def place(self, maps: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: D102
        padded = self.padded(size)
        # Resizing nothing would give whatever stands in memory.
        is_map = tf.reduce_all(tf.shape(maps)[1:3] >= 1)
        check = tf.debugging.Assert(is_map, ["the model answers no pixels for an image of", size])
        with tf.control_dependencies([check]):
            maps = tf.identity(maps)
        return maps, tf.cast(padded, tf.float32) / tf.cast(tf.shape(maps)[1:3], tf.float32)


class BySides(Geometry):
    """The image is resized to a length of its shorter or longer side, keeping its shape, and padded as `AtImageSize`.

    Both sides are scaled alike and rounded to whole pixels, halves up, as MMCV, Detectron2 and Segment Anything do.
    With a `multiple` they are cut to whole pixels and rounded to the nearest one, as PaddleOCR does.
    """

    def __init__(self, sides: Sides, padding: AtImageSize, spec: ExportSpec):
        self._sides, self._padding, self.smooths = sides, padding, spec.antialias
        self._max_pixels = spec.max_model_pixels

    def _inner(self, size: tf.Tensor) -> tf.Tensor:
        """Returns float64 [2], whole numbers: what an image of a size is resized to."""
        sides, edges = self._sides, tf.cast(size, tf.float64)
        shorter, longer = tf.reduce_min(edges), tf.reduce_max(edges)
        scale = sides.shortest / shorter if sides.shortest else tf.cast(sides.longest, tf.float64) / longer
        if sides.only is not None:
            scale = (tf.maximum if sides.only == "enlarge" else tf.minimum)(scale, tf.ones([], tf.float64))
        if sides.shortest and sides.longest:
            scale = tf.minimum(scale, sides.longest / longer)
        if sides.multiple == 1:
            return tf.maximum(tf.floor(edges * scale + 0.5), 1)
        multiples = tf.round(tf.floor(edges * scale) / sides.multiple)  # halves to the even one
        return tf.maximum(multiples, 1) * sides.multiple

    def refuse(self, size: tf.Tensor) -> tf.Tensor:  # noqa: D102
        inner = self._inner(size)
        texts = [tf.strings.as_string(tf.cast(edge, tf.int64)) for edge in (*tf.unstack(size), *tf.unstack(inner))]
        image, model = (tf.strings.join(texts[at : at + 2], "x") for at in (0, 2))
        reason = f" for the model > {self._max_pixels} pixels (max_model_pixels)"
        text = tf.strings.join([f"{contract.ERROR_TOO_LARGE}: ", image, " is ", model, reason])
        return tf.where(tf.reduce_prod(inner) > self._max_pixels, text, "")

    def inner_size(self, size: tf.Tensor) -> tf.Tensor:  # noqa: D102
        return tf.cast(self._inner(size), tf.int32)

    def to_model(self, images: tf.Tensor, view: View | None = None) -> tf.Tensor:  # noqa: D102
        inner = self.inner_size(tf.shape(images)[1:3] if view is None else view.size)
        return self._padding.to_model(shrink(images, inner, self.smooths, view))

    def place(self, maps: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # noqa: D102
        inner = self.inner_size(size)
        padded = self._padding.padded(inner)

        def without_padding() -> tf.Tensor:
            return resize(maps, padded, method=self._method)[:, : inner[0], : inner[1]]

        shown = tf.cond(tf.reduce_all(padded == inner), lambda: maps, without_padding)
        shown.set_shape([maps.shape[0], None, None, maps.shape[3]])
        return shown, tf.cast(size, tf.float32) / tf.cast(tf.shape(shown)[1:3], tf.float32)
