"""The client for asyncio."""

import asyncio
import collections
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
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
from .pictures.channels import as_choice
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
    async_groups,
    check_images,
    check_many,
    failed_items,
    items_of,
    window,
)
from .transport.addresses import Address
from .transport.calls import Reply
from .transport.connecting import connect_async
from .transport.signatures import ModelMetadata, VersionStatus
from .transport.transports import AsyncTransport

T = TypeVar("T")


class AsyncMaskClient(ClientBase):
    """A client for asyncio; `ClientBase` tells what it is made from, `MaskClient` what its methods do.

    It belongs to the event loop that it is first used in. Cancelling a task ends its calls; closing the client
    ends all that is on its way with `ClientClosedError`. Files are read and arrays encoded in threads.
    """

    def _set_up(self) -> None:
        self._transports: dict[Address, AsyncTransport] = {}
        self._closed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what is on its way with `ClientClosedError`, and closes the connections."""
        if self._is_closed:
            return
        if self._loop is not None and self._loop.is_closed():
            # Its calls and connections ended with their loop, and cannot be awaited in this one.
            self._is_closed = True
            return
        self._check_loop()
        self._is_closed = True
        self._closed.set()
        for transport in self._transports.values():
            await transport.close()

    async def segment(
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
        """Masks one picture; see `MaskClient.segment`."""
        script = self._segmentation.segment(
            [image], [threshold], outputs, self._terms(timeout, metadata), as_choice(page, bands)
        )
        result = (await self._run(script))[0]
        if isinstance(result, Exception):
            raise result
        return result

    def segment_many(
        self,
        images: Iterable[ImageSource] | AsyncIterable[ImageSource],
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
    ) -> AsyncIterator[SegmentItem]:
        """Masks any number of pictures, several at one time; see `MaskClient.segment_many`.

        Here `images` may be asynchronous too.
        """
        self._check_usable()
        check_many(outputs, concurrency, batch_size)
        check_images(images)
        outputs = tuple(outputs)
        thresholds = PlannedThresholds(threshold, images)
        choice = as_choice(page, bands)

        async def segment(group: tuple[Wanted, ...], limit: asyncio.Semaphore) -> list[SegmentItem]:
            async with limit:
                try:
                    script = self._segmentation.segment(
                        [wanted.picture for wanted in group],
                        [wanted.threshold for wanted in group],
                        outputs,
                        self._terms(timeout, metadata, of_many=True),
                        choice,
                    )
                    return items_of(group, await self._run(script))
                except ClientClosedError:
                    raise
                except MaskServingError as error:
                    return failed_items(group, error)

        async def items() -> AsyncIterator[SegmentItem]:
            limit = asyncio.Semaphore(concurrency)
            running: collections.deque[asyncio.Task[list[SegmentItem]]] = collections.deque()
            try:
                async for group in async_groups(images, thresholds, batch_size, choice):
                    running.append(asyncio.create_task(segment(group, limit)))
                    if len(running) >= window(concurrency):
                        for item in await _take(running, ordered=ordered):
                            yield item
                while running:
                    for item in await _take(running, ordered=ordered):
                        yield item
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

        return items()

    async def segment_large(
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
        """Masks a picture that is too large for one call, tile by tile; see `MaskClient.segment_large`."""
        self._check_usable()
        check_many((product,), concurrency, 1)
        check_large(product, threshold)
        choice = as_choice(page, bands)
        found, plan = await self._run(
            self._segmentation.tile_plan(product, tile, overlap, self._terms(timeout, metadata))
        )
        job = await asyncio.to_thread(
            LargeJob, source, out, threshold=threshold, product=product, plan=plan, progress=progress, choice=choice
        )
        signature = tile_signature(found, job.source.shape, job.source.dtype)
        running: collections.deque[tuple[Tile, asyncio.Task[npt.NDArray[np.float32]]]] = collections.deque()

        def ask(pixels: npt.NDArray[Any]) -> asyncio.Task[npt.NDArray[np.float32]]:
            terms = self._terms(timeout, metadata, of_many=True)
            return asyncio.create_task(self._run(self._segmentation.tile_probability(pixels, signature, terms)))

        try:
            for one in job.tiles:
                if len(running) >= concurrency:
                    earlier, answer = running[0]
                    await asyncio.to_thread(job.accept, earlier, await answer)
                    running.popleft()
                running.append((one, ask(await asyncio.to_thread(job.pixels, one))))
            while running:
                earlier, answer = running[0]
                await asyncio.to_thread(job.accept, earlier, await answer)
                running.popleft()
            return await asyncio.to_thread(job.finish)
        except BaseException:
            for _, answer in running:
                answer.cancel()
            await asyncio.gather(*(answer for _, answer in running), return_exceptions=True)
            job.abandon()
            raise

    async def predict(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Calls any signature of any model, with arrays in and out; see `MaskClient.predict`."""
        return await self._run(self._operations.predict(signature, inputs, outputs, self._terms(timeout, metadata)))

    async def wait_until_ready(
        self,
        timeout: float | None = None,
        *,
        on_wait: OnWait | None = None,
        metadata: MetadataLike | None = None,
    ) -> None:
        """Waits until the model answers; see `MaskClient.wait_until_ready`."""
        await self._run(self._operations.wait_until_ready(self._terms(timeout, metadata), on_wait))

    async def metadata(self, *, timeout: float | None = None, metadata: MetadataLike | None = None) -> ModelMetadata:
        """Returns the model's signatures, as the server has them now."""
        return await self._run(self._operations.metadata(self._terms(timeout, metadata)))

    async def status(
        self, *, timeout: float | None = None, metadata: MetadataLike | None = None
    ) -> list[VersionStatus]:
        """Returns the states of the model's versions."""
        return await self._run(self._operations.status(self._terms(timeout, metadata)))

    async def info(self, *, timeout: float | None = None, metadata: MetadataLike | None = None) -> dict[str, Any]:
        """Returns what the exporter wrote about the model; see `MaskClient.info`."""
        return await self._run(self._operations.info(self._terms(timeout, metadata)))

    async def reload_config(
        self,
        config: ModelServerConfig | Mapping[str, str],
        *,
        timeout: float | None = None,
        metadata: MetadataLike | None = None,
    ) -> None:
        """Tells the server which models to serve from now on; see `MaskClient.reload_config`."""
        await self._run(self._operations.reload_config(config, self._terms(timeout, metadata)))

    # ---- carrying out scripts ----

    def _check_loop(self) -> None:
        """Ties the client to the loop that it is first used in.

        Raises:
            ClientClosedError: this is another one.
        """
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientClosedError(
                "the client belongs to another event loop",
                hint="connections do not move between loops: make the client in the loop that uses it",
            )

    async def _run(self, script: Script[T]) -> T:
        self._check_usable()
        self._check_loop()
        try:
            step = next(script)
            while True:
                try:
                    value = await self._do(step)
                except Exception as error:
                    step = script.throw(error)
                else:
                    step = script.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            script.close()

    async def _do(self, step: Step) -> Any:
        if isinstance(step, Send):
            return await self._send(step)
        if isinstance(step, Pause):
            await self._pause(step.seconds)
            return None
        if isinstance(step, Compute):
            return await asyncio.to_thread(step.function)
        return await self._run_together(step)

    async def _send(self, step: Send) -> Reply:
        transport = self._transports.get(step.address)
        if transport is None:
            if self._is_closed:
                raise ClientClosedError("the client is closed")
            transport = self._transports[step.address] = connect_async(step.address, self._options)
        try:
            return await transport.send(step.call, step.timeout_s, step.pairs)
        except CallCancelledError as error:
            if self._is_closed:
                raise ClientClosedError("the client was closed") from error
            raise

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
        raise ClientClosedError("the client was closed")

    async def _run_together(self, step: Together) -> list[Any]:
        results = await asyncio.gather(*(self._run(script) for script in step.scripts), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results


async def _take(running: collections.deque[asyncio.Task[list[SegmentItem]]], *, ordered: bool) -> list[SegmentItem]:
    """Waits for the first group, or for any, and returns its items."""
    if ordered:
        await asyncio.wait([running[0]])
        return running.popleft().result()
    done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    items: list[SegmentItem] = []
    for task in done:
        running.remove(task)
        items += task.result()
    return items
