"""Merges requests of one signature, across callers, into one run of the graph.

The rules are TensorFlow Serving's. A queue holds the requests of one model that feed and fetch the same
tensors, in batches; the last batch is open for more until it is full or its time is over. The threads of one
scheduler run the batches of all queues.
"""

import collections
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .calls import Call, cancelled
from .errors import Code, RequestError, deadline_exceeded, invalid_argument
from .metrics import Metrics, Stopwatch
from .saved_model import Runner
from .tensors import Array, dtype_name, dtype_number
from .text_configs import BatchingSettings, PoolSettings

_MAX_PADDED_RANK = 6


class _Task:
    """One request in a batch."""

    def __init__(self, feeds: Mapping[str, Array], size: int, call: Call) -> None:
        self.feeds = feeds
        self.size = size
        self.call = call
        self.waiting = Stopwatch()
        self.done = threading.Event()
        self.is_running = False
        self.outputs: dict[str, Array] = {}
        self.error: RequestError | None = None


class _Batch:
    def __init__(self) -> None:
        self.tasks: list[_Task] = []
        self.size = 0
        self.opened_at = 0.0


class _Queue:
    """The waiting batches of one kind of request. Changes under the scheduler's lock only."""

    def __init__(self, settings: BatchingSettings, run: Callable[[list[_Task]], None]) -> None:
        self.settings = settings
        self.run = run
        self.batches = collections.deque([_Batch()])

    def add(self, task: _Task) -> None:
        if self.batches[-1].size + task.size > self.settings.max_batch_size:
            if len(self.batches) >= self.settings.max_enqueued_batches:
                raise RequestError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full; currently "
                    f"{len(self.batches)} batches enqueued and max_enqueued_batches is "
                    f"{self.settings.max_enqueued_batches}",
                )
            self.batches.append(_Batch())
        batch = self.batches[-1]
        if not batch.tasks:
            batch.opened_at = time.monotonic()
        batch.tasks.append(task)
        batch.size += task.size

    def ready_in_s(self) -> float | None:
        """Returns how long until a batch can be run; 0 is now, None is not before another request comes."""
        first = self.batches[0]
        if not first.tasks:
            return None
        if len(self.batches) > 1 or first.size >= self.settings.max_batch_size:
            return 0
        return max(0.0, first.opened_at + self.settings.timeout_s - time.monotonic())

    def take(self) -> list[_Task]:
        batch = self.batches.popleft()
        if not self.batches:
            self.batches.append(_Batch())
        for task in batch.tasks:
            task.is_running = True
        return batch.tasks


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
        """Takes a request back; False where it is being run already."""
        with self._changed:
            if task.is_running:
                return False
            for batch in queue.batches:
                if task in batch.tasks:
                    batch.tasks.remove(task)
                    batch.size -= task.size
            # An open batch may be empty, a closed one not.
            for batch in [batch for batch in list(queue.batches)[:-1] if not batch.tasks]:
                queue.batches.remove(batch)
            return True

    def _work(self) -> None:
        while True:
            with self._changed:
                queue = self._next_queue()
                if queue is None:
                    return
                tasks = queue.take()
            queue.run(tasks)

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
            self._changed.wait(wait_s)
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
        if not (task.done.wait(call.left_s) and (task.outputs or task.error)):
            self._give_up(queue, task)
        if task.error is not None:
            raise RequestError(task.error.code, task.error.message)
        return [task.outputs[name] for name in fetches]

    def _give_up(self, queue: _Queue, task: _Task) -> None:
        """Leaves a batch whose end the caller will not see."""
        was_waiting = self._scheduler.withdraw(queue, task)
        left_s = task.call.left_s
        if left_s is None or left_s > 0:
            raise cancelled()
        if was_waiting:
            raise RequestError(Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue")
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
                queue = _Queue(self._settings, lambda tasks: self._run_batch(tasks, sorted(fetches)))
                self._queues[feeds, fetches] = queue
                self._scheduler.add_queue(queue)
            return queue

    def _run_batch(self, tasks: list[_Task], fetches: list[str]) -> None:
        try:
            for task in tasks:
                self._metrics.measure_queuing(self._scheduler.settings.name, task.waiting.seconds)
            size = sum(task.size for task in tasks)
            padded = self._settings.padded_size(size)
            feeds = _merge(tasks, padded - size, pads_lengths=self._settings.pads_lengths)
            self._metrics.count_batch(padded)
            outputs = self._runner.run(feeds, fetches, Call(_longest(tasks)))
            _split(tasks, dict(zip(fetches, outputs, strict=True)), padded)
        except RequestError as error:
            for task in tasks:
                task.error = error
        except Exception as error:
            for task in tasks:
                task.error = RequestError(Code.INTERNAL, f"{type(error).__name__}: {error}")
        finally:
            for task in tasks:
                task.done.set()


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


def _longest(tasks: Sequence[_Task]) -> float | None:
    """Returns how long the most patient of the callers waits."""
    longest = 0.0
    for task in tasks:
        left_s = task.call.left_s
        if left_s is None:
            return None
        longest = max(longest, left_s)
    return longest


def _merge(tasks: Sequence[_Task], padding: int, *, pads_lengths: bool) -> dict[str, Array]:
    merged = {}
    for name in tasks[0].feeds:
        parts = [task.feeds[name] for task in tasks]
        if pads_lengths:
            parts = _padded_to_common(parts)
        elif any(part.shape[1:] != parts[0].shape[1:] for part in parts):
            raise RequestError(
                Code.FAILED_PRECONDITION,
                f"Tensors with name '{name}' from different tasks have different shapes and padding is turned "
                "off. Set pad_variable_length_inputs to true, or ensure that all tensors with the same name "
                "have equal dimensions starting with the first dim.",
            )
        if padding:
            # A row that is fit to be run, whatever the model makes of it.
            parts.append(np.repeat(parts[-1][:1], padding, axis=0))
        merged[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return merged


def _padded_to_common(parts: Sequence[Array]) -> list[Array]:
    ranks = {part.ndim for part in parts}
    if max(ranks) > _MAX_PADDED_RANK:
        raise invalid_argument("Only tensors with rank from 1 to 6 can be padded.")
    if len(ranks) > 1:
        raise RequestError(
            Code.INTERNAL,
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


def _split(tasks: Sequence[_Task], outputs: Mapping[str, Array], size: int) -> None:
    for array in outputs.values():
        if not array.ndim:
            raise RequestError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(array) != size:
            raise RequestError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of "
                "the input tensors",
            )
    start = 0
    for task in tasks:
        task.outputs = {name: array[start : start + task.size] for name, array in outputs.items()}
        start += task.size
