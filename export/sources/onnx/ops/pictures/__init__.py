"""Operators on pictures: windows over them, and other sizes of them."""

from . import (
    boxes as boxes,
    convolution as convolution,
    pooling as pooling,
    resize as resize,
    sampling as sampling,
)
