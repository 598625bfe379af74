"""Metadata and manifests, compared."""

import numpy as np
import pytest
from maskport.serving.client import ModelMetadata, SignatureInfo, TensorSpec
from maskport.serving.verify import Expected, Record
from maskport.serving.verify.identity import manifest_differences, metadata_problem, unexported_signatures

IMAGE = TensorSpec("DT_UINT8", (-1, -1, -1, -1))
MASK = TensorSpec("DT_FLOAT", (-1, -1, -1, 1))
EXPORTED = SignatureInfo("mask", {"image": IMAGE}, {"mask": MASK})
RECORD = Record("mask", {"image": np.zeros((2, 3, 4, 3), np.uint8)}, {"mask": np.zeros((2, 3, 4, 1), np.float32)}, {})
WITH_MODEL = Expected("x", (RECORD,), signatures={"mask": EXPORTED})
GOLDEN_ONLY = Expected("x", (RECORD,))


def served(inputs=None, outputs=None):
    return ModelMetadata("m", 1, {"mask": SignatureInfo("mask", inputs or {"image": IMAGE}, outputs or {"mask": MASK})})


@pytest.mark.parametrize("expected", [WITH_MODEL, GOLDEN_ONLY])
def test_the_same_metadata_match(expected):
    assert metadata_problem("mask", served(), expected, RECORD) == ""
    assert unexported_signatures(served(), expected) == []


@pytest.mark.parametrize("expected", [WITH_MODEL, GOLDEN_ONLY])
@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"picture": IMAGE}, None, "input 'image' is missing; input 'picture' was not exported"),
        (None, {"mask": TensorSpec("DT_UINT8", (-1, -1, -1, 1))}, "output 'mask' is uint8 [?, ?, ?, 1]"),
        ({"image": TensorSpec("DT_UINT8", (-1, 64, 64, 3))}, None, "input 'image' is uint8 [?, 64, 64, 3]"),
        ({"image": TensorSpec("DT_UINT8", (-1, -1, -1))}, None, "input 'image' is uint8 [?, ?, ?]"),
        (None, {"mask": MASK, "more": MASK}, "output 'more' was not exported"),
        (None, {"mask": TensorSpec("DT_RESOURCE", (-1, -1, -1, 1))}, "output 'mask' is resource"),
    ],
)
def test_other_metadata_are_told(expected, inputs, outputs, words):
    assert words in metadata_problem("mask", served(inputs, outputs), expected, RECORD)


def test_free_sizes_differ_from_fixed_ones_where_the_model_is_at_hand():
    looser = served(outputs={"mask": TensorSpec("DT_FLOAT", (-1, -1, -1, -1))})
    assert metadata_problem("mask", looser, GOLDEN_ONLY, RECORD) == ""
    assert "exported as float [?, ?, ?, 1]" in metadata_problem("mask", looser, WITH_MODEL, RECORD)


def test_a_missing_signature_is_told():
    gone = ModelMetadata("m", 1, {"other": EXPORTED})
    assert "no such signature; it has: other" in metadata_problem("mask", gone, WITH_MODEL, RECORD)
    assert unexported_signatures(gone, WITH_MODEL) == ["other"]


def test_differences_of_manifests_come_most_telling_first():
    wanted = {"versions": {"numpy": "1"}, "spec": {"threshold": 0.5, "mean": None}, "source": {"sha256": "a" * 64}}
    got = {"versions": {"numpy": "2"}, "spec": {"threshold": 0.6, "gamma": [1]}, "source": {"sha256": "b" * 64}}
    assert manifest_differences(wanted, wanted) == []
    assert manifest_differences(wanted, got) == [
        f"source.sha256 is '{'b' * 15}…, exported with '{'a' * 15}…",
        "spec.threshold is 0.6, exported with 0.5",
        "spec.mean is absent, exported with None",
        "spec.gamma is [1], exported with absent",
        "versions.numpy is '2', exported with '1'",
    ]
