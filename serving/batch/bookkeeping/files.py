"""Files of any file system that Beam knows: read, written whole or not at all, found, removed."""

import contextlib
import os
import re
from collections.abc import Sequence

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

_MAGIC = re.compile(r"[*?\[]")
TEMPORARY = ".tmp"
"""Ends the name of whatever is not whole yet."""


def read(path: str) -> bytes:
    """Returns what a file holds, as it is; raises `OSError`."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        data: bytes = file.read()
    return data


def write(path: str, data: bytes) -> None:
    """Writes a new file, and makes its folder; raises `OSError`."""
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(data)


def rename(sources: Sequence[str], targets: Sequence[str]) -> dict[str, OSError]:
    """Gives files their names, over what is there; returns what went wrong, by target. One file's error is raised."""
    failed: dict[str, OSError] = {}
    for folder in {os.path.dirname(target) for target in targets}:
        with contextlib.suppress(OSError):  # it is there, or the renaming says why not
            _make_folder(folder)
    try:
        FileSystems.rename(list(sources), list(targets))
    except BeamIOError as error:
        details = error.exception_details or {}
        failed = {pair[1]: plain_error(found) for pair, found in details.items() if isinstance(pair, tuple)}
        if not failed or len(targets) == 1:
            raise plain_error(error) from error
    return failed


def size_of(path: str) -> int | None:
    """Returns a file's size in bytes; None where there is none."""
    try:
        size: int = FileSystems.get_filesystem(path).metadata(path).size_in_bytes
    except (OSError, ValueError):
        return None
    return size


def find(pattern: str) -> list[FileMetadata]:
    """Returns the files that a pattern of Beam's means, none being no error; raises `OSError`."""
    try:
        found: list[FileMetadata] = FileSystems.match([rooted(pattern)])[0].metadata_list
    except BeamIOError as error:
        raise plain_error(error) from error
    return found


def remove(paths: Sequence[str]) -> None:
    """Removes files that may be there."""
    for path in paths:
        with contextlib.suppress(OSError):
            if is_local(path):
                os.remove(path)
            else:
                FileSystems.delete([literal(path)])


def literal(path: str) -> str:
    """Returns the pattern that means just this path."""
    # Beam makes a regular expression of it, in which a set that begins with a bracket means something to come.
    return re.sub(r"([*?])", r"[\1]", path.replace("[", "[\\[]"))


def rooted(pattern: str) -> str:
    """Returns a pattern as Beam finds something by it: of one that begins with a wildcard it knows no folder."""
    fixed = fixed_part(pattern)
    return f"./{pattern}" if fixed != pattern and "/" not in fixed and is_local(pattern) else pattern


def fixed_part(pattern: str) -> str:
    """Returns what stands before a pattern's first wildcard."""
    return _MAGIC.split(pattern, maxsplit=1)[0]


def join(folder: str, *names: str) -> str:
    """Returns a path below a folder; an empty folder is the current one."""
    top = folder.rstrip("/")
    return "/".join((top, *names)) if top or folder else "/".join(names)


def is_local(path: str) -> bool:
    """Returns whether a path is of this machine's file system."""
    return "://" not in path


def plain_error(error: Exception) -> OSError:
    """Returns the operating system's error, which Beam wraps."""
    inner: object = error
    while True:
        details = getattr(inner, "exception_details", None)
        if details:
            inner = next(iter(details.values()))
        elif isinstance(inner, Exception) and inner.args and isinstance(inner.args[0], OSError):
            inner = inner.args[0]
        else:
            return inner if isinstance(inner, OSError) else OSError(str(inner))


def _make_folder(folder: str) -> None:
    if folder and FileSystems.get_filesystem(folder).has_dirs() and not FileSystems.exists(folder):
        FileSystems.mkdirs(folder)


def remove_empty_folder(path: str) -> None:
    """Removes a folder of this machine that holds nothing; elsewhere there are none."""
    if is_local(path):
        with contextlib.suppress(OSError):
            os.rmdir(path)
