"""The embedded server: a stand-in for `tensorflow_model_server` where no Docker is."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import ConfigError, ServerError, StartError
    from .server import EmbeddedServer, ServerSettings

__all__ = ["ConfigError", "EmbeddedServer", "ServerError", "ServerSettings", "StartError"]

_HOMES = {
    "ConfigError": "errors",
    "EmbeddedServer": "server",
    "ServerError": "errors",
    "ServerSettings": "server",
    "StartError": "errors",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use: `--help` must not wait for TensorFlow."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
