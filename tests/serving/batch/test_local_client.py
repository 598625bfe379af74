"""A SavedModel in this process, behind the client's own face."""

import gc

import numpy as np
import pytest
import tensorflow as tf
from maskport.serving.batch.local_client import _LOADED, LocalClient, find_version
from maskport.serving.client import (
    InvalidRequestError,
    ModelNotFoundError,
    SignatureNotFoundError,
    UnsupportedCallError,
)


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    """Versions 2 and 10 of a model that adds its version."""
    base = tmp_path_factory.mktemp("models") / "adder"
    for version in (2, 10):
        module = tf.Module()
        module.add = tf.function(
            lambda x, version=version: {"y": x + version}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")]
        )
        tf.saved_model.save(module, str(base / str(version)), signatures={"add": module.add})
    (base / "3.tmp").mkdir()
    return base


def test_the_latest_version_answers_as_the_model_does(base_path):
    with LocalClient(str(base_path)) as client:
        assert (client.metadata().model, client.metadata().version) == ("adder", 10)
        assert client.predict("add", {"x": [1, 2]})["y"].tolist() == [11, 12]
    with LocalClient(f"{base_path}/2/") as client:
        np.testing.assert_array_equal(client.predict("add", {"x": np.float32([1])})["y"], [3])


def test_a_model_is_loaded_once_for_all_clients_and_let_go_after_them(base_path):
    first, second = LocalClient(str(base_path)), LocalClient(str(base_path / "10"))
    assert first._transport is second._transport
    first.close()
    assert second.predict("add", {"x": [0]})["y"].tolist() == [10]
    second.close()
    del first, second
    gc.collect()
    assert str(base_path / "10") not in _LOADED


def test_errors_are_the_clients_own_and_name_the_model(base_path):
    with LocalClient(str(base_path)) as client:
        with pytest.raises(SignatureNotFoundError, match=r"model 'adder' version 10.* at file:///.*adder/10"):
            client.predict("nonsense", {})
        with pytest.raises(InvalidRequestError, match="there is no input 'z'"):
            client.predict("add", {"z": [1]})
        with pytest.raises(UnsupportedCallError, match="in this process"):
            client.status()


def test_what_is_no_saved_model_is_one_line(base_path, tmp_path):
    with pytest.raises(ModelNotFoundError, match="there is no SavedModel here, nor numbered versions"):
        find_version(str(tmp_path))
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").write_bytes(b"nonsense")
    with pytest.raises(ModelNotFoundError, match=r"cannot be loaded: .*; mask-inspect"):
        LocalClient(str(tmp_path))
