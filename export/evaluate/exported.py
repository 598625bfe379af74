"""An exported model, loaded as a server loads it, and what its signatures say of encoded pictures."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ...serving import contract
from ...serving.agreement import decode_png
from ..errors import EvaluationError
from ..graph import masking
from ..model.causes import cause_of
from ..spec import FULL_SCALE, Clean


class ExportedModel:
    """A version directory's SavedModel.

    Attributes:
        manifest: what `maskport.json` says.
        classes: names of the output channels, or their numbers.

    Args:
        version_dir: path or URL.

    Raises:
        EvaluationError: it does not load, was not exported by maskport, or gives no mask of an encoded picture.
    """

    def __init__(self, version_dir: str):
        self._version_dir = version_dir
        try:
            file = os.path.join(version_dir, contract.ASSETS_DIR, contract.MANIFEST_FILE)
            self.manifest: Mapping[str, Any] = json.loads(tf.io.gfile.GFile(file).read())
        except (tf.errors.OpError, OSError, ValueError) as error:
            raise EvaluationError(
                f"{version_dir}: is no export of maskport ({contract.MANIFEST_FILE} is missing or damaged)"
            ) from error
        try:
            self._saved = tf.saved_model.load(version_dir)  # its signatures live no longer than it does
        except Exception as error:
            raise EvaluationError(f"{version_dir}: does not load: {cause_of(error)}") from error
        self.require(contract.MASK)
        names = self.manifest["classes"]
        self.classes: list[str] = names or [str(at) for at in range(self.manifest["model"]["output_channels"])]

    def require(self, product: str) -> None:
        """Raises EvaluationError where no signature gives a product of encoded pictures."""
        name = contract.signature_name(product, encoded=True)
        if name in self._saved.signatures:
            return
        channels = self.manifest["model"]["channels"]
        way = f"of {channels} bands there is none, and labelled pictures are encoded ones"
        way = "export the model with it" if channels in (1, 3, 4) else way
        raise EvaluationError(f"{self._version_dir}: has no signature {name!r}: {way}")

    @property
    def answers_classes(self) -> bool:
        """Whether the model answers class indices, and so no probabilities."""
        return bool(self.manifest["model"].get("answers_classes"))

    @property
    def foreground(self) -> list[int]:
        """Numbers of the output channels that the mask is of."""
        return list(self.manifest["foreground"]["channels"])

    @property
    def threshold(self) -> float:
        """Above which a probability is foreground in its masks."""
        return float(self.manifest["threshold"])

    @property
    def has_class_map(self) -> bool:
        """Whether it tells classes apart."""
        return contract.signature_name(contract.CLASS_MAP, encoded=True) in self._saved.signatures

    def mask(self, image: bytes) -> npt.NDArray[np.bool_]:
        """Returns the mask of an encoded picture, [H, W] upright; EvaluationError where it is refused."""
        return self._answer(contract.MASK, image) > 0

    def probability(self, image: bytes) -> npt.NDArray[np.float32]:
        """Returns what masks are decided by, the probability of foreground as it is cleaned, 0 to 1; else as `mask`."""
        found = (self._answer(contract.PROBABILITY, image) / FULL_SCALE["uint16"]).astype(np.float32)
        radii = Clean(**self.manifest["spec"].get("clean", {}))
        return masking.clean(tf.constant(found[np.newaxis, ..., np.newaxis]), radii)[0, ..., 0].numpy()

    def class_map(self, image: bytes) -> npt.NDArray[np.int64]:
        """Returns numbers of the most probable classes; otherwise as `mask`."""
        return self._answer(contract.CLASS_MAP, image).astype(np.int64)

    def _answer(self, product: str, image: bytes) -> npt.NDArray[np.float64]:
        signature = contract.SIGNATURES[contract.signature_name(product, encoded=True)]
        try:
            answer = self._saved.signatures[signature.name](**{contract.IMAGE_BYTES: tf.constant([image])})
        except tf.errors.OpError as error:
            raise EvaluationError(f"the model fails on it: {cause_of(error)}") from error
        problem = answer[contract.ERROR][0].numpy()
        if problem:
            raise EvaluationError(problem.decode(errors="replace"))
        return decode_png(answer[signature.outputs[0]][0].numpy())
