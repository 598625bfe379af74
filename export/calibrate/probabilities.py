"""The probabilities that an export would threshold, of pictures on disk, from the model in this process."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...serving import contract
from ..errors import CalibrationError
from ..exporter import Plan
from ..model.causes import cause_of
from ..model.choices import resolve_foreground
from ..model.rasters import ENDINGS, read_raster
from ..model.tracing import without_fusion
from ..spec import ExportSpec


class ProbabilityReader:
    """Runs the model of a spec on files: decoded, resized, scaled, activated and cleaned as by its export.

    Attributes:
        classes: how many output channels the model has.
        foreground: indices of those that the probability is of.

    Raises:
        ExportError: the source or the spec is not good.
        CalibrationError: the model answers class indices, of which no threshold makes masks.
    """

    def __init__(self, spec: ExportSpec):
        # The plan checks spec and model against each other, as mask-export does; its cheapest signature will do.
        plan = Plan.make(spec.model_copy(update={"signatures": [contract.EXPORT_INFO], "warmup_signatures": None}))
        if plan.model.answers_classes:
            raise CalibrationError(
                f"source {spec.source}: answers class indices; its masks have no threshold to choose"
            )
        self.classes = plan.model.output_channels
        self.foreground = resolve_foreground(spec, plan.model)
        self._form = plan.model.channels, spec.image_dtype
        self._takes_bands = plan.model.takes_bands
        self._read_pixels = plan.module.pixels.reader()
        self._read_file = None if self._takes_bands else plan.module.pictures.reader()

    def read(self, path: Path) -> npt.NDArray[np.float32]:
        """Returns a picture's probability of foreground, [H, W] upright; CalibrationError where that fails.

        TIFF and .npy files are read as pixels; where they have no data, the probability is 0.
        """
        try:
            with without_fusion():  # what an export saves is protected from it, what is traced here is not
                if self._read_file is None or path.suffix.lower() in ENDINGS:
                    return self._read_raster(path)
                probability, error = self._read_file(tf.constant(path.read_bytes()))
        except OSError as failure:
            raise CalibrationError(f"picture {path}: cannot be read: {failure.strerror}") from failure
        except tf.errors.OpError as failure:
            raise CalibrationError(f"picture {path}: the model fails on it: {cause_of(failure)}") from failure
        if error.numpy():
            raise CalibrationError(f"picture {path}: {error.numpy().decode()}")
        values: npt.NDArray[np.float32] = probability.numpy()
        return values

    def _read_raster(self, path: Path) -> npt.NDArray[np.float32]:
        if path.suffix.lower() not in ENDINGS:
            takes = f"the model takes {self._form[0]} bands, of {', '.join(ENDINGS)} files"
            raise CalibrationError(f"picture {path}: is no raster of bands; {takes}")
        try:
            pixels, missing = read_raster(path, *self._form)
        except ValueError as failure:
            raise CalibrationError(f"picture {path}: {failure}") from failure
        values: npt.NDArray[np.float32] = self._read_pixels(tf.constant(pixels)).numpy()
        return np.where(missing, np.float32(0), values)
