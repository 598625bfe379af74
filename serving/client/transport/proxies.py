"""Which of the environment's HTTP proxies leads to a server."""

import dataclasses
import importlib
import ipaddress
import os
import re
import urllib.parse
from typing import TYPE_CHECKING

from ..errors import InvalidRequestError
from .addresses import Address

if TYPE_CHECKING:
    import httpx

_ENTRY = re.compile(
    r"(?:(?P<scheme>[a-z]+)://)?(?:\[(?P<bracketed>[^\]]+)\]|(?P<name>[^\[\]:]*)|(?P<bare>[^\[\]]*))"
    r"(?::(?P<port>\d+))?(?P<bits>/\d+)?/?"
)
"""An entry of no_proxy: a name, an address in any form, a network, each with a port or a scheme or without."""


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A proxy, whose URL may hold a password, and the environment's variable that names it."""

    url: str = dataclasses.field(repr=False)
    variable: str

    def __str__(self) -> str:
        """Returns a phrase for errors, without the password."""
        parts = urllib.parse.urlsplit(self.url)
        shown = f"{parts.scheme}://…@{parts.netloc.rpartition('@')[2]}" if "@" in parts.netloc else self.url
        return f"the proxy {shown} of {self.variable}"

    def for_httpx(self) -> "httpx.Proxy":
        """Returns it as httpx takes it; raises `InvalidRequestError` where it cannot be used."""
        import httpx

        hint = f"mend or unset {self.variable}, or list the server's host in no_proxy"
        try:
            proxy = httpx.Proxy(self.url)
            if not proxy.url.host or (proxy.url.port or 0) > 65535:
                raise ValueError("it has no host or no such port")
            if proxy.url.scheme.startswith("socks"):
                importlib.import_module("socksio")  # httpx would say so at the first call
        except ImportError as error:
            raise InvalidRequestError(
                f"{self} needs socksio, which is not installed", hint=f"pip install 'httpx[socks]', or {hint}"
            ) from error
        except (ValueError, httpx.InvalidURL) as error:
            # The library's own words would repeat the password.
            raise InvalidRequestError(
                f"{self.variable} names no proxy that can be used: it is http://HOST:PORT, https:// or socks5://",
                hint=hint,
            ) from error
        return proxy


def proxy_of(address: Address) -> Proxy | None:
    """Returns the proxy that the environment names for a REST address; None where there is none for it.

    Servers on this machine are called directly, and so are those that no_proxy lists: names (with what is below them),
    IP addresses in any form, networks, each with a port or without, and `*`. What in it makes no sense is passed over.
    """
    if address.stays_on_this_machine:
        return None
    import urllib.request  # takes its time, and gRPC needs it not

    proxies = urllib.request.getproxies()
    key = address.scheme if address.scheme in proxies else "all"
    url = proxies.get(key, "").strip()
    if not url or any(_matches(entry, address) for entry in re.split(r"[,\s]+", proxies.get("no", ""))):
        return None
    named = [name for name in os.environ if name.lower() == f"{key}_proxy" and os.environ[name].strip() == url]
    return Proxy(url if "://" in url else f"http://{url}", named[0] if named else "the system's settings")


def _matches(entry: str, address: Address) -> bool:
    if entry == "*":
        return True
    found = _ENTRY.fullmatch(entry.lower())
    if found is None or (found["scheme"] or "all") not in ("all", address.scheme):
        return False
    if found["port"] and int(found["port"]) != address.port:
        return False
    host = found["bracketed"] or found["name"] or found["bare"] or ""
    try:
        network = ipaddress.ip_network(f"{host}{found['bits'] or ''}", strict=False)
        return ipaddress.ip_address(address.host) in network
    except ValueError:  # one of them is a name
        name = host.removeprefix("*").removeprefix(".")
        return bool(name) and f".{address.host.lower()}".endswith(f".{name}")
