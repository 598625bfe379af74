import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from maskport.serving.wire import tensors
from maskport.serving.wire.messages import DataType, TensorProto, TensorShapeProto
from ml_dtypes import bfloat16
from tensorflow import as_dtype, make_ndarray, make_tensor_proto
from tensorflow.core.framework import tensor_pb2

DTYPES = [
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip


def _shape(*sizes):
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in sizes])


def _official(tensor):
    return tensor_pb2.TensorProto.FromString(tensor.SerializeToString())


def _ours(tensor):
    return TensorProto.FromString(tensor.SerializeToString())


def _sent(value, data_type=None):
    array = tensors.as_array(value)
    tensor = TensorProto()
    tensors.write_tensor(tensor, array, data_type or as_dtype(array.dtype).as_datatype_enum)
    return tensor


def _assert_same(got, wanted):
    assert got.dtype == wanted.dtype
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(got, wanted)


def _arrays(dtype):
    return hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_tensorflow_reads_what_we_send(dtype, data):
    array = data.draw(_arrays(dtype))
    _assert_same(make_ndarray(_official(_sent(array))), array)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_we_read_what_tensorflow_sends(dtype, data):
    array = data.draw(_arrays(dtype))
    _assert_same(tensors.to_array(_ours(make_tensor_proto(array))), array)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_typed_values_read_like_content(dtype, data):
    array = data.draw(_arrays(dtype))
    # A server's usual form: each element in the field of its kind.
    fields = {
        "bool": "bool_val", "float16": "half_val", "float32": "float_val", "float64": "double_val",
        "int64": "int64_val", "uint32": "uint32_val", "uint64": "uint64_val",
        "complex64": "scomplex_val", "complex128": "dcomplex_val",
    }  # fmt: skip
    values = array.reshape(-1)
    if dtype == "float16":
        values = values.view(np.uint16)
    elif dtype.startswith("complex"):
        values = np.stack([values.real, values.imag], axis=-1).reshape(-1)
    tensor = TensorProto(dtype=as_dtype(np.dtype(dtype)).as_datatype_enum, tensor_shape=_shape(*array.shape))
    getattr(tensor, fields.get(dtype, "int_val")).extend(values.tolist())
    _assert_same(tensors.to_array(tensor), array)
    _assert_same(make_ndarray(_official(tensor)), array)


@given(st.lists(st.binary(max_size=5) | st.just(b"trailing\0"), max_size=5))
def test_strings_keep_every_byte_both_ways(strings):
    array = np.empty(len(strings), dtype=object)
    array[:] = strings
    assert make_ndarray(_official(_sent(strings or array))).tolist() == strings
    assert tensors.to_array(_sent(array)).tolist() == strings
    assert tensors.to_array(_ours(make_tensor_proto(array, dtype="string"))).tolist() == strings


def test_lists_of_bytes_are_not_cut_at_zero_bytes():
    assert tensors.to_array(_sent([[b"a\0"], [b"b"]])).tolist() == [[b"a\0"], [b"b"]]
    assert tensors.to_array(_sent(b"a\0"))[()] == b"a\0"


def test_text_travels_as_utf8():
    assert tensors.to_array(_sent("Ä€")).item() == "Ä€".encode()
    assert tensors.to_array(_sent(np.array(["Ä", "b"]))).tolist() == ["Ä".encode(), b"b"]


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_other_kinds_of_bytes_are_strings_alone_and_in_lists(kind):
    for value in (b"ab\0", b""):
        assert make_ndarray(_official(_sent(kind(value)))).item() == value
    for value in ([[b"ab\0"], [b"c"]], [[b"a", b"b"], [b"c", b"d"]]):
        sent = _sent([[kind(one) for one in row] for row in value])
        assert make_ndarray(_official(sent)).tolist() == value


def test_views_of_numbers_are_these():
    for numbers in (
        np.arange(6, dtype=np.float32), np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(6, dtype=np.int8),
        np.arange(6) > 2,
    ):  # fmt: skip
        sent = make_ndarray(_official(_sent(memoryview(numbers))))
        np.testing.assert_array_equal(sent, numbers, strict=True)
        sent = make_ndarray(_official(_sent([memoryview(numbers)] * 2)))
        np.testing.assert_array_equal(sent, [numbers] * 2)


def test_string_content_holds_lengths_and_then_bytes():
    long = bytes(range(200))
    tensor = TensorProto(dtype=DataType.Value("DT_STRING"), tensor_shape=_shape(1, 3))
    tensor.tensor_content = b"\x02" + b"\xc8\x01" + b"\x00" + b"ab" + long
    assert tensors.to_array(tensor).tolist() == [[b"ab", long, b""]]


