"""Loads one version: the graph, what collects batches for it, and its warm-up requests."""

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Iterator

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import ConfigError, RequestError, invalid_argument
from ..inference.batch_queues import BatchScheduler
from ..inference.batching import BatchingRunner
from ..inference.batching_settings import BatchingSettings, PoolSettings
from ..inference.predictor import Model
from ..inference.saved_model import Runner, SavedModel, SessionSettings
from ..metrics import Metrics, Stopwatch
from .text_configs import read_batching
from .warmup import warm_up

logger = logging.getLogger(__name__)

_BATCHING_FILE = "batching_params.pbtxt"


@dataclasses.dataclass(frozen=True)
class LoadSettings:
    """What every model is loaded with."""

    session: SessionSettings = dataclasses.field(default_factory=SessionSettings)
    checks_method_names: bool = False  # whether classify and regress want signatures made for them
    batching: BatchingSettings | None = None  # None: requests are not merged
    batching_pool: PoolSettings = dataclasses.field(default_factory=PoolSettings)
    # Whether a version's own file counts in place of `batching`; a version without one is not batched then.
    reads_batching_files: bool = False
    warms_up: bool = True
    warmup_iterations: int = 1  # how often each warm-up request is made
    max_request_rows: int | None = 4096  # of strings, or arrays of two axes and more; None is no limit


class ModelLoader:
    """Loads versions; the instance is the repository's `Loader`."""

    def __init__(self, settings: LoadSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._scheduler = BatchScheduler(settings.batching_pool) if settings.batching else None
        self._lock = threading.Lock()
        self._warming: set[Call] = set()
        self._is_cancelled = False

    def __call__(self, name: str, version: int, path: str) -> Model:
        """Loads the version of a model that is in a directory.

        Raises:
            RequestError: it does not load; in TensorFlow Serving's words.
        """
        if not os.path.isdir(path):
            reason = "Not a directory" if os.path.exists(path) else "No such file or directory"
            raise RequestError(
                StatusCode.FAILED_PRECONDITION,
                f"Error while attempting to reserve resources to load servable {{name: {name} version: "
                f"{version}}}: {path}; {reason}",
            )
        loading = Stopwatch()
        try:
            saved_model = SavedModel(path, self._settings.session, self._metrics.count_graph_run)
        except RequestError:
            self._metrics.measure_load(path, loading.seconds, succeeded=False)
            raise
        self._metrics.measure_load(path, loading.seconds, succeeded=True)
        try:
            return self._prepare(saved_model, path)
        except BaseException:
            saved_model.close()
            raise

    def _prepare(self, saved_model: SavedModel, path: str) -> Model:
        runner = self._batching_runner(saved_model, path)
        settings = self._settings
        model = Model(runner, saved_model.signatures, settings.checks_method_names, settings.max_request_rows)
        if self._settings.warms_up:
            warming = Stopwatch()
            records = warm_up(model, path, self._settings.warmup_iterations, self._call)
            if records:
                self._metrics.measure_warmup(path, warming.seconds, records)
                logger.info(
                    "Finished reading warmup data for model at %s. Number of warmup records read: %d. "
                    "Elapsed time (microseconds): %d.",
                    path,
                    records,
                    int(warming.seconds * 1e6),
                )
        return model

    def _batching_runner(self, saved_model: SavedModel, path: str) -> Runner:
        batching = self._settings.batching
        if batching is None or self._scheduler is None:
            return saved_model
        if self._settings.reads_batching_files:
            file = os.path.join(path, _BATCHING_FILE)
            if not os.path.exists(file):
                return saved_model
            try:
                batching, _ = read_batching(file)
            except ConfigError as error:
                raise invalid_argument(str(error)) from error
        inputs = [info for signature in saved_model.signatures.values() for info in signature.inputs.values()]
        dtypes = {info.name: info.dtype for info in inputs}
        shapes = {
            info.name: None if info.tensor_shape.unknown_rank else tuple(dim.size for dim in info.tensor_shape.dim)
            for info in inputs
        }
        return BatchingRunner(saved_model, dtypes, self._scheduler, batching, self._metrics, shapes)

    @contextlib.contextmanager
    def _call(self) -> Iterator[Call]:
        """Gives a call that `cancel` ends."""
        call = Call()
        with self._lock:
            self._warming.add(call)
            if self._is_cancelled:
                call.cancel()
        try:
            yield call
        finally:
            with self._lock:
                self._warming.discard(call)

    def cancel(self) -> None:
        """Ends the warm-ups under way, and those to come: nobody will use what they are for."""
        with self._lock:
            self._is_cancelled = True
            warming = list(self._warming)
        for call in warming:
            call.cancel()

    def stop(self) -> None:
        """Ends the threads. No model may be in use."""
        if self._scheduler is not None:
            self._scheduler.stop()
