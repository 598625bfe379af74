"""Applies a models configuration file anew when it changes."""

import logging
import threading

from tensorflow_serving.config import model_server_config_pb2

from ..calls import Call
from ..errors import ConfigError, RequestError
from .model_config import check_platforms, read_models, read_text_proto
from .repository import ModelRepository

logger = logging.getLogger(__name__)


class ConfigWatch:
    """Looks at a configuration file now and then, from a thread of its own."""

    def __init__(self, repository: ModelRepository, path: str, interval_s: float) -> None:
        """Prepares a watch.

        Args:
            repository: gets the models.
            path: the file, a ModelServerConfig in text form; its present content counts as applied.
            interval_s: seconds between two looks.
        """
        self._repository = repository
        self._path = path
        self._interval_s = interval_s
        self._applied = self._read_quietly()
        self._complaint = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="config-watch", daemon=True)

    def start(self) -> None:
        """Begins to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watching."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._interval_s):
            try:
                self._look()
            except (ConfigError, RequestError) as error:
                # What is served stays. A label may be given later, once its version is there.
                if str(error) != self._complaint:
                    logger.error("Models config not applied: %s", error)
                self._complaint = str(error)

    def _look(self) -> None:
        config = read_text_proto(self._path, model_server_config_pb2.ModelServerConfig)
        if config != self._applied:
            models = read_models(config.model_config_list, self._repository.names())
            self._repository.reload(
                models,
                Call(),
                waits_for_paths=True,
                check=lambda: check_platforms(config.model_config_list),
            )
            self._applied = config
            logger.info("Applied models config %s", self._path)
        self._complaint = ""

    def _read_quietly(self) -> model_server_config_pb2.ModelServerConfig | None:
        try:
            return read_text_proto(self._path, model_server_config_pb2.ModelServerConfig)
        except ConfigError:
            return None
