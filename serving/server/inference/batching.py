"""Merges requests of one signature, across callers, into one run of the graph.

The rules are TensorFlow Serving's. A queue holds the requests of one model that feed and fetch the same
tensors, in batches; the last batch is open for more until it is full or its time is over. Where that is asked
for, a large request is split over several batches. The threads of one scheduler run the batches of all queues.
"""

import collections
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ...status_codes import StatusCode
from ..calls import Call, cancelled
from ..errors import RequestError, deadline_exceeded, invalid_argument
from ..metrics import Metrics, Stopwatch
from .batching_settings import BatchingSettings, PoolSettings
from .saved_model import Runner
from .tensors import Array, dtype_name, dtype_number

_MAX_PADDED_RANK = 6


class _Task:
    """One request, in one batch or split over several."""

    def __init__(self, feeds: Mapping[str, Array], size: int, call: Call) -> None:
        self.size = size
        self.call = call
        self.waiting = Stopwatch()
        self.done = threading.Event()
        self.parts = [_Part(self, feeds, size)]
        self.error: RequestError | None = None
        self._lock = threading.Lock()

    def split(self, sizes: Sequence[int]) -> None:
        """Makes parts of some sizes of a request that is not split yet."""
        feeds = self.parts[0].feeds
        self.parts = []
        start = 0
        for size in sizes:
            part = {name: array[start : start + size] for name, array in feeds.items()}
            self.parts.append(_Part(self, part, size))
            start += size

    @property
    def has_ended(self) -> bool:
        """Whether every part has been run."""
        return all(part.has_ended for part in self.parts)

    @property
    def is_running(self) -> bool:
        """Whether a part has been taken to be run. Under the scheduler's lock only."""
        return any(part.is_running for part in self.parts)

    def end(self, part: "_Part", outputs: Mapping[str, Array], error: RequestError | None) -> None:
        """Notes how a part ended."""
        with self._lock:
            part.outputs = outputs
            self.error = self.error or error
            part.has_ended = True
            if self.has_ended:
                self.done.set()

    def output(self, name: str) -> Array:
        """Returns an output of the request that has ended well."""
        arrays = [part.outputs[name] for part in self.parts]
        if len(arrays) == 1:
            return arrays[0]
        if any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
            raise invalid_argument("Outputs of a request that was split over several batches differ in shape")
        return np.concatenate(arrays)


class _Part:
    """What one batch has of a request."""

    def __init__(self, task: _Task, feeds: Mapping[str, Array], size: int) -> None:
        self.task = task
        self.feeds = feeds
        self.size = size
        self.is_running = False
        self.has_ended = False
        self.outputs: Mapping[str, Array] = {}


class _Batch:
    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.size = 0
        self.opened_at = 0.0


class _Queue:
    """The waiting batches of one kind of request. Changes under the scheduler's lock only."""

    def __init__(self, settings: BatchingSettings, run: Callable[[list[_Part]], None]) -> None:
        self.settings = settings
        self.run = run
        self.batches = collections.deque([_Batch()])

    def add(self, task: _Task) -> None:
        full_size = self.settings.full_size
        room = full_size - self.batches[-1].size
        if self.settings.split_size:
            self._check_capacity(task.size, room)
            if task.size > room:
                task.split(_split_sizes(task.size, room, full_size))
        elif task.size > room and len(self.batches) >= self.settings.max_enqueued_batches:
            raise RequestError(
                StatusCode.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{len(self.batches)} batches enqueued and max_enqueued_batches is "
                f"{self.settings.max_enqueued_batches}",
            )
        for part in task.parts:
            if self.batches[-1].size + part.size > full_size:
                self.batches.append(_Batch())
            batch = self.batches[-1]
            if not batch.parts:
                batch.opened_at = time.monotonic()
            batch.parts.append(part)
            batch.size += part.size

    def _check_capacity(self, size: int, room: int) -> None:
        settings = self.settings
        capacity = (settings.max_enqueued_batches - len(self.batches)) * settings.full_size + room
        if size > capacity:
            raise RequestError(
                StatusCode.UNAVAILABLE,
                f"The batch scheduling queue to which this task was submitted is full; task size is {size} but "
                f"scheduling capacity is only {capacity} (num_enqueued_batches={len(self.batches)}, "
                f"max_enqueued_batches={settings.max_enqueued_batches}, "
                f"open_batch_size={self.batches[-1].size}, max_execution_batch_size={settings.full_size})",
            )

    def ready_in_s(self) -> float | None:
        """Returns how long until a batch can be run; 0 is now, None is not before another request comes."""
        first = self.batches[0]
        if not first.parts:
            return None
        if len(self.batches) > 1 or first.size >= self.settings.full_size:
            return 0
        return max(0.0, first.opened_at + self.settings.timeout_s - time.monotonic())

    def take(self) -> list[_Part]:
        batch = self.batches.popleft()
        if not self.batches:
            self.batches.append(_Batch())
        for part in batch.parts:
            part.is_running = True
        return batch.parts


