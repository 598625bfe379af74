"""Merges requests of one signature, across callers, into one run of the graph."""

import threading
from collections.abc import Mapping, Sequence

import numpy as np

from ...status_codes import StatusCode
from ..calls import Call, cancelled
from ..errors import RequestError, deadline_exceeded, invalid_argument
from ..metrics import Metrics
from .batch_queues import BatchScheduler, Part, Queue, Task
from .batching_settings import BatchingSettings
from .saved_model import Runner
from .tensors import Array, dtype_name, dtype_number

_MAX_PADDED_RANK = 6

Shape = tuple[int, ...] | None
"""Of a signature's tensor: sizes, -1 for any; None where not even the rank is known."""


class BatchingRunner:
    """Collects runs of a graph into batches. In place of the graph's own runner."""

    def __init__(
        self,
        runner: Runner,
        dtypes: Mapping[str, int],
        scheduler: BatchScheduler,
        settings: BatchingSettings,
        metrics: Metrics,
        shapes: Mapping[str, Shape] | None = None,
    ) -> None:
        """Puts batches before a runner, which is closed with this one.

        A request that feeds a tensor with another type than `dtypes` has is refused alone, before it fails a batch, and
        one of another shape than `shapes` has is run alone.
        """
        self._runner = runner
        self._dtypes = dtypes
        self._shapes = shapes or {}
        self._scheduler = scheduler
        self._settings = settings
        self._metrics = metrics
        self._lock = threading.Lock()
        self._queues: dict[tuple[frozenset[str], frozenset[str]], Queue] = {}

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], call: Call) -> list[Array]:
        """See `Runner.run`."""
        size = _batch_size(feeds)
        self._check_dtypes(feeds)
        if size > self._settings.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size {self._settings.max_batch_size}"
            )
        if not size or not all(_fits(array.shape, self._shapes.get(name)) for name, array in feeds.items()):
            # Nothing to merge, and a batch would never be full; or what could not be merged with others.
            return self._runner.run(feeds, fetches, call)
        queue = self._queue(frozenset(feeds), frozenset(fetches))
        task = Task(feeds, size, call)
        call.when_cancelled(task.done.set)
        self._scheduler.submit(queue, task)
        if not (task.done.wait(call.left_s) and task.has_ended):
            self._give_up(queue, task)
        if task.error is not None:
            raise RequestError(task.error.code, task.error.message)
        return [task.output(name) for name in fetches]

    def _give_up(self, queue: Queue, task: Task) -> None:
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

    def _queue(self, feeds: frozenset[str], fetches: frozenset[str]) -> Queue:
        with self._lock:
            queue = self._queues.get((feeds, fetches))
            if queue is None:
                queue = Queue(self._settings, lambda parts: self._run_batch(parts, sorted(fetches)))
                self._queues[feeds, fetches] = queue
                self._scheduler.add_queue(queue)
            return queue

    def _run_batch(self, parts: list[Part], fetches: list[str]) -> None:
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


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(want in (-1, size) for size, want in zip(shape, wanted, strict=True))


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


def _longest(parts: Sequence[Part]) -> float | None:
    """Returns how long the most patient of the callers waits."""
    limits = [left_s for part in parts if (left_s := part.task.call.left_s) is not None]
    return max(0.0, *limits) if len(limits) == len(parts) else None


def _merge(parts: Sequence[Part], padding: int, *, pads_lengths: bool) -> dict[str, Array]:
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


def _split(parts: Sequence[Part], outputs: Mapping[str, Array], size: int) -> list[dict[str, Array]]:
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
