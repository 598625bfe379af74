"""The operators of ONNX as ops of TensorFlow: a module for each family, all of them in one table."""

from . import (
    attention as attention,
    control as control,
    convolution as convolution,
    elementwise as elementwise,
    indexing as indexing,
    matrices as matrices,
    normalization as normalization,
    pieces as pieces,
    pooling as pooling,
    quantized as quantized,
    random as random,
    reduction as reduction,
    resize as resize,
    sampling as sampling,
    sequences as sequences,
    shapes as shapes,
)
from .registry import OPS as OPS
