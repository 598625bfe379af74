"""What can go wrong with a call, as one family of errors.

MaskServingError
├── InvalidRequestError        the request makes no sense, found here or by the server
│   ├── InvalidAddressError
│   ├── MessageTooLargeError
│   └── OutputNotRequestedError
├── InvalidImageError          one image cannot be masked; others of the same request can
├── ModelNotFoundError
├── SignatureNotFoundError
├── ModelStateError            the model refuses in its present state
│   ├── MixedSizesError        the server's batching merged images of different sizes
│   └── MixedVersionsError     no version of the model answered for all products
├── AccessDeniedError          unauthenticated, or not allowed
├── DeadlineExceededError
├── ServerUnavailableError     no answer, or the server says to try later
├── ServerOverloadedError
│   └── ServerBusyError        all its threads are busy: the call never began
├── CallCancelledError
│   └── ClientClosedError
├── UnsupportedCallError       the server, or this transport, has no such call
├── InvalidResponseError       an answer that cannot be right
└── ServerFaultError           the server's own failure
    └── ModelFaultError        the model's graph needs what this server does not have
"""

import dataclasses

from ..status_codes import StatusCode as StatusCode  # noqa: PLC0414  (the client gives it to users)


@dataclasses.dataclass(frozen=True)
class CallContext:
    """What a failed call was about, as far as it is known."""

    address: str | None = None
    model: str | None = None
    version: int | None = None  # that was asked for, or that answered
    label: str | None = None  # that was asked for instead of a version
    signature: str | None = None

    def __str__(self) -> str:
        """Returns a phrase such as `model 'coins' version 3, signature 'mask_png' at grpc://host:8500`."""
        named = (("model", self.model), ("version", self.version), ("label", self.label))
        model = " ".join(f"{word} {value!r}" for word, value in named if value is not None)
        signature = None if self.signature is None else f"signature {self.signature!r}"
        phrase = ", ".join(filter(None, (model, signature)))
        return " at ".join(filter(None, (phrase, self.address)))


class MaskServingError(Exception):
    """Any failure of the client or of a server that it called.

    Its text is one line: what was wrong, with which model, version, signature and address, and what to do.

    Attributes:
        problem: what was wrong; the server's own words where it was the server that found it.
        hint: what to do about it; empty where the problem says it.
        code: the status that the server answered with, or would have; None where no status fits.
        http_status: HTTP's status, where HTTP was spoken and answered.
        server_message: the server's words as they came, or None.
        context: what the call was about.
    """

    default_code: StatusCode | None = None
    default_hint = ""

    def __init__(
        self,
        problem: str,
        *,
        hint: str | None = None,
        code: StatusCode | None = None,
        http_status: int | None = None,
        server_message: str | None = None,
        context: CallContext | None = None,
    ):
        self.problem = problem
        self.hint = self.default_hint if hint is None else hint
        self.code = self.default_code if code is None else code
        self.http_status = http_status
        self.server_message = server_message
        self.context = context or CallContext()
        super().__init__(problem)

    def __str__(self) -> str:
        problem = " ".join(self.problem.split()) or "the server gave no reason"
        about = str(self.context)
        text = f"{about}: {problem}" if about else problem
        return f"{text.rstrip('.;')}; {self.hint}" if self.hint else text

    @property
    def address(self) -> str | None:
        """The server's address."""
        return self.context.address

    @property
    def model(self) -> str | None:
        """The model's name."""
        return self.context.model

    @property
    def version(self) -> int | None:
        """The model's version, where one was asked for or known."""
        return self.context.version

    @property
    def signature(self) -> str | None:
        """The signature that was called."""
        return self.context.signature

    def add_context(self, context: CallContext) -> None:
        """Fills in what the error did not yet know of its call."""
        known = {name: value for name, value in dataclasses.asdict(self.context).items() if value is not None}
        self.context = dataclasses.replace(context, **known)


class InvalidRequestError(MaskServingError):
    """The request makes no sense: found before it was sent, or by the server."""

    default_code = StatusCode.INVALID_ARGUMENT


