"""Keras files wherever they lie, as files on this machine: Keras reads no others."""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator

import tensorflow as tf

from ..elsewhere import reading
from .files import CONFIG_MEMBER, SHARDED_WEIGHTS, WEIGHTS_MEMBER, shards_of_weights

_MEMBERS = (CONFIG_MEMBER, "metadata.json", WEIGHTS_MEMBER, "assets/")
"""What Keras writes into a folder or a .keras file; people put other things beside it."""


@contextlib.contextmanager
def as_local_file(path: str, where: str) -> Iterator[str]:
    """Yields the path of a Keras file on this machine: a copy of what is elsewhere, and of a folder a .keras file.

    Args:
        path: of a file or a folder, or its URL.
        where: in what, for people.

    Raises:
        SourceError: it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="maskport-") as folder:
        with reading(where):
            local = _bring(path, folder)
        yield local


def _bring(path: str, folder: str) -> str:
    files, local = tf.io.gfile, os.path.join(folder, os.path.basename(path.rstrip("/")))
    if files.isdir(path):
        _pack(path.rstrip("/"), f"{local}.keras")
        return f"{local}.keras"
    if "://" not in path:
        return path
    files.copy(path, local)
    if path.endswith(SHARDED_WEIGHTS):
        with open(local, "rb") as index:
            shards = shards_of_weights(index.read(), path)
        for shard in shards:
            files.copy(shard, os.path.join(folder, os.path.basename(shard)))
    return local


def _pack(folder: str, path: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for parent, _, names in tf.io.gfile.walk(folder):
            for name in names:
                file = f"{parent.rstrip('/')}/{name}"
                member = file.removeprefix(f"{folder}/")
                if member.startswith(_MEMBERS):
                    with tf.io.gfile.GFile(file, "rb") as content, archive.open(member, "w", force_zip64=True) as copy:
                        shutil.copyfileobj(content, copy, 1 << 20)
