"""Publishing into a base path that only tf.io.gfile reaches, such as gs:// or s3://.

Object stores have no rename and no locks. So a version is written and checked in a local folder, then copied
with `saved_model.pb` last: a directory without it cannot be loaded, so no half of a version is ever served.
"""

import os
import tempfile
from pathlib import Path

import tensorflow as tf

from ..errors import PublishError
from .versions import choose_version, oldest, version_number

_LAST = "saved_model.pb"


class RemoteVersionWriter:
    """The remote twin of `VersionWriter`: the same use, for one exporter at a time.

    Args:
        base_path: a URL that tf.io.gfile knows.
    """

    def __init__(self, base_path: str):
        self._base_path = base_path.rstrip("/")
        self._folder = tempfile.TemporaryDirectory(prefix="maskport-")
        self.staging = Path(self._folder.name)

    def __enter__(self) -> "RemoteVersionWriter":
        try:
            tf.io.gfile.makedirs(self._base_path)
        except tf.errors.OpError as error:
            self._folder.cleanup()
            raise PublishError(f"output_dir {self._base_path}: {error.message}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def _versions(self) -> dict[int, str]:
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(self._base_path)]
        return {number: name for name in names if (number := version_number(name)) is not None}

    def check_free(self, version: int | None) -> int:
        """Returns the version that would be published now; see `VersionWriter.check_free`."""
        return choose_version(version, self._versions(), self._base_path)

    def publish(self, version: int | None, keep: int | None) -> str:
        """Copies the staging directory to a version, then removes the oldest beyond `keep`.

        Returns:
            The version directory.

        Raises:
            PublishError: the version exists already, or cannot be written; what was copied is removed.
        """
        version = self.check_free(version)
        target = f"{self._base_path}/{version}"
        try:
            self._copy(target)
        except BaseException as error:
            self._remove(target)
            if isinstance(error, tf.errors.OpError):
                raise PublishError(f"output_dir {self._base_path}: {error.message}") from error
            raise
        versions = self._versions()
        for number in oldest(versions, version, keep):
            self._remove(f"{self._base_path}/{versions[number]}")
        return target

    def _copy(self, target: str) -> None:
        files = sorted(Path(parent, name) for parent, _, names in os.walk(self.staging) for name in names)
        files.sort(key=lambda file: file.name == _LAST)
        for file in files:
            copy = f"{target}/{file.relative_to(self.staging).as_posix()}"
            tf.io.gfile.makedirs(os.path.dirname(copy))
            tf.io.gfile.copy(str(file), copy)

    @staticmethod
    def _remove(version_dir: str) -> None:
        # In the order that makes it unservable first.
        if tf.io.gfile.exists(f"{version_dir}/{_LAST}"):
            tf.io.gfile.remove(f"{version_dir}/{_LAST}")
        if tf.io.gfile.exists(version_dir):
            tf.io.gfile.rmtree(version_dir)
