"""What the embedded server fails with: at a request, and at the start.

    ServerError
    ├── RequestError    a request is refused; carries a canonical status code
    └── StartError      the server does not start
        └── ConfigError a flag or a config file is at fault

Each front translates the codes by one table.
"""

from ..status_codes import StatusCode


class ServerError(Exception):
    """Any failure of the embedded server."""


class RequestError(ServerError):
    """A request that is answered with an error: a status code, and TensorFlow Serving's words where it has any."""

    def __init__(self, code: StatusCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """The form in which TensorFlow prints a status inside another text."""
        return f"{self.code.name}: {self.message}"


class StartError(ServerError):
    """The server cannot start."""


class ConfigError(StartError):
    """A flag, or a file that a flag names, makes no sense."""


def invalid_argument(message: str) -> RequestError:
    """Returns the most frequent of the errors."""
    return RequestError(StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> RequestError:
    """Returns the error of what is not there."""
    return RequestError(StatusCode.NOT_FOUND, message)


def deadline_exceeded() -> RequestError:
    """Returns the error of a run that took longer than its caller waits, as a TensorFlow session words it."""
    return RequestError(StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
