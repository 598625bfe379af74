"""The models being served: which versions there are, in which state, and who may use them.

`lifecycle` has the rule for what happens next to a model. Everything that can change the decision (a look at the
disk, a load that ended, a reload of the configuration, a retry that is due) ends in `_advance`, which carries out
whatever the rule then asks for.
"""

import contextlib
import ctypes
import dataclasses
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

from ...status_codes import StatusCode
from ..calls import Call
from ..errors import RequestError, deadline_exceeded, invalid_argument, not_found
from ..inference.predictor import Model
from .lifecycle import ServedModel, State, Version, VersionStatus
from .repeating import Repeating
from .versions import ModelSettings

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class RepositorySettings:
    """How versions are looked for and loaded."""

    poll_wait_s: float = 1  # between two looks at the base paths; 0 looks once, below 0 never
    load_threads: int = 0  # versions loaded at a time once the server runs; 0 counts as 1
    max_load_retries: int = 5  # attempts after a first one that failed
    retry_interval_s: float = 60
    allows_labels_for_unavailable: bool = False  # whether a new label may name a version that is not there


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A loaded version in use; valid while `ModelRepository.acquire`'s block lasts."""

    name: str
    version: int
    model: Model


Loader = Callable[[str, int, str], Model]
"""Loads a version: the model's name, the version and its path in, RequestError where it fails."""


