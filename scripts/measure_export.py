"""Compares an export of a model of 25 million parameters with `tf.saved_model.save` of the same model.

Each runs in a process of its own; the model is made and loaded outside of the time. Prints seconds and peak memory.

  .venv/bin/python scripts/measure_export.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

MAKE = """
import keras, sys
image = x = keras.Input((None, None, 3))
for filters in (64, 256, 512, 1024):
    x = keras.layers.Conv2D(filters, 3, 2, "same", activation="relu")(x)
x = keras.layers.Conv2D(2048, 3, 1, "same", activation="relu")(x)
keras.Model(image, keras.layers.Conv2D(1, 1, activation="sigmoid")(x)).save(sys.argv[1])
"""
PLAIN = """
import sys, time, tensorflow as tf, keras
model = keras.saving.load_model(sys.argv[1])
started = time.perf_counter()
model.export(sys.argv[2], verbose=False)
seconds = time.perf_counter() - started
"""
EXPORT = """
import sys, time
from maskport.export.spec import make_spec
from maskport.export.exporter import export_spec
fields = {"source": sys.argv[1], "output_dir": sys.argv[2], "scaling": "unit", "pad_to_multiple": 16}
spec = make_spec(fields)
import tensorflow, keras
keras.saving.load_model(sys.argv[1])  # so that both have the same behind them
started = time.perf_counter()
steps = []
export_spec(spec, lambda text: steps.append((text.split()[0], time.perf_counter() - started)))
seconds = time.perf_counter() - started
print(steps, file=sys.stderr)
"""
REPORT = """
import json, resource
print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def run(program: str, *words: object) -> str:
    command = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "large.keras")
        run(MAKE, model)
        plain = json.loads(run(PLAIN + REPORT, model, Path(folder, "plain")))
        export = json.loads(run(EXPORT + REPORT, model, Path(folder, "served")))
    print(f"{'':24}{'seconds':>10}{'peak MB':>10}")
    print(f"{'tf.saved_model.save':24}{plain['seconds']:10.1f}{plain['peak_mb']:10.0f}")
    print(f"{'mask-export':24}{export['seconds']:10.1f}{export['peak_mb']:10.0f}")
    allowed = 2 * plain["seconds"] + 10
    print(f"time: {export['seconds']:.1f} s of {allowed:.1f} s (twice, and 10 s for the checks)")
    print(f"memory: {export['peak_mb'] / plain['peak_mb']:.2f} times (2.5 allowed)")


if __name__ == "__main__":
    main()
