"""What both clients can do, stated once: each function here is a method of both, written as a script.

`MaskClient` makes methods of them that wait, `AsyncMaskClient` methods that are awaited.
"""

# ruff: noqa: D417  (`self` needs no words)

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy.typing as npt

from .. import contract
from ..wire.messages import ModelServerConfig
from .calling.operations import OnWait
from .calling.steps import Compute, InTurn, Script
from .configuration import ClientBase, MetadataLike
from .errors import ClientClosedError, MaskServingError
from .pictures.channels import Choice, as_choice
from .pictures.images import ImageSource
from .results.mask_result import MaskResult, SegmentItem
from .segmenting import large
from .segmenting.many import Wanted, check_many, items_of
from .transport.signatures import ModelMetadata, VersionStatus


def describe(method: Any, procedure: Callable[..., Script[Any]]) -> None:
    """Gives a method the name, the docstring and the signature of the procedure that it carries out."""
    functools.update_wrapper(method, procedure)
    signature = inspect.signature(procedure)
    method.__signature__ = signature.replace(return_annotation=get_args(signature.return_annotation)[-1])


def segment(
    self: ClientBase,
    image: ImageSource,
    threshold: float | None = None,
    outputs: Sequence[str] = (contract.MASK,),
    *,
    page: int | None = None,
    bands: Sequence[int] | None = None,
    timeout: float | None = None,
    metadata: MetadataLike | None = None,
) -> Script[MaskResult]:
    """Masks one picture.

    Args:
        image: a path, an encoded picture's bytes, a file open for reading bytes, an array (uint8 or
            uint16, [H, W] or [H, W, C]) or a Pillow picture. A file's bytes travel as they are.
        threshold: 0 to 1; None is the one that the model was exported with.
        outputs: of `mask`, `masked_image`, `probability` and `class_map`; each is one call, at one time. And
            `masked_image_jpeg`, of models that have it: the masked image as a JPEG file.
        page: of a file that holds several, from 1.
        bands: channels to take, from 1, in the model's order, of a TIFF or array that holds others than the
            model takes.
        timeout: seconds for all of it.
        metadata: sent with this call besides the client's own.

    Returns:
        The result; nothing in it is decoded before it is looked at.

    Raises:
        InvalidImageError: the picture cannot be masked.
        MaskServingError: the call failed.
        OSError: the file cannot be read.
    """
    terms = self._terms(timeout, metadata)
    results = yield from self._segmentation.segment([image], [threshold], outputs, terms, as_choice(page, bands))
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def segment_group(
    self: ClientBase,
    group: Sequence[Wanted],
    outputs: Sequence[str],
    choice: Choice,
    timeout: float | None,
    metadata: MetadataLike | None,
) -> Script[list[SegmentItem]]:
    """Masks those of many pictures that are sent together; what fails is in the items."""
    try:
        results = yield from self._segmentation.segment(
            [wanted.picture for wanted in group],
            [wanted.threshold for wanted in group],
            outputs,
            self._terms(timeout, metadata, of_many=True),
            choice,
        )
        return items_of(group, results)
    except ClientClosedError:
        raise
    except MaskServingError as error:
        return items_of(group, [error] * len(group))


