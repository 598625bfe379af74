"""The forward pass of exported ONNX files, beside onnxruntime on the same files, with as many threads: 512×512 pixels.

Each side takes the same float tensor from memory, with its axes in the order of its own, and ends with an array. Each
is called for a tenth of a second before it is timed, so that no thread of the other still waits for work.
"""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from maskport.export.exporter import Plan
from maskport.export.graph.saving import save
from maskport.export.spec import make_spec

from ..lab import Lab
from ..measuring import ratio, spread, take_turns
from ..results import Finding, Row, at_most, number_text
from .latency import SETTLE_S

_GOAL = at_most(1.1)


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the forward pass's time ÷ onnxruntime's, by network, as exported by default and frozen."""
    if missing := [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        note = f"{missing[0]} is not installed: scripts/install benchmark"
        yield Row("forward pass ÷ onnxruntime", None, note=note)
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
        plan = Plan.make(make_spec({"source": str(path), "output_dir": str(folder), "optimize": choice}))
        save(plan.module.forward_alone(), folder)
        loaded = tf.saved_model.load(str(folder))
        calls[choice] = lambda loaded=loaded: loaded.forward(image).numpy()
    wanted = calls["onnxruntime"]()
    found = take_turns(calls, lab.effort.slow_rounds * 2, 5, lab.effort.budget_s, SETTLE_S)
    times = {kind: number_text(1000 * spread(found[kind]).median) for kind in found}
    for choice in ("none", "freeze"):
        largest = float(np.abs(calls[choice]() - wanted).max())
        note = f"{times[choice]} and {times['onnxruntime']} ms, {threads} threads; they differ by {largest:.1g} at most"
        shares = ratio(found[choice], found["onnxruntime"])
        yield Row.of(f"forward pass, optimize={choice} ÷ onnxruntime, {name}, {SIZE}²", shares, goal=_GOAL, note=note)
