"""What both clients are made from."""

import abc
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from .calling.observers import Observer
from .calling.operations import Operations
from .calling.retries import RetryPolicy
from .calling.sending import Caller, Terms
from .errors import ClientClosedError, InvalidRequestError
from .segmenting.segmentation import Segmentation
from .transport.addresses import Address, parse_addresses
from .transport.calls import Target
from .transport.options import DEFAULT_MAX_ANSWER_BYTES, ConnectionOptions
from .transport.security import Credentials, Metadata, Tls, Token, as_metadata

DEFAULT_TIMEOUT_S = 30.0
MetadataLike = Mapping[str, str] | Metadata


class ClientBase(abc.ABC):
    """A client of one model on one or more servers.

    Args:
        address: `grpc://HOST:8500`, `grpcs://`, `http://HOST:8501`, `https://` or `unix:///PATH`; several,
            in a sequence or with commas between, serve the same model and share the calls.
        model: its name on the server.
        version: a version's number; None leaves the choice to the server, which takes the latest.
        label: in place of a number, a name that the server gives a version.
        timeout: seconds that any call may take, unless the call says otherwise.
        metadata: sent with every call: gRPC metadata, or HTTP headers.
        token: sent with every call as `authorization: Bearer TOKEN`; a function is asked before each call.
        allow_plaintext_secrets: whether tokens and the like may leave this machine unencrypted.
        tls: certificates, for grpcs:// and https://.
        retries: when failed calls are repeated.
        compression: "gzip" compresses requests; pictures are compressed already.
        keepalive: seconds of silence during a gRPC call after which the server is asked whether it lives.
        max_connections: to one address at one time, for REST.
        max_answer_bytes: a larger answer is refused with `MessageTooLargeError`.
        observers: told of every call, for tracing and metrics.

    Raises:
        InvalidAddressError: an address makes no sense.
        InvalidRequestError: something else does not.
    """

    def __init__(
        self,
        address: str | Sequence[str],
        model: str,
        version: int | None = None,
        label: str | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        metadata: MetadataLike | None = None,
        token: Token | None = None,
        allow_plaintext_secrets: bool = False,
        tls: Tls | None = None,
        retries: RetryPolicy | None = None,
        compression: str | None = None,
        keepalive: float = 30.0,
        max_connections: int = 100,
        max_answer_bytes: int = DEFAULT_MAX_ANSWER_BYTES,
        observers: Sequence[Observer] = (),
    ):
        if not model or not isinstance(model, str):
            raise InvalidRequestError(f"model={model!r} is no name of a model")
        if version is not None and label is not None:
            raise InvalidRequestError("version and label exclude each other")
        if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
            raise InvalidRequestError(f"version={version!r} is no whole number")
        if version is not None and not -(2**63) <= version < 2**63:
            raise InvalidRequestError(f"version={version!r} has more than 64 bits")
        if compression not in (None, "gzip"):
            raise InvalidRequestError(f"compression={compression!r} is neither 'gzip' nor None")
        addresses = self._parse_addresses(address)
        credentials = Credentials(metadata, token, allow_plaintext=allow_plaintext_secrets)
        credentials.check(addresses)
        if tls is not None and any(address.is_secure for address in addresses):
            tls.context()  # what cannot be used is found now, rather than by the first call
        self._timeout_s = check_timeout(timeout)
        self._options = ConnectionOptions(
            tls=tls or Tls(),
            compression=compression,
            keepalive_s=check_timeout(keepalive, "keepalive"),
            max_connections=max_connections,
            max_answer_bytes=_check_count(max_answer_bytes, "max_answer_bytes"),
        )
        self._caller = Caller(
            addresses,
            credentials=credentials,
            retries=retries or RetryPolicy(),
            observers=observers,
            clock=time.monotonic,
        )
        self._target = Target(model, version, label)
        self._operations = Operations(self._target, self._caller)
        self._segmentation = Segmentation(self._operations, self._caller)
        self._process_id = os.getpid()
        self._is_closed = False
        self._set_up()

    def _parse_addresses(self, address: str | Sequence[str]) -> tuple[Address, ...]:
        """Returns what the address means; raises `InvalidAddressError`."""
        return parse_addresses(address)

    @abc.abstractmethod
    def _set_up(self) -> None:
        """Makes what carries out calls; connections come with the first call."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, as its connections belong to this process: make one "
            "in each worker, and send workers the address and the model's name"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.model!r} at {', '.join(self.addresses)}>"

    @property
    def model(self) -> str:
        """The model's name."""
        return self._target.model

    @property
    def addresses(self) -> tuple[str, ...]:
        """The servers' addresses."""
        return tuple(map(str, self._caller.addresses))

    @property
    def refusals(self) -> int:
        """Attempts that a busy server refused before they began, and that were made again."""
        return self._caller.refusals

    def _terms(self, timeout: float | None, metadata: MetadataLike | None, *, of_many: bool = False) -> Terms:
        """Returns the terms of a call that begins now; one of many of its kind may wait for its turn."""
        timeout_s = self._timeout_s if timeout is None else check_timeout(timeout)
        return Terms(time.monotonic() + timeout_s, as_metadata(metadata), timeout_s if of_many else None)

    def _check_usable(self) -> None:
        if self._is_closed:
            raise ClientClosedError("the client is closed")
        if os.getpid() != self._process_id:
            raise ClientClosedError(
                f"the client was made in process {self._process_id}, and this is its child {os.getpid()}",
                hint="connections do not survive a fork: make the client in the process that uses it",
            )


def _check_count(value: Any, name: str) -> int:
    """Returns a number of bytes; raises `InvalidRequestError` where it is none that protobuf could count."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
        raise InvalidRequestError(f"{name}={value!r} is no whole number from 1 to {(1 << 31) - 1}")
    return value


def check_timeout(timeout: Any, name: str = "timeout") -> float:
    """Returns a time in seconds; raises `InvalidRequestError` where it is none, or not above 0."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not is_number or not 0 < timeout < float("inf"):
        raise InvalidRequestError(f"{name}={timeout!r} is no number of seconds above 0")
    # Beyond what clocks of the libraries below can count lies no deadline that anyone meant.
    return min(float(timeout), 1e7)
