"""Photographs of a camera's size, JPEG of quality 90, beside their parts and what people do today.

The naive client has Pillow decode at a smaller scale (`draft`), shrinks, sends floats, and enlarges the answer, as
floats or as bytes: the faster of the two counts. `draft` leaves the model's size once at least, an export twice; so a
naive client that leaves as much stands beside. What rembg does beside its model is done in one process, without a
call: Pillow decodes and shrinks the picture, NumPy scales it, Pillow enlarges a mask that is there already, cuts out,
and writes PNG. The parts are each by themselves: libjpeg decodes at the scale that the export decodes at, the model
runs on what is in memory, and zlib packs the mask of one bit a pixel at level 1.
"""

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from maskport.serving.client import MaskClient
from PIL import Image

from .. import pictures
from ..callers import start_callers
from ..lab import Lab
from ..measuring import in_turn, ratio, spread, take_turns, timed
from ..models import SIZE, Subject
from ..naive import Floats, drafting_client, floats_over_grpc
from ..results import Finding, Row, Table, at_most, number_text
from ..servers import Served, serve
from .latency import SETTLE_S, forward_call

_SIZES = {"12 megapixels": (4000, 3000), "48 megapixels": (8000, 6000)}
_LEFT = 2
"""How many times the model's edge an export leaves, at least, when it decodes at a smaller scale."""


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields ratios of a light model's mask, and a table of milliseconds of everything."""
    subjects = lab.subjects
    light, small, classes = subjects.light, subjects.small, subjects.classes
    exports = {one.name: one.base_path for one in (light, small)}
    exports[classes.name] = classes.export_with("camera", signatures=["class_map_png"])
    naive = {one.naive_name: one.naive_base_path for one in (light, small)}
    jpegs = {name: pictures.camera_jpeg(size) for name, size in _SIZES.items()}
    with serve(lab.server, exports | naive) as served:
        yield from _ratios(lab, light, served, *next(iter(jpegs.items())))
        lines: list[list[str]] = []
        for name, jpeg in jpegs.items():
            found = [_milliseconds(lab, one, served, jpeg, cuts_out=not lines) for one in (light, small)]
            lines += [[way, name, *(number_text(one[way]) if way in one else "–" for one in found)] for way in found[0]]
    note = "Medians of three, in turn; masks as arrays, all else as files. rembg's way is done once, without its model."
    yield Table("Milliseconds a photograph", ["way", "picture", light.name, small.name], lines, note)


def _ratios(lab: Lab, subject: Subject, served: Served, name: str, jpeg: bytes) -> Iterator[Finding]:
    effort = lab.effort
    folder = str(pictures.write_files([jpeg], lab.folder / "photo"))
    with MaskClient(served.grpc, subject.name) as client, floats_over_grpc(served, subject) as ask:
        mask = client.segment(jpeg).mask
        height, width = mask.shape
        scale = max(n for n in (1, 2, 4, 8) if n == 1 or min(height, width) >= n * _LEFT * (subject.edge or 0))
        bits = np.packbits(mask, axis=1).tobytes()
        parts: dict[str, Callable[[], object]] = {
            "decode": lambda: tf.io.decode_jpeg(jpeg, 3, scale, dct_method="INTEGER_ACCURATE").numpy(),
            "forward": forward_call(subject, jpeg),
            "zlib": lambda: zlib.compress(bits, 1),
        }
        with start_callers(served.grpc, subject.name) as callers:
            timers = {part: lambda call=call: timed(call, SETTLE_S) for part, call in parts.items()}
            found = in_turn(
                {"gRPC": lambda: callers.time_settled(folder, SETTLE_S), **timers}, effort.rounds, 3, effort.budget_s
            )
        together = [sum(times) for times in zip(*(found[part] for part in parts), strict=True)]
        medians = ", ".join(f"{key} {number_text(1000 * spread(times).median)} ms" for key, times in found.items())
        yield Row.of(
            f"gRPC mask_png ÷ (decode at 1/{scale} + forward + zlib of 1 bit), {subject.name}, {name}",
            ratio(found["gRPC"], together),
            goal=at_most(1.6),
            note=medians,
        )
        naive = _naive_calls(subject, ask, jpeg)
        finer = {f"finer {way}": call for way, call in _naive_calls(subject, ask, jpeg, _LEFT).items()}
        found = take_turns(
            {"mask": lambda: client.segment(jpeg).mask, **naive, **finer},
            effort.rounds, 2, effort.budget_s, settle_s=SETTLE_S,
        )  # fmt: skip
        mine = found.pop("mask")
        best, best_finer = (
            min((found[way] for way in ways), key=lambda times: spread(times).median) for ways in (naive, finer)
        )
        note = ", ".join(f"{key} {number_text(1000 * spread(times).median)} ms" for key, times in found.items())
        yield Row.of(
            f"gRPC mask_png ÷ the best naive client, {subject.name}, {name}",
            ratio(mine, best),
            goal=at_most(0.6),
            note=f"{number_text(1000 * spread(mine).median)} ms; naive: {note}",
        )
        yield Row.of(
            f"gRPC mask_png ÷ the best naive client that decodes as finely, {subject.name}, {name}",
            ratio(mine, best_finer),
        )
        calls = {product: _product_call(client, product, jpeg) for product in ("masked_image_jpeg", "masked_image")}
        found = take_turns(calls, effort.slow_rounds, 1, effort.budget_s)
        yield Row.of(
            f"masked_image_jpeg ÷ masked_image_png, gRPC, {subject.name}, {name}",
            ratio(*found.values()),
            goal=at_most(0.5),
            note=", ".join(f"{key} {number_text(1000 * spread(times).median)} ms" for key, times in found.items()),
        )


