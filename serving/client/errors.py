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
    │   └── MixedSizesError        the server's batching merged images of different sizes
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

`CODES` is the one table from gRPC's and HTTP's codes to these.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..status_codes import StatusCode


@dataclasses.dataclass(frozen=True)
class CallContext:
    """What a failed call was about, as far as it is known.

    Attributes:
        address: of the server, as the user gave it.
        model: its name.
        version: that was asked for, or that answered.
        label: that was asked for instead of a version.
        signature: that was called.
    """

    address: str | None = None
    model: str | None = None
    version: int | None = None
    label: str | None = None
    signature: str | None = None

    def __str__(self) -> str:
        """Returns a phrase such as `model 'coins' version 3, signature 'mask_png' at grpc://host:8500`."""
        words = []
        if self.model is not None:
            words.append(f"model {self.model!r}")
        if self.version is not None:
            words.append(f"version {self.version}")
        if self.label is not None:
            words.append(f"label {self.label!r}")
        phrase = " ".join(words)
        if self.signature is not None:
            phrase += f"{', ' if phrase else ''}signature {self.signature!r}"
        if self.address is not None:
            phrase += f"{' at ' if phrase else ''}{self.address}"
        return phrase


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

    def __reduce__(self) -> Any:
        # Errors cross process borders (pools, Beam); the default way loses the keyword arguments.
        return _rebuild, (type(self), self.__dict__)

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


def _rebuild(error_class: type[MaskServingError], fields: dict[str, Any]) -> MaskServingError:
    error = error_class(fields["problem"])
    error.__dict__.update(fields)
    return error


class InvalidRequestError(MaskServingError):
    """The request makes no sense: found before it was sent, or by the server."""

    default_code = StatusCode.INVALID_ARGUMENT


class InvalidAddressError(InvalidRequestError):
    """The address is not one that can be called."""


class MessageTooLargeError(InvalidRequestError):
    """A message is larger than this side, or the server, allows."""

    default_code = StatusCode.RESOURCE_EXHAUSTED
    default_hint = "send fewer or smaller images, or raise the limit of the side that refused"


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


@dataclasses.dataclass(frozen=True)
class _Meaning:
    error: type[MaskServingError]
    http_statuses: tuple[int, ...] = ()


# gRPC code -> error, and the HTTP statuses that mean the same. TensorFlow Serving answers 400 for three codes
# and 409 for two; the first one here is what is made of them. The others are proxies' and load balancers'.
CODES: Mapping[StatusCode, _Meaning] = MappingProxyType(
    {
        StatusCode.INVALID_ARGUMENT: _Meaning(InvalidRequestError, (400, 405, 411, 415, 422)),
        StatusCode.FAILED_PRECONDITION: _Meaning(ModelStateError, (412,)),
        StatusCode.OUT_OF_RANGE: _Meaning(InvalidRequestError),
        StatusCode.UNAUTHENTICATED: _Meaning(AccessDeniedError, (401,)),
        StatusCode.PERMISSION_DENIED: _Meaning(AccessDeniedError, (403, 407)),
        StatusCode.NOT_FOUND: _Meaning(ModelNotFoundError, (404,)),
        StatusCode.ABORTED: _Meaning(ServerFaultError, (409,)),
        StatusCode.ALREADY_EXISTS: _Meaning(ModelStateError),
        StatusCode.RESOURCE_EXHAUSTED: _Meaning(ServerOverloadedError, (429, 413)),
        StatusCode.CANCELLED: _Meaning(CallCancelledError, (499,)),
        StatusCode.INTERNAL: _Meaning(ServerFaultError, (500,)),
        StatusCode.UNKNOWN: _Meaning(ServerFaultError),
        StatusCode.DATA_LOSS: _Meaning(ServerFaultError),
        StatusCode.UNIMPLEMENTED: _Meaning(UnsupportedCallError, (501,)),
        StatusCode.UNAVAILABLE: _Meaning(ServerUnavailableError, (503, 502)),
        StatusCode.DEADLINE_EXCEEDED: _Meaning(DeadlineExceededError, (504, 408)),
    }
)
_CODES_BY_HTTP_STATUS = MappingProxyType(
    {status: code for code, meaning in CODES.items() for status in meaning.http_statuses}
)

