"""The client for threads."""

import collections
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from .. import contract
from . import procedures
from .calling.steps import Compute, InTurn, Pause, Script, Send, Step
from .configuration import ClientBase, MetadataLike
from .errors import CallCancelledError, ClientClosedError
from .pictures.channels import as_choice
from .pictures.images import ImageSource
from .results.mask_result import SegmentItem
from .segmenting.many import AHEAD, PlannedThresholds, Thresholds, check_images, check_many, groups
from .transport.addresses import Address
from .transport.calls import Reply
from .transport.transports import Transport, connect

P = ParamSpec("P")
T = TypeVar("T")
_TOGETHER_THREADS = 16


def _waiting(procedure: Callable[Concatenate[ClientBase, P], Script[T]]) -> Callable[Concatenate["MaskClient", P], T]:
    """Returns the method that carries a procedure out, and waits for its result."""

    def method(self: "MaskClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(procedure(self, *args, **kwargs))

    procedures.describe(method, procedure)
    return method


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

    def __exit__(self, *raised: object) -> None:
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

    segment = _waiting(procedures.segment)
    segment_large = _waiting(procedures.segment_large)
    predict = _waiting(procedures.predict)
    wait_until_ready = _waiting(procedures.wait_until_ready)
    status = _waiting(procedures.status)
    info = _waiting(procedures.info)
    reload_config = _waiting(procedures.reload_config)
    metadata = _waiting(procedures.metadata)

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
        scripts = (
            procedures.segment_group(self, group, outputs, choice, timeout, metadata)
            for group in groups(images, thresholds, batch_size, choice)
        )

        def items() -> Iterator[SegmentItem]:
            with contextlib.closing(self._stream(scripts, concurrency, AHEAD * concurrency, ordered)) as answered:
                for group in answered:
                    yield from group

        return items()

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
        if isinstance(step, InTurn):
            with contextlib.closing(self._stream(step.scripts, step.concurrency, step.concurrency)) as results:
                for result in results:
                    step.take(result)
            return None
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
        answers: list[Any] = []
        raised: Exception | None = None
        for future, script in zip(reversed(running), reversed(step.scripts), strict=True):
            try:
                # What no thread has come to yet, as others keep them busy, this one does.
                answers.insert(0, self._run(script) if future.cancel() else future.result())
            except Exception as error:
                raised = error
        if raised is not None:
            raise raised
        return answers

    def _send(self, step: Send) -> Reply:
        try:
            with self._lock:
                transport = self._transports.get(step.address)
                if transport is None:
                    if self._is_closed:
                        raise ClientClosedError("the client is closed")
                    transport = self._transports[step.address] = self._connect(step.address)
            return transport.send(step.call, step.timeout_s, step.pairs)
        except CallCancelledError as error:
            if self._is_closed:
                raise ClientClosedError("the client was closed") from error
            raise

    def _connect(self, address: Address) -> Transport:
        """Returns what carries calls to an address; nothing is sent yet."""
        return connect(address, self._options)

    def _stream(
        self, scripts: Iterator[Script[T]], concurrency: int, window: int, ordered: bool = True
    ) -> Generator[T, None, None]:
        """Runs scripts, some at one time, and yields their results: in their order, or as they are done.

        Each is taken in this thread, when fewer than `window` are under way, or done and not yet yielded.
        """
        threads = futures.ThreadPoolExecutor(concurrency, "maskport-many")
        running: collections.deque[futures.Future[T]] = collections.deque()
        done: queue.SimpleQueue[futures.Future[T]] = queue.SimpleQueue()

        def take() -> T:
            future = running[0] if ordered else done.get()
            running.remove(future)
            return future.result()

        try:
            for script in scripts:
                # Each in a copy of the caller's context, so that spans know their parents.
                running.append(threads.submit(contextvars.copy_context().run, self._run, script))
                if not ordered:  # else their results would be kept there
                    running[-1].add_done_callback(done.put)
                if len(running) >= window:
                    yield take()
            while running:
                yield take()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
