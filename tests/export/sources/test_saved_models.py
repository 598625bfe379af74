"""SavedModels of TensorFlow 1, whose graphs have tags."""

import numpy as np
import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from maskport.export import SourceError
from maskport.export.sources import load_source
from maskport.export.spec import make_spec
from reference import Toy
from tensorflow.core.protobuf import saved_model_pb2

TOY = Toy.make(3, 1)


def load(path, **fields):
    return load_source(make_spec({"source": str(path), "output_dir": "served", **fields}))


@pytest.mark.filterwarnings("ignore")  # TensorFlow 1's
@pytest.mark.parametrize(
    ("graphs", "chosen"),
    [
        ([{"serve"}, {"serve", "tpu"}], "segment"),
        ([{"train"}, {"serve"}], "segment serve"),
        ([{"train"}, {"serve", "gpu", "tpu"}, {"gpu", "serve"}], "segment gpu serve"),
        ([{"train"}, set()], "segment "),
        ([set()], "segment"),
        ([{"train", "mine"}], "segment"),
    ],
)
def test_the_graph_to_serve_is_known_by_its_tags(tmp_path, graphs, chosen):
    toy_models.save_tf1(TOY, tmp_path / "m", (20, 24), graphs)
    images = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
    model = load(tmp_path / "m", source_signature=chosen)
    np.testing.assert_allclose(model.forward(tf.constant(images)), np.stack([TOY(one) for one in images]), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_graphs_without_a_tag_for_serving_are_listed(tmp_path):
    toy_models.save_tf1(TOY, tmp_path / "m", (20, 24), [{"train"}, {"eval", "mine"}])
    with pytest.raises(SourceError, match=r"2 graphs, none of them tagged serve; their tags: train; eval, mine$"):
        load(tmp_path / "m")


@pytest.mark.parametrize("with_function", [False, True])
@pytest.mark.parametrize("is_empty", [False, True])
def test_a_frozen_graph_of_a_saved_models_name_is_told(tmp_path, with_function, is_empty):
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="image", op="Placeholder")
    if with_function:
        graph.library.function.add().signature.name = "inner"
    content = saved_model_pb2.SavedModel(saved_model_schema_version=1) if is_empty else graph
    (tmp_path / "saved_model.pb").write_bytes(content.SerializeToString())
    with pytest.raises(SourceError, match=r"if it is a frozen graph: name it graph\.pb and give the file"):
        load(tmp_path)


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.parametrize("edge", [None, 32])
def test_a_model_may_not_say_how_many_axes_it_answers(tmp_path, edge, batch):
    kernel = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 3, 1)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([batch, edge, edge, 3], tf.float32)])
    def segment(images):
        probability = tf.sigmoid(tf.nn.conv2d(images, kernel, 1, "SAME"))
        return {"probability": tf.raw_ops.PlaceholderWithDefault(input=probability, shape=tf.TensorShape(None))}

    module = tf.Module()
    module.segment = segment
    tf.saved_model.save(module, str(tmp_path / "m"), segment)
    names = ["mask", "masked_image", "probability", "mask_png", "masked_image_png", "probability_png"]
    version_dir = export_unchecked(tmp_path / "m", tmp_path / "out", scaling="unit", signatures=names, warmup=False)
    signatures = tf.saved_model.load(str(version_dir)).signatures
    images = np.random.default_rng(1).integers(0, 256, (3, edge or 24, edge or 40, 3), np.uint8)
    expected = tf.sigmoid(tf.nn.conv2d(images / np.float32(255), kernel, 1, "SAME"))
    found = signatures["probability"](image=tf.constant(images))["probability"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    files = tf.constant([tf.io.encode_png(image).numpy() for image in images])
    for file, image in zip(
        signatures["mask_png"](image_bytes=files)["mask_bytes"].numpy(), expected.numpy(), strict=True
    ):
        assert np.mean((tf.io.decode_png(file).numpy() > 0) == (image > 0.5)) > 0.999