# Words of TensorFlow Serving and of gRPC that tell more than the code does, most telling first.
_TELLING_WORDS: tuple[tuple[str, type[MaskServingError]], ...] = (
    ("Serving signature key", SignatureNotFoundError),
    ("Serving signature name", SignatureNotFoundError),
    ("different shapes and padding is turned off", MixedSizesError),
    ("Unrecognized servable version label", ModelNotFoundError),
    ("larger than max", MessageTooLargeError),
)
# How gRPC's C++ server refuses a call for which it has no thread: in older releases without a word. Whoever else is as
# silent (proxies that limit rates) has not begun the call either.
_NO_THREAD = ("Server Threadpool Exhausted", "")
# Words of a graph that lacks something in this server, whatever the code that they come with.
_NOT_REGISTERED = ("Op type not registered", "No OpKernel was registered", "No registered '")
# A graph's own errors name its nodes.
_NODES = ("[[{{", "\n\t [[")
# The codes that mean the server itself, or the call's target, unless they come out of a graph.
_CODES_OF_TARGETS = (
    StatusCode.NOT_FOUND,
    StatusCode.UNIMPLEMENTED,
    StatusCode.PERMISSION_DENIED,
    StatusCode.UNAUTHENTICATED,
)
# Words by which a graph does not find something, where no node is named.
_MISSING_IN_GRAPH = (
    "does not exist",
    "No such file or directory",
    "not found in checkpoint",
    "unable to find feed output",
    "FetchOutputs node",
    "is not defined",
)


def error_of_code(
    code: StatusCode,
    server_message: str,
    *,
    http_status: int | None = None,
    context: CallContext | None = None,
) -> MaskServingError:
    """Returns the error that a status code and the server's words mean.

    Args:
        code: any but OK.
        server_message: what the server said; may be empty.
        http_status: where the code was made from one.
        context: what the call was about.
    """
    error_class = CODES[code].error
    # Only codes by which these things are reported: a model may use the same words in its own failure.
    if code in (
        StatusCode.INVALID_ARGUMENT,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.ABORTED,
    ):
        for words, telling_class in _TELLING_WORDS:
            if words in server_message:
                error_class = telling_class
                break
    if http_status == 413:
        error_class = MessageTooLargeError
    elif code == StatusCode.RESOURCE_EXHAUSTED and http_status is None and server_message.strip() in _NO_THREAD:
        error_class = ServerBusyError
    elif _is_of_the_graph(code, server_message):
        error_class = ModelFaultError
    # What follows names nodes of the graph, which callers have no use for; server_message keeps it.
    problem = server_message.partition("\n\t [[")[0]
    return error_class(
        problem or f"the server answered {code.name} without a word",
        code=code,
        http_status=http_status,
        server_message=server_message,
        context=context,
    )


def _is_of_the_graph(code: StatusCode, words: str) -> bool:
    """Returns whether a graph lacks something in its server, rather than the server what was asked for."""
    if any(telling in words for telling in _NOT_REGISTERED):
        return True
    if code not in _CODES_OF_TARGETS:
        return False
    is_missing = code == StatusCode.NOT_FOUND and any(telling in words for telling in _MISSING_IN_GRAPH)
    return is_missing or any(telling in words for telling in _NODES)


_CERTIFICATE_WORDS = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "Hostname Verification")


def certificate_error(words: str) -> "AccessDeniedError | None":
    """Returns the error of a connection that failed over the server's certificate; None where it did not.

    Args:
        words: the transport's library's own.
    """
    if not any(telling in words for telling in _CERTIFICATE_WORDS):
        return None
    return AccessDeniedError(
        f"the server's certificate is not accepted: {words}",
        hint="check ca_file and server_name of Tls",
        code=StatusCode.UNAUTHENTICATED,
    )


def code_of_http_status(http_status: int) -> StatusCode:
    """Returns the status code that an HTTP status means; UNKNOWN for one without a meaning here."""
    return _CODES_BY_HTTP_STATUS.get(http_status, StatusCode.UNKNOWN)
