"""Loads one version: the graph, then its warm-up requests."""

import dataclasses

from .inference import Model
from .saved_model import SavedModel, SessionSettings


@dataclasses.dataclass(frozen=True)
class LoadSettings:
    """What every model is loaded with.

    Attributes:
        session: how its graph runs.
        checks_method_names: whether classify and regress want signatures made for them.
    """

    session: SessionSettings = dataclasses.field(default_factory=SessionSettings)
    checks_method_names: bool = False


class ModelLoader:
    """Loads versions; the instance is the repository's `Loader`."""

    def __init__(self, settings: LoadSettings) -> None:
        self._settings = settings

    def __call__(self, name: str, version: int, path: str) -> Model:
        """Loads a version.

        Args:
            name: the model's.
            version: its number.
            path: its directory.

        Raises:
            RequestError: it does not load.
        """
        saved_model = SavedModel(path, self._settings.session)
        return Model(saved_model, saved_model.signatures, self._settings.checks_method_names)