def segment_large(
    self: ClientBase,
    source: Any,
    out: Any,
    threshold: float | None = None,
    *,
    product: str = contract.MASK,
    tile: int = large.DEFAULT_TILE,
    overlap: int = large.DEFAULT_OVERLAP,
    concurrency: int = 4,
    page: int | None = None,
    bands: Sequence[int] | None = None,
    progress: large.Progress | None = None,
    timeout: float | None = None,
    metadata: MetadataLike | None = None,
) -> Script[large.LargeResult]:
    """Masks a picture that is too large for one call, tile by tile, in bounded memory.

    The model runs at its own scale on overlapping tiles, whose probabilities are put together without
    seams. The result equals that of one call where the model looks less far than `overlap`. All tiles are of the
    version that answers first.

    Args:
        source: path of a .npy or TIFF file, or an array, such as a memory-mapped one.
        out: path of a .npy or TIFF file, which appears when it is whole, or an array [H, W] to write to: uint8
            for a mask (0 and 255), float32 for a probability. Of a GeoTIFF, a TIFF lies at the same place.
        threshold: 0 to 1; None is the model's own.
        product: `mask` or `probability`.
        tile: side of a tile in pixels, about.
        overlap: how far a tile reaches into its neighbours, in pixels, about.
        concurrency: tiles that are under way at one time.
        page: see `segment`.
        bands: see `segment`.
        progress: told after each tile how many are done, and of how many.
        timeout: seconds for each tile.
        metadata: sent with each call besides the client's own.

    Raises:
        InvalidRequestError: the model has no scale of its own, as it stretches its input, or an argument
            makes no sense.
        InvalidImageError: the source or the output is of no form that can be read or written by pieces.
        UnsupportedCallError: TIFF is asked for, and the extra `large` is not installed.
        ModelNotFoundError: the version is gone before all tiles were masked; another one may have come.
        MaskServingError: a call failed; nothing is left of the output.
        OSError: the source cannot be read, or the output not written.
    """
    check_many((product,), concurrency, 1)
    large.check_large(product, threshold)
    choice = as_choice(page, bands)
    segmentation = yield from self._segmentation.of_one_version(self._terms(timeout, metadata))
    model, plan = yield from segmentation.tile_plan(product, tile, overlap, self._terms(timeout, metadata))
    with contextlib.ExitStack() as held:

        def open_job() -> large.LargeJob:
            job = large.LargeJob(
                source, out, threshold=threshold, product=product, plan=plan, progress=progress, choice=choice
            )
            held.callback(job.abandon)  # here, as nobody may wait for what is returned any more
            return job

        job: large.LargeJob = yield Compute(open_job, to_its_end=True)
        signature = large.tile_signature(model, job.source.shape, job.source.dtype)

        def probability(pixels: npt.NDArray[Any]) -> Script[npt.NDArray[Any]]:
            terms = self._terms(timeout, metadata, of_many=True)
            return (yield from segmentation.tile_probability(pixels, signature, terms))

        tiles = iter(job.tiles)
        answers: Iterator[Script[Any]] = (probability(job.pixels(one)) for one in job.tiles)
        yield InTurn(answers, concurrency, lambda answer: job.accept(next(tiles), answer))
        result: large.LargeResult = yield Compute(job.finish, to_its_end=True)
        return result


def predict(
    self: ClientBase,
    signature: str,
    inputs: Mapping[str, Any],
    outputs: Sequence[str] | None = None,
    *,
    timeout: float | None = None,
    metadata: MetadataLike | None = None,
) -> Script[dict[str, npt.NDArray[Any]]]:
    """Calls any signature of any model, with arrays in and out.

    Args:
        signature: its name.
        inputs: arrays, or what makes one, by name; strings are bytes. Checked against the signature
            before anything is sent.
        outputs: those wanted; None for all.
        timeout: seconds for all of it.
        metadata: sent with this call besides the client's own.

    Returns:
        Arrays by name; strings as object arrays of bytes.

    Raises:
        SignatureNotFoundError: the model has no such signature.
        InvalidRequestError: an input has a wrong name, dtype, rank or size.
        MaskServingError: the call failed.
    """
    return self._operations.predict(signature, inputs, outputs, self._terms(timeout, metadata))


def wait_until_ready(
    self: ClientBase,
    timeout: float | None = None,
    *,
    on_wait: OnWait | None = None,
    metadata: MetadataLike | None = None,
) -> Script[None]:
    """Waits until the model answers.

    Args:
        timeout: seconds.
        on_wait: told in words what is waited for, whenever that changes: a server that is not reachable yet,
            or the states of the model's versions.
        metadata: sent besides the client's own.

    Raises:
        DeadlineExceededError: it does not, and why.
        MaskServingError: waiting would not help.
    """
    return self._operations.wait_until_ready(self._terms(timeout, metadata), on_wait)


def metadata(
    self: ClientBase, *, timeout: float | None = None, metadata: MetadataLike | None = None
) -> Script[ModelMetadata]:
    """Returns the model's signatures, as the server has them now."""
    return self._operations.metadata(self._terms(timeout, metadata))


def status(
    self: ClientBase, *, timeout: float | None = None, metadata: MetadataLike | None = None
) -> Script[list[VersionStatus]]:
    """Returns the states of the model's versions."""
    return self._operations.status(self._terms(timeout, metadata))


def info(
    self: ClientBase, *, timeout: float | None = None, metadata: MetadataLike | None = None
) -> Script[dict[str, Any]]:
    """Returns what the exporter wrote about the model: spec, classes, threshold, source.

    Raises:
        SignatureNotFoundError: the model was not exported by maskport.
    """
    return self._operations.info(self._terms(timeout, metadata))


def reload_config(
    self: ClientBase,
    config: ModelServerConfig | Mapping[str, str],
    *,
    timeout: float | None = None,
    metadata: MetadataLike | None = None,
) -> Script[None]:
    """Tells the server which models to serve from now on, in place of those that it serves; gRPC only.

    Args:
        config: base paths by model name, or the full message.
        timeout: seconds; the server answers once new models are loaded.
        metadata: sent besides the client's own.
    """
    return self._operations.reload_config(config, self._terms(timeout, metadata))
