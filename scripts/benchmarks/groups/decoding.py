"""What it costs that a bad picture fails alone: isolation, format check, limits and EXIF, per picture."""

from collections.abc import Iterator

import tensorflow as tf
from maskport.export.graph.files.decoding import Decoder
from maskport.export.graph.maps.geometry import AtImageSize
from maskport.export.spec import make_spec

from .. import pictures
from ..lab import Lab
from ..measuring import difference, spread, take_turns
from ..models import SIZE
from ..results import Finding, Row, at_most, number_text


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the milliseconds of the decoder above those of the plain op."""
    spec = make_spec({"source": "model.keras", "output_dir": "served"})
    decoder = Decoder(spec, 3, AtImageSize(1, spec.max_image_pixels))
    text = [tf.TensorSpec([], tf.string)]
    isolated = tf.function(lambda data: decoder.decode(data, True).image, input_signature=text, autograph=False)
    plain = tf.function(
        lambda data: tf.io.decode_jpeg(data, 3, dct_method="INTEGER_ACCURATE"), input_signature=text, autograph=False
    )
    jpeg = tf.constant(pictures.square_jpeg(SIZE))
    calls = {"isolated": lambda: isolated(jpeg).numpy(), "plain": lambda: plain(jpeg).numpy()}
    found = take_turns(calls, 4 * lab.effort.rounds, 20, lab.effort.budget_s)
    yield Row.of(
        f"isolation, format check and EXIF together, per {SIZE}² JPEG",
        difference(found["isolated"], found["plain"]).scaled(1000),
        "ms",
        at_most(1),
        f"{number_text(1000 * spread(found['isolated']).median)} ms with them, "
        f"{number_text(1000 * spread(found['plain']).median)} ms for tf.io.decode_jpeg alone",
    )
