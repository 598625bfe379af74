"""The tf.Module that is saved: one signature for each product, from pixels and from encoded pictures.

One way for data: decode, turn upright, resize, scale, model, activation, foreground, resize to the image's
size, clean, threshold. Every signature runs through the same steps, and the model is traced once.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from ...serving import contract
from ..model.segmentation_model import SegmentationModel
from ..spec import FULL_SCALE, ExportSpec
from . import masking
from .answers import Answers
from .files import jpeg, png
from .files.decoding import Decoder, Picture, isolate
from .inputs import FILES_WANTED, THRESHOLDS_WANTED, checked_pixels, checked_vector, is_threshold
from .maps.geometry import make_geometry
from .maps.resizing import View
from .scaling import ValueScaling

_TEXT = tf.TensorSpec([], tf.string)
_PARALLEL_PICTURES = 4
"""How many pictures of a request are decoded or encoded at once: bounds memory, whatever the batch."""
_KEPT_PIXELS = 16_000_000
"""Decoded pixels of a request that are kept until they are needed again; beyond, they are decoded twice."""


class MaskModule(tf.Module):
    """A segmentation model with the signatures of `serving.contract`; SpecError where the spec does not fit it.

    Of several channels of the foreground probabilities are added, if they exclude each other, or the largest is taken.
    A model without a fixed size takes `min_edge` pixels in height and width at least. `class_count` is how many class
    indices there may be; as many as output channels unless it is given.

    Attributes:
        answers: what the model's outputs say of pictures.
        takes_bands: whether the model takes rasters of bands: there are no signatures for encoded pictures.
        info: the text that `export_info` answers; to be set before that is traced.
    """

    def __init__(
        self,
        model: SegmentationModel,
        spec: ExportSpec,
        foreground: list[int],
        adds_foreground: bool,
        min_edge: int = 1,
        class_count: int | None = None,
    ):
        super().__init__(name="maskport")
        self._state = model.trackable
        self.spec = spec
        self.channels, self.takes_bands = model.channels, model.takes_bands
        self._bands = model.channels if model.takes_bands else None  # of every raster; pictures may have others
        self._geometry = make_geometry(spec, model, min_edge)
        self._scaling = ValueScaling(spec, model)
        self.info = ""
        self._trace = functools.cache(self._trace_once)
        self._answer = functools.cache(self._answer_once)
        self._decoder = Decoder(spec, model.channels, self._geometry)
        self.answers = Answers(
            spec,
            self._geometry,
            foreground,
            adds_foreground,
            model.answers_classes,
            class_count or model.output_channels,
        )
        size = self._geometry.model_size or (None, None)
        # As attributes the saver would trace and save these once more, each on its own; a partial hides them from it.
        self.forward = functools.partial(
            tf.function(
                model.forward,
                input_signature=[tf.TensorSpec([None, *size, model.channels], tf.float32, name="model_input")],
                autograph=False,
            )
        )
        self._decode = functools.partial(
            tf.function(
                self._decode_fitting,
                input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.bool)],
                autograph=False,
            )
        )

    def signatures(self, names: list[str]) -> dict[str, Any]:
        """Returns a concrete function for each of some signatures, by name."""
        signatures = {name: contract.SIGNATURES[name] for name in names}
        # serving_default is mask itself.
        return {name: self._trace(signature.product, signature.inputs) for name, signature in signatures.items()}

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that the model runs at; None where that is the image's."""
        return self._geometry.model_size

    def _trace_once(self, product: str, inputs: tuple[str, ...]) -> Any:
        specs = {
            contract.IMAGE: tf.TensorSpec([None, None, None, self._bands], self.spec.image_dtype, name=contract.IMAGE),
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

    def _answer_once(self, product: str, answer: Callable[..., Any]) -> Callable[[tf.Tensor, tf.Tensor], Any]:
        """Returns a way to a product as a function, which the signatures with and without thresholds share."""

        @tf.function(autograph=False)
        def shared(images: tf.Tensor, threshold: tf.Tensor) -> Any:
            return answer(product, images, threshold)

        return shared

    def _export_info(self, query: tf.Tensor) -> Mapping[str, tf.Tensor]:
        query = checked_vector(query, "query must be a list of strings, shape [B]")
        return {contract.INFO: tf.fill(tf.shape(query), self.info)}

    def forward_alone(self) -> tf.Module:
        """Returns a module that can be saved, of nothing but the model's `forward`."""
        alone = tf.Module()
        alone.state, alone.forward = self._state, self.forward.func
        return alone

    # Pixels in, pixels out.

    def _answer_pixels(self, product: str, images: tf.Tensor, threshold: tf.Tensor | None) -> Mapping[str, tf.Tensor]:
        images, threshold = checked_pixels(images, threshold, self._geometry.max_pixels, self._bands)
        if threshold is None:
            threshold = tf.fill(tf.shape(images)[:1], self.spec.threshold)
        return {product: self._answer(product, self._answer_checked_pixels)(images, threshold)}

    def _answer_checked_pixels(self, product: str, images: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        """Returns a product of [B, H, W, C] at thresholds [B]."""
        size = tf.shape(images)[1:3]
        outputs = self._run_on_batch(self.input_of_pixels(images))
        if product == contract.CLASS_MAP:
            return self.answers.class_map(outputs, size)
        if product == contract.PROBABILITY:
            return self.answers.probability(outputs, size)
        if product == contract.MASK:
            return self.answers.mask(outputs, size, threshold, tf.as_dtype(self.spec.mask_dtype))
        alpha = self._alpha(outputs, size, threshold)
        background = "black" if self.spec.background == "transparent" else self.spec.background
        return masking.compose(images, alpha, background, self.spec.full_scale)

    def input_of_pixels(self, images: tf.Tensor) -> tf.Tensor:
        """Returns what the model is given for [B, H, W, C] pixels, float32 [B, h, w, its channels]."""
        refused = self._geometry.refuse(tf.shape(images)[1:3])
        if refused is not None:
            with tf.control_dependencies([tf.debugging.Assert(tf.equal(refused, ""), ["image", refused])]):
                images = tf.identity(images)
        return self._scaling(self._geometry.to_model(images), self.spec.full_scale)

    def pixel_reader(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """Returns a graph of what the mask of pixels, [H, W, C] as signatures take them, compares with its threshold.

        That is float32 [H, W].
        """
        spec = tf.TensorSpec([None, None, self._bands], self.spec.image_dtype)

        @tf.function(input_signature=[spec], autograph=False)
        def read(image: tf.Tensor) -> tf.Tensor:
            images, _ = checked_pixels(image[tf.newaxis], None, self._geometry.max_pixels, self._bands)
            return self.answers.cleaned(self.forward(self.input_of_pixels(images)), tf.shape(image)[:2])[0, :, :, 0]

        return read

    def _run_on_batch(self, inputs: tf.Tensor) -> tf.Tensor:
        """Runs the model on [B, h, w, C]; on a black picture where B is 0, since its kernels may fail on none."""
        count = tf.shape(inputs)[0]
        black = tf.concat([[1], tf.shape(inputs)[1:]], 0)
        some = tf.cond(count > 0, lambda: inputs, lambda: tf.zeros(black))
        some.set_shape(inputs.shape)
        return self.forward(some)[:count]

    def _alpha(self, outputs: tf.Tensor, size: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
        if self.spec.edge == "soft":
            return self.answers.cleaned(outputs, size)
        return self.answers.mask(outputs, size, threshold, tf.bool)

    # Encoded pictures in, such out.

    def _answer_encoded(self, product: str, data: tf.Tensor, threshold: tf.Tensor | None) -> Mapping[str, tf.Tensor]:
        data = checked_vector(data, FILES_WANTED)
        count = tf.size(data)
        if threshold is None:
            threshold = tf.fill([count], self.spec.threshold)
        else:
            threshold = checked_vector(threshold, THRESHOLDS_WANTED)
            text = "threshold must have one value for each image; got lengths"
            fits = tf.size(threshold) == count
            with tf.control_dependencies([tf.debugging.Assert(fits, [text, tf.size(threshold), count])]):
                threshold = tf.identity(threshold)
        answer = self._answer_in_one_pass if self._geometry.model_size is None else self._answer_in_two_passes
        encoded, errors = self._answer(product, answer)(data, threshold)
        if self.spec.bad_image == "fail":
            text = "bad image in the request (this export fails on them):"
            is_good = tf.reduce_all(tf.equal(errors, ""))
            with tf.control_dependencies([tf.debugging.Assert(is_good, [text, errors], summarize=64)]):
                encoded = tf.identity(encoded)
        return {f"{product}_bytes": encoded, contract.ERROR: errors}

    def _decode_fitting(self, data: tf.Tensor, is_for_model: tf.Tensor) -> Picture:
        """Decodes one picture, in which the error is also that it is too large for the model."""
        picture = self._decoder.decode(data, is_for_model)
        refused = self._geometry.refuse(tf.maximum(picture.view.size, 1))
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

    def file_reader(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Returns a graph of what the mask of one encoded picture (a string scalar) compares with its threshold.

        That is float32 [H, W] at the upright picture's size, empty where it is bad; and its error.
        """

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
        def read(data: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            picture = Picture(*self._decode(data, True))

            def answer() -> tf.Tensor:
                outputs = self.forward(self._model_input(picture))
                return self.answers.cleaned(outputs, picture.view.size)[0, :, :, 0]

            nothing = tf.zeros(tf.constant([0, 0]))
            return tf.cond(tf.equal(picture.error, ""), answer, lambda: nothing), picture.error

        return read

    def input_of_file(self, data: tf.Tensor) -> tuple[tf.Tensor, tuple[int, int]]:
        """Returns, eagerly, what the model is given for a good encoded picture, and that one's height and width.

        That is float32 [1, h, w, C]; or [2, h, w, C] where it is another for products that show the picture itself.
        """
        pictures = [Picture(*self._decode(data, is_for_model)) for is_for_model in (True, False)]
        used = pictures[: len({picture.image.shape[:2] for picture in pictures})]
        height, width = pictures[0].view.size.numpy()
        return tf.concat([self._model_input(picture) for picture in used], 0), (int(height), int(width))

    def _model_input(self, picture: Picture) -> tf.Tensor:
        """Returns float32 [1, h, w, C]."""
        return self._scaling(self._geometry.to_model(picture.image[tf.newaxis], picture.view), picture.full_scale)

    def _answer_in_one_pass(self, product: str, data: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a model that takes any size picture by picture, so that none is padded to a batch-mate's size."""

        def step(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            picture = self._read(product, data[index], threshold[index])
            nothing = tf.constant(b"")

            def answer(image: tf.Tensor, full_scale: tf.Tensor, threshold: tf.Tensor, *view: tf.Tensor) -> tf.Tensor:
                good = Picture(image, full_scale, tf.constant(""), View(*view))
                outputs = self.forward(self._model_input(good))
                return self._encode(product, outputs, good.view.size, threshold, lambda: good)

            # A network may fail on sizes that it was not made for, such as fewer pixels than it halves them.
            arguments = (picture.image, picture.full_scale, threshold[index], *picture.view)
            png_bytes = tf.cond(
                tf.equal(picture.error, ""),
                lambda: isolate(answer, arguments, lambda: nothing),
                lambda: nothing,
            )
            size = tf.strings.as_string(picture.view.size)
            text = tf.strings.join(
                [f"{contract.ERROR_CANNOT_BE_DECODED}: the model fails on a picture of ", size[0], "x", size[1]]
            )
            is_failure = tf.equal(picture.error, "") & tf.equal(png_bytes, "")
            return png_bytes, tf.where(is_failure, text, picture.error)

        return _for_each(step, tf.size(data), (_TEXT, _TEXT))

    def _answer_in_two_passes(self, product: str, data: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Runs a model of a fixed size once for all pictures: decode each, one forward pass, encode each."""
        count = tf.size(data)
        needs_image = product in contract.MASKED_IMAGES
        height, width = self._geometry.model_size or (0, 0)
        input_shape = [height, width, self.channels]

        def read(index: tf.Tensor, inputs: Any, sizes: Any, errors: Any, scales: Any, *kept: Any) -> Any:
            picture = self._read(product, data[index], threshold[index])
            model_input = tf.cond(
                tf.equal(picture.error, ""),
                lambda: tf.ensure_shape(self._model_input(picture)[0], input_shape),
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
        outputs = self.forward(batch)
        sizes, errors, scales = sizes.stack(), errors.stack(), scales.stack()

        def picture_again(index: tf.Tensor) -> Picture:
            image = kept[0].read(index)
            again = lambda: Picture(*self._decode(data[index], False)).image  # noqa: E731
            image = tf.cond(tf.shape(image)[0] > 0, lambda: image, again)
            return Picture(image, scales[index], errors[index], View.whole(sizes[index]))

        def write(index: tf.Tensor) -> tf.Tensor:
            def encode() -> tf.Tensor:
                one = outputs[index : index + 1]
                return self._encode(product, one, sizes[index], threshold[index], lambda: picture_again(index))

            return tf.cond(tf.equal(errors[index], ""), encode, lambda: tf.constant(b""))

        return _for_each(write, count, _TEXT), errors

    def _encode(
        self, product: str, outputs: tf.Tensor, size: tf.Tensor, threshold: tf.Tensor, picture: Callable[[], Picture]
    ) -> tf.Tensor:
        """Returns one picture's product as a file, from the model's outputs [1, h', w', K]."""
        if product == contract.CLASS_MAP:
            return png.encode(self.answers.class_map(outputs, size)[0])
        if product == contract.PROBABILITY:
            return png.encode(png.probability_as_uint16(self.answers.probability(outputs, size))[0])
        if product == contract.MASK:
            if self.spec.mask_png_bits == 1:
                return png.encode_bits(self.answers.mask_bits(outputs, size, threshold)[0], size[1])
            return png.encode(self.answers.mask(outputs, size, threshold, tf.uint8)[0] * 255)
        image, full_scale, *_ = picture()
        alpha = self._alpha(outputs, size, threshold)[0]
        if product == contract.MASKED_IMAGE_JPEG:
            compose = masking.compose_opaque if self.channels == 4 else masking.compose
            shown = compose(jpeg.as_bytes(image, full_scale), alpha, self.spec.background, FULL_SCALE["uint8"])
            return jpeg.encode(shown, self.spec.jpeg_quality)
        if self.spec.background == "transparent":
            return png.encode_like(masking.cut_out(image, alpha, full_scale), full_scale)
        return png.encode_like(masking.compose(image, alpha, self.spec.background, full_scale), full_scale)


def _for_each(step: Callable[[tf.Tensor], Any], count: tf.Tensor, answers: Any) -> Any:
    """Runs a step for the index of each picture, several at once; returns its answers, stacked."""
    unconverted = tf.autograph.experimental.do_not_convert(step)  # else AutoGraph rewrites all that makes its ops
    return tf.map_fn(unconverted, tf.range(count), fn_output_signature=answers, parallel_iterations=_PARALLEL_PICTURES)
