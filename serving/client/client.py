"""The client for threads."""

import collections
import contextvars
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from .. import contract
from ..wire.messages import ModelServerConfig
from .calling.operations import OnWait
from .calling.steps import Compute, Pause, Script, Send, Step, Together
from .configuration import ClientBase, MetadataLike
from .errors import CallCancelledError, ClientClosedError, MaskServingError
from .pictures.channels import Choice, as_choice
from .pictures.images import ImageSource
from .pictures.tiling import Tile
from .results.mask_result import MaskResult, SegmentItem
from .segmenting.large import (
    DEFAULT_OVERLAP,
    DEFAULT_TILE,
    LargeJob,
    LargeResult,
    Progress,
    check_large,
    tile_signature,
)
from .segmenting.many import (
    PlannedThresholds,
    Thresholds,
    Wanted,
    check_images,
    check_many,
    failed_items,
    groups,
    items_of,
    window,
)
from .transport.addresses import Address
from .transport.calls import Reply
from .transport.connecting import connect
from .transport.signatures import ModelMetadata, VersionStatus
from .transport.transports import Transport

T = TypeVar("T")
_TOGETHER_THREADS = 16


class MaskClient(ClientBase):
    """A client for threads; `ClientBase` tells what it is made from.

    One client may be used by many threads. Close it, or use it in a `with` block: closing ends what is on its
    way with `ClientClosedError`. After a fork, a child needs a client of its own.
    """

    def _set_up(self) -> None:
        self._transports: dict[Address, Transport] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads: futures.ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is on its way with `ClientClosedError`, and closes the connections."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            transports = list(self._transports.values())
        self._closed.set()
        for transport in transports:
            transport.close()
        if self._threads is not None:
            self._threads.shutdown(wait=True)

    def segment(
        self,
        image: ImageSource,
        threshold: float | None = None,
        outputs: Sequence[str] = (contract.MASK,),
        *,
        page: int | None = None,
        bands: Sequence[int] | None = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
    ) -> MaskResult:
        """Masks one picture.

        Args:
            image: a path, an encoded picture's bytes, a file open for reading bytes, an array (uint8 or
                uint16, [H, W] or [H, W, C]) or a Pillow picture. A file's bytes travel as they are.
            threshold: 0 to 1; None is the one that the model was exported with.
            outputs: of `mask`, `masked_image`, `probability` and `class_map`; each is one call, at one time.
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
        script = self._segmentation.segment(
            [image], [threshold], outputs, self._terms(timeout, metadata), as_choice(page, bands)
        )
        result = self._run(script)[0]
        if isinstance(result, Exception):
            raise result
        return result

    def segment_many(
        self,
        images: Iterable[ImageSource],
        threshold: Thresholds = None,
        outputs: Sequence[str] = (contract.MASK,),
        *,
        concurrency: int = 8,
        batch_size: int = 1,
        ordered: bool = True,
        page: int | None = None,
        bands: Sequence[int] | None = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
    ) -> Iterator[SegmentItem]:
        """Masks any number of pictures, several at one time, in bounded memory.

        A picture that fails has its error in its own item, and the others go on. Pictures are taken from
        `images` only shortly before they are sent. All but paths are read as they are taken, by whoever
        iterates: an array or file may be used again, or closed, before the next one.

        Args:
            images: each as `segment` takes it; an array [N, H, W, C] is a stack of pictures.
            threshold: one for all, or one for each picture; None is the model's own.
            outputs: see `segment`.
            concurrency: calls that are under way at one time; fewer while the server refuses some as its threads are
                busy.
            batch_size: pictures that go in one call, where they are small (4 MB together).
            ordered: whether items come in the order of the pictures, or as they are done.
            page: see `segment`.
            bands: see `segment`.
            timeout: seconds for each call, once its turn has come.
            metadata: sent with each call besides the client's own.

        Yields:
            An item for each picture.

        Raises:
            InvalidRequestError: an argument makes no sense.
            ClientClosedError: the client was closed meanwhile.
        """
        self._check_usable()
        check_many(outputs, concurrency, batch_size)
        check_images(images)
        outputs = tuple(outputs)
        thresholds = PlannedThresholds(threshold, images)
        choice = as_choice(page, bands)
        # The rest is a generator: arguments are checked at the call rather than at the first item.
        return self._segment_groups(
            groups(images, thresholds, batch_size, choice), outputs, concurrency, ordered, choice, timeout, metadata
        )

    def _segment_groups(
        self,
        grouped: Iterator[tuple[Wanted, ...]],
        outputs: tuple[str, ...],
        concurrency: int,
        ordered: bool,
        choice: Choice,
        timeout: float | None,
        metadata: MetadataLike | None,
    ) -> Iterator[SegmentItem]:
        def segment(group: tuple[Wanted, ...]) -> list[SegmentItem]:
            try:
                script = self._segmentation.segment(
                    [wanted.picture for wanted in group],
                    [wanted.threshold for wanted in group],
                    outputs,
                    self._terms(timeout, metadata, of_many=True),
                    choice,
                )
                return items_of(group, self._run(script))
            except ClientClosedError:
                raise
            except MaskServingError as error:
                return failed_items(group, error)

        threads = futures.ThreadPoolExecutor(concurrency, "maskport-many")
        running = _InOrder() if ordered else _AsDone()
        try:
            for group in grouped:
                context = contextvars.copy_context()
                running.add(threads.submit(context.run, segment, group))
                if len(running) >= window(concurrency):
                    yield from running.take()
            while len(running):
                yield from running.take()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def segment_large(
        self,
        source: Any,
        out: Any,
        threshold: float | None = None,
        *,
        product: str = contract.MASK,
        tile: int = DEFAULT_TILE,
        overlap: int = DEFAULT_OVERLAP,
        concurrency: int = 4,
        page: int | None = None,
        bands: Sequence[int] | None = None,
        progress: Progress | None = None,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
    ) -> LargeResult:
        """Masks a picture that is too large for one call, tile by tile, in bounded memory.

        The model runs at its own scale on overlapping tiles, whose probabilities are put together without
        seams. The result equals that of one call where the model looks less far than `overlap`.

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
            MaskServingError: a call failed; nothing is left of the output.
            OSError: the source cannot be read, or the output not written.
        """
        self._check_usable()
        check_many((product,), concurrency, 1)
        check_large(product, threshold)
        choice = as_choice(page, bands)
        found, plan = self._run(self._segmentation.tile_plan(product, tile, overlap, self._terms(timeout, metadata)))
        job = LargeJob(source, out, threshold=threshold, product=product, plan=plan, progress=progress, choice=choice)
        signature = tile_signature(found, job.source.shape, job.source.dtype)

        def ask(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
            terms = self._terms(timeout, metadata, of_many=True)
            return self._run(self._segmentation.tile_probability(pixels, signature, terms))

        threads = futures.ThreadPoolExecutor(concurrency, "maskport-large")
        running: collections.deque[tuple[Tile, futures.Future[npt.NDArray[np.float32]]]] = collections.deque()
        try:
            for one in job.tiles:
                if len(running) >= concurrency:
                    earlier, answer = running.popleft()
                    job.accept(earlier, answer.result())
                context = contextvars.copy_context()
                running.append((one, threads.submit(context.run, ask, job.pixels(one))))
            for earlier, answer in running:
                job.accept(earlier, answer.result())
            return job.finish()
        except BaseException:
            job.abandon()
            raise
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def predict(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
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
        return self._run(self._operations.predict(signature, inputs, outputs, self._terms(timeout, metadata)))

    def wait_until_ready(
        self,
        timeout: float | None = None,
        *,
        on_wait: OnWait | None = None,
        metadata: MetadataLike | None = None,
    ) -> None:
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
        self._run(self._operations.wait_until_ready(self._terms(timeout, metadata), on_wait))

    def metadata(self, *, timeout: float | None = None, metadata: MetadataLike | None = None) -> ModelMetadata:
        """Returns the model's signatures, as the server has them now."""
        return self._run(self._operations.metadata(self._terms(timeout, metadata)))

    def status(self, *, timeout: float | None = None, metadata: MetadataLike | None = None) -> list[VersionStatus]:
        """Returns the states of the model's versions."""
        return self._run(self._operations.status(self._terms(timeout, metadata)))

    def info(self, *, timeout: float | None = None, metadata: MetadataLike | None = None) -> dict[str, Any]:
        """Returns what the exporter wrote about the model: spec, classes, threshold, source.

        Raises:
            SignatureNotFoundError: the model was not exported by maskport.
        """
        return self._run(self._operations.info(self._terms(timeout, metadata)))

    def reload_config(
        self,
        config: ModelServerConfig | Mapping[str, str],
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
    ) -> None:
        """Tells the server which models to serve from now on, in place of those that it serves; gRPC only.

        Args:
            config: base paths by model name, or the full message.
            timeout: seconds; the server answers once new models are loaded.
            metadata: sent besides the client's own.
        """
        self._run(self._operations.reload_config(config, self._terms(timeout, metadata)))

    # ---- carrying out scripts ----

    def _run(self, script: Script[T]) -> T:
        self._check_usable()
        try:
            step = next(script)
            while True:
                try:
                    value = self._do(step)
                except Exception as error:
                    step = script.throw(error)
                else:
                    step = script.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            script.close()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, Pause):
            if self._closed.wait(step.seconds):
                raise ClientClosedError("the client was closed")
            return None
        if isinstance(step, Compute):
            return step.function()
        return self._run_together(step)

    def _send(self, step: Send) -> Reply:
        try:
            return self._transport(step.address).send(step.call, step.timeout_s, step.pairs)
        except CallCancelledError as error:
            if self._is_closed:
                raise ClientClosedError("the client was closed") from error
            raise

    def _transport(self, address: Address) -> Transport:
        transport = self._transports.get(address)
        if transport is None:
            with self._lock:
                if self._is_closed:
                    raise ClientClosedError("the client is closed")
                transport = self._transports.get(address)
                if transport is None:
                    transport = self._transports[address] = connect(address, self._options)
        return transport

    def _run_together(self, step: Together) -> list[Any]:
        with self._lock:
            if self._threads is None:
                self._threads = futures.ThreadPoolExecutor(_TOGETHER_THREADS, "maskport")
        try:
            # Each in a copy of the caller's context, so that spans know their parents.
            running = [
                self._threads.submit(contextvars.copy_context().run, self._run, script) for script in step.scripts
            ]
        except RuntimeError as error:
            raise ClientClosedError("the client was closed") from error
        futures.wait(running)
        return [future.result() for future in running]


class _InOrder:
    """Groups under way, taken in the order in which they were added."""

    def __init__(self) -> None:
        self._futures: collections.deque[futures.Future[list[SegmentItem]]] = collections.deque()

    def __len__(self) -> int:
        return len(self._futures)

    def add(self, future: futures.Future[list[SegmentItem]]) -> None:
        self._futures.append(future)

    def take(self) -> list[SegmentItem]:
        return self._futures.popleft().result()


class _AsDone:
    """Groups under way, taken as they are done."""

    def __init__(self) -> None:
        self._done: queue.SimpleQueue[futures.Future[list[SegmentItem]]] = queue.SimpleQueue()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, future: futures.Future[list[SegmentItem]]) -> None:
        self._count += 1
        future.add_done_callback(self._done.put)

    def take(self) -> list[SegmentItem]:
        self._count -= 1
        return self._done.get().result()