@pytest.mark.parametrize(
    "content", [b"\x02", b"\x02ab", b"\x02\x01\x01abcd!", b"\x80" * 64, b"\xff\xff\xff\xff\x0f\x00\x00"]
)
def test_string_content_of_another_length_is_refused(content):
    tensor = TensorProto(dtype=DataType.Value("DT_STRING"), tensor_shape=_shape(3), tensor_content=content)
    with pytest.raises(tensors.TensorError):
        tensors.to_array(tensor)


def test_the_last_value_stands_for_all_that_are_missing():
    tensor = TensorProto(dtype=DataType.Value("DT_FLOAT"), tensor_shape=_shape(2, 3), float_val=[1.0, 2.5])
    assert tensors.to_array(tensor).tolist() == [[1.0, 2.5, 2.5], [2.5, 2.5, 2.5]]
    half = TensorProto(dtype=DataType.Value("DT_HALF"), tensor_shape=_shape(2), half_val=[0x3C00])
    assert tensors.to_array(half).tolist() == [1.0, 1.0]
    complex_ = TensorProto(dtype=DataType.Value("DT_COMPLEX64"), tensor_shape=_shape(3), scomplex_val=[1, 2, 3, 4])
    assert tensors.to_array(complex_).tolist() == [1 + 2j, 3 + 4j, 3 + 4j]
    text = TensorProto(dtype=DataType.Value("DT_STRING"), tensor_shape=_shape(3), string_val=[b"a", b"b"])
    assert tensors.to_array(text).tolist() == [b"a", b"b", b"b"]


@pytest.mark.parametrize("dtype", [*DTYPES, "object"])
def test_no_values_at_all_are_zeros(dtype):
    tensor = TensorProto(dtype=as_dtype(np.dtype(dtype)).as_datatype_enum, tensor_shape=_shape(2))
    assert tensors.to_array(tensor).tolist() == ([b""] * 2 if dtype == "object" else [0, 0])


@given(hnp.arrays(np.float32, 8, elements=st.floats(width=32, allow_nan=True)))
def test_bfloat16_is_read_and_written_as_ml_dtypes_rounds_it(array):
    with np.errstate(over="ignore"):
        rounded = array.astype(bfloat16)
    wanted = rounded.astype(np.float32)
    sent = _sent(array, DataType.Value("DT_BFLOAT16"))
    assert sent.dtype == DataType.Value("DT_BFLOAT16")
    np.testing.assert_array_equal(make_ndarray(_official(sent)).astype(np.float32), wanted)
    np.testing.assert_array_equal(tensors.to_array(sent), wanted)
    bits = rounded.view(np.uint16).tolist()
    typed = TensorProto(dtype=DataType.Value("DT_BFLOAT16"), tensor_shape=_shape(8), half_val=bits)
    np.testing.assert_array_equal(tensors.to_array(typed), wanted)


def test_arrays_of_any_memory_layout_are_sent_in_row_order():
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    for view in (array.T, array[::-1, ::2], array.astype(">i2"), np.asfortranarray(array)):
        np.testing.assert_array_equal(make_ndarray(_official(_sent(view))), view)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2], [3]], "not a regular array"),
        (np.array([object()]), "must hold strings or bytes, not object"),
    ],
)
def test_what_cannot_be_sent_is_refused(value, message):
    with pytest.raises(tensors.TensorError, match=message):
        tensors.as_array(value)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            TensorProto(dtype=1, tensor_shape=_shape(2), tensor_content=b"123"),
            "3 bytes .* needs 8",
        ),
        (TensorProto(dtype=1, tensor_shape=_shape(1), float_val=[1, 2]), "2 values where its shape needs 1"),
        (TensorProto(dtype=1, tensor_shape=_shape(-1)), "not fully known"),
        (TensorProto(dtype=1, tensor_shape=TensorShapeProto(unknown_rank=True)), "not fully known"),
        (TensorProto(dtype=1, tensor_shape=_shape(1 << 20, 1 << 20), float_val=[1]), "larger than"),
        (TensorProto(dtype=20, tensor_shape=_shape(1)), "DT_RESOURCE"),
        (TensorProto(dtype=25, tensor_shape=_shape(1)), "DT_FLOAT8_E4M3FN"),
        (TensorProto(dtype=101, tensor_shape=_shape(1)), "101"),
        (TensorProto(dtype=8, tensor_shape=_shape(1), scomplex_val=[1]), "no imaginary part"),
    ],
)
def test_tensors_that_make_no_sense_are_refused(tensor, message):
    with pytest.raises(tensors.TensorError, match=message):
        tensors.to_array(tensor)


def test_arrays_read_are_writable():
    array = tensors.to_array(_sent(np.zeros(2, np.float32)))
    array[0] = 1
    assert array.tolist() == [1, 0]