class ModelRepository:
    """Keeps the configured models loaded, and lends them to requests; until `stop`."""

    def __init__(self, loader: Loader, settings: RepositorySettings) -> None:
        self._loader = loader
        self._settings = settings
        self._changed = threading.Condition(threading.RLock())
        self._reloading = threading.Lock()
        self._models: dict[str, ServedModel] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._stopping = False
        self._loading = 0
        self._load_slots = max(os.cpu_count() or 1, settings.load_threads)
        self._workers = futures.ThreadPoolExecutor(self._load_slots, thread_name_prefix="model-loader")
        self._polling = Repeating(self._look_at_disk, settings.poll_wait_s, "model-poller")

    @contextlib.contextmanager
    def acquire(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Loaded]:
        """Lends a version (a label's; or the greatest available), not unloaded before the end of the block.

        Raises:
            RequestError: there is no such model, version or label.
        """
        with self._changed:
            if label is not None:
                version = self._labels.get(name, {}).get(label)
                if version is None:
                    raise invalid_argument(f"Unrecognized servable version label: {label}")
            model = self._models.get(name)
            found = model.available(version) if model else None
            if found is None or found.model is None:
                request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise not_found(f"Servable not found for request: {request}")
            found.in_use += 1
            loaded = Loaded(name, found.number, found.model)
        try:
            yield loaded
        finally:
            with self._changed:
                found.in_use -= 1
                if found.state == State.UNLOADING and not found.in_use:
                    self._workers.submit(self._unload, found)

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Returns the states of a model's versions, greatest first.

        Raises:
            RequestError: the model, or the version, was never there.
        """
        with self._changed:
            model = self._models.get(name)
            versions = model.versions if model else {}
            if version is not None and version not in versions:
                raise not_found(f"Could not find version {version} of model {name}")
            if not versions:
                raise not_found(f"Could not find any versions of model {name}")
            return [
                VersionStatus(number, versions[number].state, versions[number].error)
                for number in sorted(versions if version is None else [version], reverse=True)
            ]

    def names(self) -> set[str]:
        """Returns the names of the models that the configuration has."""
        with self._changed:
            return {name for name, model in self._models.items() if model.settings}

    def start(self, models: Sequence[ModelSettings]) -> None:
        """Begins to load a first configuration, and to look for versions; RequestError where a label is refused."""
        with self._reloading:
            self._labels = self._checked_labels(models)
            self._configure(models)
        if self._settings.poll_wait_s > 0:
            self._polling.start()

    def wait_until_settled(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Waits until every model has versions, each loaded or failed once; False where `should_stop` ended that."""
        with self._changed:
            while not all(model.is_settled for model in self._models.values()):
                if self._stopping or should_stop():
                    return False
                self._changed.wait(0.1)
            self._load_slots = max(1, self._settings.load_threads)
            return not self._stopping

    def reload(
        self,
        models: Sequence[ModelSettings],
        call: Call,
        *,
        waits_for_paths: bool = False,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Changes to another configuration, and waits until the models new in it are loaded.

        Args:
            models: the whole of it; models left out are unloaded.
            call: whom it is for; nothing is waited for longer than by that one.
            waits_for_paths: a new model's base path may appear later; nothing is waited for then.
            check: further objections, raised before anything is changed.

        Raises:
            RequestError: the configuration is refused, and nothing was changed; or UNKNOWN: it holds, but
                some new models did not load.
        """
        call.check()
        left_s = call.left_s
        if not self._reloading.acquire(timeout=-1 if left_s is None else max(left_s, 0)):
            raise deadline_exceeded()
        try:
            labels = self._checked_labels(models)
            check()
            served = self.names()
            new = [model for model in models if model.name not in served]
            if not waits_for_paths:
                for model in new:
                    _, complaint = model.look()
                    if complaint:
                        raise RequestError(StatusCode.FAILED_PRECONDITION, complaint)
            self._labels = labels
            self._configure(models)
        finally:
            self._reloading.release()
        if not waits_for_paths:
            self._wait_for_new([model.name for model in new], call)

    def _checked_labels(self, models: Sequence[ModelSettings]) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        with self._changed:
            for settings in models:
                model = self._models.get(settings.name)
                for label, version in settings.labels.items():
                    assigned = self._labels.get(settings.name, {}).get(label)
                    if self._settings.allows_labels_for_unavailable and assigned in (None, version):
                        continue
                    if not (model and model.available(version)):
                        raise RequestError(
                            StatusCode.FAILED_PRECONDITION,
                            f"Request to assign label to version {version} of model {settings.name}, which "
                            "is not currently available for inference",
                        )
                if settings.labels:
                    labels[settings.name] = dict(settings.labels)
        return labels

    def _configure(self, models: Sequence[ModelSettings]) -> None:
        logger.info("Adding/updating models: %s", ", ".join(model.name for model in models) or "none")
        with self._changed:
            configured = {settings.name: settings for settings in models}
            for name, settings in configured.items():
                self._models.setdefault(name, ServedModel(name)).settings = settings
            for name, model in self._models.items():
                if name not in configured and model.settings:
                    model.settings = None
                    model.wanted = {}
                    model.adopt_wanted()
            self._advance()
        if self._settings.poll_wait_s >= 0:
            self._look_at_disk()

    def _wait_for_new(self, names: Sequence[str], call: Call) -> None:
        with self._changed:
            while not all(self._models[name].is_decided for name in names):
                call.check()
                if self._stopping:
                    raise RequestError(StatusCode.UNAVAILABLE, "the server is about to end")
                self._changed.wait(0.1)
            # What another reload has taken out again did not fail.
            new = [self._models[name] for name in names]
            failed = [model.failure() for model in new if model.settings and not model.available(None)]
        if failed:
            raise RequestError(
                StatusCode.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{''.join(failed)}}}"
            )

    def _look_at_disk(self) -> None:
        with self._changed:
            configured = [(model, model.settings) for model in self._models.values() if model.settings]
        for model, settings in configured:
            # Where there is no saying what is wanted, what is loaded stays: the disk may be away for a moment.
            wanted, complaint = settings.look()
            with self._changed:
                if complaint and complaint != model.complaint:
                    logger.warning("%s", complaint)
                model.complaint = complaint
                # A reload may have come between; what it wants counts.
                if wanted is not None and model.settings is settings:
                    model.wanted = wanted
                    model.looked_at = settings
                    model.adopt_wanted()
                    self._advance()

    def _advance(self) -> None:
        """Starts all that the rule asks for and that there is room for."""
        with self._changed:
            if self._stopping:
                return
            for model in self._models.values():
                while (action := model.next_action()) is not None:
                    state, version = action
                    if state == State.UNLOADING:
                        version.state = State.UNLOADING
                        logger.info("Unloading %s", version)
                        if not version.in_use:
                            self._workers.submit(self._unload, version)
                    elif self._loading < self._load_slots:
                        version.state = State.LOADING
                        version.retry_at = None
                        self._loading += 1
                        self._workers.submit(self._load, version)
                    else:
                        break
            self._changed.notify_all()

    def _load(self, version: Version) -> None:
        if version.attempts:
            logger.info("Retrying of Loading servable: %s retry: %d", version, version.attempts)
        logger.info("Loading servable version %s", version)
        error: RequestError | None = None
        model: Model | None = None
        try:
            model = self._loader(version.name, version.number, version.path)
        except RequestError as failure:
            error = failure
        except Exception as failure:
            logger.exception("Loading %s", version)
            error = RequestError(StatusCode.INTERNAL, f"{type(failure).__name__}: {failure}")
        with self._changed:
            self._loading -= 1
            version.attempts += 1
            version.error = error
            if model is not None:
                version.model = model
                version.state = State.AVAILABLE
                logger.info("Successfully loaded servable version %s", version)
            elif self._stopping:
                version.state = State.END
            elif version.attempts > self._settings.max_load_retries or not version.is_wanted:
                version.state = State.END
                logger.error("Loading servable %s failed: %s", version, error)
            else:
                wait_s = max(self._settings.retry_interval_s, 0)
                logger.error("Loading servable %s failed, next attempt in %g s: %s", version, wait_s, error)
                version.retry_at = time.monotonic() + wait_s
                timer = threading.Timer(wait_s, self._advance)
                timer.daemon = True
                timer.start()
            self._advance()

    def _unload(self, version: Version) -> None:
        version.close()
        _give_memory_back()
        with self._changed:
            version.state = State.END
            logger.info("Done unloading servable version %s", version)
            for owner in self._models.values():
                owner.adopt_wanted()
            self._advance()

    def stop_loading(self) -> None:
        """Begins no more to load or unload anything; what is there goes on being lent."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Unloads everything. No request may be running."""
        self.stop_loading()
        self._polling.stop()
        self._workers.shutdown()
        for model in self._models.values():
            for version in model.versions.values():
                version.close()
                version.state = State.END
        self._models.clear()
        _give_memory_back()


def _give_memory_back() -> None:
    """Frees what unloaded versions held, and gives it back to the operating system, as TensorFlow Serving does."""
    gc.collect()  # graphs are full of cycles, and large
    # glibc keeps what was freed within its arenas, of which every few threads have one; other C libraries differ.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
