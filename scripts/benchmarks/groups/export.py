"""What an export of 25 million parameters costs beside Keras' own, which is `tf.saved_model.save`.

Each runs in a process of its own; the model is made and loaded outside of the time.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras

from ..lab import Lab
from ..measuring import ratio, spread
from ..results import Finding, Row, at_most, number_text

_PLAIN = """
import sys, time, tensorflow as tf, keras
model = keras.saving.load_model(sys.argv[1])
started = time.perf_counter()
model.export(sys.argv[2], verbose=False)
seconds = time.perf_counter() - started
"""
_EXPORT = """
import sys, time
from maskport.export.spec import make_spec
from maskport.export.exporter import export_spec
fields = {"source": sys.argv[1], "output_dir": sys.argv[2], "scaling": "unit", "pad_to_multiple": 16}
spec = make_spec(fields)
import tensorflow, keras
keras.saving.load_model(sys.argv[1])  # so that both have the same behind them
started = time.perf_counter()
export_spec(spec)
seconds = time.perf_counter() - started
"""
_REPORT = """
import json, re
# Not ru_maxrss, which a child inherits from the process that started it.
print(json.dumps([seconds, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024]))
"""
_TIMES, _MORE_S, _MEMORY = 2, 10, 2.5


def measure(lab: Lab) -> Iterator[Finding]:
    """Yields the time, as a share of what is allowed, and the memory."""
    model = lab.folder / "large.keras"
    _make_model(model)
    seconds: dict[str, list[float]] = {_PLAIN: [], _EXPORT: []}
    memory: dict[str, list[float]] = {_PLAIN: [], _EXPORT: []}
    for turn in range(lab.effort.exports):
        for program, found in seconds.items():
            took, peak = _run(program, model, lab.folder / f"{'plain' if program is _PLAIN else 'served'}{turn}")
            found.append(took)
            memory[program].append(peak)
    allowed = [_TIMES * plain + _MORE_S for plain in seconds[_PLAIN]]
    yield Row.of(
        "time of an export ÷ (2 × tf.saved_model.save + 10 s), 25 M parameters",
        ratio(seconds[_EXPORT], allowed),
        goal=at_most(1),
        note=f"{number_text(spread(seconds[_EXPORT]).median)} s; "
        f"tf.saved_model.save {number_text(spread(seconds[_PLAIN]).median)} s",
    )
    yield Row.of(
        "peak memory of an export ÷ tf.saved_model.save, 25 M parameters",
        ratio(memory[_EXPORT], memory[_PLAIN]),
        goal=at_most(_MEMORY),
        note=f"{number_text(spread(memory[_EXPORT]).median)} and {number_text(spread(memory[_PLAIN]).median)} MB",
    )


def _make_model(path: Path) -> None:
    image = x = keras.Input((None, None, 3))
    for filters in (64, 256, 512, 1024):
        x = keras.layers.Conv2D(filters, 3, 2, "same", activation="relu")(x)
    x = keras.layers.Conv2D(2048, 3, 1, "same", activation="relu")(x)
    keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x)).save(path)


def _run(program: str, model: Path, target: Path) -> tuple[float, float]:
    command = [sys.executable, "-c", program + _REPORT, str(model), str(target)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak
