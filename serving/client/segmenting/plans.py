"""Which calls give which products of which pictures."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import contract
from ...wire import tensors
from ..errors import (
    CallContext,
    InvalidImageError,
    InvalidRequestError,
    InvalidResponseError,
    MaskServingError,
    SignatureNotFoundError,
)
from ..pictures.channels import ModelInput
from ..pictures.picture import Picture
from ..results.output import encoded_output, pixel_output
from ..transport.calls import PredictCall, Prediction, Target
from ..transport.signatures import ModelMetadata, SignatureInfo, check_inputs, dtype_known

_TOO_LARGE_HINT = "cut it up with segment_large(), or export the model with a larger limit"


def check_request(outputs: Sequence[str], threshold: float | None) -> None:
    """Checks what `segment` was asked for, as far as no model is needed for it, or raises `InvalidRequestError`."""
    if isinstance(outputs, str) or not outputs:
        raise InvalidRequestError(f"outputs={outputs!r} is not a list of products", hint='such as ("mask",)')
    for product in outputs:
        if product not in contract.PRODUCTS:
            raise InvalidRequestError(
                f"there is no product {product!r}", hint=f"there are: {', '.join(contract.PRODUCTS)}"
            )
    if len(set(outputs)) < len(outputs):
        raise InvalidRequestError(f"a product is asked for twice in {list(outputs)}")
    if threshold is None:
        return
    check_threshold(threshold)
    if not set(outputs) & set(contract.THRESHOLDED_PRODUCTS):
        raise InvalidRequestError(
            f"a threshold has no meaning for {', '.join(outputs)}",
            hint=f"it has for {' and '.join(contract.THRESHOLDED_PRODUCTS)}",
        )


def check_threshold(threshold: Any) -> float:
    """Returns a threshold as a float, or raises `InvalidRequestError` where it is not a number from 0 to 1."""
    try:
        value = float(threshold)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 0 <= value <= 1:  # neither is NaN
        raise InvalidRequestError(f"the threshold {threshold!r} is not from 0 to 1")
    return value


@dataclasses.dataclass(frozen=True)
class PlannedCall:
    """A call, the product it gives, and the pictures that it gives it for."""

    call: PredictCall
    product: str
    pictures: tuple[int, ...]


def model_input(metadata: ModelMetadata, info: Mapping[str, Any]) -> ModelInput:
    """Returns what a model takes; `info`, which the exporter wrote, may be empty."""
    model, spec = (part if isinstance(part, dict) else {} for part in (info.get("model"), info.get("spec")))
    channels = _as_size(model.get("channels"))
    dtype = np.dtype(spec["image_dtype"]) if spec.get("image_dtype") in ("uint8", "uint16", "float32") else None
    signatures = (find_signature(metadata, product, encoded=False) for product in contract.PRODUCTS)
    signature = next(filter(None, signatures), None)
    if signature is not None:
        dtype = dtype_known(signature.inputs[contract.IMAGE]) or dtype
        channels = channels or channels_of(signature)
    return ModelInput(dtype, channels, _as_size(spec.get("max_image_pixels")))


def _as_size(value: Any) -> int | None:
    """Returns a number of channels or pixels; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def channels_of(signature: SignatureInfo) -> int | None:
    """Returns how many channels a pixel signature takes; None if any number."""
    shape = signature.inputs[contract.IMAGE].shape
    return shape[3] if shape is not None and len(shape) == 4 and shape[3] > 0 else None


def plan_calls(
    metadata: ModelMetadata,
    target: Target,
    asked: Sequence[tuple[Picture, float | None]],
    outputs: Sequence[str],
    model: ModelInput,
) -> list[PlannedCall]:
    """Returns the calls that give some products of some pictures, each with its threshold, None for the export's own.

    Pictures go encoded, all of them in one call for each product, where the model has the signatures for
    that. Float arrays, and pictures for models without such signatures, go as pixels, each by itself: they
    may differ in size.
    """
    pictures, thresholds = [picture for picture, _ in asked], [threshold for _, threshold in asked]
    planned = []
    file_of = functools.cache(lambda index: pictures[index].encoded(model))  # for each product
    # Pictures with a threshold of their own and those without need different signatures.
    for product, at_threshold in itertools.product(outputs, (False, True)):
        has_threshold = product in contract.THRESHOLDED_PRODUCTS
        given = [has_threshold and threshold is not None for threshold in thresholds]
        wanted = [index for index, is_given in enumerate(given) if is_given == at_threshold]
        if not wanted:
            continue
        encoded, pixel = (
            find_signature(metadata, product, encoded=way, at_threshold=at_threshold) for way in (True, False)
        )
        together = [index for index in wanted if encoded is not None and not pictures[index].is_float]
        alone = [index for index in wanted if encoded is None or pictures[index].is_float]
        if alone and pixel is None:
            first = pictures[alone[0]]
            if encoded is not None:
                first.encoded(model)  # which says why not
            raise _missing(metadata, product, at_threshold, encoded=not first.is_float)
        for signature, indexes in ((encoded, together), *((pixel, [index]) for index in alone)):
            if signature is None or not indexes:
                continue
            inputs: dict[str, Any]
            if signature is encoded:
                inputs = {contract.IMAGE_BYTES: [file_of(index) for index in indexes]}
            else:
                inputs = {contract.IMAGE: _pixels_for(signature, pictures[indexes[0]], model)[np.newaxis]}
            if at_threshold:
                inputs[contract.THRESHOLD] = np.array([thresholds[index] for index in indexes], np.float32)
            call = PredictCall(target, signature, check_inputs(signature, inputs))
            planned.append(PlannedCall(call, product, tuple(indexes)))
    return planned


