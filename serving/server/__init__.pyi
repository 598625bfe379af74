from .errors import (
    ConfigError as ConfigError,
)
from .errors import (
    ServerError as ServerError,
)
from .errors import (
    StartError as StartError,
)
from .server import (
    EmbeddedServer as EmbeddedServer,
)
from .server import (
    ServerSettings as ServerSettings,
)
