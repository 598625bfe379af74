"""Applies a models configuration file anew when it changes."""

import contextlib
import logging

from tensorflow_serving.config import model_server_config_pb2

from ..calls import Call
from ..errors import ConfigError, RequestError
from .model_config import check_platforms, read_models, read_text_proto
from .repository import ModelRepository

logger = logging.getLogger(__name__)


class ConfigWatch:
    """Compares a configuration file with what was last applied of it."""

    def __init__(self, repository: ModelRepository, path: str) -> None:
        """Begins with a file (a ModelServerConfig in text form) whose present content counts as applied."""
        self._repository = repository
        self._path = path
        self._applied: model_server_config_pb2.ModelServerConfig | None = None
        self._complaint = ""
        with contextlib.suppress(ConfigError):  # gone or broken since the start; said at the next look
            self._applied = self._read()

    def look(self) -> None:
        """Applies the file if it has changed."""
        try:
            config = self._read()
            if config != self._applied:
                models = read_models(config.model_config_list, self._repository.names())
                self._repository.reload(
                    models, Call(), waits_for_paths=True, check=lambda: check_platforms(config.model_config_list)
                )
                self._applied = config
                logger.info("Applied models config %s", self._path)
            self._complaint = ""
        except (ConfigError, RequestError) as error:
            # What is served stays. A label may be given later, once its version is there.
            if str(error) != self._complaint:
                logger.error("Models config not applied: %s", error)
            self._complaint = str(error)

    def _read(self) -> model_server_config_pb2.ModelServerConfig:
        return read_text_proto(self._path, model_server_config_pb2.ModelServerConfig)
