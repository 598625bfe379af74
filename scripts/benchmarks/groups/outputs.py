"""Outputs that are photographs: how much beside the PNG encoder's own time they cost.

What is allowed is the time in which TensorFlow encodes the very answer at the very compression level of the export,
1.25 forward passes, and 2 ms.
"""

from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from maskport.serving.client import MaskClient

from .. import pictures
from ..lab import Lab
from ..measuring import spread, take_turns
from ..models import SIZE
from ..results import Finding, Row, at_most, number_text
from ..servers import serve
from .latency import SETTLE_S, forward_call

_FORWARDS, _MORE_S = 1.25, 0.002


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the latency of each output, as a share of what is allowed, over gRPC and in process."""
    light = lab.subjects.light
    cut_out = light.export_with("transparent", background="transparent", signatures=["masked_image_png"])
    jpeg = pictures.square_jpeg(SIZE)
    forward = forward_call(light, jpeg)
    base_paths = {"light": light.base_path, "light_rgba": cut_out}
    with serve(lab.server, base_paths) as served:
        for title, model, product in (
            ("masked_image_png", "light", "masked_image"),
            ("masked_image_png, transparent (RGBA)", "light_rgba", "masked_image"),
            ("probability_png (16 bits)", "light", "probability"),
        ):
            signature = load_signature(base_paths[model], f"{product}_png")
            key = f"{product}_bytes"
            files = tf.constant([jpeg])
            dtype = tf.uint16 if product == "probability" else tf.uint8
            answer = tf.io.decode_png(signature(image_bytes=files)[key][0], dtype=dtype)
            level = compression_level(signature, dtype)
            encode = tf.function(lambda image, level=level: tf.io.encode_png(image, level))
            with MaskClient(served.grpc, model) as client:
                found = take_turns(
                    {
                        "gRPC": lambda client=client, product=product: client.segment(jpeg, outputs=(product,)),
                        "in process": lambda f=signature, key=key, files=files: f(image_bytes=files)[key].numpy(),
                        "encode": lambda encode=encode, answer=answer: encode(answer).numpy(),
                        "forward": forward,
                    },
                    lab.effort.rounds, 5, lab.effort.budget_s, settle_s=SETTLE_S,
                )  # fmt: skip
            medians = {name: number_text(1000 * spread(times).median) for name, times in found.items()}
            for way in ("gRPC", "in process"):
                shares = [
                    took / (encoding + _FORWARDS * bare + _MORE_S)
                    for took, encoding, bare in zip(found[way], found["encode"], found["forward"], strict=True)
                ]
                yield Row.of(
                    f"{title}, {way}, light, {SIZE}² JPEG ÷ (PNG encoder + 1.25 × forward + 2 ms)",
                    spread(shares),
                    goal=at_most(1) if way == "gRPC" else None,
                    note=f"{medians[way]} ms; encoder (level {level}) {medians['encode']} ms, forward "
                    f"{medians['forward']} ms",
                )


def load_signature(base_path: Path, name: str) -> tf.types.experimental.ConcreteFunction:
    """Returns a signature of an export, in this process."""
    return tf.saved_model.load(str(base_path / "1")).signatures[name]


def compression_level(signature: tf.types.experimental.ConcreteFunction, dtype: tf.DType) -> int:
    """Returns the level at which a signature encodes PNG files of a dtype; the fastest of several."""
    graph = signature.graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    levels = {
        node.attr["compression"].i
        for node in nodes
        if node.op == "EncodePng" and node.attr["T"].type == dtype.as_datatype_enum
    }
    if not levels:
        raise ValueError("no op of this signature encodes PNG files of that dtype")
    # -1 is zlib's own default, 6.
    return min(levels, key=lambda level: 6 if level == -1 else level)
