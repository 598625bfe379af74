"""The tf.Module that is saved: one signature for each product, from pixels and from encoded pictures.

One way for data: decode, turn upright, resize, scale, model, activation, foreground, resize to the image's
size, clean, threshold. Every signature runs through the same steps, and the model is traced once.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ...serving import contract
from ..masks.operations import create_binary_mask
from ..model.segmentation_model import SegmentationModel
from ..spec import ExportSpec
from . import masking, png
from .decoding import Decoder, Picture, isolate
from .geometry import AtImageSize, make_geometry
from .scaling import ValueScaling

_PARALLEL_PICTURES = 4
"""How many pictures of a request are decoded or encoded at once: bounds memory, whatever the batch."""
_KEPT_PIXELS = 16_000_000
"""Decoded pixels of a request that are kept until they are needed again; beyond, they are decoded twice."""

_IMAGES_WANTED = (
    "image must be a list of pictures, shape [B, H, W, C], with 1 to 4 channels and at least one pixel: one picture is "
    "a list of one, and gray pixels have an axis for their channel too"
)
_FILES_WANTED = (
    "image_bytes must be a list of encoded pictures, shape [B]: one picture is a list of one, and in REST each of the "
    "instances has one without a list"
)
_THRESHOLDS_WANTED = (
    "threshold must have one value for each image, shape [B]: one is a list of one, and in REST each of the instances "
    "has one without a list"
)


class MaskModule(tf.Module):
    """A segmentation model with the signatures of `serving.contract`.

    Args:
        model: to export.
        spec: how.
        foreground: indices of the model's output channels that the mask is of.
        adds_foreground: whether several of them are added (probabilities that exclude each other) rather than
            the largest taken.
        min_edge: smallest height and width that a model without a fixed size takes.

    Attributes:
        info: the text that `export_info` answers; to be set before that is traced.

    Raises:
        SpecError: the spec does not fit the model.
    """

    def __init__(
        self,
        model: SegmentationModel,
        spec: ExportSpec,
        foreground: list[int],
        adds_foreground: bool,
        min_edge: int = 1,
    ):
        super().__init__(name="maskport")
        self._state = model.trackable
        self._model = model
        self._spec = spec
        self._foreground = foreground
        self._adds_foreground = adds_foreground
        self._geometry = make_geometry(spec, model, min_edge)
        self._scaling = ValueScaling(spec, model)
        self.info = ""
        self._trace = functools.cache(self._trace_once)
        max_pixels = spec.max_image_pixels
        if isinstance(self._geometry, AtImageSize):
            max_pixels = min(max_pixels, self._geometry.max_pixels)
        self._decoder = Decoder(spec, model.channels, max_pixels)
        self.class_map_dtype = tf.uint8 if model.output_channels <= 256 else tf.uint16
        size = self._geometry.model_size or (None, None)
        self.forward = tf.function(
            model.forward,
            input_signature=[tf.TensorSpec([None, *size, model.channels], tf.float32, name="model_input")],
            autograph=False,
        )
        self._decode = tf.function(
            self._decoder.decode, input_signature=[tf.TensorSpec([], tf.string)], autograph=False
        )

    def signatures(self, names: list[str]) -> dict[str, Any]:
        """Returns a concrete function for each of some signatures, by name."""
        return {name: self.trace(contract.SIGNATURES[name]) for name in names}

    def trace(self, signature: contract.Signature) -> Any:
        """Returns a signature's concrete function; the same one each time."""
        return self._trace(signature.product, signature.inputs)  # serving_default is mask itself

    def _trace_once(self, product: str, inputs: tuple[str, ...]) -> Any:
        specs = {
            contract.IMAGE: tf.TensorSpec([None, None, None, None], self._spec.image_dtype, name=contract.IMAGE),
            contract.IMAGE_BYTES: tf.TensorSpec([None], tf.string, name=contract.IMAGE_BYTES),
            contract.THRESHOLD: tf.TensorSpec([None], tf.float32, name=contract.THRESHOLD),
            contract.QUERY: tf.TensorSpec([None], tf.string, name=contract.QUERY),
        }
        if product == contract.INFO:
            function: Callable[..., Mapping[str, tf.Tensor]] = self._export_info
        else:
            answer = self._answer_encoded if contract.IMAGE_BYTES in inputs else self._answer_pixels

            def function(images: tf.Tensor, threshold: tf.Tensor | None = None) -> Mapping[str, tf.Tensor]:
                return answer(product, images, threshold)

        return tf.function(function, autograph=False).get_concrete_function(*(specs[name] for name in inputs))

    def _export_info(self, query: tf.Tensor) -> Mapping[str, tf.Tensor]:
        query = _checked_vector(query, "query must be a list of strings, shape [B]")
        return {contract.INFO: tf.fill(tf.shape(query), self.info)}

    def forward_alone(self) -> tf.Module:
        """Returns a module that can be saved, of nothing but the model's `forward`."""
        alone = tf.Module()
        alone.state, alone.forward = self._state, self.forward
        return alone

    # From the model's answer to probabilities.

    def _activate(self, outputs: tf.Tensor) -> tf.Tensor:
        activation = self._spec.activation
        if activation == "softmax":
            return tf.nn.softmax(outputs)
        if activation == "sigmoid":
            return tf.sigmoid(outputs)
        return tf.clip_by_value(outputs, 0.0, 1.0)

    def _foreground_probability(self, outputs: tf.Tensor) -> tf.Tensor:
        """Returns float32 [B, h', w', 1] of the model's [B, h', w', K]."""
        if self._spec.activation == "softmax":
            outputs = self._activate(outputs)
        chosen = [outputs[..., index : index + 1] for index in self._foreground]
        if self._adds_foreground:
            # A sum of probabilities can be above 1 by rounding.
            together = tf.minimum(tf.add_n(chosen), 1.0)
        else:
            together = tf.reduce_max(tf.concat(chosen, -1), -1, keepdims=True)
        return together if self._spec.activation == "softmax" else self._activate(together)

    def _probability_at(self, outputs: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return self._geometry.to_image(self._foreground_probability(outputs), size)

    def probabilities(self, outputs: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what masks and class maps of pictures are decided by.

        Args:
            outputs: float32 [B, h', w', K], of the model.
            size: height and width of the pictures.

        Returns:
            What a mask compares with its threshold, float32 [B, H, W, 1], and the probability of each of the model's
            channels, [B, H, W, K], both in [0, 1] or NaN.
        """
        foreground = masking.clean(self._probability_at(outputs, tf.constant(size)), self._spec.clean)
        return foreground, self._geometry.to_image(self._activate(outputs), tf.constant(size))

    # Pixels in, pixels out.

    def _answer_pixels(self, product: str, images: tf.Tensor, threshold: tf.Tensor | None) -> Mapping[str, tf.Tensor]:
        images = _checked_images(images)
        if threshold is not None:
            threshold = _checked_vector(threshold, _THRESHOLDS_WANTED)
        with tf.control_dependencies(self._pixel_checks(images, threshold)):
            images = tf.identity(images)
        size = tf.shape(images)[1:3]
        outputs = self._run_on_batch(self.input_of_pixels(images))
        if product == contract.CLASS_MAP:
            answer = self._geometry.most_probable(self._activate(outputs), size, self.class_map_dtype)
            return {product: answer}
        probability = self._probability_at(outputs, size)
        if product == contract.PROBABILITY:
            return {product: probability}
        if threshold is None:
            threshold = tf.constant(self._spec.threshold)
        cleaned = masking.clean(probability, self._spec.clean)
        if product == contract.MASK:
            return {product: create_binary_mask(cleaned, threshold, dtype=tf.as_dtype(self._spec.mask_dtype))}
        alpha = self._alpha(cleaned, threshold)
        background = "black" if self._spec.background == "transparent" else self._spec.background
        return {product: masking.compose(images, alpha, background, self._spec.full_scale)}

    def input_of_pixels(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what the model is given for [B, H, W, C] pixels, float32 [B, h, w, its channels]."""
        return self._scaling(self._geometry.to_model(images), self._spec.full_scale)

    def _run_on_batch(self, inputs: tf.Tensor) -> tf.Tensor:
        """Runs the model on [B, h, w, C]; on a black picture where B is 0, since its kernels may fail on none."""
        count = tf.shape(inputs)[0]
        black = tf.concat([[1], tf.shape(inputs)[1:]], 0)
        some = tf.cond(count > 0, lambda: inputs, lambda: tf.zeros(black))
        some.set_shape(inputs.shape)
        return self.forward(some)[:count]

    def _pixel_checks(self, images: tf.Tensor, threshold: tf.Tensor | None) -> list[tf.Operation]:
        shape = tf.shape(images)
        is_image = (shape[3] <= 4) & tf.reduce_all(shape[1:] >= 1)
        checks = [tf.debugging.Assert(is_image, [f"{_IMAGES_WANTED}; got shape", shape], summarize=4)]
        if isinstance(self._geometry, AtImageSize):
            limit = self._geometry.max_pixels
            pixels = tf.reduce_prod(tf.cast(shape[1:3], tf.int64))
            text = f"image must have at most {limit} pixels (max_model_pixels); got shape"
            checks.append(tf.debugging.Assert(pixels <= limit, [text, shape], summarize=4))
        if threshold is not None:
            text = "threshold must have one value for each image; got shapes"
            checks.append(tf.debugging.Assert(tf.shape(threshold)[0] == shape[0], [text, tf.shape(threshold), shape]))
            text = "threshold must be in [0, 1]; got"
            in_range = tf.reduce_all((threshold >= 0) & (threshold <= 1))  # False for NaN
            checks.append(tf.debugging.Assert(in_range, [text, threshold]))
        return checks

    def _alpha(self, probability: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        if self._spec.edge == "soft":
            return probability
        return create_binary_mask(probability, threshold, dtype=tf.bool)

    # Encoded pictures in, PNG out.

    def _answer_encoded(self, product: str, data: tf.Tensor, threshold: tf.Tensor | None) -> Mapping[str, tf.Tensor]:
        data = _checked_vector(data, _FILES_WANTED)
        count = tf.size(data)
        if threshold is None:
            threshold = tf.fill([count], self._spec.threshold)
        else:
            threshold = _checked_vector(threshold, _THRESHOLDS_WANTED)
            text = "threshold must have one value for each image; got lengths"
            fits = tf.size(threshold) == count
            with tf.control_dependencies([tf.debugging.Assert(fits, [text, tf.size(threshold), count])]):
                threshold = tf.identity(threshold)
        answer = self._answer_in_one_pass if self._geometry.model_size is None else self._answer_in_two_passes
        encoded, errors = answer(product, data, threshold)
        if self._spec.bad_image == "fail":
            text = "bad image in the request (this export fails on them):"
            is_good = tf.reduce_all(tf.equal(errors, ""))
            with tf.control_dependencies([tf.debugging.Assert(is_good, [text, errors], summarize=64)]):
                encoded = tf.identity(encoded)
        return {f"{product}_bytes": encoded, contract.ERROR: errors}

    def _read(self, data: tf.Tensor, threshold: tf.Tensor) -> Picture:
        """Decodes one picture and adds the threshold's error to its own."""
        picture = Picture(*self._decode(data))
        text = tf.strings.join(
            [f"{contract.ERROR_BAD_THRESHOLD}: ", tf.strings.as_string(threshold), " is not in [0, 1]"]
        )
        is_good = (threshold >= 0) & (threshold <= 1)  # False for NaN
        error = tf.where(tf.equal(picture.error, "") & ~is_good, text, picture.error)
        return picture._replace(error=error)

    def cleaned_probability(self, data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what the mask of one encoded picture compares with its threshold.

        Args:
            data: string scalar.

        Returns:
            float32 [H, W] at the upright picture's size, empty where it is bad, and its error.
        """
        picture = Picture(*self._decode(data))

        def answer() -> tf.Tensor:
            outputs = self.forward(self._model_input(picture))
            probability = self._probability_at(outputs, tf.shape(picture.image)[:2])
            return masking.clean(probability, self._spec.clean)[0, :, :, 0]

        nothing = tf.zeros(tf.constant([0, 0]))
        return tf.cond(tf.equal(picture.error, ""), answer, lambda: nothing), picture.error

    def input_of_file(self, data: tf.Tensor) -> tuple[tf.Tensor, tuple[int, int]]:
        """Returns what the model is given for one good encoded picture, [1, h, w, C], and the picture's size.

        Only eagerly.
        """
        picture = Picture(*self._decode(data))
        return self._model_input(picture), (picture.image.shape[0], picture.image.shape[1])

    def _model_input(self, picture: Picture) -> tf.Tensor:
        """Returns float32 [1, h, w, C]."""
        return self._scaling(self._geometry.to_model(picture.image[tf.newaxis]), picture.full_scale)

    def _answer_in_one_pass(self, product: str, data: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a model that takes any size picture by picture, so that none is padded to a batch-mate's size."""

        def step(index: tf.Tensor, encoded: tf.TensorArray, errors: tf.TensorArray) -> tuple[Any, ...]:
            picture = self._read(data[index], threshold[index])
            nothing = tf.constant(b"")

            def answer(image: tf.Tensor, full_scale: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
                good = Picture(image, full_scale, tf.constant(""))
                outputs = self.forward(self._model_input(good))
                return self._encode(product, outputs, tf.shape(image)[:2], threshold, lambda: good)

            # A network may fail on sizes that it was not made for, such as fewer pixels than it halves them.
            png_bytes = tf.cond(
                tf.equal(picture.error, ""),
                lambda: isolate(answer, (picture.image, picture.full_scale, threshold[index]), lambda: nothing),
                lambda: nothing,
            )
            size = tf.strings.as_string(tf.shape(picture.image))
            text = tf.strings.join(
                [f"{contract.ERROR_CANNOT_BE_DECODED}: the model fails on a picture of ", size[0], "x", size[1]]
            )
            is_failure = tf.equal(picture.error, "") & tf.equal(png_bytes, "")
            error = tf.where(is_failure, text, picture.error)
            return index + 1, encoded.write(index, png_bytes), errors.write(index, error)

        count = tf.size(data)
        arrays = [tf.TensorArray(tf.string, count, element_shape=[]) for _ in range(2)]
        _, encoded, errors = tf.while_loop(
            lambda index, *_: index < count, step, (0, *arrays), parallel_iterations=_PARALLEL_PICTURES
        )
        return encoded.stack(), errors.stack()

    def _answer_in_two_passes(self, product: str, data: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a model of a fixed size once for all pictures: decode each, one forward pass, encode each."""
        count = tf.size(data)
        needs_image = product == contract.MASKED_IMAGE
        height, width = self._geometry.model_size or (0, 0)
        input_shape = [height, width, self._model.channels]

        def read(index: tf.Tensor, inputs: Any, sizes: Any, errors: Any, scales: Any, *kept: Any) -> Any:
            picture = self._read(data[index], threshold[index])
            model_input = tf.cond(
                tf.equal(picture.error, ""),
                lambda: tf.ensure_shape(self._model_input(picture)[0], input_shape),
                lambda: tf.zeros(input_shape),
            )
            size = tf.shape(picture.image)[:2]
            written = [
                inputs.write(index, model_input),
                sizes.write(index, size),
                errors.write(index, picture.error),
                scales.write(index, picture.full_scale),
            ]
            for array in kept:
                is_kept = tf.reduce_prod(size) <= _KEPT_PIXELS // tf.maximum(count, 1)
                image = tf.cond(is_kept, lambda: picture.image, lambda: picture.image[:0])
                written.append(array.write(index, image))
            return index + 1, *written

        arrays = [
            # One that nothing is written to is black: kernels of models may fail on no pictures.
            tf.TensorArray(tf.float32, tf.maximum(count, 1), element_shape=input_shape),
            tf.TensorArray(tf.int32, count, element_shape=[2]),
            tf.TensorArray(tf.string, count, element_shape=[]),
            tf.TensorArray(tf.float32, count, element_shape=[]),
        ]
        if needs_image:
            arrays.append(
                tf.TensorArray(self._decoder.dtype, count, element_shape=[None, None, None], infer_shape=False)
            )
        _, inputs, sizes, errors, scales, *kept = tf.while_loop(
            lambda index, *_: index < count, read, (0, *arrays), parallel_iterations=_PARALLEL_PICTURES
        )
        # Stacking copies; one picture alone need not be.
        batch = tf.cond(count <= 1, lambda: inputs.read(0)[tf.newaxis], inputs.stack)
        outputs = self.forward(batch)
        sizes, errors, scales = sizes.stack(), errors.stack(), scales.stack()

        def picture_again(index: tf.Tensor) -> Picture:
            image = kept[0].read(index)
            image = tf.cond(tf.shape(image)[0] > 0, lambda: image, lambda: Picture(*self._decode(data[index])).image)
            return Picture(image, scales[index], errors[index])

        def write(index: tf.Tensor, encoded: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            png_bytes = tf.cond(
                tf.equal(errors[index], ""),
                lambda: self._encode(
                    product,
                    outputs[index : index + 1],
                    sizes[index],
                    threshold[index],
                    lambda: picture_again(index),
                ),
                lambda: tf.constant(b""),
            )
            return index + 1, encoded.write(index, png_bytes)

        encoded = tf.TensorArray(tf.string, count, element_shape=[])
        _, encoded = tf.while_loop(
            lambda index, _: index < count, write, (0, encoded), parallel_iterations=_PARALLEL_PICTURES
        )
        return encoded.stack(), errors

    def _encode(
        self,
        product: str,
        outputs: tf.Tensor,
        size: tf.Tensor,
        threshold: tf.Tensor,
        picture: Callable[[], Picture],
    ) -> tf.Tensor:
        """Returns one picture's product as PNG, from the model's outputs [1, h', w', K]."""
        if product == contract.CLASS_MAP:
            return png.encode(self._geometry.most_probable(self._activate(outputs), size, self.class_map_dtype)[0])
        probability = self._probability_at(outputs, size)
        if product == contract.PROBABILITY:
            return png.encode(png.probability_as_uint16(probability)[0])
        cleaned = masking.clean(probability, self._spec.clean)
        if product == contract.MASK:
            return png.encode(png.mask_as_uint8(create_binary_mask(cleaned, threshold, dtype=tf.bool))[0])
        image, full_scale, _ = picture()
        alpha = self._alpha(cleaned, threshold)[0]
        if self._spec.background == "transparent":
            return png.encode_like(masking.cut_out(image, alpha, full_scale), full_scale)
        return png.encode_like(masking.compose(image, alpha, self._spec.background, full_scale), full_scale)


def _checked_images(images: tf.Tensor) -> tf.Tensor:
    """Returns pixels as [B, H, W, C], once their rank is known to be 4; an empty list is one of no pictures."""
    images = _of_any_shape(images)
    shape = tf.shape(images)
    # JSON says of no pictures only that there are none.
    is_bare_list = tf.equal(tf.size(shape), 1) & tf.equal(tf.size(images), 0)
    shape = tf.concat([shape, tf.zeros([3 * tf.cast(is_bare_list, tf.int32)], tf.int32)], 0)
    with tf.control_dependencies([_rank_check(shape, 4, _IMAGES_WANTED)]):
        shape = tf.identity(shape)
    # Of no pictures none lacks pixels.
    least = tf.where(tf.equal(shape[:1], 0), [0, 1, 1, 1], [0, 0, 0, 0])
    return tf.ensure_shape(tf.reshape(images, tf.maximum(shape, least)), [None] * 4)


def _checked_vector(values: tf.Tensor, wanted: str) -> tf.Tensor:
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