def _milliseconds(lab: Lab, subject: Subject, served: Served, jpeg: bytes, *, cuts_out: bool) -> dict[str, float]:
    with contextlib.ExitStack() as stack:
        grpc, rest, of_classes = (
            stack.enter_context(MaskClient(address, name, timeout=120))
            for address, name in (
                (served.grpc, subject.name), (served.rest, subject.name), (served.grpc, lab.subjects.classes.name)
            )
        )  # fmt: skip
        ask = stack.enter_context(floats_over_grpc(served, subject))
        calls: dict[str, Callable[[], object]] = {
            "mask, gRPC": lambda: grpc.segment(jpeg).mask,
            "mask, REST": lambda: rest.segment(jpeg).mask,
            "naive floats, gRPC": _naive_calls(subject, ask, jpeg)["bytes"],
        }
        if subject is lab.subjects.light:  # what is made of the network's answer is the same for both
            calls |= {
                "masked image as PNG, gRPC": _product_call(grpc, "masked_image", jpeg),
                "masked image as JPEG, gRPC": _product_call(grpc, "masked_image_jpeg", jpeg),
                "class map, gRPC": _product_call(of_classes, "class_map", jpeg),
            }
        found = {name: spread(times).median for name, times in take_turns(calls, 3, 1).items()}
        if subject is lab.subjects.light:
            probability = ask(np.zeros((1, SIZE, SIZE, 3), np.float32))[0, :, :, 0]
            found["rembg's way, mask"] = timed(lambda: _as_rembg(jpeg, probability, cuts_out=False))
            if cuts_out:  # of 48 megapixels it takes half a minute
                found["rembg's way, cut-out"] = timed(lambda: _as_rembg(jpeg, probability, cuts_out=True))
    return {name: 1000 * seconds for name, seconds in found.items()}


def _naive_calls(
    subject: Subject, ask: Callable[[Floats], Floats], jpeg: bytes, leaves: int = 1
) -> dict[str, Callable[[], object]]:
    floats, as_bytes = (drafting_client(subject, ask, enlarges_bytes=way, leaves=leaves) for way in (False, True))
    return {"floats": lambda: floats(jpeg), "bytes": lambda: as_bytes(jpeg)}


def _product_call(client: MaskClient, product: str, jpeg: bytes) -> Callable[[], object]:
    return lambda: client.segment(jpeg, outputs=(product,))


def _as_rembg(jpeg: bytes, probability: Floats, *, cuts_out: bool) -> bytes:
    """Does what rembg's `remove` does before and after its model, which answered a probability [h, w]."""
    picture = Image.open(io.BytesIO(jpeg)).convert("RGB")
    height, width = probability.shape
    small = np.array(picture.resize((width, height), Image.Resampling.LANCZOS)) / 255.0
    ((small - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)).transpose((2, 0, 1))[np.newaxis].astype(np.float32)
    mask = Image.fromarray((probability * 255).astype("uint8")).resize(picture.size, Image.Resampling.LANCZOS)
    held = io.BytesIO()
    shown = Image.composite(picture.convert("RGBA"), Image.new("RGBA", picture.size, 0), mask) if cuts_out else mask
    shown.save(held, "PNG")
    return held.getvalue()
