"""Where a version goes: a base path on disk or behind a URL, or a folder that already has its name."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Self

import tensorflow as tf

from ..errors import PublishError
from .remote_versions import RemoteVersionWriter, copy_tree
from .versions import VersionWriter

_BLOCK = 1 << 20


class FolderWriter:
    """The twin of `VersionWriter` for a folder that pipelines have made for it: nobody looks at it before its end.

    What was written stays also where it was not published, so that people can see what failed its check.

    Args:
        folder: path, or a URL that tf.io.gfile knows.
    """

    def __init__(self, folder: str):
        self._folder = folder
        self._local = tempfile.TemporaryDirectory(prefix="maskport-") if "://" in folder else None
        self.staging = Path(self._local.name if self._local else folder)

    def __enter__(self) -> Self:
        try:
            self.staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PublishError(f"{self._folder}: cannot be written: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._local:
            with self._local:
                copy_tree(str(self.staging), self._folder)

    def check_free(self, version: int | None) -> int:
        """Returns what it is given: the folder has its name, and no versions beside it."""
        return version or 1

    def publish(self, version: int | None, keep: int | None) -> str:
        """Returns the folder; `version` and `keep` are of no use here."""
        return self._folder


Writer = VersionWriter | RemoteVersionWriter | FolderWriter


def open_base_path(base_path: str) -> VersionWriter | RemoteVersionWriter:
    """Returns the writer of a served model's base path: a path, or a URL that tf.io.gfile knows."""
    return RemoteVersionWriter(base_path) if "://" in base_path else VersionWriter(Path(base_path))


def publish_copy(version_dir: str, base_path: str) -> tuple[str, bool]:
    """Publishes a finished version directory, which stays where it is, under the next free number of a base path.

    Args:
        version_dir: path or URL.
        base_path: of the served model, likewise; made where it does not exist.

    Returns:
        The new version directory, and True; the newest there and False where that holds the very same files already,
        as when a pipeline is run again.

    Raises:
        PublishError: there is no SavedModel, or the base path cannot be written.
    """
    if not tf.io.gfile.exists(os.path.join(version_dir, "saved_model.pb")):
        raise PublishError(f"{version_dir}: there is no SavedModel to be published")
    with open_base_path(base_path) as writer:
        versions = writer.versions()
        if versions:
            newest = os.path.join(base_path, versions[max(versions)])
            if _digests(newest) == _digests(version_dir):
                return newest, False
        try:
            copy_tree(version_dir, str(writer.staging))
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or getattr(error, "message", None)
            raise PublishError(f"{version_dir}: cannot be copied to {base_path}: {reason}") from error
        return str(writer.publish(None, None)), True


def _digests(folder: str) -> dict[str, str]:
    """Returns the SHA-256 of each file below a folder, by its path there."""
    found = {}
    for parent, _, names in tf.io.gfile.walk(folder):
        for name in names:
            path, digest = os.path.join(parent, name), hashlib.sha256()
            with tf.io.gfile.GFile(path, "rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
            found[os.path.relpath(path, folder)] = digest.hexdigest()
    return found
