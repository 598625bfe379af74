"""What is said of files that cannot be read, before TensorFlow starts."""

import importlib.util

import numpy as np
import onnx
import onnx_networks as networks
import pytest
from maskport.export import SourceError
from maskport.export.publish.manifest import hash_source, state_of_source
from maskport.export.sources import load_source
from maskport.export.sources.onnx.files import check_onnx_file, read_model, weights_beside
from maskport.export.spec import make_spec
from onnx import numpy_helper


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return networks.paddle_detector(tmp_path_factory.mktemp("onnx") / "good.onnx")


def test_a_whole_model_is_let_through(good):
    check_onnx_file(str(good))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<html>404: not found</html>", "it is no ONNX model, or"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12",
            "it is a pointer of Git LFS, not the model itself",
        ),
        (onnx.ModelProto(ir_version=8).SerializeToString(), "it is no ONNX model, or one without any operators"),
    ],
)
def test_what_is_no_model_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        check_onnx_file(str(path))
    assert str(caught.value).startswith(f"source {path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_told(tmp_path, good):
    path = tmp_path / "half.onnx"
    path.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(SourceError, match="it is no ONNX model, or a broken or truncated one"):
        check_onnx_file(str(path))


def test_the_extra_is_named_where_it_is_missing(monkeypatch, good):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"reading ONNX needs the extra onnx: pip install 'maskport\[onnx\]'"):
        check_onnx_file(str(good))


def test_weights_beside_the_file_are_read(tmp_path):
    whole = onnx.load(networks.torch_deeplab(tmp_path / "whole.onnx"))
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "net.onnx.data"}
    path = tmp_path / "net.onnx"
    onnx.save(onnx.load(tmp_path / "whole.onnx"), path, **options)
    found = read_model(str(path))
    for one, other in zip(found.graph.initializer, whole.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
    check_onnx_file(str(path))
    data = tmp_path / "net.onnx.data"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(SourceError, match=r"its weights in net\.onnx\.data are cut off"):
        read_model(str(path))
    data.unlink()
    with pytest.raises(SourceError, match=r"its weights lie in 'net\.onnx\.data', which is not beside it"):
        read_model(str(path))


def test_weights_may_be_links_as_caches_of_models_have_them(tmp_path):
    """A snapshot of links into a folder of what was fetched, each under its hash."""
    networks.torch_deeplab(tmp_path / "whole.onnx")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "net.onnx_data"}
    onnx.save(onnx.load(tmp_path / "whole.onnx"), tmp_path / "blobs/net.onnx", **options)
    for name, blob in (("net.onnx", "5e1f"), ("net.onnx_data", "77c0")):
        (tmp_path / "blobs" / name).rename(tmp_path / "blobs" / blob)
        (tmp_path / "snapshot" / name).symlink_to(f"../blobs/{blob}")
    found = read_model(str(tmp_path / "snapshot/net.onnx"))
    for one, other in zip(found.graph.initializer, onnx.load(tmp_path / "whole.onnx").graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
    # Of a model that is no link itself what leads elsewhere is refused.
    (tmp_path / "snapshot/net.onnx").unlink()
    (tmp_path / "blobs/5e1f").rename(tmp_path / "snapshot/net.onnx")
    with pytest.raises(SourceError, match=r"its weights lie in 'net\.onnx_data', which is not beside it"):
        read_model(str(tmp_path / "snapshot/net.onnx"))


def test_a_file_is_parsed_once(tmp_path, monkeypatch):
    path = str(networks.paddle_detector(tmp_path / "net.onnx"))
    parsed = []
    monkeypatch.setattr(
        onnx.ModelProto, "FromString", lambda content: parsed.append(1) or onnx.load_from_string(content)
    )
    check_onnx_file(path)
    model = read_model(path)
    assert weights_beside(path) == []
    assert len(parsed) == 1
    assert read_model(path) == model  # another one: what was read may have been changed since


def test_weights_beside_the_file_count_for_its_hash(tmp_path):
    networks.torch_deeplab(tmp_path / "whole.onnx")
    options = {"save_as_external_data": True, "size_threshold": 0, "location": "net.data"}
    onnx.save(onnx.load(tmp_path / "whole.onnx"), tmp_path / "net.onnx", **options)
    assert weights_beside(str(tmp_path / "net.onnx")) == [str(tmp_path / "net.data")]
    assert weights_beside(str(tmp_path / "whole.onnx")) == []
    spec = make_spec({"source": str(tmp_path / "net.onnx"), "output_dir": "served"})
    before = hash_source(spec)
    data = bytearray((tmp_path / "net.data").read_bytes())
    data[7] ^= 1
    (tmp_path / "net.data").write_bytes(data)
    assert hash_source(spec) != before


def test_weights_beside_a_url_are_read_compared_and_hashed(tmp_path):
    whole = networks.torch_deeplab(tmp_path / "whole.onnx")
    path = tmp_path / "net.onnx"
    options = {"save_as_external_data": True, "size_threshold": 100, "location": "parts/net.data"}
    (tmp_path / "parts").mkdir()
    onnx.save(onnx.load(whole), path, **options)
    here, there = (make_spec({"source": place, "output_dir": "served"}) for place in (str(path), f"file://{path}"))
    model = load_source(there)
    images = np.random.default_rng(0).random((1, 32, 48, 3), np.float32)
    wanted = load_source(make_spec({"source": str(whole), "output_dir": "served"})).reference.call(images)
    np.testing.assert_allclose(model.forward(images), wanted, atol=1e-5)
    np.testing.assert_array_equal(model.reference.call(images), wanted)
    assert hash_source(there) == hash_source(here)
    assert len(state_of_source(there)) == 2
    before = hash_source(there)
    data = tmp_path / "parts/net.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")
    assert hash_source(there) != before
    data.write_bytes(b"")
    with pytest.raises(SourceError, match=r"its weights in parts/net\.data are cut off"):
        read_model(f"file://{path}")
    data.unlink()
    with pytest.raises(SourceError, match=r"its weights lie in 'parts/net\.data', which is not beside it"):
        read_model(f"file://{path}")


@pytest.mark.parametrize("location", ["../net.data", "parts/../../net.data", "/tmp/net.data"])
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_weights_elsewhere_are_refused(tmp_path, location, scheme):
    networks.torch_deeplab(tmp_path / "whole.onnx")
    (tmp_path / "net.data").write_bytes(b"weights")
    model = onnx.load(tmp_path / "whole.onnx")
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, location)
        tensor.ClearField("raw_data")
    (tmp_path / "below/parts").mkdir(parents=True)
    path = tmp_path / "below/net.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(SourceError, match=r"its weights lie in '.*net\.data', which is not beside it"):
        read_model(f"{scheme}{path}")
    assert weights_beside(f"{scheme}{path}") == []