class InvalidAddressError(InvalidRequestError):
    """The address is not one that can be called."""


class MessageTooLargeError(InvalidRequestError):
    """A message is larger than this side, or the server, allows."""

    default_code = StatusCode.RESOURCE_EXHAUSTED
    default_hint = (
        "send fewer or smaller images, or raise the limit of the side that refused: the client's max_answer_bytes, or "
        "the server's"
    )


class OutputNotRequestedError(InvalidRequestError):
    """A result does not hold what was asked of it, as the request did not ask for it."""


class InvalidImageError(MaskServingError):
    """An image that the model cannot mask; other images of the request are not touched by it."""

    default_code = StatusCode.INVALID_ARGUMENT


class ModelNotFoundError(MaskServingError):
    """The server has no such model, version or label, or has not loaded it (yet)."""

    default_code = StatusCode.NOT_FOUND
    default_hint = "check the name and version with status(), or wait with wait_until_ready()"


class SignatureNotFoundError(MaskServingError):
    """The model has no such signature."""

    default_code = StatusCode.FAILED_PRECONDITION
    default_hint = "metadata() lists the signatures"


class ModelStateError(MaskServingError):
    """The model, or the server, refuses the call in its present state."""

    default_code = StatusCode.FAILED_PRECONDITION


class MixedVersionsError(ModelStateError):
    """No version of the model answered for all products of a picture: another one comes, or servers differ."""

    default_hint = "call it again, or make the client with a version that all servers have"


class MixedSizesError(ModelStateError):
    """Images of different sizes, perhaps of different callers, met in one batch of the server."""

    default_hint = (
        "the server's batching merged callers' images of different sizes: call the *_png signatures, as "
        "segment() does, or switch batching off for this model"
    )


class AccessDeniedError(MaskServingError):
    """The caller is unknown (UNAUTHENTICATED) or not allowed to do this (PERMISSION_DENIED)."""

    default_code = StatusCode.PERMISSION_DENIED
    default_hint = "check the token, the metadata or the client certificate"


class DeadlineExceededError(MaskServingError):
    """No answer within the time allowed."""

    default_code = StatusCode.DEADLINE_EXCEEDED
    default_hint = "allow more time with timeout=, or look at the server's load"


class ServerUnavailableError(MaskServingError):
    """The server cannot be reached, broke off, or says that it cannot answer now.

    Attributes:
        sent: whether the request may have reached a server; where it cannot have, any call may be repeated.
    """

    default_code = StatusCode.UNAVAILABLE
    default_hint = "check that the server runs and that the address and port are right"
    sent = True


class ServerOverloadedError(MaskServingError):
    """The server, or something before it, refuses more work."""

    default_code = StatusCode.RESOURCE_EXHAUSTED
    default_hint = "send less at a time"


class ServerBusyError(ServerOverloadedError):
    """All of the server's gRPC threads are busy; the call was refused before it began."""

    default_hint = (
        "raise --grpc_max_threads of tensorflow_model_server above the number of calls at one time, or make fewer"
    )


class CallCancelledError(MaskServingError):
    """The call was cancelled before it was answered."""

    default_code = StatusCode.CANCELLED


class ClientClosedError(CallCancelledError):
    """The client was closed, while the call was on its way or before it was made."""

    default_hint = "make a new client"


class UnsupportedCallError(MaskServingError):
    """The server, or this transport, knows no such call."""

    default_code = StatusCode.UNIMPLEMENTED
    default_hint = "check that the address is TensorFlow Serving's and not another service's"


class InvalidResponseError(MaskServingError):
    """An answer that cannot be right: not understood, or not of the size that was sent."""

    default_code = StatusCode.DATA_LOSS
    default_hint = "check what answers at this address"


class ServerFaultError(MaskServingError):
    """The server failed by itself, or answered with a code that has no meaning here."""

    default_code = StatusCode.INTERNAL
    default_hint = "the server's log says more"


class ModelFaultError(ServerFaultError):
    """The model's graph needs what this server does not have: an op, a resource, a file."""

    default_hint = "the model is there, and this server cannot run it: mask-verify tells more"
