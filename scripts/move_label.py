"""Moves labels in a model configuration file of TensorFlow Serving: the step of every canary and rollback.

    .venv/bin/python scripts/move_label.py FILE --model=coins stable=2 canary=2

FILE is replaced in one step, so that a server that polls it (--model_config_file_poll_wait_seconds) never reads half
of it. A label that FILE does not have yet is added; LABEL= takes one away. A version must be one of those that the
model's policy names, as a label of a version that is not served stands for nothing.
"""

import argparse
import sys
from pathlib import Path

from maskport.serving.verify import LabelError, move_labels, replace_file


def _label(word: str) -> tuple[str, int | None]:
    name, separator, version = word.partition("=")
    if not name or not separator or not (version == "" or version.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is not LABEL=VERSION, nor LABEL= to take one away")
    return name, int(version) if version else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the model configuration file")
    parser.add_argument("labels", nargs="+", type=_label, metavar="LABEL=VERSION")
    parser.add_argument("--model", required=True)
    words = parser.parse_args()
    try:
        replace_file(words.file, move_labels(words.file.read_text(), words.model, dict(words.labels)))
    except (LabelError, OSError) as error:
        print(f"move_label: {words.file}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
