"""How TensorFlow Serving finds models on disk: which entries of a base path are versions, which files a SavedModel.

Stated once, for the exporter, the embedded server and the verification gate. Nothing here imports TensorFlow.
"""

import re

SAVED_MODEL_FILES = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb")
"""One of them makes a directory a SavedModel."""

# What absl::SimpleAtoi reads: white space around an optionally signed decimal number of 64 bits.
_INTEGER = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*", re.ASCII)
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1


def parse_version(name: str) -> int | None:
    """Returns the version that the name of a directory entry stands for, or None.

    `007` is 7, ` 8` is 8 and `-4` is -4, as TensorFlow Serving reads them.
    """
    match = _INTEGER.fullmatch(name)
    if not match:
        return None
    number = int(match[1])
    return number if _SMALLEST <= number <= _LARGEST else None
