"""Runs one large request in a process of its own, and tells its peak of memory above the warm model.

`python -m benchmarks.large_request VERSION_DIRECTORY SIGNATURE SMALL.jpg LARGE.jpg COUNT` prints JSON.
"""

import json
import re
import sys
from pathlib import Path


def _memory_kb(kind: str) -> int:
    return int(re.search(kind + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def main(version_dir: str, signature_name: str, small_file: str, large_file: str, count: str) -> None:
    # The export needs no Keras, and this process shows it.
    sys.modules["keras"] = None  # type: ignore[assignment]
    import tensorflow as tf

    signature = tf.saved_model.load(version_dir).signatures[signature_name]
    small, large = (Path(path).read_bytes() for path in (small_file, large_file))
    signature(image_bytes=tf.constant([small] * 2))
    before = _memory_kb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew: loading had a higher one
    answer = signature(image_bytes=tf.constant([large] * int(count)))
    errors = sorted({text.decode() for text in answer["error"].numpy()} - {""})
    print(json.dumps({"mb": (_memory_kb("VmHWM") - before) / 1024, "errors": errors}))


if __name__ == "__main__":
    main(*sys.argv[1:])
