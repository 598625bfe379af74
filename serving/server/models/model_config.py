"""Reads TensorFlow Serving's configuration messages, and the text files that hold them."""

import os
import re
from collections.abc import Collection
from typing import TypeVar

from google.protobuf import message, text_format
from tensorflow_serving.config import model_server_config_pb2

from ..errors import ConfigError, invalid_argument
from .versions import ALL_VERSIONS, ModelSettings, VersionPolicy

_PLATFORM = "tensorflow"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9.]*://")

M = TypeVar("M", bound=message.Message)


def read_text_proto(path: str, kind: type[M]) -> M:
    """Reads a message of a class from a file in protobuf's text form.

    Raises:
        ConfigError: the file is not there, is empty, or holds something else; says where.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ConfigError(f"{path}: {reason}") from error
    if not text.strip():
        raise ConfigError(f"{path}: the file is empty; it should hold a {kind.DESCRIPTOR.name} in text form")
    try:
        return text_format.Parse(text, kind())
    except text_format.ParseError as error:
        raise ConfigError(f"{path}:{error}; it should hold a {kind.DESCRIPTOR.name} in text form") from error


def read_models(
    config_list: model_server_config_pb2.ModelConfigList, served: Collection[str] = ()
) -> list[ModelSettings]:
    """Returns the models of a configuration. Their platforms are left to `check_platforms`.

    Models `served` already may not change their platform.

    Raises:
        RequestError: something in it makes no sense; in TensorFlow Serving's words.
    """
    seen = set()
    for config in config_list.config:
        if config.name in seen:
            raise invalid_argument(f"Illegal to list model {config.name} multiple times in config list")
        seen.add(config.name)
    for config in config_list.config:
        if not os.path.isabs(config.base_path) and not _URI.match(config.base_path):
            raise invalid_argument(
                f"Expected model {config.name} to have an absolute path or URI; got base_path()={config.base_path}"
            )
    for config in config_list.config:
        if config.name in served and (platform := _platform(config)) != _PLATFORM:
            raise invalid_argument(
                f"Illegal to change a model's platform. For model {config.name} platform was {_PLATFORM} "
                f"and new platform requested is {platform}"
            )
    return [
        ModelSettings(
            name=config.name,
            base_path=config.base_path,
            policy=_policy(config.model_version_policy),
            labels=dict(config.version_labels),
        )
        for config in config_list.config
    ]


def check_platforms(config_list: model_server_config_pb2.ModelConfigList) -> None:
    """Raises RequestError for a model that is made for something else than TensorFlow."""
    for config in config_list.config:
        platform = _platform(config)
        if platform != _PLATFORM:
            raise invalid_argument(f"Model {config.name} requests unsupported platform {platform}")


def _platform(config: model_server_config_pb2.ModelConfig) -> str:
    if config.model_type != model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if config.model_platform:
            raise invalid_argument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                f"ModelServerConfig::model_platform, model name is {config.name}"
            )
        if config.model_type != model_server_config_pb2.TENSORFLOW:
            raise invalid_argument(f"ModelServerConfig::model_type choice {config.model_type} not supported.")
        return _PLATFORM
    if not config.model_platform:
        raise invalid_argument(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            f"ModelServerConfig::model_platform, model name is {config.name}"
        )
    return str(config.model_platform)


def _policy(policy) -> VersionPolicy:  # type: ignore[no-untyped-def]
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return ALL_VERSIONS
    if choice == "specific":
        return VersionPolicy(latest=None, specific=tuple(policy.specific.versions))
    return VersionPolicy(latest=max(policy.latest.num_versions, 1))
