"""What tells TFX's cache that something on disk has changed: it looks at names and parameters only."""

import hashlib
import os
from pathlib import Path

from ..errors import ExportError


def fingerprint(path: str | os.PathLike[str]) -> str:
    """Returns a text that changes with the files at a path: their names, sizes and times of change, not their bytes.

    Raises:
        ExportError: there is nothing.
    """
    root = Path(path)
    files = [root] if root.is_file() else sorted(file for file in root.rglob("*") if file.is_file())
    if not files:
        raise ExportError(f"{root}: there are no files")
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(f"{file.relative_to(root)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