def _pixels_for(signature: SignatureInfo, picture: Picture, model: ModelInput) -> npt.NDArray[Any]:
    try:
        dtype = signature.inputs[contract.IMAGE].dtype
    except tensors.TensorError as error:
        raise InvalidRequestError(f"input {contract.IMAGE!r}: {error}", hint="call the model with predict()") from error
    return picture.pixels(dtype, channels_of(signature), model)


def find_signature(
    metadata: ModelMetadata, product: str, *, encoded: bool, at_threshold: bool = False
) -> SignatureInfo | None:
    """Returns the signature of that name, if the model has one that takes images so."""
    name = contract.signature_name(product, encoded=encoded, at_threshold=at_threshold)
    signature = metadata.signatures.get(name)
    # Another's model may have one of the same name.
    takes_images = signature is not None and (contract.IMAGE_BYTES if encoded else contract.IMAGE) in signature.inputs
    return signature if takes_images else None


def _missing(metadata: ModelMetadata, product: str, at_threshold: bool, *, encoded: bool) -> MaskServingError:
    name = contract.signature_name(product, encoded=encoded, at_threshold=at_threshold)
    hint = f"it has: {', '.join(map(repr, metadata.signatures)) or 'none'}"
    if product == contract.MASKED_IMAGE_JPEG:
        hint += "; this one is made where the export's spec names it among its signatures"
    if contract.EXPORT_INFO not in metadata.signatures:
        hint += "; it was not exported by maskport: call it with predict()"
    elif at_threshold or product == contract.PROBABILITY:
        hint += "; of a model that answers class indices there is neither probability nor threshold"
    is_other = name in metadata.signatures
    words = f"the signature {name!r} takes no images" if is_other else f"there is no signature {name!r}"
    return SignatureNotFoundError(words, hint=hint)


def read_outputs(
    planned: PlannedCall, prediction: Prediction, pictures: Sequence[Picture], context: CallContext
) -> dict[int, Any]:
    """Returns the product, or the error, of each of a call's pictures by their index among all."""
    if contract.IMAGE_BYTES not in planned.call.inputs:
        array = prediction.outputs.get(planned.product)
        if array is None or array.ndim != 4 or len(array) != 1 or not array.shape[3] or array.dtype.kind not in "buif":
            raise InvalidResponseError(f"the answer holds no {planned.product} [1, H, W, C]", context=context)
        index = planned.pictures[0]
        return {index: pixel_output(planned.product, array[0], pictures[index])}
    files = prediction.outputs.get(f"{planned.product}_bytes")
    errors = prediction.outputs.get(contract.ERROR)
    count = len(planned.pictures)
    if files is None or errors is None or any(x.shape != (count,) or x.dtype.kind != "O" for x in (files, errors)):
        raise InvalidResponseError(
            f"the answer holds not {count} pictures and their errors for {count} pictures", context=context
        )
    found: dict[int, Any] = {}
    for index, file, error in zip(planned.pictures, files, errors, strict=True):
        try:
            if error:
                raise _image_error(error.decode("utf-8", "replace"), pictures[index])
            found[index] = encoded_output(planned.product, file, pictures[index])
        except MaskServingError as image_error:
            image_error.add_context(context)
            found[index] = image_error
    return found


def _image_error(words: str, picture: Picture, **fields: Any) -> InvalidImageError:
    name = f"{picture.name}: " if picture.name else ""
    hint = _TOO_LARGE_HINT if words.startswith(contract.ERROR_TOO_LARGE) else ""
    return InvalidImageError(f"{name}{words}", hint=hint, **{"server_message": words, **fields})


def image_error_of(error: MaskServingError, pictures: Sequence[Picture]) -> MaskServingError:
    """Returns what an error of a whole call means: for a lone picture it may be that picture's."""
    words = error.server_message or ""
    is_known = any(known in words for known in contract.IMAGE_ERRORS if known != contract.ERROR_EMPTY)
    if type(error) is not InvalidRequestError or len(pictures) > 1 or not is_known:
        return error
    same = {"code": error.code, "http_status": error.http_status, "context": error.context}
    return _image_error(error.problem, pictures[0], server_message=error.server_message, **same)
