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
from ..naive import naive_grpc, naive_rest
from ..results import Finding, Row, Table, at_most, number_text

_NAIVE = {"gRPC": "floats", "REST": "JSON"}


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the shares of the naive bytes, and a table by photograph."""
    light, naive = lab.subjects.light, lab.subjects.light_at_image_size
    shares: dict[str, list[float]] = {"gRPC": [], "REST": []}
    lines = []
    with (
        lab.serve(light, naive=[naive]) as served,
        count_bytes(served.grpc_port) as grpc_bytes,
        count_bytes(served.rest_port) as rest_bytes,
        contextlib.ExitStack() as clients,
    ):
        counted = dataclasses.replace(served, grpc_port=grpc_bytes.port, rest_port=rest_bytes.port)
        grpc = clients.enter_context(MaskClient(counted.grpc, light.name))
        rest = clients.enter_context(MaskClient(counted.rest, light.name))
        floats_mask = clients.enter_context(naive_grpc(counted, naive))
        json_mask = clients.enter_context(naive_rest(counted, naive))
        small = pictures.square_jpeg(64)
        for call in (grpc.segment, rest.segment, floats_mask, json_mask):
            call(small)  # connects, and asks for the metadata
        for name, picture in pictures.photographs().items():
            jpeg = pictures.encode_jpeg(picture)
            own = grpc_bytes.bytes_of(lambda jpeg=jpeg: grpc.segment(jpeg))
            floats = grpc_bytes.bytes_of(lambda jpeg=jpeg: floats_mask(jpeg))
            own_rest = rest_bytes.bytes_of(lambda jpeg=jpeg: rest.segment(jpeg))
            shares["gRPC"].append(own / floats)
            json_text = "–"
            if picture.width * picture.height <= lab.effort.json_pixels:
                json = rest_bytes.bytes_of(lambda jpeg=jpeg: json_mask(jpeg))
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
