"""Which model makes the masks: one on a server, or a SavedModel loaded by each worker."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from .. import contract
from ..client.client import MaskClient
from .bookkeeping.records import Identity


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A model on one or more servers, which is called by the light client, without TensorFlow.

    Attributes:
        address: as `MaskClient` takes it.
        model: its name there.
        version: its number; None leaves the choice to the server.
        label: in place of a number.
        options: further arguments of `MaskClient`; they travel to the workers with the pipeline, a token too.
    """

    address: str
    model: str
    version: int | None = None
    label: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def connect(self) -> MaskClient:
        """Returns a client of it; connections come with the first call."""
        return MaskClient(self.address, self.model, self.version, self.label, **self.options)


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """A SavedModel, which each worker process loads once. Needs the extra `server`, for TensorFlow.

    Attributes:
        path: of a version's directory, or of a base path with numbered versions, of which the latest is taken; on any
            file system that Beam knows.
    """

    path: str

    def connect(self) -> MaskClient:
        """Returns a client whose calls are answered in this process; loads the model."""
        from .local_client import LocalClient

        return LocalClient(self.path)


Model = ServedModel | LocalModel
"""What makes the masks."""


def identify(model: Model) -> Identity:
    """Returns which model answers; raises `MaskServingError` where none does."""
    with model.connect() as client:
        return identity_of(client)


def identity_of(client: MaskClient) -> Identity:
    """Returns which model a client's calls are answered by."""
    metadata = client.metadata()
    info = client.info() if contract.EXPORT_INFO in metadata.signatures else {}
    threshold = info.get("threshold")
    told = json.dumps([info, sorted(metadata.signatures)], sort_keys=True)
    return Identity(
        model=metadata.model,
        version=metadata.version,
        threshold=float(threshold) if isinstance(threshold, int | float) else None,
        fingerprint=hashlib.sha256(told.encode()).hexdigest(),
    )
