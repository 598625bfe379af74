from .errors import (
    ConfigError as ConfigError,
    ServerError as ServerError,
    StartError as StartError,
)
from .server import (
    EmbeddedServer as EmbeddedServer,
    ServerSettings as ServerSettings,
)
