"""How a client proves who it is, and checks who answers."""

import dataclasses
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from .addresses import Address

if TYPE_CHECKING:
    import ssl

Metadata = Sequence[tuple[str, str]]
"""Pairs that travel beside a request: gRPC metadata, or HTTP headers."""

Token = str | Callable[[], str]
"""A bearer token, or what returns the one that is valid now."""


@dataclasses.dataclass(frozen=True)
class Tls:
    """Certificates for grpcs:// and https://.

    Attributes:
        ca_file: PEM of the authorities to trust; None is those of the system (https) or of gRPC (grpcs).
        cert_file: PEM of the client's own certificate, for servers that ask for one (mutual TLS).
        key_file: PEM of its private key.
        server_name: name that the server's certificate must bear, where it isn't the address' host.
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = dataclasses.field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise InvalidRequestError("Tls needs both cert_file and key_file, or neither")
        if self.server_name is not None and not self.server_name.partition(".")[0]:
            raise InvalidRequestError(f"Tls: server_name {self.server_name!r} is no name; leave it out, or give one")

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Returns what the files of authorities, key and certificate hold; raises `InvalidRequestError`."""

        def content(name: str) -> bytes | None:
            path = getattr(self, name)
            if path is None:
                return None
            try:
                return Path(path).read_bytes()
            except (OSError, ValueError) as error:  # such as a name with a zero byte
                reason = getattr(error, "strerror", None) or error
                raise InvalidRequestError(f"Tls cannot read {name} {path}: {reason}") from error

        return content("ca_file"), content("key_file"), content("cert_file")

    def context(self) -> "ssl.SSLContext":
        """Returns the certificates as Python's own TLS wants them; `InvalidRequestError` where a file holds none."""
        import ssl  # not loaded by clients that do without encryption

        self.read()  # names the file that is not there
        wrong = f"ca_file {self.ca_file} holds no certificate"
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                wrong = f"cert_file {self.cert_file} holds no certificate"
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.cert_file)
                wrong = (
                    f"key_file {self.key_file} holds no private key without a password, or not that of cert_file "
                    f"{self.cert_file}"
                )
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: b"")  # rather than ask for one
        except (OSError, ssl.SSLError) as error:
            raise InvalidRequestError(f"Tls: {wrong}, in PEM form ({error})") from error
        return context


# What both gRPC and HTTP take for a key.
_KEY = re.compile(r"[A-Za-z0-9_.-]+")
_SECRET = ("authorization", "proxy-authorization", "cookie", "x-api-key")


class Credentials:
    """What is sent beside every request: pairs, such as `{"x-team": "vision"}`, and `authorization: Bearer TOKEN`.

    Secrets leave this machine unencrypted only where `allow_plaintext` says so.
    """

    def __init__(
        self,
        metadata: Mapping[str, str] | Metadata | None = None,
        token: Token | None = None,
        *,
        allow_plaintext: bool = False,
    ):
        self._metadata = as_metadata(metadata)
        self._token = checked_token(token) if isinstance(token, str) else token
        self._allow_plaintext = allow_plaintext

    def check(self, addresses: Sequence[Address]) -> None:
        """Raises `InvalidRequestError` where something secret would leave this machine unencrypted."""
        for address in addresses:
            self._check(address, self._metadata, has_token=self._token is not None)

    def for_call(self, address: Address, metadata: Metadata = ()) -> list[tuple[str, str]]:
        """Returns the pairs to send with one call, whose own ones are checked as `check` does the client's."""
        self._check(address, metadata, has_token=False)
        pairs = [*self._metadata, *metadata]
        if self._token is not None and not any(key == "authorization" for key, _ in metadata):
            token = self._token if isinstance(self._token, str) else checked_token(self._token())
            pairs.append(("authorization", f"Bearer {token}"))
        return pairs

    def _check(self, address: Address, metadata: Metadata, *, has_token: bool) -> None:
        secret = has_token or any(key in _SECRET for key, _ in metadata)
        if secret and not (self._allow_plaintext or address.is_secure or address.stays_on_this_machine):
            raise InvalidRequestError(
                f"{address} would carry a secret unencrypted",
                hint="use grpcs:// or https://, or allow it with allow_plaintext_secrets=True",
            )


def checked_token(token: object) -> str:
    """Returns a bearer token: printable ASCII text without spaces, or `InvalidRequestError`, without the secret."""
    if not isinstance(token, str) or not token:
        raise InvalidRequestError("the token is empty, or no text", hint="give the text that follows 'Bearer '")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise InvalidRequestError(
            "the token holds spaces or characters that are not printable ASCII", hint="strip the line's end"
        )
    return token


def as_metadata(metadata: Mapping[str, str] | Metadata | None) -> tuple[tuple[str, str], ...]:
    """Returns pairs of printable ASCII text with lower-case keys, as HTTP/2 wants them, or `InvalidRequestError`."""
    if metadata is None:
        return ()
    pairs = metadata.items() if isinstance(metadata, Mapping) else metadata
    checked = []
    for key, value in pairs:
        if not (isinstance(key, str) and isinstance(value, str) and key and (key + value).isascii()):
            raise InvalidRequestError(f"metadata {key!r} is not ASCII text")
        if not (key + value).isprintable():
            raise InvalidRequestError(f"metadata {key!r} holds control characters")
        if not _KEY.fullmatch(key):
            raise InvalidRequestError(
                f"metadata {key!r} is no key", hint="a key is of letters, digits, hyphens, underscores and dots"
            )
        checked.append((key.lower(), value))
    return tuple(checked)
