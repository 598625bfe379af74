"""Reading what tf.io.gfile reaches, such as gs:// or s3://."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator

import tensorflow as tf

from ...errors import SourceError
from ...model.causes import cause_of


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Makes a SourceError of a file system that does not answer, or that TensorFlow has not; `where` is for people."""
    try:
        yield
    except tf.errors.OpError as error:
        raise SourceError(
            f"{where}: cannot be read: {cause_of(error)}; or download it and give the file or folder"
        ) from error


@contextlib.contextmanager
def on_this_machine(path: str, beside: Iterable[str] = ()) -> Iterator[str]:
    """Gives the path of a file; of a URL's a copy, and with it what lies beside, for as long as it is entered."""
    if "://" not in path:
        yield path
        return
    folder = os.path.dirname(path)
    with tempfile.TemporaryDirectory(prefix="maskport-") as copies:
        for file in (path, *beside):
            copy = os.path.join(copies, file.removeprefix(folder).lstrip("/"))
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            tf.io.gfile.copy(file, copy)
        yield os.path.join(copies, os.path.basename(path))
