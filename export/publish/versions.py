"""Publishing a version directory whole, or not at all.

TensorFlow Serving takes every entry of a base path whose name reads as an integer for a version, and looks
once a second. So a version is written beside under another name, synced, and renamed into place while a lock
on the base path is held. Locks are the kernel's (flock): they end with their process, also by kill -9, and so
tell a staging directory that is being written from one that was left behind.
"""

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ...serving.model_directories import parse_version
from ..errors import PublishError

_STAGING_PREFIX = ".maskport-staging-"
_REMOVED_PREFIX = ".maskport-removed-"
_LOCK_NAME = ".maskport-lock"


def list_versions(base_path: Path) -> dict[int, Path]:
    """Returns the versions in a base path, by number."""
    return {number: entry for entry in base_path.iterdir() if (number := parse_version(entry.name)) is not None}


def choose_version(wanted: int | None, taken: Mapping[int, str], base_path: object) -> int:
    """Returns the wanted version, or else the highest plus 1; the first is 1. `taken` are the names they go by.

    Raises:
        PublishError: it is taken.
    """
    following = max(0, *taken, 0) + 1
    if wanted is not None and wanted in taken:
        raise PublishError(
            f"version {wanted} exists already in {base_path} (as {taken[wanted]}); the next free one is {following}"
        )
    return following if wanted is None else wanted


def oldest(versions: Collection[int], published: int, keep: int | None) -> list[int]:
    """Returns the versions that are to go, so that `keep` are left: never the one that was just published."""
    others = sorted(set(versions) - {published})
    return [] if keep is None else others[: max(0, len(others) - (keep - 1))]


class VersionWriter:
    """Writes one version into a base path.

    Use as a context manager: `staging` is a directory to write into; `publish` makes it a version. Leaving
    without having published removes it. What killed exports left behind is swept on entering.

    Args:
        base_path: made where it does not exist.

    Raises:
        PublishError: the base path is not a directory that can be written.
    """

    def __init__(self, base_path: Path):
        self._base_path = base_path
        self._made: list[Path] = []  # the base path and those above it, from below
        self.staging = base_path / f"{_STAGING_PREFIX}{uuid.uuid4().hex}"
        self._staging_lock: int | None = None

    def __enter__(self) -> "VersionWriter":
        with _as_publish_error(self._base_path):
            missing = [path for path in (self._base_path, *self._base_path.parents) if not path.exists()]
            if missing:
                self._base_path.mkdir(parents=True, exist_ok=True)
                self._made = missing
            with self._lock():
                self._sweep()
                self.staging.mkdir()
                self._staging_lock = os.open(self.staging, os.O_RDONLY)
                fcntl.flock(self._staging_lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        if self._staging_lock is not None:
            shutil.rmtree(self.staging, ignore_errors=True)
            os.close(self._staging_lock)
            self._staging_lock = None
        with contextlib.suppress(OSError):
            if self._made and {entry.name for entry in self._base_path.iterdir()} <= {_LOCK_NAME}:
                (self._base_path / _LOCK_NAME).unlink(missing_ok=True)
                for path in self._made:
                    path.rmdir()

    def versions(self) -> dict[int, str]:
        """Returns the names of the versions that are there, by number."""
        return {number: path.name for number, path in list_versions(self._base_path).items()}

    def check_free(self, version: int | None) -> int:
        """Returns the version that would be published, the highest plus 1 for None; PublishError where it is taken."""
        return choose_version(version, self.versions(), self._base_path)

    def publish(self, version: int | None, keep: int | None) -> Path:
        """Makes the staging directory a version, then removes the oldest beyond `keep`.

        Args:
            version: its number; None is the highest there plus 1.
            keep: how many versions stay, this one included; None is all.

        Returns:
            The version directory.

        Raises:
            PublishError: the version exists already, or the directory cannot be written.
        """
        with _as_publish_error(self._base_path):
            _sync_tree(self.staging)
            with self._lock():
                version = self.check_free(version)
                # rename() would replace an empty directory of that name: under the lock there is none.
                target = self._base_path / str(version)
                self.staging.rename(target)
                _sync(self._base_path)
                if self._staging_lock is not None:
                    os.close(self._staging_lock)
                    self._staging_lock = None
                self._remove_versions(oldest(self.versions(), version, keep))
        self._made = []
        return target

    def prune(self, published: int, keep: int | None) -> None:
        """Removes the oldest versions beyond `keep`, as `publish` does, but never the one that was published."""
        with _as_publish_error(self._base_path), self._lock():
            self._remove_versions(oldest(self.versions(), published, keep))

    def withdraw(self, version: int) -> None:
        """Removes one version whole."""
        with _as_publish_error(self._base_path), self._lock():
            self._remove_versions([version])

    def _remove_versions(self, numbers: Collection[int]) -> None:
        versions = list_versions(self._base_path)
        for number in numbers:
            # Renamed first: a server never sees a version that is half deleted.
            _remove(versions[number].rename(self._base_path / f"{_REMOVED_PREFIX}{uuid.uuid4().hex}"))

    def _sweep(self) -> None:
        """Removes what exports left behind that were killed."""
        for entry in self._base_path.iterdir():
            if entry.name.startswith(_REMOVED_PREFIX):
                _remove(entry)
            elif entry.name.startswith(_STAGING_PREFIX) and entry.is_dir():
                directory = os.open(entry, os.O_RDONLY)
                try:
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # its exporter is alive
                else:
                    _remove(entry)
                finally:
                    os.close(directory)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        lock = os.open(self._base_path / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


@contextlib.contextmanager
def _as_publish_error(base_path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or base_path
        raise PublishError(f"output_dir {base_path}: {error.strerror or error} ({where})") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(directory: Path) -> None:
    for parent, _, files in os.walk(directory):
        for name in files:
            _sync(Path(parent, name))
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
