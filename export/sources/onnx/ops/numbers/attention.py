"""Attention as one operator: ONNX's own since opset 23, and onnxruntime's."""

import math
from typing import Any

import tensorflow as tf

from ...values import Value, wrap
from ..registry import Node, op, plain


def attend(query: Any, key: Any, value: Any, scale: float | None = None, bias: Any = None, cap: float = 0) -> Any:
    """Returns softmax(scale · query · keyᵀ + bias) · value, all [B, heads, rows, size]."""
    scale = scale or 1 / math.sqrt(query.shape[-1])
    weights = tf.matmul(query, key, transpose_b=True) * scale
    weights = cap * tf.tanh(weights / cap) if cap else weights
    if bias is None:
        return tf.matmul(tf.nn.softmax(weights), value)
    weights += bias
    # What may look at nothing sees 0, rather than NaN, as in onnxruntime and in ONNX since opset 24.
    sees_nothing = tf.reduce_max(weights, -1, keepdims=True) == -math.inf
    return tf.matmul(tf.where(sees_nothing, 0.0, tf.nn.softmax(weights)), value)


def _apart(x: Any, heads: int) -> Any:
    """Returns [B, rows, heads · size] as [B, heads, rows, size]."""
    shape = tf.shape(x)
    return tf.transpose(tf.reshape(x, [shape[0], shape[1], heads, x.shape[-1] // heads]), [0, 2, 1, 3])


def _together(x: Any) -> Any:
    shape, (_, heads, _, size) = tf.shape(x), x.shape
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [shape[0], shape[2], heads * size])


def _attention(node: Node, query: Any, key: Any, value: Any, mask: Any = None, *more: Any) -> Any:
    if more and any(extra is not None for extra in more):
        raise ValueError("its past keys and values are not known")
    if windows := [name for name in node.attributes if "window" in name and node.get(name) not in (None, -1)]:
        raise ValueError(f"its {windows[0]} is not known")
    is_flat = query.shape.rank == 3
    heads, shared = node.get("q_num_heads", query.shape[1]), node.get("kv_num_heads", key.shape[1])
    if is_flat:
        query, key, value = _apart(query, heads), _apart(key, shared), _apart(value, shared)
    if shared != heads:
        key, value = (tf.repeat(part, heads // shared, 1) for part in (key, value))
    bias = mask
    if mask is not None and mask.dtype == tf.bool:
        bias = tf.where(mask, 0.0, -math.inf)
    if node.get("is_causal", 0):
        bias = _causal(query, key, bias)
    result = attend(query, key, value, node.get("scale"), bias, node.get("softcap", 0.0))
    return _together(result) if is_flat else result


def _causal(query: Any, key: Any, bias: Any) -> Any:
    """Returns a bias, which may be None, that also hides from each row what comes behind it."""
    rows, columns = tf.range(tf.shape(query)[2]), tf.range(tf.shape(key)[2])
    hidden = tf.where(rows[:, tf.newaxis] >= columns, 0.0, -math.inf)
    return hidden if bias is None else bias + hidden


@op("Attention")
def attention(node: Node, *values: Value | None) -> Value:
    """Returns attention of ONNX (query, key, value), or onnxruntime's, which makes these three of one tensor."""
    if "num_heads" not in node.attributes:
        return wrap(_attention(node, *(None if value is None else node.plain(value) for value in values)))
    return wrap(_fused_attention(node, *(None if value is None else node.plain(value) for value in values)))


def _fused_attention(
    node: Node, x: Any, weights: Any, bias: Any = None, mask: Any = None, past: Any = None, scores: Any = None,
    *more: Any,
) -> Any:  # fmt: skip
    if any(extra is not None for extra in (mask, past, *more)):
        raise ValueError("onnxruntime's Attention is known without masks and past")
    if unknown := [name for name in ("qkv_hidden_sizes", "do_rotary") if node.get(name)]:
        raise ValueError(f"its {unknown[0]} is not known")
    projected = tf.tensordot(x, weights, 1)
    projected = projected if bias is None else projected + bias
    query, key, value = tf.split(projected, 3, -1)
    return _by_heads(node, query, key, value, scores)


def _by_heads(node: Node, query: Any, key: Any, value: Any, bias: Any) -> Any:
    """Returns attention of [B, rows, heads · size], with a bias [B, heads, rows, columns] or None."""
    query, key, value = (_apart(x, node.get("num_heads")) for x in (query, key, value))
    bias = _causal(query, key, bias) if node.get("unidirectional", 0) else bias
    return _together(attend(query, key, value, node.get("scale"), bias))


@plain("MultiHeadAttention")
def multi_head_attention(
    node: Node, query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scores: Any = None, *more: Any
) -> Any:
    """Returns attention as onnxruntime fuses it, of [B, rows, heads · size]."""
    if any(extra is not None for extra in (mask, *more)) or query.shape.rank != 3 or key.shape.rank != 3:
        raise ValueError("MultiHeadAttention is known without masks, past and packed tensors")
    if bias is not None:
        parts = tf.split(bias, [query.shape[-1], key.shape[-1], value.shape[-1]])
        query, key, value = (x + part for x, part in zip((query, key, value), parts, strict=True))
    return _by_heads(node, query, key, value, scores)
