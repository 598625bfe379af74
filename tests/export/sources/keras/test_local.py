"""Keras files that lie elsewhere, or are folders: against the model that was saved."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from maskport.export import SourceError
from maskport.export.exporter import Plan
from maskport.export.publish.manifest import hash_source
from maskport.export.sources import load_source
from maskport.export.sources.preflight import check_source
from maskport.export.spec import make_spec
from reference import Toy

TOY = Toy.make(3, 1)
BUILDER = """
import toy_models
from reference import Toy

def build():
    return toy_models.keras_model(Toy.make(3, 1, seed=9))
"""


@pytest.fixture
def elsewhere(request):
    """A folder of TensorFlow's file system in memory."""
    return f"ram://{request.node.name}"


def upload(folder, url):
    for path in folder.rglob("*"):
        if path.is_file():
            tf.io.gfile.makedirs(f"{url}/{path.relative_to(folder).parent}")
            tf.io.gfile.copy(str(path), f"{url}/{path.relative_to(folder)}", overwrite=True)


def assert_is_toy(source, **fields):
    spec = make_spec({"source": str(source), "output_dir": "served", **fields})
    check_source(spec)
    images = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
    answers = load_source(spec).forward(tf.constant(images))
    np.testing.assert_allclose(answers, np.stack([TOY(image) for image in images]), atol=1e-5)
    assert len(hash_source(spec)) == 64


@pytest.mark.filterwarnings("ignore")  # that HDF5 is legacy
@pytest.mark.parametrize("name", ["net.keras", "net.h5", "net"])
def test_files_and_folders_of_keras_are_read_here_and_elsewhere(tmp_path, elsewhere, name):
    model = toy_models.keras_model(TOY)
    if name == "net":
        model.save(tmp_path / name, zipped=False)
        for other in ("README.md", ".gitattributes"):  # of a model hub
            (tmp_path / name / other).write_text("text")
    else:
        model.save(tmp_path / name)
    upload(tmp_path, elsewhere)
    for folder in (tmp_path, elsewhere):
        assert_is_toy(f"{folder}/{name}")


def test_what_lies_beside_a_model_in_its_folder_is_no_part_of_it(tmp_path):
    toy_models.keras_model(TOY).save(tmp_path / "net", zipped=False)
    hashes = set()
    for text in (None, "one", "another"):
        if text:
            (tmp_path / "net/.cache").mkdir(exist_ok=True)
            (tmp_path / "net/.cache/fetched").write_text(text)
        for source in (tmp_path / "net", f"file://{tmp_path}/net"):
            hashes.add(hash_source(make_spec({"source": str(source), "output_dir": "o"})))
    assert len(hashes) == 1


@pytest.mark.parametrize("name", ["net.weights.h5", "net.weights.json"])
def test_weights_are_read_here_and_elsewhere(tmp_path, elsewhere, monkeypatch, name):
    (tmp_path / "of_toy.py").write_text(BUILDER)
    monkeypatch.syspath_prepend(tmp_path)
    sharding = {"max_shard_size": 1.02e-7} if name.endswith(".json") else {}  # in GB
    toy_models.keras_model(TOY).save_weights(tmp_path / name, **sharding)
    upload(tmp_path, elsewhere)
    for folder in (tmp_path, elsewhere):
        assert_is_toy("of_toy:build", weights=f"{folder}/{name}")


def test_shards_are_part_of_the_model_and_missed(tmp_path):
    keras.utils.set_random_seed(0)
    model = toy_models.keras_model(TOY)
    fields = {"source": "toy_models:none", "output_dir": "o", "weights": str(tmp_path / "net.weights.json")}
    hashes = set()
    for factor in (1, 2):
        model.set_weights([factor * weight for weight in model.get_weights()])
        model.save_weights(tmp_path / "net.weights.json", max_shard_size=1)
        hashes.add(hash_source(make_spec(fields)))
    assert len(hashes) == 2
    (tmp_path / "net_00000.weights.h5").unlink()
    with pytest.raises(SourceError, match=r"net\.weights\.json: there is no .*net_00000\.weights\.h5 beside it"):
        check_source(make_spec(fields))


@pytest.mark.parametrize("url", ["ram://nowhere/net.keras", "other://bucket/net.keras"])
def test_what_cannot_be_read_elsewhere_is_told(url):
    for step in (load_source, Plan.make):
        with pytest.raises(
            SourceError, match=f"source {url}: (no such file|cannot be read: File system scheme 'other')"
        ):
            step(make_spec({"source": url, "output_dir": "o"}))
        for weights in (f"{url}.h5", url.removesuffix(".keras")):
            with pytest.raises(
                SourceError, match=rf"weights {weights}: (cannot be read: |neither a Keras weights file)"
            ):
                step(make_spec({"source": "toy_models:moving_model", "output_dir": "o", "weights": weights}))
