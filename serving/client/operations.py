"""What a client does, as scripts: calls with retries, cached metadata, segmentation, waiting."""

import dataclasses
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import contract
from ..wire.messages import ModelConfig, ModelServerConfig
from .addresses import Address
from .calls import Call, MetadataCall, PredictCall, ReloadCall, Reply, StatusCall, Target, context_of
from .errors import (
    CallCancelledError,
    CallContext,
    DeadlineExceededError,
    InvalidImageError,
    InvalidRequestError,
    InvalidResponseError,
    MaskServingError,
    MixedSizesError,
    ModelNotFoundError,
    ModelStateError,
    ServerUnavailableError,
    SignatureNotFoundError,
)
from .images import ImageSource, Picture, read_picture
from .large import TilePlan, plan_tiles
from .observers import ObservedCall, Observer
from .plans import PlannedCall, assemble, check_request, image_error_of, plan_calls, read_outputs
from .results import MaskResult
from .retries import Balancer, RetryBudget, RetryPolicy, may_repeat
from .security import Credentials, Metadata
from .signatures import (
    ModelMetadata,
    ModelState,
    SignatureInfo,
    VersionStatus,
    check_inputs,
    check_outputs,
)
from .steps import Compute, Pause, Script, Send, Together

_METADATA_FRESH_S = 1.0
"""Metadata younger than this is not asked for again because something is missing in it."""
_POLL_S = 0.1
_CHUNK_BYTES = 4 << 20
"""Pictures beyond this are not sent in one call with others."""
_SHORT_ATTEMPT_S = 0.2


@dataclasses.dataclass
class _Cache:
    """What is known of the model; one version's, until another version answers."""

    metadata: ModelMetadata | None = None
    info: Mapping[str, Any] | None = None
    read_at: float = 0.0


@dataclasses.dataclass(frozen=True)
class Terms:
    """What the caller allows and adds.

    Attributes:
        deadline: the clock's time at which it must be over.
        pairs: metadata, besides the client's own.
    """

    deadline: float
    pairs: Metadata = ()


