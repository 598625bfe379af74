"""Operators that move numbers and compute nothing: shapes, pieces, places, lists."""

from . import (
    indexing as indexing,
    pieces as pieces,
    sequences as sequences,
    shapes as shapes,
)
