"""Operators that compute numbers of numbers, wherever these stand in a picture."""

from . import (
    attention as attention,
    elementwise as elementwise,
    matrices as matrices,
    normalization as normalization,
    quantized as quantized,
    random as random,
    reduction as reduction,
)
