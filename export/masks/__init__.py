"""The mask operations: thresholding, masking an image, and the loss over a mask.

Three functions of plain TensorFlow ops, for eager code, `tf.function`, Keras models and training, and their
Keras forms, which serialise. Models saved with these load again once this package has been imported.
"""

from .loss import MaskedLoss, masked_loss
from .operations import ApplyMask, BinaryMask, apply_mask_to_image, create_binary_mask

__all__ = [
    "ApplyMask",
    "BinaryMask",
    "MaskedLoss",
    "apply_mask_to_image",
    "create_binary_mask",
    "masked_loss",
]
