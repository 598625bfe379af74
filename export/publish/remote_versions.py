"""Publishing into a base path that only tf.io.gfile reaches, such as gs:// or s3://.

Object stores have no rename and no locks. So a version is written and checked in a local folder, then copied
with `saved_model.pb` last: a directory without it cannot be loaded, so no half of a version is ever served.
"""

import os
import tempfile
from pathlib import Path

import tensorflow as tf

from ...serving.model_directories import parse_version
from ..errors import PublishError
from .versions import choose_version, oldest

_LAST, _ASSETS = "saved_model.pb", "assets.extra"


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

    def versions(self) -> dict[int, str]:
        """Returns the names of the versions that are there, by number."""
        names = [name.rstrip("/") for name in tf.io.gfile.listdir(self._base_path)]
        return {number: name for name in names if (number := parse_version(name)) is not None}

    def check_free(self, version: int | None) -> int:
        """Returns the version that would be published now; see `VersionWriter.check_free`."""
        return choose_version(version, self.versions(), self._base_path)

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
            copy_tree(str(self.staging), target)
        except BaseException as error:
            self._remove(target)
            if isinstance(error, tf.errors.OpError):
                raise PublishError(f"output_dir {self._base_path}: {error.message}") from error
            raise
        self.prune(version, keep)
        return target

    def prune(self, published: int, keep: int | None) -> None:
        """Removes the oldest versions beyond `keep`, but never the one that was published."""
        if keep is None:
            return
        # What an export left that was killed while it copied is no version to keep.
        places = {number: f"{self._base_path}/{name}" for number, name in self.versions().items()}
        whole = {number for number, place in places.items() if tf.io.gfile.exists(f"{place}/{_LAST}")}
        torn = [number for number in set(places) - whole if tf.io.gfile.exists(f"{places[number]}/{_ASSETS}")]
        for number in (*torn, *oldest(whole, published, keep)):
            self.withdraw(number)

    def withdraw(self, version: int) -> None:
        """Removes one version."""
        self._remove(f"{self._base_path}/{self.versions()[version]}")

    @staticmethod
    def _remove(version_dir: str) -> None:
        # In the order that makes it unservable first.
        if tf.io.gfile.exists(f"{version_dir}/{_LAST}"):
            tf.io.gfile.remove(f"{version_dir}/{_LAST}")
        if tf.io.gfile.exists(version_dir):
            tf.io.gfile.rmtree(version_dir)


def copy_tree(source: str, target: str) -> None:
    """Copies all files below a folder into another one, each a path or a URL; `saved_model.pb` last."""
    files = []
    for parent, folders, names in tf.io.gfile.walk(source):
        files += [os.path.join(parent, name) for name in names]
        if not folders and not names and "://" not in target:  # object stores have no folders but by their files
            tf.io.gfile.makedirs(os.path.join(target, os.path.relpath(parent, source)))
    files.sort(key=lambda file: (os.path.basename(file) == _LAST, file))
    for file in files:
        copy = os.path.join(target, os.path.relpath(file, source))
        tf.io.gfile.makedirs(os.path.dirname(copy))
        tf.io.gfile.copy(file, copy)
