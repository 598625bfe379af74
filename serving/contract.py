"""What an exported model and its callers agree on: signatures, tensor names, files.

Stated once, for the exporter, the client and the verification gate. Nothing here imports TensorFlow.

Shapes, with B images of H×W pixels and C channels:

| tensor | shape | dtype | content |
|---|---|---|---|
| `image` | [B, H, W, C] | uint8, uint16 or float32 | pixels, 0 to the spec's `input_max` |
| `image_bytes` | [B] | string | encoded pictures of any sizes |
| `threshold` | [B] | float32 | 0 to 1, one for each image |
| `query` | [B] | string | anything; TensorFlow Serving refuses signatures without an input |
| `mask` | [B, H, W, 1] | float32, uint8 or bool | 1 where the probability is above the threshold |
| `masked_image` | [B, H, W, C] | the image's | the image where the mask is 1, else the background |
| `probability` | [B, H, W, 1] | float32 | 0 to 1 |
| `class_map` | [B, H, W, 1] | uint8, or uint16 above 256 classes | index of the most probable class |
| `…_bytes` | [B] | string | the same as PNG, at each upright picture's own size; empty where `error` is not |
| `masked_image_jpeg_bytes` | [B] | string | the masked image as JPEG, likewise |
| `error` | [B] | string | empty for a good image, else begins with one of `IMAGE_ERRORS` |
| `info` | [B] | string | the export's `maskport.json` |

A mask's PNG is gray, of 1 bit a pixel, or of 8 with the values 0 and 255 (the spec's `mask_png_bits`).
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

IMAGE = "image"
IMAGE_BYTES = "image_bytes"
THRESHOLD = "threshold"
QUERY = "query"
ERROR = "error"
INFO = "info"

MASK = "mask"
MASKED_IMAGE = "masked_image"
PROBABILITY = "probability"
CLASS_MAP = "class_map"
MASKED_IMAGE_JPEG = "masked_image_jpeg"
"""The masked image as a JPEG file: no pixels, and only of exports that were told to make it."""

PRODUCTS = (MASK, MASKED_IMAGE, PROBABILITY, CLASS_MAP, MASKED_IMAGE_JPEG)
"""What can be asked of a segmentation model, each by signatures of its own."""

MASKED_IMAGES = (MASKED_IMAGE, MASKED_IMAGE_JPEG)
"""The products that show the picture."""

IMAGE_CHANNELS = (1, 3, 4)
"""What a picture can have for a model: gray, RGB, RGBA. Files that servers decode hold no others."""
BAND_CHANNELS = (2, *range(5, 17))
"""What rasters of bands can have, for models that take such: they are sent as pixels."""

THRESHOLDED_PRODUCTS = (MASK, *MASKED_IMAGES)
"""The products that depend on the threshold; each has an `_at_threshold` signature too."""

EXPORT_INFO = "export_info"
DEFAULT_SIGNATURE = "serving_default"
"""TensorFlow Serving's name for the signature of a request that names none: here another name of `mask`."""

ERROR_EMPTY = "empty"
ERROR_UNKNOWN_FORMAT = "unknown format"
ERROR_TOO_LARGE = "too large"
ERROR_BAD_THRESHOLD = "bad threshold"
ERROR_CANNOT_BE_DECODED = "cannot be decoded"
IMAGE_ERRORS = (ERROR_EMPTY, ERROR_UNKNOWN_FORMAT, ERROR_TOO_LARGE, ERROR_BAD_THRESHOLD, ERROR_CANNOT_BE_DECODED)
"""How the text of an `error` output may begin."""

ASSETS_DIR = "assets.extra"
"""Folder of a version directory that TensorFlow Serving leaves to others, warm-up apart."""
WARMUP_FILE = "tf_serving_warmup_requests"
MANIFEST_FILE = "maskport.json"
GOLDEN_DIR = "golden"
"""Under `ASSETS_DIR`: `NAME.pb`, serialised PredictLogs (a request with the answer it must get)."""
GOLDEN_INDEX_FILE = "golden.json"
"""In `GOLDEN_DIR`: for each record its signature and each output's tolerance."""
BATCHING_FILE = "batching_params.pbtxt"
"""In the version directory itself; read under `--enable_per_model_batching_parameters`."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """One signature of an exported model."""

    name: str
    product: str  # one of `PRODUCTS`, or `INFO`
    inputs: tuple[str, ...]  # names of tensors; a request sends every one of them
    outputs: tuple[str, ...]  # names of tensors, the product's first

    @property
    def is_encoded(self) -> bool:
        """Whether it takes encoded pictures and answers such, rather than pixels."""
        return IMAGE_BYTES in self.inputs

    @property
    def takes_threshold(self) -> bool:
        """Whether the request chooses the threshold, rather than the export's spec."""
        return THRESHOLD in self.inputs


def signature_name(product: str, *, encoded: bool, at_threshold: bool = False) -> str:
    """Returns the name of the signature that gives a product, of pictures as files (`encoded`) or as pixels.

    Raises `ValueError` for what is none of `PRODUCTS`, and for a threshold in the request of one that has none.
    """
    if product not in PRODUCTS:
        raise ValueError(f"no product {product!r}; there are: {', '.join(PRODUCTS)}")
    if at_threshold and product not in THRESHOLDED_PRODUCTS:
        raise ValueError(f"{product!r} has no threshold; only {', '.join(THRESHOLDED_PRODUCTS)} have")
    ending = "_png" if encoded and product != MASKED_IMAGE_JPEG else ""
    return product + ending + ("_at_threshold" if at_threshold else "")


def _all_signatures() -> dict[str, Signature]:
    table = {}
    for encoded, image in ((False, IMAGE), (True, IMAGE_BYTES)):
        for product in PRODUCTS if encoded else PRODUCTS[:-1]:
            outputs = (f"{product}_bytes", ERROR) if encoded else (product,)
            for at_threshold in (False, True) if product in THRESHOLDED_PRODUCTS else (False,):
                name = signature_name(product, encoded=encoded, at_threshold=at_threshold)
                table[name] = Signature(name, product, (image, THRESHOLD) if at_threshold else (image,), outputs)
    table[EXPORT_INFO] = Signature(EXPORT_INFO, INFO, (QUERY,), (INFO,))
    return {DEFAULT_SIGNATURE: dataclasses.replace(table[MASK], name=DEFAULT_SIGNATURE), **table}


SIGNATURES: Mapping[str, Signature] = MappingProxyType(_all_signatures())
"""Every signature an export can have, by name.

One-channel models have no `class_map` signatures; models that answer class indices none of probabilities, and none that
take a threshold. Those of JPEG are made where they are asked for, and the background is not transparent.
"""
