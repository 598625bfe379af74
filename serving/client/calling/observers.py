"""Hooks for tracing and metrics: told of every call, its attempts and its end."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from ..errors import CallContext, MaskServingError


@dataclasses.dataclass
class ObservedCall:
    """One call, from its start to its end.

    Attributes:
        method: `Predict`, `GetModelMetadata`, `GetModelStatus` or `HandleReloadConfigRequest`.
        context: model, version and signature.
        attempts: how often it was sent so far.
        address: that it was last sent to.
        seconds: how long it took, once it has ended.
        request_bytes: of the message, once it has ended well.
        response_bytes: of the answer, likewise.
        error: how it failed, if it did.
        notes: for observers to keep things in, such as a span; each under a key of its own.
    """

    method: str
    context: CallContext
    attempts: int = 0
    address: str = ""
    seconds: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    error: MaskServingError | None = None
    notes: dict[Any, Any] = dataclasses.field(default_factory=dict)


class Observer:
    """Base of observers: override what is of interest. Called from many threads, so be quick."""

    def call_started(self, call: ObservedCall) -> None:
        """A call begins; nothing was sent yet."""

    def metadata(self, call: ObservedCall) -> Sequence[tuple[str, str]]:
        """Returns pairs to send with the next attempt, such as a trace's identity."""
        return ()

    def attempt_failed(self, call: ObservedCall, error: MaskServingError, delay_s: float) -> None:
        """An attempt failed, and another follows after a delay."""

    def call_ended(self, call: ObservedCall) -> None:
        """The call was answered, or has failed for good (`call.error`)."""
