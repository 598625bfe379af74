"""The client for asyncio."""

import asyncio
import collections
import contextlib
import contextvars
import functools
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from .. import contract
from . import procedures
from .calling.steps import Compute, InTurn, Pause, Script, Send, Step
from .configuration import ClientBase, MetadataLike
from .errors import CallCancelledError, ClientClosedError
from .pictures.channels import as_choice
from .pictures.images import ImageSource
from .results.mask_result import SegmentItem
from .segmenting.many import AHEAD, PlannedThresholds, Thresholds, async_groups, check_images, check_many
from .transport.addresses import Address
from .transport.calls import Reply
from .transport.transports import AsyncTransport, connect_async

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    procedure: Callable[Concatenate[ClientBase, P], Script[T]],
) -> Callable[Concatenate["AsyncMaskClient", P], Coroutine[Any, Any, T]]:
    """Returns the method that carries a procedure out, and is awaited for its result."""

    async def method(self: "AsyncMaskClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(procedure(self, *args, **kwargs))

    procedures.describe(method, procedure)
    return method


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

    async def __aexit__(self, *raised: object) -> None:
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

    segment = _awaited(procedures.segment)
    segment_large = _awaited(procedures.segment_large)
    predict = _awaited(procedures.predict)
    wait_until_ready = _awaited(procedures.wait_until_ready)
    status = _awaited(procedures.status)
    info = _awaited(procedures.info)
    reload_config = _awaited(procedures.reload_config)
    metadata = _awaited(procedures.metadata)

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

        async def items() -> AsyncIterator[SegmentItem]:
            grouped = async_groups(images, thresholds, batch_size, choice)
            scripts = (
                procedures.segment_group(self, group, outputs, choice, timeout, metadata) async for group in grouped
            )
            async with contextlib.aclosing(self._stream(scripts, concurrency, AHEAD * concurrency, ordered)) as answers:
                async for answer in answers:
                    for item in answer:
                        yield item

        return items()

    # ---- carrying out scripts ----

    def _check_loop(self) -> None:
        """Ties the client to the loop that it is first used in; raises `ClientClosedError` in another one."""
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
            try:
                async with asyncio.timeout(step.seconds):
                    await self._closed.wait()
            except TimeoutError:
                return None
            raise ClientClosedError("the client was closed")
        if isinstance(step, Compute):
            return await (_to_its_end if step.to_its_end else asyncio.to_thread)(step.function)
        if isinstance(step, InTurn):
            stream = self._stream(_in_threads(step.scripts), step.concurrency, step.concurrency)
            async with contextlib.aclosing(stream) as results:
                async for result in results:
                    await _to_its_end(step.take, result)
            return None
        answers = await asyncio.gather(*(self._run(script) for script in step.scripts), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers

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

    async def _stream(
        self, scripts: AsyncIterator[Script[T]], concurrency: int, window: int, ordered: bool = True
    ) -> AsyncGenerator[T, None]:
        """Runs scripts, some at one time, and yields their results; see `MaskClient._stream`."""
        limit = asyncio.Semaphore(concurrency)
        running: collections.deque[asyncio.Task[T]] = collections.deque()

        async def run(script: Script[T]) -> T:
            async with limit:
                return await self._run(script)

        async def take() -> T:
            waited_for = [running[0]] if ordered else running
            done, _ = await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            task = done.pop()
            running.remove(task)
            return task.result()

        try:
            async for script in scripts:
                running.append(asyncio.create_task(run(script)))
                if len(running) >= window:
                    yield await take()
            while running:
                yield await take()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def _in_threads(values: Iterator[T]) -> AsyncIterator[T]:
    """Yields what an iterator gives, which it is asked for in threads."""
    while (value := await _to_its_end(next, values, None)) is not None:
        yield value


async def _to_its_end(function: Callable[..., T], *args: Any) -> T:
    """Does something in a thread, and is cancelled only when that has ended."""
    # No task, which the end of the event loop would cancel, but not what goes on in its thread.
    work = functools.partial(contextvars.copy_context().run, function, *args)
    doing = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():  # however often it is cancelled
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # which nobody asks for any more
        raise
