"""Bytes on the wire, headers included: a JPEG file there and a PNG mask back, beside floats both ways.

The photographs are scikit-image's, at their own sizes, as JPEG files of quality 90. The naive model takes floats at
the picture's own size, and answers as many.
"""

import contextlib
import dataclasses
from collections.abc import Iterator

from maskport.serving.client import MaskClient

from .. import pictures
from ..byte_counter import count_bytes
from ..lab import Lab
from ..measuring import spread
from ..naive import NaiveGrpc, NaiveRest
from ..results import Finding, Row, Table, at_most, number_text

_NAIVE = {"gRPC": "floats", "REST": "JSON"}
_MOST_JSON_PIXELS = 1_000_000
"""Of pictures that are sent as JSON: more are like them, only slower."""


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the shares of the naive bytes, and a table by photograph."""
    light, naive = lab.subjects.light, lab.subjects.light_at_image_size
    shares: dict[str, list[float]] = {"gRPC": [], "REST": []}
    lines = []
    with contextlib.ExitStack() as stack:
        served = stack.enter_context(lab.serve(light, naive=[naive]))
        grpc_bytes = stack.enter_context(count_bytes(served.grpc_port))
        rest_bytes = stack.enter_context(count_bytes(served.rest_port))
        counted = dataclasses.replace(served, grpc_port=grpc_bytes.port, rest_port=rest_bytes.port)
        grpc = stack.enter_context(MaskClient(counted.grpc, light.name))
        rest = stack.enter_context(MaskClient(counted.rest, light.name))
        naive_grpc = stack.enter_context(NaiveGrpc(counted, naive))
        naive_rest = stack.enter_context(NaiveRest(counted, naive))
        small = pictures.square_jpeg(64)
        for call in (grpc.segment, rest.segment, naive_grpc.mask, naive_rest.mask):
            call(small)  # connects, and asks for the metadata
        for name, picture in pictures.photographs().items():
            jpeg = pictures.encode_jpeg(picture)
            own = grpc_bytes.bytes_of(lambda jpeg=jpeg: grpc.segment(jpeg))
            floats = grpc_bytes.bytes_of(lambda jpeg=jpeg: naive_grpc.mask(jpeg))
            own_rest = rest_bytes.bytes_of(lambda jpeg=jpeg: rest.segment(jpeg))
            shares["gRPC"].append(own / floats)
            json_text = "–"
            if picture.width * picture.height <= _MOST_JSON_PIXELS:
                json = rest_bytes.bytes_of(lambda jpeg=jpeg: naive_rest.mask(jpeg))
                shares["REST"].append(own_rest / json)
                json_text = number_text(json / 1000)
            counts = [number_text(count / 1000) for count in (len(jpeg), own, floats, own_rest)]
            lines.append([f"{name}, {picture.width}×{picture.height}", *counts, json_text, f"1/{floats / own:.0f}"])
    for transport, found in shares.items():
        worst = max(found)
        yield Row.of(
            f"bytes moved, {transport} mask_png ÷ naive {_NAIVE[transport]}, real photographs",
            spread(found),
            goal=at_most(1 / 20),
            note=f"median of {len(found)} photographs; the worst one: 1/{1 / worst:.1f}",
        )
    columns = ["photograph", "its JPEG, kB", "gRPC, kB", "naive gRPC, kB", "REST, kB", "naive REST, kB", "gRPC share"]
    yield Table("Bytes of one call, both ways", columns, lines)
