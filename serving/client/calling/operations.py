"""What a client asks of one model, as scripts: its signatures, states and facts, and any prediction."""

import dataclasses
import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ... import contract
from ...wire.messages import ModelConfig, ModelConfigList, ModelServerConfig
from .. import errors
from ..transport.calls import MetadataCall, PredictCall, ReloadCall, Reply, StatusCall, Target, context_of
from ..transport.signatures import ModelMetadata, ModelState, VersionStatus, check_inputs, check_outputs
from .sending import Caller, Terms
from .steps import Pause, Script, T

_METADATA_FRESH_S = 1.0
"""Metadata younger than this is not asked for again because something does not fit it."""
_KNOWN_S = 60.0
"""How long what is known of a model counts where answers, as REST's, do not tell which version gave them."""
_POLL_S = 0.1
_INFO_DEPTH = 50
"""What an exporter writes has a tenth of it."""
_FIRST_LOOK_S = 1.0
"""How long a first look at a model that is waited for may take; each further one may take twice as long."""

_PORTS_HINT = (
    f"{errors.ServerUnavailableError.default_hint}; TensorFlow Serving opens its ports only when all its models are "
    "loaded and warmed up, which may take minutes"
)

OnWait = Callable[[str], None]
"""Told what is waited for."""


@dataclasses.dataclass
class _Cache:
    """What is known of the model; one version's, until another version answers."""

    metadata: ModelMetadata | None = None
    info: Mapping[str, Any] | None = None
    read_at: float = 0.0


