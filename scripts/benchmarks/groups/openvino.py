"""OpenVINO's latency for the same networks on the same cores: an outside reference of what the hardware can do."""

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import pictures
from ..lab import Lab
from ..measuring import ratio, spread, take_turns
from ..models import SIZE, Subject
from ..results import Finding, Row, number_text
from .latency import forward_call

_PRECISIONS = {"f32": {"INFERENCE_PRECISION_HINT": "f32"}, "default precision": {}}


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields OpenVINO's time ÷ TensorFlow's, by model and precision."""
    if importlib.util.find_spec("openvino") is None:
        note = "OpenVINO is not installed: scripts/install benchmark"
        yield Row("OpenVINO ÷ bare forward", None, note=note)
        return
    for subject in (lab.subjects.unet, lab.subjects.light):
        compiled = {name: _compile(subject, options) for name, options in _PRECISIONS.items()}
        image = np.random.default_rng(0).random((1, SIZE, SIZE, 3), np.float32)
        calls = {name: lambda run=run, image=image: run(image) for name, run in compiled.items()}
        calls["forward"] = forward_call(subject, pictures.square_jpeg(SIZE))
        found = take_turns(calls, lab.effort.rounds, 5, lab.effort.budget_s)
        milliseconds = {name: number_text(1000 * spread(times).median) for name, times in found.items()}
        for name, run in compiled.items():
            used = run.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            note = f"{milliseconds[name]} ms, TensorFlow {milliseconds['forward']} ms; runs in {used}"
            shares = ratio(found[name], found["forward"])
            yield Row.of(f"OpenVINO ({name}) ÷ bare forward, {subject.name}", shares, note=note)


def _compile(subject: Subject, options: dict[str, str]) -> Any:
    import openvino

    core = openvino.Core()
    shape = [1, subject.edge, subject.edge, 3]
    network = openvino.convert_model(str(subject.naive_base_path / "1"), input=shape)
    everything = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": os.cpu_count(),
        "ENABLE_HYPER_THREADING": True,  # as TensorFlow, it shall use every core that there is
        **options,
    }
    return core.compile_model(network, "CPU", everything)