class BatchScheduler:
    """Runs the batches of all queues, each queue in its turn, on a few threads."""

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self._changed = threading.Condition()
        self._queues: collections.deque[_Queue] = collections.deque()
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True) for index in range(settings.threads)
        ]
        for thread in self._threads:
            thread.start()

    def add_queue(self, queue: _Queue) -> None:
        """Takes in a queue."""
        with self._changed:
            self._queues.append(queue)

    def remove_queue(self, queue: _Queue) -> None:
        """Lets a queue go that has no requests any more."""
        with self._changed:
            self._queues.remove(queue)

    def submit(self, queue: _Queue, task: _Task) -> None:
        """Puts a request into a queue; RequestError where it is full."""
        with self._changed:
            queue.add(task)
            self._changed.notify()

    def withdraw(self, queue: _Queue, task: _Task) -> bool:
        """Takes back what waits of a request; False where some of it has been run already."""
        with self._changed:
            for batch in queue.batches:
                for part in [part for part in batch.parts if part.task is task]:
                    batch.parts.remove(part)
                    batch.size -= part.size
            # An open batch may be empty, a closed one not.
            for batch in [batch for batch in list(queue.batches)[:-1] if not batch.parts]:
                queue.batches.remove(batch)
            return not task.is_running

    def _work(self) -> None:
        while True:
            with self._changed:
                queue = self._next_queue()
                if queue is None:
                    return
                parts = queue.take()
            queue.run(parts)

    def _next_queue(self) -> _Queue | None:
        """Waits for a queue with a batch to run; None where there is an end. Called with the lock held."""
        while not self._is_stopping:
            wait_s: float | None = None
            for queue in list(self._queues):
                ready_in_s = queue.ready_in_s()
                if ready_in_s == 0:
                    self._queues.remove(queue)
                    self._queues.append(queue)
                    return queue
                if ready_in_s is not None:
                    wait_s = ready_in_s if wait_s is None else min(wait_s, ready_in_s)
            self._changed.wait(None if wait_s is None else min(wait_s, threading.TIMEOUT_MAX))
        return None

    def stop(self) -> None:
        """Ends the threads. No request may be waiting."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()


class BatchingRunner:
    """Collects runs of a graph into batches. In place of the graph's own runner."""

    def __init__(
        self,
        runner: Runner,
        dtypes: Mapping[str, int],
        scheduler: BatchScheduler,
        settings: BatchingSettings,
        metrics: Metrics,
    ) -> None:
        """Puts batches before a runner.

        Args:
            runner: runs the merged requests; closed with this one.
            dtypes: data type of each tensor that can be fed. A request with another one is refused alone,
                before it can fail the batch.
            scheduler: has the threads.
            settings: how to merge; checked already.
            metrics: hears of waiting times and sizes.
        """
        self._runner = runner
        self._dtypes = dtypes
        self._scheduler = scheduler
        self._settings = settings
        self._metrics = metrics
        self._lock = threading.Lock()
        self._queues: dict[tuple[frozenset[str], frozenset[str]], _Queue] = {}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], call: Call) -> list[Array]:
        """See `Runner.run`."""
        size = _batch_size(feeds)
        self._check_dtypes(feeds)
        if size > self._settings.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size {self._settings.max_batch_size}"
            )
        if not size:
            # Nothing to merge, and a batch would never be full.
            return self._runner.run(feeds, fetches, call)
        queue = self._queue(frozenset(feeds), frozenset(fetches))
        task = _Task(feeds, size, call)
        call.when_cancelled(task.done.set)
        self._scheduler.submit(queue, task)
        if not (task.done.wait(call.left_s) and task.has_ended):
            self._give_up(queue, task)
        if task.error is not None:
            raise RequestError(task.error.code, task.error.message)
        return [task.output(name) for name in fetches]

    def _give_up(self, queue: _Queue, task: _Task) -> None:
        """Leaves a batch whose end the caller will not see."""
        was_waiting = self._scheduler.withdraw(queue, task)
        left_s = task.call.left_s
        if left_s is None or left_s > 0:
            raise cancelled()
        if was_waiting:
            raise RequestError(StatusCode.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
        raise deadline_exceeded()

    def close(self) -> None:
        """See `Runner.close`."""
        with self._lock:
            for queue in self._queues.values():
                self._scheduler.remove_queue(queue)
            self._queues.clear()
        self._runner.close()

    def _check_dtypes(self, feeds: Mapping[str, Array]) -> None:
        for index, name in enumerate(sorted(feeds)):
            given, wanted = dtype_number(feeds[name]), self._dtypes.get(name)
            if wanted is not None and given != wanted:
                raise invalid_argument(
                    f"Expects arg[{index}] to be {dtype_name(wanted)} but {dtype_name(given)} is provided"
                )

    def _queue(self, feeds: frozenset[str], fetches: frozenset[str]) -> _Queue:
        with self._lock:
            queue = self._queues.get((feeds, fetches))
            if queue is None:
                queue = _Queue(self._settings, lambda parts: self._run_batch(parts, sorted(fetches)))
                self._queues[feeds, fetches] = queue
                self._scheduler.add_queue(queue)
            return queue

    def _run_batch(self, parts: list[_Part], fetches: list[str]) -> None:
        shares: list[dict[str, Array]] = [{} for _ in parts]
        failure: RequestError | None = None
        try:
            for part in parts:
                self._metrics.measure_queuing(self._scheduler.settings.name, part.task.waiting.seconds)
            size = sum(part.size for part in parts)
            padded = self._settings.padded_size(size)
            feeds = _merge(parts, padded - size, pads_lengths=self._settings.pads_lengths)
            self._metrics.count_batch(padded)
            outputs = self._runner.run(feeds, fetches, Call(_longest(parts)))
            shares = _split(parts, dict(zip(fetches, outputs, strict=True)), padded)
        except RequestError as error:
            failure = error
        except Exception as error:
            failure = RequestError(StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        finally:
            for part, share in zip(parts, shares, strict=True):
                part.task.end(part, share, failure)


def _batch_size(feeds: Mapping[str, Array]) -> int:
    sizes = set()
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    for array in feeds.values():
        if not array.ndim:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        sizes.add(len(array))
        if len(sizes) > 1:
            raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _split_sizes(size: int, room: int, full_size: int) -> list[int]:
    """Returns sizes of the parts of a request that fill the open batch first."""
    sizes = [room] if room else []
    left = size - room
    return [*sizes, *[full_size] * (left // full_size), *([left % full_size] if left % full_size else [])]


def _longest(parts: Sequence[_Part]) -> float | None:
    """Returns how long the most patient of the callers waits."""
    longest = 0.0
    for part in parts:
        left_s = part.task.call.left_s
        if left_s is None:
            return None
        longest = max(longest, left_s)
    return longest


def _merge(parts: Sequence[_Part], padding: int, *, pads_lengths: bool) -> dict[str, Array]:
    merged = {}
    for name in parts[0].feeds:
        arrays = [part.feeds[name] for part in parts]
        if pads_lengths:
            arrays = _padded_to_common(arrays)
        elif any(array.shape[1:] != arrays[0].shape[1:] for array in arrays):
            raise RequestError(
                StatusCode.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes and padding is turned "
                "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name "
                "have equal dimensions starting with the first dim.",
            )
        if padding:
            # A row that is fit to be run, whatever the model makes of it.
            arrays.append(np.repeat(arrays[-1][:1], padding, axis=0))
        merged[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return merged


def _padded_to_common(parts: Sequence[Array]) -> list[Array]:
    ranks = {part.ndim for part in parts}
    if max(ranks) > _MAX_PADDED_RANK:
        raise invalid_argument("Only tensors with rank from 1 to 6 can be padded.")
    if len(ranks) > 1:
        raise RequestError(
            StatusCode.INTERNAL,
            "Tensor concat operation failed: INVALID_ARGUMENT: Cannot concatenate tensors that have different ranks",
        )
    common = tuple(max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True))
    padded = []
    for part in parts:
        if part.shape[1:] == common:
            padded.append(part)
            continue
        if not part.size:
            raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
        wider = np.full((len(part), *common), part.flat[0], part.dtype)
        wider[tuple(slice(size) for size in part.shape)] = part
        padded.append(wider)
    return padded


def _split(parts: Sequence[_Part], outputs: Mapping[str, Array], size: int) -> list[dict[str, Array]]:
    for array in outputs.values():
        if not array.ndim:
            raise RequestError(StatusCode.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != size:
            raise RequestError(
                StatusCode.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors",
            )
    shares = []
    start = 0
    for part in parts:
        shares.append({name: array[start : start + part.size] for name, array in outputs.items()})
        start += part.size
    return shares
