"""Segmenting with one model, as scripts: pictures together or one by one, and the tiles of large ones."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import contract
from ..calling.operations import Operations
from ..calling.sending import Caller, Terms
from ..calling.steps import Compute, Pause, Script, Together
from ..errors import (
    CallContext,
    ClientClosedError,
    InvalidImageError,
    InvalidRequestError,
    InvalidResponseError,
    MaskServingError,
    MixedSizesError,
    MixedVersionsError,
    ModelNotFoundError,
    ModelStateError,
    ServerUnavailableError,
    SignatureNotFoundError,
)
from ..pictures.channels import ALL, UNKNOWN, Choice
from ..pictures.images import ImageSource, try_picture
from ..pictures.picture import FilePicture, Picture, picture_of_tile
from ..results.mask_result import MaskResult
from ..transport.calls import MetadataCall, PredictCall, Reply, Target, context_of
from ..transport.signatures import ModelMetadata, SignatureInfo
from .large import TilePlan, plan_tiles
from .plans import PlannedCall, check_request, image_error_of, model_input, plan_calls, read_outputs

_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 0.8, 0.8, 0.8)
"""After calls that belong together and were not answered by one version; so often they are made."""
_CHUNK_BYTES = 4 << 20
"""Pictures beyond this are not sent in one call with others."""
Wanted = Sequence[tuple[Picture, float | None]]
"""Pictures, each with its threshold; None is the export's own."""
Masked = list[MaskResult | MaskServingError]


