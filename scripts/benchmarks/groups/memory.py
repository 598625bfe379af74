"""Memory: of the server over many requests, and of the exported graph for one large request.

A decoded picture of 50 megapixels is 150 MB, so eight of them kept at once would be 1.2 GB, and as floats 4.8 GB.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from maskport.export import export_model

from .. import pictures
from ..callers import Closed, start_callers
from ..lab import Lab
from ..results import Finding, Plot, Row, Series, Table, at_most, number_text

_CALLERS = 8
_SIZES = [(96, 128), (160, 120), (256, 256), (64, 200), (320, 240)]
_STEPS = 10
_PICTURES = 8
_AT_IMAGE_SIZE = 2000
"""Edge of the large pictures of models that run at image size: max_model_pixels is 4,000,000."""
_CASES: list[tuple[str, int | None, int, list[str]]] = [
    ("256² inside", 256, 1, ["mask_png", "masked_image_png", "probability_png"]),
    ("256² inside, 150 classes", 256, 150, ["mask_png", "class_map_png"]),
    ("at image size", None, 1, ["mask_png", "masked_image_png"]),
    ("at image size, 21 classes", None, 21, ["class_map_png"]),
]


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the server's growth and slope, and a table of large requests."""
    yield from _over_requests(lab)
    yield from _large_requests(lab)


def _over_requests(lab: Lab) -> Iterator[Finding]:
    light = lab.subjects.light
    folder = str(pictures.write_files(pictures.variants(40, _SIZES), lab.folder / "small"))
    step = lab.effort.requests // _STEPS
    with lab.serve(light) as served, start_callers(served.grpc, light.name) as callers:
        # Every thread of the server has then run once, and each size of picture was there.
        callers.run(Closed(folder, _CALLERS, requests=200))
        memory = [served.memory_mb]
        for _ in range(_STEPS):
            callers.run(Closed(folder, _CALLERS, requests=step))
            memory.append(served.memory_mb)
    counts = [step * index for index in range(_STEPS + 1)]
    half = _STEPS // 2
    slope = float(np.polyfit(counts[half:], memory[half:], 1)[0]) * 1000
    of = f"of the server over {lab.effort.requests:,} requests, light"
    yield Row(f"growth of memory {of}", memory[-1] - memory[0], "MB", goal=at_most(50), note=f"from {memory[0]:.0f} MB")
    yield Row(
        f"slope of the second half {of}", slope, "MB per 1,000", goal=at_most(1), note="a line fitted to six points"
    )
    series = [Series("resident memory", counts, memory)]
    title = f"Memory of the server, {_CALLERS} callers, pictures of {len(_SIZES)} sizes"
    yield Plot("memory", title, "requests", "MB", series, is_log_x=False, is_log_y=False)


def _large_requests(lab: Lab) -> Iterator[Finding]:
    lines = []
    small = lab.folder / "small.jpg"
    small.write_bytes(pictures.square_jpeg(64))
    for case, size, classes, signatures in _CASES[: lab.effort.large_cases]:
        fields: dict[str, Any] = {"foreground": [1]} if classes > 1 else {}
        base_path = lab.folder / case
        export_model(_one_layer(size, classes), base_path, scaling="unit", signatures=signatures, **fields)
        edge = lab.effort.large_edge if size else min(lab.effort.large_edge, _AT_IMAGE_SIZE)
        large = lab.folder / "large.jpg"
        large.write_bytes(pictures.square_jpeg(edge))
        for signature in signatures:
            words = [str(base_path / "1"), signature, str(small), str(large), str(_PICTURES)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.large_request", *words], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout)
            told = f"{_PICTURES} × {edge**2 / 1e6:.0f} MP"
            lines.append([f"{case}, {signature}", told, number_text(found["mb"]), "; ".join(found["errors"])])
    columns = ["model, signature", "pictures in one request", "peak above the warm model, MB", "errors"]
    yield Table("Memory of one large request", columns, lines)


def _one_layer(size: int | None, classes: int) -> Any:
    image = keras.Input((size, size, 3))
    activation = "softmax" if classes > 1 else "sigmoid"
    return keras.Model(image, keras.layers.Conv2D(classes, 3, padding="same", activation=activation)(image))
