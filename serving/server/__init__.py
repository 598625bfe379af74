"""The embedded server: a stand-in for `tensorflow_model_server` where no Docker is."""

from typing import TYPE_CHECKING

from ..lazy_names import lazy_names

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

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
