"""How long each signature takes on this machine, by the requests that were recorded with the export."""

import functools
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from ...serving import contract
from ..errors import InspectError
from ..graph.forms.timing import median_seconds
from ..model.causes import cause_of
from ..publish import golden

_TIME_LIMIT_S = 5.0
"""For one signature; a slow model is called less often."""


class RecordedRequests(NamedTuple):
    """Requests by signature that were written with an export, and what they ask for: `1 picture of 384×512`."""

    inputs: Mapping[str, golden.Tensors]
    description: str


def recorded_requests(version_dir: Path) -> RecordedRequests:
    """Returns the warm-up's request for each signature, of a real picture's size, or else a golden one.

    Raises:
        InspectError: they cannot be read.
    """
    assets = version_dir / contract.ASSETS_DIR
    warmup, goldens = assets / contract.WARMUP_FILE, assets / contract.GOLDEN_DIR
    try:
        if warmup.is_file() and (inputs := _by_signature(_read_warmup(warmup))):
            return RecordedRequests(inputs, _describe(inputs))
        if (goldens / contract.GOLDEN_INDEX_FILE).is_file():
            records = golden.read_goldens(goldens)
            return RecordedRequests(_by_signature(record.request for record in records), "the small golden requests")
    except (OSError, ValueError, KeyError, tf.errors.OpError, DecodeError) as error:
        raise InspectError(f"{assets}: the recorded requests cannot be read: {cause_of(error)}") from error
    return RecordedRequests({}, "no requests: none were recorded")


def _by_signature(requests: Iterable[Any]) -> dict[str, golden.Tensors]:
    return {request.model_spec.signature_name: golden.tensors_of(request) for request in requests}


def _read_warmup(path: Path) -> Iterator[Any]:
    for record in tf.data.TFRecordDataset(str(path)):
        yield prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request


def time_signatures(
    signatures: Mapping[str, Any], requests: Mapping[str, golden.Tensors], runs: int
) -> dict[str, float]:
    """Returns the median time of a call in seconds, by signature, of `runs` after a first that is not counted."""
    times: dict[str, float] = {}
    for name, function in signatures.items():
        signature = contract.SIGNATURES.get(name)
        if signature is None or name not in requests:
            continue
        run = functools.partial(golden.run, function, signature, requests[name])
        times |= median_seconds({name: run}, runs, _TIME_LIMIT_S)
    return times


def _describe(requests: Mapping[str, golden.Tensors]) -> str:
    for inputs in requests.values():
        if contract.IMAGE in inputs:
            count, height, width, _ = inputs[contract.IMAGE].shape
            return _pictures(count, height, width)
        if contract.IMAGE_BYTES in inputs:
            files = inputs[contract.IMAGE_BYTES]
            with Image.open(io.BytesIO(files[0])) as picture:
                return _pictures(len(files), picture.height, picture.width)
    return ""


def _pictures(count: int, height: int, width: int) -> str:
    return f"{count} picture{'s' if count > 1 else ''} of {height}×{width}"
