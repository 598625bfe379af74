"""Addresses of servers: what users write, and what it means."""

import dataclasses
import re
import urllib.parse
from collections.abc import Iterable, Sequence

from ..errors import InvalidAddressError

_DEFAULT_PORTS = {"grpc": 8500, "grpcs": 443, "http": 80, "https": 443}
_FORMS = "it is grpc://HOST:PORT, grpcs://, http://, https:// or unix:///PATH"
_CALL = re.compile(r"/v1/models(/.*)?$")
"""The part of a REST URL that names a model and what to ask it."""
_HOST_AND_PORT = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]+)(?:/.*)?", re.ASCII)
_REST_PORTS = ("80", "8501", "8080")
_SPOKEN = {"grpc": "gRPC", "http": "REST"}
_LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclasses.dataclass(frozen=True)
class Address:
    """One server's address."""

    scheme: str  # `grpc`, `grpcs`, `http`, `https`, `unix` (gRPC over a Unix socket); `file` of a model in this process
    host: str = ""  # a name or an IP address, without brackets; empty for `unix` and `file`
    port: int = 0  # likewise 0
    path: str = ""  # of the socket, or a prefix of every URL path (without a slash at the end)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc if self.host else ''}{self.path}"

    @property
    def netloc(self) -> str:
        """Host and port; an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_rest(self) -> bool:
        """Whether it speaks REST rather than gRPC."""
        return self.scheme in ("http", "https")

    @property
    def is_secure(self) -> bool:
        """Whether what is sent is encrypted."""
        return self.scheme in ("grpcs", "https")

    @property
    def stays_on_this_machine(self) -> bool:
        """Whether what is sent leaves this machine: then it should be encrypted."""
        return self.scheme == "unix" or self.host in _LOCAL_HOSTS

    @property
    def grpc_target(self) -> str:
        """The name that gRPC knows it by."""
        return f"unix:{self.path}" if self.scheme == "unix" else f"dns:///{self.netloc}"


def parse_address(text: str) -> Address:
    """Returns the address that a text means; raises `InvalidAddressError` where it means none.

    The forms are `grpc://host[:8500]`, `grpcs://host[:443]`, `http://host[:80][/prefix]`, `https://host[:443][/prefix]`
    and `unix:///path/of/socket`.
    """
    if not isinstance(text, str):
        raise InvalidAddressError(f"address {text!r} is no text", hint=_FORMS)
    scheme, separator, rest = text.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in (*_DEFAULT_PORTS, "unix"):
        raise InvalidAddressError(f"address {text!r} has no scheme that is known", hint=_without_scheme(text.strip()))
    if scheme == "unix":
        if not rest.startswith("/"):
            raise InvalidAddressError(f"address {text!r} has no absolute path", hint="it is unix:///PATH")
        return Address(scheme, path=rest)
    try:
        parts = urllib.parse.urlsplit(f"{scheme}://{rest}")
        port = _DEFAULT_PORTS[scheme] if parts.port is None else parts.port
    except ValueError as error:
        raise InvalidAddressError(f"address {text!r} makes no sense: {error}", hint=_FORMS) from error
    path = parts.path.rstrip("/")
    if not parts.hostname or port == 0:
        raise InvalidAddressError(f"address {text!r} has no host or no port", hint=_FORMS)
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidAddressError(f"address {text!r} has a user, a query or a fragment", hint=_FORMS)
    meant = f"{scheme}://{parts.netloc}"
    if path and scheme not in ("http", "https"):
        raise InvalidAddressError(f"address {text!r} has a path", hint=f"gRPC addresses have none: write {meant}")
    if _CALL.search(path):
        raise InvalidAddressError(
            f"address {text!r} is that of a call",
            hint=f"write {meant}{_CALL.sub('', path)}, and name the model beside it",
        )
    return Address(scheme, parts.hostname, port, path)


def _without_scheme(text: str) -> str:
    """Returns what an address without a known scheme should be."""
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        return _FORMS
    protocols = ("http", "grpc") if found["port"] in _REST_PORTS else ("grpc", "http")
    address = text.partition("/")[0]
    return f"write {protocols[0]}://{address}, or {protocols[1]}:// where that port speaks {_SPOKEN[protocols[1]]}"


def parse_addresses(addresses: str | Sequence[str]) -> tuple[Address, ...]:
    """Returns one or more addresses of servers that serve the same: in a sequence, or in a text with commas between.

    Raises `InvalidAddressError` where one makes no sense, there is none, or they mix REST and gRPC.
    """
    if isinstance(addresses, bytes) or not isinstance(addresses, Iterable):
        raise InvalidAddressError(f"address {addresses!r} is no text", hint=_FORMS)
    texts = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    parsed = tuple(parse_address(text) for text in texts if not isinstance(text, str) or text.strip())
    if not parsed:
        raise InvalidAddressError("there is no address", hint=_FORMS)
    if len({address.is_rest for address in parsed}) > 1:
        raise InvalidAddressError("addresses of one client mix gRPC and REST", hint="make a client for each")
    return tuple(dict.fromkeys(parsed))
