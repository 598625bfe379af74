"""The queues in which requests wait for their batch, and the threads that run batches.

The rules are TensorFlow Serving's. A queue holds the requests of one model that feed and fetch the same
tensors, in batches; the last batch is open for more until it is full or its time is over. Where that is asked
for, a large request is split over several batches. The threads of one scheduler run the batches of all queues.
"""

import collections
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import RequestError, invalid_argument
from ..metrics import Stopwatch
from .batching_settings import BatchingSettings, PoolSettings
from .tensors import Array


class Task:
    """One request, in one batch or split over several."""

    def __init__(self, feeds: Mapping[str, Array], size: int, call: Call) -> None:
        self.size = size
        self.call = call
        self.waiting = Stopwatch()
        self.done = threading.Event()
        self.parts = [Part(self, feeds, size)]
        self.error: RequestError | None = None
        self._lock = threading.Lock()

    def split(self, room: int, full_size: int) -> None:
        """Makes parts of a request that is not split yet: one for what room there is, then full ones, then the rest."""
        feeds = self.parts[0].feeds
        cuts = sorted({0, *range(room, self.size, full_size), self.size})
        self.parts = [
            Part(self, {name: array[start:end] for name, array in feeds.items()}, end - start)
            for start, end in itertools.pairwise(cuts)
        ]

    @property
    def has_ended(self) -> bool:
        """Whether every part has been run."""
        return all(part.has_ended for part in self.parts)

    def end(self, part: "Part", outputs: Mapping[str, Array], error: RequestError | None) -> None:
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


@dataclasses.dataclass(eq=False)
class Part:
    """What one batch has of a request."""

    task: Task
    feeds: Mapping[str, Array]
    size: int
    is_running: bool = False
    has_ended: bool = False
    outputs: Mapping[str, Array] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(eq=False)
class _Batch:
    parts: list[Part] = dataclasses.field(default_factory=list)
    size: int = 0
    opened_at: float = 0.0


class Queue:
    """The waiting batches of one kind of request. Changes under the scheduler's lock only."""

    def __init__(self, settings: BatchingSettings, run: Callable[[list[Part]], None]) -> None:
        self.settings = settings
        self.run = run
        self.batches = collections.deque([_Batch()])

    def add(self, task: Task) -> None:
        """Puts a request into the open batch, or splits it over several; RequestError where the queue is full."""
        full_size = self.settings.full_size
        room = full_size - self.batches[-1].size
        if self.settings.split_size:
            self._check_capacity(task.size, room)
            if task.size > room:
                task.split(room, full_size)
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

    def take(self) -> list[Part]:
        """Returns the parts of the batch to be run next, which leaves the queue."""
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
        self._queues: collections.deque[Queue] = collections.deque()
        self._is_stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True) for index in range(settings.threads)
        ]
        for thread in self._threads:
            thread.start()

    def add_queue(self, queue: Queue) -> None:
        """Takes in a queue."""
        with self._changed:
            self._queues.append(queue)

    def remove_queue(self, queue: Queue) -> None:
        """Lets a queue go that has no requests any more."""
        with self._changed:
            self._queues.remove(queue)

    def submit(self, queue: Queue, task: Task) -> None:
        """Puts a request into a queue; RequestError where it is full."""
        with self._changed:
            queue.add(task)
            self._changed.notify_all()  # one request may make several batches ready

    def withdraw(self, queue: Queue, task: Task) -> bool:
        """Takes back what waits of a request; False where some of it has been run already."""
        with self._changed:
            for batch in queue.batches:
                for part in [part for part in batch.parts if part.task is task]:
                    batch.parts.remove(part)
                    batch.size -= part.size
            # An open batch may be empty, a closed one not.
            for batch in [batch for batch in list(queue.batches)[:-1] if not batch.parts]:
                queue.batches.remove(batch)
            return not any(part.is_running for part in task.parts)

    def _work(self) -> None:
        while True:
            with self._changed:
                queue = self._next_queue()
                if queue is None:
                    return
                parts = queue.take()
            queue.run(parts)

    def _next_queue(self) -> Queue | None:
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
