"""Peak memory of one request with eight JPEGs of 50 megapixels, by kind of model and signature.

The exported graph runs in a process of its own; what is printed is its peak above the loaded and warm model. One
such picture decoded is 150 MB, so eight of them kept at once would be 1.2 GB, and as floats 4.8 GB.

  .venv/bin/python scripts/measure_memory.py [--pictures=8] [--edge=7071]
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

MAKE = """
import keras, sys
size, classes, path = eval(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
image = keras.Input((*size, 3))
activation = "softmax" if classes > 1 else "sigmoid"
keras.Model(image, keras.layers.Conv2D(classes, 3, padding="same", activation=activation)(image)).save(path)
"""
RUN = """
import json, re, sys
sys.modules["keras"] = None
import tensorflow as tf
signature = tf.saved_model.load(sys.argv[1]).signatures[sys.argv[2]]
small, large = (open(path, "rb").read() for path in sys.argv[3:5])
run = lambda files: signature(image_bytes=tf.constant(files))
run([small] * 2)
memory = lambda kind: int(re.search(kind + r":\\s+(\\d+) kB", open("/proc/self/status").read()).group(1))
before = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")  # begins the peak anew: loading had a higher one
answer = run([large] * int(sys.argv[5]))
errors = [text.decode() for text in answer["error"].numpy()]
peak = memory("VmHWM")
print(json.dumps({"mb": (peak - before) / 1024, "errors": sorted(set(errors))}))
"""
CASES = {
    "256² inside": ("(256, 256)", 1, ["mask_png", "masked_image_png", "probability_png"], None),
    "256² inside, 150 classes": ("(256, 256)", 150, ["mask_png", "class_map_png"], None),
    "at image size": ("(None, None)", 1, ["mask_png", "masked_image_png"], 2000),
    "at image size, 21 classes": ("(None, None)", 21, ["class_map_png"], 2000),
}
"""Size, classes, signatures, and the edge of the pictures where it is not the 50 megapixels' (max_model_pixels)."""


def write_jpeg(edge: int, path: Path) -> Path:
    file = io.BytesIO()
    Image.fromarray(data.astronaut()).resize((edge, edge)).save(file, "JPEG", quality=90)
    path.write_bytes(file.getvalue())
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=8)
    parser.add_argument("--edge", type=int, default=7071)
    arguments = parser.parse_args()
    from maskport.export import export_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = write_jpeg(64, folder / "small.jpg")
        print(f"{'model':28}{'signature':20}{'pictures':>14}{'peak MB above the warm model':>32}")
        for case, (size, classes, signatures, edge) in CASES.items():
            source = folder / "model.keras"
            subprocess.run([sys.executable, "-c", MAKE, size, str(classes), source], check=True)
            fields = {"foreground": 1} if classes > 1 else {}
            version_dir = export_model(source, folder / case, scaling="unit", signatures=signatures, **fields)
            large = write_jpeg(edge or arguments.edge, folder / "large.jpg")
            for signature in signatures:
                command = [sys.executable, "-c", RUN, version_dir, signature, small, large, str(arguments.pictures)]
                done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
                result = json.loads(done.stdout)
                megapixels = (edge or arguments.edge) ** 2 / 1e6
                pictures = f"{arguments.pictures} × {megapixels:.0f} MP"
                problems = "".join(f"  {text}" for text in result["errors"] if text)
                print(f"{case:28}{signature:20}{pictures:>14}{result['mb']:32.0f}{problems}", flush=True)


if __name__ == "__main__":
    main()
