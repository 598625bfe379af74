"""Products of matrices."""

from typing import Any

import numpy as np
import tensorflow as tf

from ...values import Tensor, Value, natural
from ..pictures.convolution import activated
from ..registry import Node, op, plain


@op("MatMul", "FusedMatMul")
def matmul(node: Node, first: Value, second: Value) -> Tensor:
    """Returns the products of matrices, or of one with vectors; the axes before them are spread over each other."""
    a, b = node.tensor(first), node.tensor(second)
    if a.rank < 2 or b.rank < 2:
        one = node.plain(a)[(tf.newaxis,) if a.rank < 2 else ()]
        other = node.plain(b)
        other = other[:, tf.newaxis] if b.rank < 2 else other
        product = tf.matmul(one, other)
        product = tf.squeeze(product, -1) if b.rank < 2 else product
        product = tf.squeeze(product, -1 if b.rank < 2 else -2) if a.rank < 2 else product
        return Tensor(product, natural(product.shape.rank))
    if node.get("transBatchA", 0):
        a = a.permuted([*range(1, a.rank - 1), 0, a.rank - 1])
    if node.get("transBatchB", 0):
        b = b.permuted([*range(1, b.rank - 1), 0, b.rank - 1])
    flips_a, flips_b = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    one, is_flipped_a = _matrices(a)
    other, is_flipped_b = _matrices(b)
    if isinstance(second, np.ndarray) and b.rank == 2 and a.rank > 2 and not is_flipped_a and not flips_a:
        product = _by_rows(one, other, flips_b != is_flipped_b)
    else:
        product = tf.matmul(one, other, transpose_a=flips_a != is_flipped_a, transpose_b=flips_b != is_flipped_b)
    if node.get("alpha", 1.0) != 1:
        product *= node.get("alpha")
    return Tensor(product, natural(product.shape.rank))


def _matrices(x: Tensor) -> tuple[Any, bool]:
    """Returns matrices as they are stored, and whether they have to be transposed for that."""
    swapped = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    if x.order == swapped:
        return x.data, True
    return x.in_order(natural(x.rank)), False


def _by_rows(x: Any, weights: Any, transposes: bool) -> Any:
    """Returns the product of many rows with one matrix, as one product: TensorFlow would spread the matrix first."""
    rows = tf.reshape(x, [-1, weights.shape[1 if transposes else 0]])
    product = tf.matmul(rows, weights, transpose_b=transposes)
    known = [*x.shape[:-1], product.shape[-1]]
    if known.count(None) <= 1:
        return tf.reshape(product, [-1 if edge is None else edge for edge in known])
    shape = tf.concat([tf.shape(x)[:-1], [product.shape[-1]]], 0)
    return tf.ensure_shape(tf.reshape(product, shape), known)


@plain("Gemm", "FusedGemm")
def gemm(node: Node, a: Any, b: Any, c: Any = None) -> Any:
    """Returns alpha a b + beta c, with a and b transposed where wanted."""
    product = tf.matmul(a, b, transpose_a=bool(node.get("transA", 0)), transpose_b=bool(node.get("transB", 0)))
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    product = product if alpha == 1 else tf.cast(alpha, product.dtype) * product
    if c is not None and c.shape.rank == 2 and c.shape[0] == 1:
        c = c[0]  # TensorFlow fuses it with the product, and then wants a vector
    return activated(node, product if c is None else product + (c if beta == 1 else tf.cast(beta, c.dtype) * c))


@plain("Einsum")
def einsum(node: Node, *values: Any) -> Any:
    """Returns a sum of products by Einstein's notation."""
    equation = node.get("equation").replace(" ", "")
    if "->" not in equation:
        letters = equation.replace(",", "").replace("...", "")
        free = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        equation += "->" + ("..." if "..." in equation else "") + "".join(free)
    return tf.einsum(equation, *values)


@plain("Det")
def determinant(node: Node, x: Any) -> Any:
    """Returns the determinants of matrices."""
    return tf.linalg.det(x)
