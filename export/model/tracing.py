"""Tracing a model without running it, and running it as it was traced."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from ...serving import contract
from ..errors import SourceError
from .causes import cause_of
from .segmentation_model import CHANNELS_FIRST, CHANNELS_LAST


def trace(function: Callable[[tf.Tensor], Any], images: tf.TensorSpec, where: str) -> Any:
    """Returns the concrete function of a model for a form of its input; SourceError with advice where that fails."""
    try:
        return tf.function(function, autograph=False).get_concrete_function(images)
    except Exception as error:
        edges = images.shape.as_list() if images.shape.rank is not None else [None]
        shape = "x".join("any" if edge is None else str(edge) for edge in edges)
        is_free = None in edges[1:]
        advice = "; it may need a fixed size: --model_size=HEIGHT,WIDTH" if is_free else ""
        raise SourceError(f"{where}: the model cannot be traced for {shape}: {cause_of(error)}{advice}") from error


def with_size(images: tf.TensorSpec, data_format: str, size: tuple[int, int] | None) -> tf.TensorSpec:
    """Returns the form of an image batch with its free height and width set to a size, where there is one."""
    first = 2 if data_format == CHANNELS_FIRST else 1
    edges = images.shape.as_list()
    if size is not None:
        edges[first : first + 2] = [edge or wanted for edge, wanted in zip(edges[first : first + 2], size, strict=True)]
    return tf.TensorSpec(edges, images.dtype, name=images.name)


def find_data_format(shape: tf.TensorShape, where: str) -> str:
    """Returns the data format that the shape of an image batch shows; SourceError where it can be read both ways."""
    # A picture of few pixels is less usual than one of bands, and that less than gray or colour.
    for usual in (contract.IMAGE_CHANNELS, contract.BAND_CHANNELS):
        first, last = shape[1] in usual, shape[3] in usual
        if first and last:
            raise SourceError(f"{where}: input {shape} can be read both ways; give --data_format")
        if first or last:
            return CHANNELS_FIRST if first else CHANNELS_LAST
    return CHANNELS_LAST


@contextlib.contextmanager
def without_graph_optimization() -> Iterator[None]:
    """Runs functions op by op while it is entered: for graphs that run but once, optimizing takes longer.

    And no operation is made another: fused with its activation, a convolution that leaves nothing answers its input.
    """
    with _optimizer_option("disable_meta_optimizer", True):
        yield


@contextlib.contextmanager
def without_fusion() -> Iterator[None]:
    """Runs functions while it is entered with no operations made one: some are made others, see `graph.saving`."""
    with _optimizer_option("remapping", False):
        yield


@contextlib.contextmanager
def _optimizer_option(name: str, value: bool) -> Iterator[None]:
    before = tf.config.optimizer.get_experimental_options().get(name, not value)
    tf.config.optimizer.set_experimental_options({name: value})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: before})
