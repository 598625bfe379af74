"""Models made by a function, with weights in every layout that Keras wrote."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.spec import make_spec

BUILDERS = """
import sys

import keras
import tf_keras

def build(of=keras):
    image = of.Input((None, None, 3))
    return of.Model(image, of.layers.Conv2D(1, 3, padding="same")(of.layers.Conv2D(4, 1)(image)))

def build_2():
    return build(tf_keras)

class Net(keras.Model):
    def __init__(self):
        super().__init__()
        self.last = keras.layers.Conv2D(1, 1)

    def call(self, image):
        return self.last(image)
"""


@pytest.mark.filterwarnings("ignore")  # that HDF5 is legacy
@pytest.mark.parametrize("builder", ["build", "build_2"])
@pytest.mark.parametrize(("saved_by", "whole"), [(tf_keras, False), (tf_keras, True), (keras, True)])
def test_older_weights_are_read_whatever_their_name(tmp_path, monkeypatch, builder, saved_by, whole):
    (tmp_path / "of_builders.py").write_text(BUILDERS)
    monkeypatch.syspath_prepend(tmp_path)
    import of_builders

    model = of_builders.build(saved_by)
    (model.save if whole else model.save_weights)(tmp_path / "older.h5")
    path = (tmp_path / "older.h5").rename(tmp_path / "net.weights.h5")
    spec = make_spec({"source": f"of_builders:{builder}", "output_dir": "o", "weights": str(path)})
    images = np.random.default_rng(0).random((2, 16, 24, 3), np.float32)
    np.testing.assert_allclose(load_source(spec).forward(tf.constant(images)), model(images), atol=1e-5)
    monkeypatch.delitem(sys.modules, "of_builders")


def test_a_model_that_is_not_built_is_told_apart_from_weights_that_do_not_fit(tmp_path, monkeypatch):
    (tmp_path / "of_builders.py").write_text(BUILDERS)
    monkeypatch.syspath_prepend(tmp_path)
    import of_builders

    model = of_builders.Net()
    model(np.zeros((1, 8, 8, 3)))
    model.save_weights(tmp_path / "net.weights.h5")
    spec = make_spec({"source": "of_builders:Net", "output_dir": "o", "weights": str(tmp_path / "net.weights.h5")})
    with pytest.raises(SourceError, match="the function's model is not built, and has no variables yet; call it there"):
        load_source(spec)
    monkeypatch.delitem(sys.modules, "of_builders")
