"""Keras files wherever they lie, as files on this machine: Keras reads no others."""

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator

import tensorflow as tf

from ..paths.elsewhere import on_this_machine, reading
from .files import CONFIG_MEMBER, SHARDED_WEIGHTS, WEIGHTS_MEMBER, shards_of_weights

MEMBERS = (CONFIG_MEMBER, "metadata.json", WEIGHTS_MEMBER, "assets/")
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
    with contextlib.ExitStack() as copies:
        with reading(where):
            if tf.io.gfile.isdir(path):
                folder = copies.enter_context(tempfile.TemporaryDirectory(prefix="maskport-"))
                local = os.path.join(folder, "folder.keras")
                _pack(path.rstrip("/"), local)
            else:
                is_sharded = "://" in path and path.endswith(SHARDED_WEIGHTS)
                shards = shards_of_weights(tf.io.gfile.GFile(path, "rb").read(), path) if is_sharded else []
                local = copies.enter_context(on_this_machine(path, shards))
        yield local


def _pack(folder: str, path: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for parent, _, names in tf.io.gfile.walk(folder):
            for name in names:
                file = f"{parent.rstrip('/')}/{name}"
                member = file.removeprefix(f"{folder}/")
                if member.startswith(MEMBERS):
                    with tf.io.gfile.GFile(file, "rb") as content, archive.open(member, "w", force_zip64=True) as copy:
                        shutil.copyfileobj(content, copy, 1 << 20)
