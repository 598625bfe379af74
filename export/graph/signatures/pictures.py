"""From encoded pictures to such."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ....serving import contract
from ...spec import FULL_SCALE
from .. import masking
from ..files import jpeg, png
from ..files.decoding import Decoder, Picture, isolate
from ..maps.resizing import View
from .inputs import FILES_WANTED, THRESHOLDS_WANTED, checked_vector, is_threshold
from .steps import Steps, shared

_TEXT = tf.TensorSpec([], tf.string)
_PARALLEL_PICTURES = 4
"""How many pictures of a request are decoded or encoded at once: bounds memory, whatever the batch."""
_KEPT_PIXELS = 16_000_000
"""Decoded pixels of a request that are kept until they are needed again; beyond, they are decoded twice."""


class PictureAnswers:
    """The signatures that take pictures as files, strings [B]."""

    def __init__(self, steps: Steps):
        self._steps = steps
        self._decoder = Decoder(steps.spec, steps.channels, steps.geometry)
        self._decode = tf.function(
            self._decode_fitting,
            input_signature=[_TEXT, tf.TensorSpec([], tf.bool)],
            autograph=False,
        )
        self._answer_of = shared(
            self._answer_in_one_pass if steps.geometry.model_size is None else self._answer_in_two_passes
        )

    def answer(self, product: str, data: tf.Tensor, threshold: tf.Tensor | None) -> Mapping[str, tf.Tensor]:
        """Returns a signature's answer to its inputs, unchecked ones; a threshold of None is the spec's."""
        data = checked_vector(data, FILES_WANTED)
        count = tf.size(data)
        if threshold is None:
            threshold = tf.fill([count], self._steps.spec.threshold)
        else:
            threshold = checked_vector(threshold, THRESHOLDS_WANTED)
            text = "threshold must have one value for each image; got lengths"
            fits = tf.size(threshold) == count
            with tf.control_dependencies([tf.debugging.Assert(fits, [text, tf.size(threshold), count])]):
                threshold = tf.identity(threshold)
        encoded, errors = self._answer_of(product)(data, threshold)
        if self._steps.spec.bad_image == "fail":
            text = "bad image in the request (this export fails on them):"
            is_good = tf.reduce_all(tf.equal(errors, ""))
            with tf.control_dependencies([tf.debugging.Assert(is_good, [text, errors], summarize=64)]):
                encoded = tf.identity(encoded)
        return {f"{product}_bytes": encoded, contract.ERROR: errors}

    def _decode_fitting(self, data: tf.Tensor, is_for_model: tf.Tensor) -> Picture:
        """Decodes one picture, in which the error is also that it is too large for the model."""
        picture = self._decoder.decode(data, is_for_model)
        refused = self._steps.geometry.refuse(tf.maximum(picture.view.size, 1))
        if refused is None:
            return picture
        return picture.refused_for(refused)

    def _read(self, product: str, data: tf.Tensor, threshold: tf.Tensor) -> Picture:
        """Decodes one picture, whole if the product shows it; its error may be the threshold's or the product's."""
        picture = Picture(*self._decode(data, product not in contract.MASKED_IMAGES))
        if product == contract.MASKED_IMAGE_JPEG:
            edge = tf.reduce_max(picture.view.size)
            words = [f"{contract.ERROR_TOO_LARGE}: ", tf.strings.as_string(edge), f" > {jpeg.MAX_EDGE}, a JPEG's edge"]
            picture = picture.refused_for(tf.where(edge > jpeg.MAX_EDGE, tf.strings.join(words), ""))
        text = tf.strings.join(
            [f"{contract.ERROR_BAD_THRESHOLD}: ", tf.strings.as_string(threshold), " is not in [0, 1]"]
        )
        return picture.refused_for(tf.where(is_threshold(threshold), "", text))

    def reader(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Returns a graph of what the mask of one encoded picture (a string scalar) compares with its threshold.

        That is float32 [H, W] at the upright picture's size, empty where it is bad; and its error.
        """

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
        def read(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            picture = Picture(*self._decode(data, True))

            def answer() -> tf.Tensor:
                outputs = self._steps.forward(self._input_of(picture))
                return self._steps.answers.cleaned(outputs, picture.view.size)[0, :, :, 0]

            nothing = tf.zeros(tf.constant([0, 0]))
            return tf.cond(tf.equal(picture.error, ""), answer, lambda: nothing), picture.error

        return read

    def model_input(self, data: tf.Tensor) -> tuple[tf.Tensor, tuple[int, int]]:
        """Returns, eagerly, what the model is given for a good encoded picture, and that one's height and width.

        That is float32 [1, h, w, C]; or [2, h, w, C] where it is another for products that show the picture itself.
        """
        pictures = [Picture(*self._decode(data, is_for_model)) for is_for_model in (True, False)]
        used = pictures[: len({picture.image.shape[:2] for picture in pictures})]
        height, width = pictures[0].view.size.numpy()
        return tf.concat([self._input_of(picture) for picture in used], 0), (int(height), int(width))

    def _input_of(self, picture: Picture) -> tf.Tensor:
        """Returns float32 [1, h, w, C]."""
        return self._steps.model_input(picture.image[tf.newaxis], picture.view, picture.full_scale)

    def _answer_in_one_pass(self, product: str, data: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a model that takes any size picture by picture, so that none is padded to a batch-mate's size."""

        def step(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            at = tf.gather(threshold, index)
            picture = self._read(product, tf.gather(data, index), at)
            nothing = tf.constant(b"")

            def answer(image: tf.Tensor, full_scale: tf.Tensor, threshold: tf.Tensor, *view: tf.Tensor) -> tf.Tensor:
                good = Picture(image, full_scale, tf.constant(""), View(*view))
                outputs = self._steps.forward(self._input_of(good))
                return self._encode(product, outputs, good.view.size, threshold, lambda: good)

            # A network may fail on sizes that it was not made for, such as fewer pixels than it halves them.
            arguments = (picture.image, picture.full_scale, at, *picture.view)
            png_bytes = tf.cond(
                tf.equal(picture.error, ""),
                lambda: isolate(answer, arguments, lambda: nothing),
                lambda: nothing,
            )
            size = tf.strings.as_string(picture.view.size)
            text = tf.strings.join(
                [
                    f"{contract.ERROR_CANNOT_BE_DECODED}: the model fails on a picture of ",
                    tf.strings.reduce_join(size, separator="x"),
                ]
            )
            is_failure = tf.equal(picture.error, "") & tf.equal(png_bytes, "")
            return png_bytes, tf.where(is_failure, text, picture.error)

        return _for_each(step, tf.size(data), (_TEXT, _TEXT))

    def _answer_in_two_passes(self, product: str, data: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a model of a fixed size once for all pictures: decode each, one forward pass, encode each."""
        count = tf.size(data)
        needs_image = product in contract.MASKED_IMAGES
        height, width = self._steps.geometry.model_size or (0, 0)
        input_shape = [height, width, self._steps.channels]

        def read(index: tf.Tensor, inputs: Any, sizes: Any, errors: Any, scales: Any, *kept: Any) -> Any:
            picture = self._read(product, tf.gather(data, index), tf.gather(threshold, index))
            model_input = tf.cond(
                tf.equal(picture.error, ""),
                lambda: tf.ensure_shape(self._input_of(picture)[0], input_shape),
                lambda: tf.zeros(input_shape),
            )
            size = picture.view.size
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
        outputs = self._steps.forward(batch)
        sizes, errors, scales = sizes.stack(), errors.stack(), scales.stack()

        def picture_again(index: tf.Tensor) -> Picture:
            image = kept[0].read(index)
            again = lambda: Picture(*self._decode(tf.gather(data, index), False)).image  # noqa: E731
            image = tf.cond(tf.shape(image)[0] > 0, lambda: image, again)
            return Picture(
                image, tf.gather(scales, index), tf.gather(errors, index), View.whole(tf.gather(sizes, index))
            )

        def write(index: tf.Tensor) -> tf.Tensor:
            def encode() -> tf.Tensor:
                one = outputs[index : index + 1]
                return self._encode(
                    product, one, tf.gather(sizes, index), tf.gather(threshold, index), lambda: picture_again(index)
                )

            return tf.cond(tf.equal(tf.gather(errors, index), ""), encode, lambda: tf.constant(b""))

        return _for_each(write, count, _TEXT), errors

    def _encode(
        self, product: str, outputs: tf.Tensor, size: tf.Tensor, threshold: tf.Tensor, picture: Callable[[], Picture]
    ) -> tf.Tensor:
        """Returns one picture's product as a file, from the model's outputs [1, h', w', K]."""
        if product == contract.CLASS_MAP:
            return png.encode(self._steps.answers.class_map(outputs, size)[0])
        if product == contract.PROBABILITY:
            return png.encode(png.probability_as_uint16(self._steps.answers.probability(outputs, size))[0])
        if product == contract.MASK:
            if self._steps.spec.mask_png_bits == 1:
                return png.encode_bits(self._steps.answers.mask_bits(outputs, size, threshold)[0], size[1])
            return png.encode(self._steps.answers.mask(outputs, size, threshold, tf.uint8)[0] * 255)
        image, full_scale, *_ = picture()
        alpha = self._steps.alpha(outputs, size, threshold)[0]
        if product == contract.MASKED_IMAGE_JPEG:
            compose = masking.compose_opaque if self._steps.channels == 4 else masking.compose
            shown = compose(jpeg.as_bytes(image, full_scale), alpha, self._steps.spec.background, FULL_SCALE["uint8"])
            return jpeg.encode(shown, self._steps.spec.jpeg_quality)
        if self._steps.spec.background == "transparent":
            return png.encode_like(masking.cut_out(image, alpha, full_scale), full_scale)
        shown = masking.compose(image, alpha, self._steps.spec.background, full_scale)
        return png.encode_like(self._decoder.as_file(shown, full_scale), full_scale)


def _for_each(step: Callable[[tf.Tensor], Any], count: tf.Tensor, answers: Any) -> Any:
    """Runs a step for the index of each picture, several at once; returns its answers, stacked."""
    unconverted = tf.autograph.experimental.do_not_convert(step)  # else AutoGraph rewrites all that makes its ops
    return tf.map_fn(unconverted, tf.range(count), fn_output_signature=answers, parallel_iterations=_PARALLEL_PICTURES)
