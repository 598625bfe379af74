"""ONNX files as they are exported, beside onnxruntime on the same files, with as many threads: one picture of 512×512.

Each side begins with a float tensor in memory and ends with an array. Each is called for a tenth of a second before it
is timed, so that no thread of the other still waits for work.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from maskport.export import export_model

from ..lab import Lab
from ..measuring import ratio, spread, take_turns
from ..results import Finding, Row, at_most, number_text
from .latency import SETTLE_S
from .outputs import load_signature

_GOAL = at_most(1.1)


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the exported graph's time ÷ onnxruntime's, by network, as exported by default and frozen."""
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        note = f"{missing[0]} is not installed: scripts/install benchmark"
        yield Row("exported graph ÷ onnxruntime", None, note=note)
        return
    from ..onnx_networks import NETWORKS

    for number, (name, write) in enumerate(NETWORKS.items()):
        yield from _compare(lab, name, write(lab.folder / f"{number}.onnx"))


def _compare(lab: Lab, name: str, path: Path) -> Iterator[Row]:
    import onnxruntime

    from ..onnx_networks import SIZE

    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((1, SIZE, SIZE, 3), np.float32)
    picture, image = np.ascontiguousarray(images.transpose(0, 3, 1, 2)), tf.constant(images)
    calls = {"onnxruntime": lambda: session.run(None, {"image": picture})[0].transpose(0, 2, 3, 1)}
    for choice in ("none", "freeze"):
        folder = lab.folder / f"{path.stem}_{choice}"
        fields = {"image_dtype": "float32", "signatures": "probability", "optimize": choice, "warmup": False}
        run = load_signature(Path(export_model(str(path), folder, **fields)).parent, "probability")
        calls[choice] = lambda run=run: run(image=image)["probability"].numpy()
    wanted = calls["onnxruntime"]()
    found = take_turns(calls, lab.effort.slow_rounds * 2, 5, lab.effort.budget_s, SETTLE_S)
    times = {kind: number_text(1000 * spread(found[kind]).median) for kind in found}
    for choice in ("none", "freeze"):
        largest = float(np.abs(calls[choice]() - wanted).max())
        note = f"{times[choice]} and {times['onnxruntime']} ms, {threads} threads; they differ by {largest:.1g} at most"
        shares = ratio(found[choice], found["onnxruntime"])
        yield Row.of(f"exported graph, optimize={choice} ÷ onnxruntime, {name}, {SIZE}²", shares, goal=_GOAL, note=note)
