"""Products of matrices, and attention."""

import numpy as np
import pytest
from onnx_cases import Case, check, drawn

A = drawn(2, 3, 4, 5)


def test_products():
    check(
        Case("MatMul", A, drawn(5, 6)),
        Case("MatMul", A, drawn(2, 3, 5, 6), fed=2),
        Case("MatMul", A, drawn(3, 5, 6)),
        Case("MatMul", A, drawn(5)),
        Case("MatMul", drawn(4), A, fed=2),
        Case("MatMul", drawn(4), drawn(4)),
        Case("MatMul", drawn(3, 5), drawn(2, 5, 4)),
        Case("FusedMatMul", A, drawn(2, 3, 6, 5), domain="com.microsoft", transB=1, alpha=0.5),
        Case("FusedMatMul", drawn(4, 2, 3, 5), drawn(2, 3, 5, 6), domain="com.microsoft", transBatchA=1),
        Case("FusedMatMul", A, drawn(6, 2, 3, 5), domain="com.microsoft", transB=1, transBatchB=1),
        Case("Det", drawn(2, 3, 3)),
    )


@pytest.mark.parametrize("activation", [{"activation": "Relu"}, {"activation": "LeakyRelu", "activation_alpha": 0.3}])
def test_gemm_as_onnxruntime_fuses_it(activation):
    numbers = drawn(4, 5), drawn(6, 5), drawn(6)
    check(Case("FusedGemm", *numbers, domain="com.microsoft", transB=1, alpha=0.5, **activation))


@pytest.mark.parametrize("bias", [(6,), (1, 6), (4, 1), (1,), (4, 6), None])
def test_gemm(bias):
    c = None if bias is None else drawn(*bias)
    check(
        Case("Gemm", drawn(4, 5), drawn(5, 6), c),
        Case("Gemm", drawn(4, 5), drawn(6, 5), c, transB=1, alpha=0.5),
        Case("Gemm", drawn(5, 4), drawn(5, 6), c, transA=1, beta=2.0),
    )


def test_einstein():
    check(
        Case("Einsum", A, drawn(2, 3, 6, 5), fed=2, equation="bhid,bhjd->bhij"),
        Case("Einsum", A, drawn(5, 6), equation="... c, c d -> ... d"),
        Case("Einsum", drawn(3, 4), drawn(4, 2), equation="ij,jk"),
        Case("Einsum", A, equation="bchw->bhwc"),
    )


@pytest.mark.parametrize("attributes", [{}, {"is_causal": 1}, {"scale": 0.2}, {"softcap": 2.0}])
def test_attention(attributes):
    query, key, value = drawn(2, 4, 6, 8), drawn(2, 2, 5, 8), drawn(2, 2, 5, 7)
    flat = [part.transpose(0, 2, 1, 3).reshape(2, part.shape[2], -1) for part in (query, key, value)]
    check(
        Case("Attention", query, key, value, fed=3, **attributes),
        Case("Attention", query, key, value, drawn(6, 5), fed=3, **attributes),
        Case("Attention", query, key, value, drawn(6, 5) > -1.5, fed=3, **attributes),
        Case("Attention", query, key, value, np.tri(6, 5, -1, bool), fed=3, **attributes),  # the first sees nothing
        Case("Attention", *flat, fed=3, q_num_heads=4, kv_num_heads=2, **attributes),
        opset=23,
        free=False,
    )


@pytest.mark.parametrize("attributes", [{}, {"unidirectional": 1}])
@pytest.mark.parametrize("spread", [(2, 2), (1, 2), (1, 1)])
def test_attention_of_onnxruntime(attributes, spread):
    x, weights = drawn(2, 6, 8), drawn(8, 24)
    scores = drawn(*spread, 6, 6)
    fields = {"domain": "com.microsoft", "num_heads": 2, **attributes}
    check(
        Case("Attention", x, weights, drawn(24), **fields),
        Case("Attention", x, weights, drawn(24), None, None, scores, **fields),
        Case("MultiHeadAttention", x, x * 2, x + 1, drawn(24), fed=3, **fields),
        Case("MultiHeadAttention", x, x * 2, x + 1, fed=3, scale=0.3, **fields),
        Case("MultiHeadAttention", x, x * 2, x + 1, drawn(24), None, scores, fed=3, **fields),
        free=False,
    )
