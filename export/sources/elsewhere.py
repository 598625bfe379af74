"""Reading what tf.io.gfile reaches, such as gs:// or s3://."""

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from ..errors import SourceError
from ..model.causes import cause_of


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Makes a SourceError of a file system that does not answer, or that TensorFlow has not; `where` is for people."""
    try:
        yield
    except tf.errors.OpError as error:
        raise SourceError(
            f"{where}: cannot be read: {cause_of(error)}; or download it and give the file or folder"
        ) from error