class Operations:
    """A client's procedures around one model, whatever carries out their steps."""

    def __init__(self, target: Target, caller: Caller, metadata: ModelMetadata | None = None):
        self.target = target
        self._caller = caller
        self._first_address = str(caller.addresses[0])
        self._cache = _Cache(metadata, read_at=caller.clock())
        self._cache_lock = threading.Lock()

    def metadata(self, terms: Terms) -> Script[ModelMetadata]:
        """Asks for the model's signatures."""
        metadata: ModelMetadata = (yield from self._caller.call(MetadataCall(self.target), terms)).value
        with self._cache_lock:
            if self._cache.metadata is None or self._cache.metadata.version != metadata.version:
                self._cache.info = None
            self._cache.metadata = metadata
            self._cache.read_at = self._caller.clock()
        return metadata

    def known_metadata(self, terms: Terms) -> Script[ModelMetadata]:
        """Gives the model's signatures, asking for them once."""
        return self._cache.metadata or (yield from self.metadata(terms))

    def with_known(self, use: Callable[[ModelMetadata], Script[T]], terms: Terms) -> Script[T]:
        """Does something by what is known of the model, and once more where it fails as another version is there."""
        known = yield from self.known_metadata(terms)
        try:
            return (yield from use(known))
        except (errors.InvalidImageError, errors.InvalidRequestError, errors.SignatureNotFoundError):
            news = yield from self._news(known, terms)
            if news is None:
                raise
        return (yield from use(news))

    def recent_metadata(self, terms: Terms) -> Script[ModelMetadata]:
        """Gives the model's signatures as of now, or nearly."""
        known = self._cache.metadata
        if known is not None and self._caller.clock() - self._cache.read_at <= _METADATA_FRESH_S:
            return known
        return (yield from self.metadata(terms))

    def _news(self, known: ModelMetadata, terms: Terms) -> Script[ModelMetadata | None]:
        """Gives what other calls have learnt, or asks; None where nothing has changed, or nobody tells."""
        latest = self._cache.metadata
        if latest is None or latest == known:
            try:
                latest = yield from self.recent_metadata(terms)
            except errors.ClientClosedError:
                raise
            except errors.MaskServingError:
                return None
        return None if latest == known else latest

    def saw_version(self, version: int | None) -> None:
        """Forgets what is known of the model where another version has answered, or one that does not tell may have."""
        with self._cache_lock:
            cached = self._cache.metadata
            is_old = self._caller.clock() - self._cache.read_at > _KNOWN_S
            if cached is not None and (is_old if version is None else version != cached.version):
                self._cache = _Cache()

    def status(self, terms: Terms) -> Script[list[VersionStatus]]:
        """Asks for the states of the model's versions."""
        statuses: list[VersionStatus] = (yield from self._caller.call(StatusCall(self.target), terms)).value
        return statuses

    def info(self, terms: Terms) -> Script[dict[str, Any]]:
        """Asks for what the exporter wrote about the model."""
        outputs = yield from self.predict(contract.EXPORT_INFO, {contract.QUERY: ["info"]}, (contract.INFO,), terms)
        try:
            info = json.loads(outputs[contract.INFO][0])
            if not isinstance(info, dict):
                raise TypeError("not an object")
            _check_depth(info)
        except (ValueError, TypeError, IndexError, KeyError, RecursionError) as error:
            raise errors.InvalidResponseError(
                f"the model's info is not JSON: {error}", context=context_of(MetadataCall(self.target))
            ) from error
        with self._cache_lock:
            self._cache.info = info
        return info

    def known_info(self, terms: Terms) -> Script[Mapping[str, Any]]:
        """Gives what the exporter wrote about the model, asking for it once."""
        cached = self._cache.info
        return (yield from self.info(terms)) if cached is None else cached

    def class_names(self, terms: Terms) -> Script[Sequence[str] | None]:
        """Gives the names of the model's classes, where the exporter was told them."""
        info = yield from self.known_info(terms)
        names = info.get("classes")
        is_known = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return names if is_known else None

    def reload_config(self, config: ModelServerConfig | Mapping[str, str], terms: Terms) -> Script[None]:
        """Tells the server which models to serve."""
        if not isinstance(config, ModelServerConfig):
            models = [
                ModelConfig(name=name, base_path=path, model_platform="tensorflow") for name, path in config.items()
            ]
            config = ModelServerConfig(model_config_list=ModelConfigList(config=models))
        yield from self._caller.call(ReloadCall(config), terms)

    def wait_until_ready(self, terms: Terms, on_wait: OnWait | None = None) -> Script[None]:
        """Waits until the model answers; tells what is waited for, whenever that changes."""
        last: errors.MaskServingError | None = None
        told, look_s = "", _FIRST_LOOK_S
        while True:
            # A call tries on its own as long as it may; looks that end tell the caller how it stands.
            until = min(terms.deadline, self._caller.clock() + look_s)
            look_s *= 2
            try:
                state = yield from self._readiness(dataclasses.replace(terms, deadline=until))
                if state is None:
                    return
                last = errors.DeadlineExceededError(state, hint="the server's log says why it takes so long")
            except (
                errors.ServerUnavailableError,
                errors.ServerBusyError,
                errors.ModelNotFoundError,
                errors.DeadlineExceededError,
            ) as error:
                last = last if last is not None and isinstance(error, errors.DeadlineExceededError) else error
                explain_closed_port(last)
            waited_for = _waited_for(last)
            if on_wait is not None and waited_for != told:
                on_wait(waited_for)
            told = waited_for
            if self._caller.clock() + _POLL_S >= terms.deadline:
                raise errors.DeadlineExceededError(
                    f"not ready in time: {last.problem}",
                    hint=last.hint,
                    server_message=last.server_message,
                    context=dataclasses.replace(context_of(StatusCall(self.target)), address=self._first_address),
                ) from last
            yield Pause(_POLL_S)

    def _readiness(self, terms: Terms) -> Script[str | None]:
        """Gives None if the model answers, else what it lacks."""
        if self.target.label is not None:
            # Status calls pay no heed to labels.
            yield from self.metadata(terms)
            return None
        statuses = yield from self.status(terms)
        if any(status.state == ModelState.AVAILABLE for status in statuses):
            return None
        described = "; ".join(
            f"version {status.version} is {status.state.name}"
            + (f" ({status.error_message})" if status.error_message else "")
            for status in statuses
        )
        return described or "no version is known"

    def predict(
        self, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None, terms: Terms
    ) -> Script[dict[str, Any]]:
        """Calls a signature with arrays, checked against its metadata first."""

        def use(metadata: ModelMetadata) -> Script[Reply]:
            return self._caller.call(self._predict_call(metadata, signature, inputs, outputs), terms)

        reply = yield from self.with_known(use, terms)
        self.saw_version(reply.value.version)
        return dict(reply.value.outputs)

    def _predict_call(
        self, metadata: ModelMetadata, signature: str, inputs: Mapping[str, Any], outputs: Sequence[str] | None
    ) -> PredictCall:
        context = errors.CallContext(
            self._first_address, self.target.model, metadata.version, self.target.label, signature
        )
        try:
            info = metadata.signature(signature)
            if isinstance(outputs, str):
                raise errors.InvalidRequestError(f"outputs={outputs!r} is not a list of names")
            wanted = tuple(outputs or ())
            check_outputs(info, wanted)
            return PredictCall(self.target, info, check_inputs(info, inputs), wanted)
        except errors.MaskServingError as error:
            error.add_context(context)
            raise


def _check_depth(value: Any) -> None:
    """Raises `ValueError` where lists and objects are nested deeper than those who look at them can go."""
    level = [value]
    for _ in range(_INFO_DEPTH):
        children = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list))
        level = list(itertools.chain.from_iterable(children))
        if not level:
            return
    raise ValueError(f"it is nested deeper than {_INFO_DEPTH} levels")


def explain_closed_port(error: errors.MaskServingError, advice: str = "") -> None:
    """Adds to an error of a server that is not reachable why it may not be yet, and what to do about it."""
    if isinstance(error, errors.ServerUnavailableError) and not error.sent and error.hint == error.default_hint:
        error.hint = f"{_PORTS_HINT}{advice}"


def _waited_for(error: errors.MaskServingError) -> str:
    """Returns what a failed look at a model means for whoever waits for it."""
    if isinstance(error, errors.ServerUnavailableError) and not error.sent:
        return "not reachable yet: TensorFlow Serving opens its ports when all its models are loaded and warmed up"
    if isinstance(error, errors.ModelNotFoundError):
        return "the server answers, and has not begun to load this model"
    return error.problem