class Segmentation:
    """Masks pictures with one model."""

    def __init__(self, operations: Operations, caller: Caller):
        self._operations, self._caller, self._target = operations, caller, operations.target

    def segment(
        self,
        sources: Sequence[ImageSource | Picture | Exception],
        thresholds: Sequence[float | None],
        outputs: Sequence[str],
        terms: Terms,
        choice: Choice = ALL,
    ) -> Script[list[MaskResult | Exception]]:
        """Masks some pictures by as few calls as can be; gives each one's result or error.

        A source that could not be read may be the error. Thresholds are one for each; None is the export's own.
        """
        check_request(outputs, None)
        outputs = tuple(outputs)
        checked = [_check_threshold(outputs, threshold) for threshold in thresholds]
        read = yield Compute(lambda: [_read(*given, choice) for given in zip(sources, checked, strict=True)])
        results: list[MaskResult | Exception] = list(read)
        masked: Masked = []
        for indexes in _chunks(read):
            gone = next((one for one in masked if isinstance(one, ServerUnavailableError)), None)
            if gone is None:
                wanted = [(read[index], checked[index]) for index in indexes]
                masked = yield from self._mask_robustly(wanted, outputs, terms)
            else:  # each call would wait for it as long
                masked = [gone] * len(indexes)
            for index, result in zip(indexes, masked, strict=True):
                results[index] = result
        return results

    def of_one_version(self, terms: Terms) -> Script["Segmentation"]:
        """Gives the same with the version that answers now, whichever others come; with any, where none is told."""
        metadata = yield from self._operations.metadata(terms)
        return Segmentation(Operations(_pinned(self._target, metadata), self._caller, metadata), self._caller)

    def tile_plan(self, product: str, tile: int, overlap: int, terms: Terms) -> Script[tuple[ModelMetadata, TilePlan]]:
        """Gives the model's signatures, and how it wants large pictures cut up."""
        metadata = yield from self._operations.known_metadata(terms)
        try:
            if contract.EXPORT_INFO not in metadata.signatures:
                raise SignatureNotFoundError(
                    "the model does not tell at which scale it works", hint="large pictures need a maskport export"
                )
            info = yield from self._operations.known_info(terms)
            try:
                plan = plan_tiles(info, product, tile, overlap)
            except (AttributeError, TypeError, ValueError, OverflowError) as error:
                raise InvalidResponseError(f"the model's info makes no sense: {error}") from error
            return metadata, dataclasses.replace(plan, model=model_input(metadata, info))
        except MaskServingError as error:
            error.add_context(context_of(MetadataCall(self._target)))
            raise

    def tile_probability(
        self, pixels: npt.NDArray[Any], signature: SignatureInfo | None, terms: Terms
    ) -> Script[npt.NDArray[np.float32]]:
        """Gives the probability [h, w] of a tile's pixels [h, w, C], encoded where no pixel signature takes them."""
        try:
            return (yield from self._tile_probability(pixels, signature, terms))
        except ModelNotFoundError as error:
            error.hint = (
                "the version of the tiles before is gone: call it again, for all tiles by the one that is there"
            )
            raise

    def _tile_probability(
        self, pixels: npt.NDArray[Any], signature: SignatureInfo | None, terms: Terms
    ) -> Script[npt.NDArray[np.float32]]:
        if signature is not None:
            call = PredictCall(self._target, signature, {contract.IMAGE: pixels[np.newaxis]})
            try:
                reply = yield from self._caller.call(call, terms)
            except MixedSizesError:
                pass  # the server batches: encoded pictures pass unharmed
            else:
                probability = reply.value.outputs.get(contract.PROBABILITY)
                wanted = (1, *pixels.shape[:2], 1)
                if probability is None or probability.shape != wanted:
                    raise InvalidResponseError(
                        f"the answer holds no {contract.PROBABILITY} of shape {list(wanted)}",
                        context=dataclasses.replace(context_of(call), address=reply.address),
                    )
                return np.asarray(probability[0, :, :, 0], np.float32)
        results = yield from self.segment([picture_of_tile(pixels)], [None], (contract.PROBABILITY,), terms)
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0].probability

    def _mask_robustly(self, wanted: Wanted, outputs: Sequence[str], terms: Terms) -> Script[Masked]:
        """Masks pictures together, or one by one where one of them makes the call fail for all."""
        if terms.turn_s is not None:  # of many, each call has all of its time
            terms = dataclasses.replace(terms, deadline=self._caller.clock() + terms.turn_s)
        try:
            return (
                yield from self._operations.with_known(lambda known: self._mask(known, wanted, outputs, terms), terms)
            )
        except ClientClosedError:
            raise
        except MaskServingError as error:
            may_be_of_one = (InvalidRequestError, InvalidImageError, ModelStateError, SignatureNotFoundError)
            is_of_all = isinstance(error, MixedVersionsError) or not isinstance(error, may_be_of_one)
            if len(wanted) == 1 or is_of_all:
                return [error] * len(wanted)
        results: Masked = []
        for one in wanted:
            results += yield from self._mask_robustly([one], outputs, terms)
        return results

    def _mask(self, metadata: ModelMetadata, wanted: Wanted, outputs: Sequence[str], terms: Terms) -> Script[Masked]:
        started = self._caller.clock()
        pictures = [picture for picture, _ in wanted]
        context = CallContext(model=self._target.model, label=self._target.label)
        try:
            planned = yield from self._plan(metadata, wanted, outputs, terms)
        except MaskServingError as error:
            # No server has seen a picture that is refused here.
            address = None if isinstance(error, InvalidImageError) else str(self._caller.addresses[0])
            error.add_context(dataclasses.replace(context, address=address, version=metadata.version))
            raise
        try:
            replies = yield from self._replies(planned, terms)
        except MaskServingError as error:
            raise image_error_of(error, pictures) from error.__cause__
        products: list[dict[str, Any]] = [{} for _ in pictures]
        for one, reply in zip(planned, replies, strict=True):
            version = reply.value.version
            self._operations.saw_version(version)
            context = dataclasses.replace(
                context, address=reply.address, version=version, signature=one.call.signature.name
            )
            for index, found in read_outputs(one, reply.value, pictures, context).items():
                products[index][one.product] = found
        class_names = None
        if contract.CLASS_MAP in outputs and contract.EXPORT_INFO in metadata.signatures:
            class_names = yield from self._operations.class_names(terms)  # of the version that has answered
        shared: dict[str, Any] = {
            "context": context,
            "class_names": class_names,
            "seconds": self._caller.clock() - started,
            "request_bytes": sum(reply.request_bytes for reply in replies) // len(pictures),
            "response_bytes": sum(reply.response_bytes for reply in replies) // len(pictures),
        }
        results: Masked = []
        for picture, given in zip(pictures, products, strict=True):
            errors = [given[product] for product in outputs if isinstance(given[product], MaskServingError)]
            in_order = {product: given[product] for product in outputs}
            results.append(errors[0] if errors else MaskResult(picture, in_order, **shared))
        return results

    def _plan(
        self, metadata: ModelMetadata, wanted: Wanted, outputs: Sequence[str], terms: Terms
    ) -> Script[list[PlannedCall]]:
        """Gives the calls to make, having asked what the model takes as far as some pictures need it."""
        model = UNKNOWN
        deep = [picture for picture, _ in wanted if picture.needs_dtype]
        needs_channels = any(picture.needs_channels for picture, _ in wanted)
        if needs_channels or deep:
            model = model_input(metadata, {})
            # Of files, how large they may be counts too.
            needs_info = needs_channels or model.dtype is None or any(isinstance(one, FilePicture) for one in deep)
            if needs_info and contract.EXPORT_INFO in metadata.signatures:
                model = model_input(metadata, (yield from self._operations.known_info(terms)))
        planned: list[PlannedCall] = yield Compute(lambda: plan_calls(metadata, self._target, wanted, outputs, model))
        return planned

    def _replies(self, planned: Sequence[PlannedCall], terms: Terms) -> Script[list[Reply]]:
        """Gives the replies of calls that are made at one time, all of one version of the model."""
        calls = [one.call for one in planned]
        if len(calls) == 1:
            return [(yield from self._caller.call(calls[0], terms))]
        is_told = self._target.version is not None or not self._caller.addresses[0].is_rest
        if is_told or len({one.product for one in planned}) == 1:
            replies: list[Reply] = yield Together([self._caller.call(call, terms) for call in calls])
            if len({reply.value.version for reply in replies}) == 1:
                return replies
        # Products of two models do not belong together: a new version comes in between, or servers have different ones.
        missing: ModelNotFoundError | None = None
        metadata = yield from self._operations.recent_metadata(terms)
        for pause_s in _PAUSES_S:
            target = _pinned(self._target, metadata)
            try:
                replies = yield Together(
                    [self._call_of_version(dataclasses.replace(call, target=target), terms) for call in calls]
                )
            except ModelNotFoundError as error:
                missing = error
            else:
                if len({reply.value.version for reply in replies}) == 1:
                    return replies
            if self._caller.clock() + pause_s >= terms.deadline:
                break
            yield Pause(pause_s)
            metadata = yield from self._operations.metadata(terms)
        raise MixedVersionsError(
            "no version answered for all products: another one comes, or the servers have different ones",
            server_message=missing.server_message if missing else None,
            context=context_of(MetadataCall(self._target)),
        ) from missing

    def _call_of_version(self, call: PredictCall, terms: Terms) -> Script[Reply]:
        """Sends a call of a version that not all of the servers may have."""
        for _ in self._caller.addresses:  # behind each of which there may be several
            with contextlib.suppress(ModelNotFoundError):
                return (yield from self._caller.call(call, terms))
        return (yield from self._caller.call(call, terms))


def _pinned(target: Target, metadata: ModelMetadata) -> Target:
    """Returns a target of the version that has told its metadata; the same where they tell none."""
    version = metadata.version
    return target if version is None else dataclasses.replace(target, version=version, label=None)


def _chunks(read: Sequence[Picture | Exception]) -> list[list[int]]:
    """Returns the indexes of those pictures that go in one call together: many small ones, or one large one."""
    chunks: list[list[int]] = []
    filled = _CHUNK_BYTES
    for index, picture in enumerate(read):
        if isinstance(picture, Exception):
            continue
        if filled + picture.byte_count > _CHUNK_BYTES:
            chunks.append([])
            filled = 0
        chunks[-1].append(index)
        filled += picture.byte_count
    return chunks


def _check_threshold(outputs: Sequence[str], threshold: float | None) -> Any:
    """Returns a threshold as a number, None, or what is wrong with it."""
    try:
        check_request(outputs, threshold)
    except InvalidRequestError as error:
        return error
    return None if threshold is None else float(threshold)


def _read(source: Any, threshold: Any, choice: Choice) -> Picture | Exception:
    given = threshold if isinstance(threshold, Exception) else source
    return given if isinstance(given, Picture | Exception) else try_picture(given, choice)
