"""What starts cost, of the demo model: its export by a command, and a server's start with and without warm-up.

An export is measured beside two starts of Python that import TensorFlow, one of them with Keras, as it needs two
processes: one exports, and a fresh one proves that what was written can be served. A server's warm-up is its start with
the export's requests less its start without; hand-made is what Keras exports with two signatures, probability and
mask, and a request for each. The table's calls are made in one session as the server's, one after the other: a first
call makes TensorFlow optimize, place and instantiate the signature's graph.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ..lab import Lab
from ..measuring import Timer, difference, in_turn, ratio, spread, timed
from ..models import COINS_SPEC, NAIVE_INPUT, NAIVE_OUTPUT, ROOT, Subject
from ..results import Finding, Row, Table, at_most, number_text
from ..servers import environment, serve

_EDGE = 256
_WARM_UP = os.path.join("assets.extra", "tf_serving_warmup_requests")
_WITHOUT = "--enable_model_warmup=false"


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields an export's time, a start's and its warm-up's, and a table of the first calls of all signatures."""
    exported, hand_made = lab.folder / "exported", lab.folder / "hand_made"
    export = ["maskport.export", f"--spec={COINS_SPEC}", f"--output_dir={exported}"]
    found = in_turn(
        {
            "export": lambda: timed(lambda: _python("-m", *export)),
            "TensorFlow": lambda: timed(lambda: _python("-c", "import tensorflow")),
            "with Keras": lambda: timed(lambda: _python("-c", "import tensorflow, keras")),
        },
        lab.effort.exports,
        warmup=0,
    )
    imports = [sum(pair) for pair in zip(found["TensorFlow"], found["with Keras"], strict=True)]
    yield Row.of(
        "an export ÷ two imports of TensorFlow, one with Keras, coins",
        ratio(found["export"], imports),
        goal=at_most(1.4),
        note=f"{_median(found['export'])} and {_median(imports)} s",
    )
    _export_by_hand(lab.subjects.coins, hand_made / "1")
    timers: dict[str, Timer] = {
        f"{name}, {kind}": lambda path=path, flags=flags: _start(lab, path, *flags)
        for name, path in (("exported", exported), ("hand-made", hand_made))
        for kind, flags in (("warm", ()), ("cold", (_WITHOUT,)))
    }
    starts = in_turn(timers, lab.effort.exports, warmup=0)
    times = ", ".join(f"{name} {_median(seconds)} s" for name, seconds in starts.items())
    yield Row.of(
        "a server's start with warm-up of twelve signatures ÷ without, coins",
        ratio(starts["exported, warm"], starts["exported, cold"]),
        goal=at_most(1.5),
        note=times,
    )
    warm_ups = {
        name: difference(starts[f"{name}, warm"], starts[f"{name}, cold"]).median for name in ("exported", "hand-made")
    }
    yield Row(
        "warm-up of twelve signatures ÷ that of a hand-made export's two, coins",
        warm_ups["exported"] / warm_ups["hand-made"],
        goal=at_most(2),
        note=" and ".join(f"{number_text(seconds)} s" for seconds in warm_ups.values()),
    )
    calls = _first_calls(exported / "1")
    lines = [[name, number_text(first), number_text(again)] for name, (first, again) in calls.items()]
    yield Table("Seconds of a signature's first call", ["signature", "first call", "the same again"], lines)


def _python(*words: str) -> None:
    command = [sys.executable, *words]
    subprocess.run(command, check=True, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def _start(lab: Lab, base_path: Path, *flags: str) -> float:
    begun = time.perf_counter()
    with serve(lab.server, {"model": base_path}, *flags):
        return time.perf_counter() - begun


def _median(times: list[float]) -> str:
    return number_text(spread(times).median)


def _export_by_hand(subject: Subject, version: Path) -> None:
    """Exports floats in, floats out, with two signatures and the requests that warm them up."""

    def probability(image: tf.Tensor) -> tf.Tensor:
        return subject.keras_model(image, training=False)

    answers = {
        "serving_default": lambda image: {NAIVE_OUTPUT: probability(image)},
        "mask": lambda image: {"mask": tf.cast(probability(image) > 0.5, tf.float32)},
    }
    archive = keras.export.ExportArchive()
    archive.track(subject.keras_model)
    specs = [tf.TensorSpec([None, None, None, subject.channels], tf.float32, name=NAIVE_INPUT)]
    for name, answer in answers.items():
        archive.add_endpoint(name, answer, input_signature=specs)
    archive.write_out(str(version), verbose=False)
    (version / _WARM_UP).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / _WARM_UP)) as writer:
        for name in answers:
            request = predict_pb2.PredictRequest()
            request.model_spec.name, request.model_spec.signature_name = "model", name
            image = np.zeros((1, _EDGE, _EDGE, subject.channels), np.float32)
            request.inputs[NAIVE_INPUT].CopyFrom(tf.make_tensor_proto(image))
            log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())


def _first_calls(version: Path) -> dict[str, tuple[float, float]]:
    """Returns the seconds of the first and the second call of each warm-up request, by signature, in a new session."""
    found = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signatures = tf.compat.v1.saved_model.load(session, ["serve"], str(version)).signature_def
        for record in tf.compat.v1.io.tf_record_iterator(str(version / _WARM_UP)):
            request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
            name = request.model_spec.signature_name
            inputs, outputs = signatures[name].inputs, signatures[name].outputs
            feeds = {inputs[key].name: tf.make_ndarray(tensor) for key, tensor in request.inputs.items()}
            fetches = [outputs[key].name for key in request.output_filter or outputs]
            first, again = (timed(lambda names=fetches, fed=feeds: session.run(names, fed)) for _ in range(2))
            found[name] = first, again
    return found
