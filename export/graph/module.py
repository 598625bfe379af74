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
from ..spec import ExportSpec
from .answers import Answers
from .maps.geometry import make_geometry
from .scaling import ValueScaling
from .signatures.inputs import checked_vector
from .signatures.pictures import PictureAnswers
from .signatures.pixels import PixelAnswers
from .signatures.steps import Steps


class MaskModule(tf.Module):
    """A segmentation model with the signatures of `serving.contract`; SpecError where the spec does not fit it.

    Of several channels of the foreground probabilities are added, if they exclude each other, or the largest is taken.
    A model without a fixed size takes `min_edge` pixels in height and width at least. `class_count` is how many class
    indices there may be; as many as output channels unless it is given.

    Attributes:
        answers: what the model's outputs say of pictures.
        pixels: what signatures that take pixels do.
        pictures: what those do that take encoded pictures.
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
        self.info = ""
        self._trace = functools.cache(self._trace_once)
        self.answers = Answers(
            spec,
            self._geometry,
            foreground,
            adds_foreground,
            model.answers_classes,
            class_count or model.output_channels,
        )
        # Not the graph itself: as an attribute the saver would save it once more, on its own.
        self.forward, self._model = model.run, model
        steps = Steps(spec, model.channels, self._geometry, ValueScaling(spec, model), self.forward, self.answers)
        self.pixels, self.pictures = PixelAnswers(steps, self._bands), PictureAnswers(steps)

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) that the model runs at; None where that is the image's."""
        return self._geometry.model_size

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """Returns a picture's height and width, made smaller, or square, as far as the export's limits want it."""
        most = min(self.spec.max_image_pixels, self._geometry.max_pixels or self.spec.max_image_pixels)
        edges = [(max(1, height >> step), max(1, width >> step)) for step in range(max(height, width).bit_length())]
        for size in (one for height, width in edges for one in ((height, width), (min(height, width),) * 2)):
            refused = self._geometry.refuse(tf.constant(size))
            if size[0] * size[1] <= most and (refused is None or not refused.numpy()):
                return size
        return height, width

    def signatures(self, names: list[str]) -> dict[str, Any]:
        """Returns a concrete function for each of some signatures, by name."""
        signatures = {name: contract.SIGNATURES[name] for name in names}
        # serving_default is mask itself.
        return {name: self._trace(signature.product, signature.inputs) for name, signature in signatures.items()}

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
            answer = (self.pictures if contract.IMAGE_BYTES in inputs else self.pixels).answer

            def function(images: tf.Tensor, threshold: tf.Tensor | None = None) -> Mapping[str, tf.Tensor]:
                return answer(product, images, threshold)

        return tf.function(function, autograph=False).get_concrete_function(*(specs[name] for name in inputs))

    def _export_info(self, query: tf.Tensor) -> Mapping[str, tf.Tensor]:
        query = checked_vector(query, "query must be a list of strings, shape [B]")
        return {contract.INFO: tf.fill(tf.shape(query), self.info)}

    def forward_alone(self) -> tf.Module:
        """Returns a module that can be saved, of nothing but the model's `forward`."""
        alone = tf.Module()
        alone.state, alone.forward = self._state, self._model.traced
        return alone
