"""The flags of every command that calls a model on a server, and what they mean for a client."""

import logging
from typing import Any

from absl import flags

from ...command_line import UsageError
from ..configuration import DEFAULT_TIMEOUT_S
from ..transport.options import DEFAULT_MAX_ANSWER_BYTES
from ..transport.security import Tls
from .inputs import read

MODEL = flags.DEFINE_string("model", None, "The model's name on the server.")
VERSION = flags.DEFINE_integer("version", None, "The version to call; the server chooses unless it is given.")
LABEL = flags.DEFINE_string("label", None, "In place of --version, a label that the server gives a version.")
TIMEOUT = flags.DEFINE_float(
    "timeout", DEFAULT_TIMEOUT_S, "Seconds that a call may take, retries included.", lower_bound=0.001
)
_METADATA = flags.DEFINE_multi_string("metadata", [], "KEY=VALUE to send with every call; may be repeated.")
TOKEN_FILE = flags.DEFINE_string("token_file", None, "File with a bearer token to send with every call.")
_ALLOW_PLAINTEXT_SECRETS = flags.DEFINE_boolean(
    "allow_plaintext_secrets", False, "Send tokens unencrypted to other machines too."
)
_CA_FILE = flags.DEFINE_string("ca_file", None, "PEM of the authorities to trust.")
_CERT_FILE = flags.DEFINE_string("cert_file", None, "PEM of the client's certificate, for mutual TLS.")
_KEY_FILE = flags.DEFINE_string("key_file", None, "PEM of its private key.")
_SERVER_NAME = flags.DEFINE_string("server_name", None, "Name that the server's certificate must bear.")
_MAX_ANSWER_BYTES = flags.DEFINE_integer(
    "max_answer_bytes",
    DEFAULT_MAX_ANSWER_BYTES,
    "Larger answers are refused.",
    lower_bound=1,
    upper_bound=(1 << 31) - 1,
)


def check_connection_flags(*, needs_model: bool = True) -> None:
    """Checks those flags that need or exclude each other; raises `UsageError`."""
    if needs_model and MODEL.value is None:
        raise UsageError("--model is missing")
    if VERSION.value is not None and LABEL.value is not None:
        raise UsageError("--version and --label exclude each other")
    if (_CERT_FILE.value is None) != (_KEY_FILE.value is None):
        raise UsageError("--cert_file and --key_file need each other")


def client_options() -> dict[str, Any]:
    """Returns a client's keyword arguments for the flags, but for the model and its version.

    Raises `UsageError` where the metadata or the token is none, or the token's file cannot be read.
    """
    # absl shows what libraries log; of requests that go well there is nothing to tell.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    metadata = []
    for text in _METADATA.value:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UsageError(f"--metadata={text} is not KEY=VALUE")
        metadata.append((key, value))
    try:
        token = read(TOKEN_FILE.value).decode().strip() if TOKEN_FILE.value else None
    except UnicodeDecodeError as error:
        raise UsageError(f"--token_file={TOKEN_FILE.value} is no text") from error
    except OSError as error:
        raise UsageError(f"--token_file={TOKEN_FILE.value} cannot be read: {error.strerror}") from error
    return {
        "timeout": TIMEOUT.value,
        "metadata": metadata,
        "token": token,
        "allow_plaintext_secrets": _ALLOW_PLAINTEXT_SECRETS.value,
        "max_answer_bytes": _MAX_ANSWER_BYTES.value,
        "tls": Tls(_CA_FILE.value, _CERT_FILE.value, _KEY_FILE.value, _SERVER_NAME.value),
    }