class Operations:
    """A client's procedures, whatever carries out their steps.

    Args:
        target: the model.
        addresses: of the servers.
        credentials: sent with every call.
        retries: how calls are repeated.
        observers: told of every call.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        target: Target,
        addresses: Sequence[Address],
        *,
        credentials: Credentials,
        retries: RetryPolicy,
        observers: Sequence[Observer],
        clock: Callable[[], float],
    ):
        self.target = target
        self.addresses = tuple(addresses)
        self._credentials = credentials
        self._retries = retries
        self._observers = tuple(observers)
        self._clock = clock
        self._balancer = Balancer(addresses, clock)
        self._budget = RetryBudget(retries)
        self._cache = _Cache()
        self._cache_lock = threading.Lock()

    # ---- one call ----

    def call(self, call: Call, terms: Terms) -> Script[Reply]:
        """Sends a call until it is answered, as the retry policy allows.

        Args:
            call: what to send.
            terms: of the call.
        """
        observed = ObservedCall(call.name, context_of(call))
        started = self._clock()
        for observer in self._observers:
            observer.call_started(observed)
        try:
            reply: Reply = yield from self._attempts(call, terms, observed)
        except BaseException as error:
            if isinstance(error, MaskServingError):
                error.add_context(dataclasses.replace(observed.context, address=observed.address or None))
                observed.error = error
            else:
                observed.error = CallCancelledError("the caller gave up", context=observed.context)
            raise
        else:
            observed.request_bytes, observed.response_bytes = reply.request_bytes, reply.response_bytes
            return reply
        finally:
            observed.seconds = self._clock() - started
            for observer in self._observers:
                observer.call_ended(observed)

    def _attempts(self, call: Call, terms: Terms, observed: ObservedCall) -> Script[Reply]:
        self._budget.earn()
        previous: MaskServingError | None = None
        while True:
            remaining_s = terms.deadline - self._clock()
            if remaining_s <= 0:
                raise previous or DeadlineExceededError("the deadline had passed before the call was sent")
            address = self._balancer.pick()
            observed.address = str(address)
            observed.attempts += 1
            attempt_s = min(remaining_s, self._retries.attempt_timeout_s or remaining_s)
            try:
                sent = self._pairs(address, terms.pairs, observed)
                reply: Reply = yield Send(address, call, attempt_s, sent)
            except MaskServingError as error:
                if isinstance(error, ServerUnavailableError | DeadlineExceededError):
                    self._balancer.report(address, works=False)
                if isinstance(error, DeadlineExceededError) and attempt_s < remaining_s:
                    error = _attempt_timed_out(error, attempt_s)
                elif isinstance(error, DeadlineExceededError) and previous and attempt_s < _SHORT_ATTEMPT_S:
                    raise previous from error  # the last moments tell less than what went before
                delay_s = self._delay_s(call, error, observed.attempts, terms.deadline)
                if delay_s is None:
                    if observed.attempts > 1:
                        error.problem += f" (after {observed.attempts} attempts)"
                    raise error from error.__cause__
                for observer in self._observers:
                    observer.attempt_failed(observed, error, delay_s)
                previous = error
                if delay_s > 0:
                    yield Pause(delay_s)
            else:
                self._balancer.report(address, works=True)
                return dataclasses.replace(reply, address=str(address))

    def _delay_s(self, call: Call, error: MaskServingError, attempts: int, deadline: float) -> float | None:
        """Returns how long to wait before the next attempt; None if there is to be none."""
        policy = self._retries
        if policy.max_attempts is not None and attempts >= policy.max_attempts:
            return None
        if not may_repeat(call, error):
            return None
        # Another address may work at once; when all have failed, they get time.
        rounds = attempts - self._balancer.count + 1
        delay_s = policy.delay_s(rounds) if rounds > 0 else 0.0
        if self._clock() + delay_s >= deadline:
            return None
        costs = not isinstance(error, ServerUnavailableError) or error.sent
        return None if costs and not self._budget.spend() else delay_s

    def _pairs(self, address: Address, pairs: Metadata, observed: ObservedCall) -> Metadata:
        sent = self._credentials.for_call(address, pairs)
        for observer in self._observers:
            sent += observer.metadata(observed)
        return sent

    # ---- what a model is ----

    def metadata(self, terms: Terms) -> Script[ModelMetadata]:
        """Asks for the model's signatures."""
        reply = yield from self.call(MetadataCall(self.target), terms)
        metadata: ModelMetadata = reply.value
        with self._cache_lock:
            if self._cache.metadata is None or self._cache.metadata.version != metadata.version:
                self._cache.info = None
            self._cache.metadata = metadata
            self._cache.read_at = self._clock()
        return metadata

    def known_metadata(self, terms: Terms) -> Script[ModelMetadata]:
        """Gives the model's signatures, asking for them once."""
        cached = self._cache.metadata
        if cached is not None:
            return cached
        return (yield from self.metadata(terms))

    def _is_stale(self) -> bool:
        return self._clock() - self._cache.read_at > _METADATA_FRESH_S

    def _saw_version(self, version: int | None) -> None:
        with self._cache_lock:
            cached = self._cache.metadata
            if version is not None and cached is not None and cached.version != version:
                self._cache = _Cache()

    def status(self, terms: Terms) -> Script[list[VersionStatus]]:
        """Asks for the states of the model's versions."""
        reply = yield from self.call(StatusCall(self.target), terms)
        statuses: list[VersionStatus] = reply.value
        return statuses

    def info(self, terms: Terms) -> Script[dict[str, Any]]:
        """Asks for what the exporter wrote about the model."""
        outputs = yield from self.predict(contract.EXPORT_INFO, {contract.QUERY: ["info"]}, (contract.INFO,), terms)
        try:
            info = json.loads(outputs[contract.INFO][0])
            if not isinstance(info, dict):
                raise TypeError("not an object")
        except (ValueError, TypeError, IndexError) as error:
            raise InvalidResponseError(
                f"the model's info is not JSON: {error}", context=context_of(MetadataCall(self.target))
            ) from error
        with self._cache_lock:
            self._cache.info = info
        return info

    def _class_names(self, terms: Terms) -> Script[Sequence[str] | None]:
        info = self._cache.info
        if info is None:
            info = yield from self.info(terms)
        names = info.get("classes")
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
        return None

    def reload_config(self, config: ModelServerConfig | Mapping[str, str], terms: Terms) -> Script[None]:
        """Tells the server which models to serve."""
        if not isinstance(config, ModelServerConfig):
            message = ModelServerConfig()
            for name, base_path in config.items():
                message.model_config_list.config.append(
                    ModelConfig(name=name, base_path=base_path, model_platform="tensorflow")
                )
            config = message
        yield from self.call(ReloadCall(config), terms)

    def wait_until_ready(self, terms: Terms) -> Script[None]:
        """Waits until the model answers."""
        last: MaskServingError | None = None
        while True:
            try:
                state = yield from self._readiness(terms)
                if state is None:
                    return
                last = DeadlineExceededError(state, hint="the server's log says why it takes so long")
            except (ServerUnavailableError, ModelNotFoundError, DeadlineExceededError) as error:
                last = last if last is not None and isinstance(error, DeadlineExceededError) else error
            if self._clock() + _POLL_S >= terms.deadline:
                raise DeadlineExceededError(
                    f"not ready in time: {last.problem}",
                    hint=last.hint,
                    server_message=last.server_message,
                    context=dataclasses.replace(context_of(StatusCall(self.target)), address=str(self.addresses[0])),
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

    # ---- predictions ----

    def predict(
        self,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None,
        terms: Terms,
    ) -> Script[dict[str, Any]]:
        """Calls a signature with arrays, checked against its metadata first."""
        metadata = yield from self.known_metadata(terms)
        try:
            call = self._predict_call(metadata, signature, inputs, outputs)
        except MaskServingError:
            # The server may have another version by now.
            if not self._is_stale():
                raise
            metadata = yield from self.metadata(terms)
            call = self._predict_call(metadata, signature, inputs, outputs)
        reply = yield from self.call(call, terms)
        self._saw_version(reply.value.version)
        return dict(reply.value.outputs)

    def _predict_call(
        self,
        metadata: ModelMetadata,
        signature: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None,
    ) -> PredictCall:
        context = CallContext(str(self.addresses[0]), self.target.model, metadata.version, self.target.label, signature)
        try:
            info = metadata.signature(signature)
            if isinstance(outputs, str):
                raise InvalidRequestError(f"outputs={outputs!r} is not a list of names")
            wanted = tuple(outputs or ())
            check_outputs(info, wanted)
            return PredictCall(self.target, info, check_inputs(info, inputs), wanted)
        except MaskServingError as error:
            error.add_context(context)
            raise

    def segment(
        self,
        sources: Sequence[ImageSource | Picture | Exception],
        thresholds: Sequence[float | None],
        outputs: Sequence[str],
        terms: Terms,
    ) -> Script[list[MaskResult | Exception]]:
        """Masks some pictures by as few calls as can be; gives each one's result or error.

        Args:
            sources: the pictures; one that could not be read may be the error.
            thresholds: for each; None is the export's own.
            outputs: the products.
            terms: of all calls together.
        """
        check_request(outputs, None)
        outputs = tuple(outputs)
        checked = [_check_threshold(outputs, threshold) for threshold in thresholds]
        read = yield Compute(
            lambda: [
                threshold if isinstance(threshold, Exception) else _read(source)
                for source, threshold in zip(sources, checked, strict=True)
            ]
        )
        results: list[MaskResult | Exception] = list(read)
        for indexes in _chunks(read):
            masked = yield from self._mask_robustly(
                [read[index] for index in indexes], [checked[index] for index in indexes], outputs, terms
            )
            for index, result in zip(indexes, masked, strict=True):
                results[index] = result
        return results

    def tile_plan(self, product: str, tile: int, overlap: int, terms: Terms) -> Script[tuple[ModelMetadata, TilePlan]]:
        """Gives the model's signatures, and how it wants large pictures cut up."""
        metadata = yield from self.known_metadata(terms)
        try:
            if contract.EXPORT_INFO not in metadata.signatures:
                raise SignatureNotFoundError(
                    "the model does not tell at which scale it works", hint="large pictures need a maskport export"
                )
            info = self._cache.info
            if info is None:
                info = yield from self.info(terms)
            return metadata, plan_tiles(info, product, tile, overlap)
        except MaskServingError as error:
            error.add_context(context_of(MetadataCall(self.target)))
            raise

    def tile_probability(
        self, pixels: npt.NDArray[Any], signature: SignatureInfo | None, terms: Terms
    ) -> Script[npt.NDArray[np.float32]]:
        """Gives the probability [h, w] of a tile's pixels [h, w, C].

        Args:
            pixels: of the tile.
            signature: the pixel signature that takes them; None sends them encoded.
            terms: of the calls.
        """
        if signature is not None:
            call = PredictCall(self.target, signature, {contract.IMAGE: pixels[np.newaxis]})
            try:
                reply = yield from self.call(call, terms)
            except MixedSizesError:
                pass  # the server batches: encoded pictures pass unharmed
            else:
                probability = reply.value.outputs.get(contract.PROBABILITY)
                wanted = (1, *pixels.shape[:2], 1)
                if probability is None or probability.shape != wanted:
                    raise InvalidResponseError(
                        f"the answer holds no {contract.PROBABILITY} of shape {list(wanted)}",
                        context=dataclasses.replace(context_of(call), address=reply.address),
                    )
                return np.asarray(probability[0, :, :, 0], np.float32)
        results = yield from self.segment([pixels], [None], (contract.PROBABILITY,), terms)
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0].probability

    def _mask_robustly(
        self,
        pictures: Sequence[Picture],
        thresholds: Sequence[float | None],
        outputs: Sequence[str],
        terms: Terms,
    ) -> Script[list[MaskResult | MaskServingError]]:
        """Masks pictures together, or one by one where one of them makes the call fail for all."""
        try:
            return (yield from self._mask(pictures, thresholds, outputs, terms))
        except (InvalidRequestError, InvalidImageError, ModelStateError) as error:
            if len(pictures) == 1:
                return [error]
        results: list[MaskResult | MaskServingError] = []
        for picture, threshold in zip(pictures, thresholds, strict=True):
            try:
                results += yield from self._mask([picture], [threshold], outputs, terms)
            except MaskServingError as error:
                results.append(error)
        return results

    def _mask(
        self,
        pictures: Sequence[Picture],
        thresholds: Sequence[float | None],
        outputs: Sequence[str],
        terms: Terms,
    ) -> Script[list[MaskResult | MaskServingError]]:
        started = self._clock()
        metadata = yield from self.known_metadata(terms)

        def plan() -> Any:
            return plan_calls(metadata, self.target, pictures, thresholds, outputs)

        try:
            try:
                planned = yield Compute(plan)
            except SignatureNotFoundError:
                if not self._is_stale():
                    raise
                metadata = yield from self.metadata(terms)
                planned = yield Compute(plan)
            class_names = None
            if contract.CLASS_MAP in outputs and contract.EXPORT_INFO in metadata.signatures:
                class_names = yield from self._class_names(terms)
        except MaskServingError as error:
            error.add_context(
                CallContext(str(self.addresses[0]), self.target.model, metadata.version, self.target.label)
            )
            raise
        try:
            replies = yield from self._replies(planned, terms)
            if len({reply.value.version for reply in replies}) > 1:
                # A new version came in between: products of two models do not belong together.
                replies = yield from self._replies(planned, terms)
        except MaskServingError as error:
            raise image_error_of(error, pictures) from error.__cause__
        products: dict[str, dict[int, Any]] = {product: {} for product in outputs}
        context = CallContext(model=self.target.model, label=self.target.label)
        for one, reply in zip(planned, replies, strict=True):
            self._saw_version(reply.value.version)
            context = CallContext(
                reply.address,
                self.target.model,
                reply.value.version,
                self.target.label,
                one.call.signature.name,
            )
            products[one.product].update(read_outputs(one, reply.value, pictures, context))
        return assemble(
            pictures,
            products,
            context=context,
            class_names=class_names,
            seconds=self._clock() - started,
            request_bytes=sum(reply.request_bytes for reply in replies),
            response_bytes=sum(reply.response_bytes for reply in replies),
        )

    def _replies(self, planned: Sequence[PlannedCall], terms: Terms) -> Script[list[Reply]]:
        if len(planned) == 1:
            return [(yield from self.call(planned[0].call, terms))]
        replies: list[Reply] = yield Together([self.call(one.call, terms) for one in planned])
        return replies


def _attempt_timed_out(error: DeadlineExceededError, attempt_s: float) -> ServerUnavailableError:
    late = ServerUnavailableError(f"no answer to one attempt in {attempt_s:g} s", server_message=error.server_message)
    late.__cause__ = error
    return late


def _chunks(read: Sequence[Picture | Exception]) -> list[list[int]]:
    """Returns the indexes of those pictures that go in one call together: many small ones, or one large one."""
    chunks: list[list[int]] = []
    filled = _CHUNK_BYTES
    for index, picture in enumerate(read):
        if isinstance(picture, Exception):
            continue
        if filled + picture.byte_count > _CHUNK_BYTES:
            chunks.append([])
            filled = 0
        chunks[-1].append(index)
        filled += picture.byte_count
    return chunks


def _check_threshold(outputs: Sequence[str], threshold: float | None) -> Any:
    """Returns a threshold as a number, None, or what is wrong with it."""
    try:
        check_request(outputs, threshold)
    except InvalidRequestError as error:
        return error
    return None if threshold is None else float(threshold)


def _read(source: Any) -> Picture | Exception:
    if isinstance(source, Picture | Exception):
        return source
    try:
        return read_picture(source)
    except (MaskServingError, OSError) as error:
        return error
