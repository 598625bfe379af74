"""Which names are versions, held against the function by which TensorFlow Serving reads them."""

import pytest
import tensorflow as tf
from maskport.serving.model_directories import parse_version


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *(("1", 1), ("00000007", 7), (" 8", 8), ("8 ", 8), ("\t8\n", 8), ("-4", -4), ("+3", 3)),
        *(("9223372036854775807", 2**63 - 1), ("-9223372036854775808", -(2**63)), ("9223372036854775808", None)),
        *((name, None) for name in ("", " ", "-", "abc", "3.5", "v9", "1e3", "0x1", "1_0", "٣", "8\u00a0")),
        *((name, None) for name in (".tmp-4", "- 4", "--4", "1 2")),
    ],
)
def test_a_name_that_reads_as_a_number_is_a_version(name, version):
    try:
        read = int(tf.strings.to_number(name, tf.int64))  # by strings::safe_strto64
    except tf.errors.InvalidArgumentError:
        read = None
    assert (parse_version(name), read) == (version, version)
