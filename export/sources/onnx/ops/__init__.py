"""The operators of ONNX as ops of TensorFlow: a module for each family, all of them in one table."""

from . import (
    arrays as arrays,
    control as control,
    numbers as numbers,
    pictures as pictures,
)
from .registry import OPS as OPS
