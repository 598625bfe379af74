"""A client whose calls a SavedModel in this process answers: the same scripts as over the wire, but no wire."""

import os
import tempfile
import threading
import weakref
from collections.abc import Sequence
from typing import Any

from ..client.client import MaskClient
from ..client.errors import ModelNotFoundError, UnsupportedCallError
from ..client.transport.addresses import Address
from ..client.transport.calls import Call, MetadataCall, PredictCall, Prediction, Reply
from ..client.transport.refusals import error_of_code
from ..client.transport.signatures import metadata_of_message
from ..command_line import import_quietly
from ..model_directories import SAVED_MODEL_FILES, parse_version
from ..wire.messages import SignatureDefMap
from .bookkeeping import files

_NO_LIMIT_S = 1e7


_LOADING = threading.Lock()
_LOADED: "weakref.WeakValueDictionary[str, _LocalTransport]" = weakref.WeakValueDictionary()
"""By the directory of the version."""


class LocalClient(MaskClient):
    """A client of one SavedModel, which is loaded into this process; what is sent never leaves it."""

    def __init__(self, path: str):
        """Loads a version's directory, or the latest of a base path, unless another client of this process has it.

        Raises `ModelNotFoundError` where there is none that can be loaded.
        """
        self._path = find_version(path)
        parent, name = os.path.split(self._path)
        version = parse_version(name)
        model = (os.path.basename(parent) if version is not None else name) or "model"
        with _LOADING:
            self._transport = _LOADED.get(self._path) or _LocalTransport(self._path, model, version)
            _LOADED[self._path] = self._transport
        super().__init__(self._path, model, timeout=_NO_LIMIT_S)

    def _parse_addresses(self, address: str | Sequence[str]) -> tuple[Address, ...]:
        return (Address("file", path=os.path.abspath(self._path) if files.is_local(self._path) else self._path),)

    def _connect(self, address: Address) -> Any:
        return self._transport


class _LocalTransport:
    """Answers calls by a SavedModel, as a server would."""

    def __init__(self, path: str, model: str, version: int | None):
        import_quietly("tensorflow")
        from ..server.errors import RequestError
        from ..server.inference.predictor import Model
        from ..server.inference.saved_model import SavedModel, SessionSettings

        self._version = version
        with tempfile.TemporaryDirectory() as folder:
            try:
                loaded = SavedModel(path if files.is_local(path) else _fetch(path, folder), SessionSettings())
            except RequestError as error:
                raise ModelNotFoundError(
                    f"{path} cannot be loaded: {error.message}", hint="mask-inspect tells more about it"
                ) from error
        self._model = Model(loaded, loaded.signatures)
        # Not before the last client and the last call have gone.
        weakref.finalize(self, loaded.close)
        signatures = SignatureDefMap()
        for name, signature in loaded.signatures.items():
            # The official message's bytes are read as ours, of the same fields.
            signatures.signature_def[name].MergeFromString(signature.SerializeToString())
        self._metadata = metadata_of_message(model, version, signatures)

    def send(self, call: Call, timeout_s: float, pairs: object) -> Reply:
        """Answers a call, or raises the client's error."""
        from ..server.calls import Call as Terms
        from ..server.errors import RequestError
        from ..server.inference.predictor import predict

        if isinstance(call, MetadataCall):
            return Reply(self._metadata, 0, 0)
        if not isinstance(call, PredictCall):
            raise UnsupportedCallError(f"{call.name} has no meaning for a SavedModel in this process")
        try:
            outputs = predict(self._model, call.signature.name, call.inputs, call.outputs, Terms())
        except RequestError as error:
            raise error_of_code(error.code, error.message) from error
        return Reply(Prediction(outputs, self._version), 0, 0)

    def close(self) -> None:
        """Does nothing: other clients may use the model."""


def find_version(path: str) -> str:
    """Returns the directory of a SavedModel: the path itself, or the latest version below it.

    Raises `ModelNotFoundError` where there is none.
    """
    path = path.rstrip("/") or path
    if any(files.size_of(files.join(path, name)) is not None for name in SAVED_MODEL_FILES):
        return path
    found: list[str] = [
        os.path.dirname(one.path) for one in files.find(files.join(files.literal(path), "*/saved_model.*"))
    ]
    versions = {number: one for one in found if (number := parse_version(os.path.basename(one))) is not None}
    if not versions:
        raise ModelNotFoundError(
            f"{path}: there is no SavedModel here, nor numbered versions of one",
            hint="name the directory that holds saved_model.pb, or the one above it",
        )
    return versions[max(versions)]


def _fetch(path: str, folder: str) -> str:
    """Copies a SavedModel from elsewhere into a local folder, and returns it."""
    for one in files.find(files.join(files.literal(path), "**")):
        below = one.path[len(path) :].lstrip("/")
        if below and not below.endswith("/"):
            files.write(os.path.join(folder, below), files.read(one.path))
    return folder
