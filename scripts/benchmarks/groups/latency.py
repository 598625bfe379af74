"""Latency of one call beside the bare forward pass and naive clients.

Every way begins with a JPEG file's bytes; those of naive clients, and what they are compared with, end with a mask
as an array, and what is compared with the bare forward pass ends with the PNG file. The bare forward pass begins with a
float tensor in memory, and ends with its answer as an array. Each is called for a tenth of a second before it is
timed, or it would find the processor's caches full of what the process before it left there. What is compared with the
bare forward pass has a process of its own, without TensorFlow, as those who call a server have.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from maskport.serving.client import MaskClient
from PIL import Image

from .. import pictures
from ..callers import start_callers
from ..lab import Lab
from ..measuring import in_turn, ratio, spread, take_turns, timed
from ..models import SIZE, Subject
from ..naive import naive_grpc, naive_rest
from ..results import Finding, Plot, Row, Series, Table, at_most, number_text
from ..servers import Served, serve

SETTLE_S = 0.1
_GOALS = {"unet": at_most(1.10), "light": at_most(1.35)}
_COINS_LARGEST = 2000
"""Edge of the largest square that the demo model's export takes: max_model_pixels is 4,000,000."""


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the ratios of each model, and a table and a plot over sizes of pictures."""
    subjects = lab.subjects.all
    with lab.serve(*subjects, naive=subjects) as served:
        for subject in (lab.subjects.unet, lab.subjects.light):
            yield from _against_forward(lab, subject, served)
            yield from _against_naive(lab, subject, served)
        yield from _over_sizes(lab, lab.subjects.light, served, lab.effort.edges)
        edges = sorted({min(edge, _COINS_LARGEST) for edge in lab.effort.edges})
        yield from _over_sizes(lab, lab.subjects.coins, served, edges)


def forward_call(subject: Subject, jpeg: bytes) -> Callable[[], object]:
    """Returns a bare forward pass of one picture that is in memory already."""
    image = Image.open(io.BytesIO(jpeg)).convert("L" if subject.channels == 1 else "RGB")
    if subject.edge is not None:
        image = image.resize((subject.edge, subject.edge))
    tensor = tf.constant(np.asarray(image, np.float32).reshape(1, image.height, image.width, -1) / 255)
    return lambda: subject.forward(tensor).numpy()


def _against_forward(lab: Lab, subject: Subject, served: Served) -> Iterator[Finding]:
    jpeg = pictures.square_jpeg(SIZE)
    forward = forward_call(subject, jpeg)
    optimized = {subject.name: subject.export_with("auto", optimize="auto")}
    folder = str(pictures.write_files([jpeg], lab.folder / subject.name))
    with serve(lab.server, optimized) as fastest, contextlib.ExitStack() as stack:

        def caller(address: str) -> Callable[[], float]:
            callers = stack.enter_context(start_callers(address, subject.name))
            return lambda: callers.time_settled(folder, SETTLE_S)

        timers = {
            "forward": lambda: timed(forward, SETTLE_S),
            "gRPC": caller(served.grpc),
            "REST": caller(served.rest),
            "gRPC, optimized": caller(fastest.grpc),
        }
        found = in_turn(timers, lab.effort.rounds, 10, 2 * lab.effort.budget_s)
    note = ", ".join(f"{name} {number_text(1000 * spread(times).median)} ms" for name, times in found.items())
    for way, name, goal in (
        ("gRPC", "gRPC mask_png", _GOALS[subject.name]),
        ("REST", "REST mask_png", None),
        ("gRPC, optimized", "gRPC mask_png, exported with optimize=auto", None),
    ):
        title = f"{name} ÷ bare forward, {subject.name}, {SIZE}² JPEG"
        yield Row.of(title, ratio(found[way], found["forward"]), goal=goal, note=note if goal else "")


def _against_naive(lab: Lab, subject: Subject, served: Served) -> Iterator[Finding]:
    jpeg, effort = pictures.square_jpeg(SIZE), lab.effort
    for address, naive, name, rounds, budget_s in (
        (served.grpc, naive_grpc, "gRPC mask_png ÷ naive float gRPC", effort.rounds, effort.budget_s),
        (served.rest, naive_rest, "REST mask_png ÷ naive REST JSON", effort.slow_rounds, 2 * effort.budget_s),
    ):
        with MaskClient(address, subject.name) as client, naive(served, subject) as naive_mask:
            calls = {"mask": lambda: client.segment(jpeg).mask, "naive": lambda: naive_mask(jpeg)}
            found = take_turns(calls, rounds, 2, budget_s, settle_s=SETTLE_S)
        yield Row.of(
            f"{name}, {subject.name}, {SIZE}² JPEG",
            ratio(found["mask"], found["naive"]),
            goal=at_most(1 / 20) if naive is naive_rest and subject.name == "light" else None,
            note=f"naive {number_text(1000 * spread(found['naive']).median)} ms",
        )


def _over_sizes(lab: Lab, subject: Subject, served: Served, edges: Sequence[int]) -> Iterator[Finding]:
    effort = lab.effort
    medians: dict[str, dict[int, float]] = {}
    cells: dict[int, dict[str, str]] = {}
    with (
        MaskClient(served.grpc, subject.name, timeout=120) as grpc,
        MaskClient(served.rest, subject.name, timeout=120) as rest,
        naive_grpc(served, subject) as floats_mask,
        naive_rest(served, subject) as json_mask,
    ):
        for edge in edges:
            jpeg = pictures.square_jpeg(edge)
            calls = {
                "bare forward": forward_call(subject, jpeg),
                "mask_png, gRPC": lambda jpeg=jpeg: grpc.segment(jpeg).mask,
                "mask_png, REST": lambda jpeg=jpeg: rest.segment(jpeg).mask,
                "naive floats, gRPC": lambda jpeg=jpeg: floats_mask(jpeg),
                "naive JSON, REST": lambda jpeg=jpeg: json_mask(jpeg),
            }
            cells[edge] = {}
            for name in list(calls):
                # What grew too slow at a smaller size is not tried; floats grow with the pixels.
                *_, (size, seconds) = [(edge, 0.0), *medians.get(name, {}).items()]
                if seconds * (1.0 if subject.edge else (edge / size) ** 2) > effort.longest_call_s:
                    cells[edge][name] = f"left out: over {effort.longest_call_s:g} s"
                    del calls[name]
            slow = {name: calls.pop(name) for name in ["naive JSON, REST"] if name in calls}
            found = take_turns(calls, effort.rounds // 2, 3, effort.budget_s / 2)
            if slow:
                rounds = 3 if timed(*slow.values()) < effort.budget_s / 3 else 1
                found |= take_turns(slow, rounds, 0)
            for name, times in found.items():
                medians.setdefault(name, {})[edge] = spread(times).median
                cells[edge][name] = number_text(1000 * spread(times).median)
    size_text = f"runs at {subject.edge}²" if subject.edge else "takes pictures at their own size"
    yield Table(
        f"Milliseconds from a JPEG file to its mask, {subject.name} ({size_text})",
        ["picture", *medians],
        [[f"{edge}²", *(cells[edge].get(name, "–") for name in medians)] for edge in edges],
        "Medians, in turn. The naive clients of a model of a fixed size resize in Pillow, before and after."
        if subject.edge
        else f"The export refuses more than 4 million pixels, so {_COINS_LARGEST}² is the largest.",
    )
    yield Plot(
        f"latency_{subject.name}",
        f"From a JPEG file to its mask: {subject.name}, which {size_text}",
        "edge of the square picture, pixels",
        "milliseconds",
        [Series(name, list(points), [1000 * y for y in points.values()]) for name, points in medians.items()],
    )
