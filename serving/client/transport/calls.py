"""The seam between what the client wants and how it travels: calls, and their answers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from ...wire.messages import ModelServerConfig
from ..errors import CallContext
from .signatures import SignatureInfo


@dataclasses.dataclass(frozen=True)
class Target:
    """A model, and which version of it: a number, a label that the server gives one, or the server's choice."""

    model: str
    version: int | None = None
    label: str | None = None


@dataclasses.dataclass(frozen=True)
class PredictCall:
    """Asks a signature for some outputs (none named: all), with arrays of its dtypes."""

    target: Target
    signature: SignatureInfo
    inputs: Mapping[str, npt.NDArray[Any]]
    outputs: tuple[str, ...] = ()

    name = "Predict"


@dataclasses.dataclass(frozen=True)
class MetadataCall:
    """Asks for a model's signatures."""

    target: Target

    name = "GetModelMetadata"


@dataclasses.dataclass(frozen=True)
class StatusCall:
    """Asks for the states of a model's versions."""

    target: Target

    name = "GetModelStatus"


@dataclasses.dataclass(frozen=True)
class ReloadCall:
    """Tells a server to serve other models."""

    config: ModelServerConfig

    name = "HandleReloadConfigRequest"


Call = PredictCall | MetadataCall | StatusCall | ReloadCall


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a predict call answers: arrays by name, and the version that answered, which REST does not say."""

    outputs: Mapping[str, npt.NDArray[Any]]
    version: int | None


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer, and what it took."""

    value: Any  # a `Prediction`, a `ModelMetadata`, a list of `VersionStatus`, or None for a reload
    request_bytes: int  # of the message, before any compression
    response_bytes: int
    address: str = ""  # of the server that answered


def context_of(call: Call) -> CallContext:
    """Returns what an error should say about a call."""
    if isinstance(call, ReloadCall):
        return CallContext()
    target = call.target
    signature = call.signature.name if isinstance(call, PredictCall) else None
    return CallContext(model=target.model, version=target.version, label=target.label, signature=signature)
