"""Finding the version directory that is meant, and what it holds: without TensorFlow."""

import dataclasses
import os
from pathlib import Path

from ...serving.model_directories import SAVED_MODEL_FILES, parse_version
from ..errors import InspectError as InspectError  # noqa: PLC0414  (a stub names only its own package)
from ..publish.versions import list_versions


@dataclasses.dataclass(frozen=True)
class VersionDirectory:
    """A directory with a SavedModel: its absolute path, the base path's name, and its number, if it is named by one."""

    path: Path
    model_name: str
    version: int | None

    def file_sizes(self) -> dict[str, int]:
        """Returns the size in bytes of each file, by its path in the directory."""
        files = sorted(Path(parent, name) for parent, _, names in os.walk(self.path) for name in names)
        return {file.relative_to(self.path).as_posix(): file.stat().st_size for file in files}


def find_version_directory(path: Path) -> VersionDirectory:
    """Returns a version directory, or the highest version in a base path; InspectError where it is neither."""
    absolute = Path(os.path.abspath(path))
    if not absolute.is_dir():
        if absolute.name in SAVED_MODEL_FILES:
            raise InspectError(f"{path}: give its directory, {path.parent}")
        raise InspectError(f"{path}: {'not a directory' if absolute.exists() else 'no such directory'}")
    if _holds_saved_model(absolute):
        version = parse_version(absolute.name)
        return VersionDirectory(absolute, absolute.name if version is None else absolute.parent.name, version)
    versions = list_versions(absolute)
    if not versions:
        raise InspectError(
            f"{path}: holds neither a saved_model.pb nor versions (directories with a number for a name)"
        )
    highest = max(versions)
    if not _holds_saved_model(versions[highest]):
        raise InspectError(f"{versions[highest]}: the highest version holds no saved_model.pb")
    return VersionDirectory(versions[highest], absolute.name, highest)


def _holds_saved_model(path: Path) -> bool:
    return any((path / name).is_file() for name in SAVED_MODEL_FILES)
