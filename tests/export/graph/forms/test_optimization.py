"""`optimize`: the same answers from other graphs, refused where they cannot be had, and chosen by measurement."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import toy_models
from exporting import export_unchecked
from keras import layers
from maskport.export import SpecError, export_model
from maskport.export.exporter import Plan
from maskport.export.graph.forms import optimization as optimization_module
from maskport.export.graph.forms.optimization import Comparison, Optimized, choose
from maskport.export.spec import load_spec, make_spec
from maskport.serving.agreement import NEAR_THRESHOLD
from PIL import Image
from reference import Pipeline, Toy
from skimage import data
from tensorflow.core.protobuf import saved_model_pb2

ROOT = Path(__file__).parents[4]
PHOTO = np.asarray(Image.fromarray(data.astronaut()).resize((64, 64)))
OTHER_PHOTO = np.asarray(Image.fromarray(data.chelsea()).resize((64, 64)))
FIELDS = {"scaling": "unit", "signatures": ["mask", "probability", "mask_png"]}
HAS_BFLOAT16 = any(flag in Path("/proc/cpuinfo").read_text() for flag in ("avx512_bf16", "amx_bf16"))


def network():
    """Every arrangement that is folded: a convolution, a depthwise and a pointwise one, each normalized."""
    image = x = keras.Input((64, 64, 3))
    for layer in (
        layers.Conv2D(16, 3, padding="same", use_bias=False),
        layers.DepthwiseConv2D(3, padding="same", use_bias=False, depth_multiplier=2),
        layers.Conv2D(8, 1, padding="same"),
    ):
        x = layers.ReLU()(layers.BatchNormalization()(layer(x)))
    logits = layers.Conv2D(1, 3, padding="same")(x)
    random = np.random.default_rng(5)
    for layer in keras.Model(image, logits).layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = (random.uniform(low, 1.5, layer.gamma.shape) for low in (0.5, -1, -1, 0.5))
            layer.set_weights([gamma, beta, mean, variance])
        elif layer.get_weights():
            layer.set_weights([weights + random.normal(0, 0.2, weights.shape) for weights in layer.get_weights()])
    # Half of a photograph is foreground, and most of its pixels are decided.
    found = keras.Model(image, logits)(PHOTO[None] / 255)
    gain = 8 / np.std(found)
    balanced = layers.Rescaling(gain, offset=-gain * float(np.median(found)))(logits)
    return keras.Model(image, layers.Activation("sigmoid")(balanced))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(2)
    return network()


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory):
    return export_unchecked(model, tmp_path_factory.mktemp("plain"), **FIELDS)


@pytest.fixture(scope="module")
def frozen(model, tmp_path_factory):
    return export_model(model, tmp_path_factory.mktemp("frozen"), optimize="freeze", **FIELDS)


def answers(version_dir, images):
    return tf.saved_model.load(str(version_dir)).signatures["probability"](image=tf.constant(images))["probability"]


def ops_of(version_dir):
    (meta_graph,) = saved_model_pb2.SavedModel.FromString((version_dir / "saved_model.pb").read_bytes()).meta_graphs
    nodes = [*meta_graph.graph_def.node, *(node for f in meta_graph.graph_def.library.function for node in f.node_def)]
    return {node.op for node in nodes}, nodes


def test_a_frozen_model_answers_what_the_plain_one_does(model, plain, frozen):
    images = np.stack([PHOTO, OTHER_PHOTO])
    expected = model(images / np.float32(255), training=False).numpy()
    assert 0.05 < (expected > 0.5).mean() < 0.95  # or the comparison would say nothing
    np.testing.assert_allclose(answers(frozen, images), expected, atol=2e-5)
    np.testing.assert_allclose(answers(plain, images), expected, atol=1e-5)


def test_a_frozen_model_has_no_variables_and_no_normalizations(plain, frozen):
    plain_ops, _ = ops_of(plain)
    frozen_ops, nodes = ops_of(frozen)
    assert {"ReadVariableOp", "Rsqrt"} <= plain_ops
    assert not frozen_ops & {"ReadVariableOp", "VarHandleOp", "Rsqrt"}
    after_convolution = [
        node
        for node in nodes
        if node.op == "Mul" and any("convolution" in name or "depthwise" in name for name in node.input)
    ]
    assert not after_convolution


def test_the_manifest_names_the_form(plain, frozen):
    def form(version_dir):
        return json.loads((version_dir / "assets.extra/maskport.json").read_text())["model"]["optimization"]

    assert (form(plain), form(frozen)) == ("none", "freeze")


@pytest.mark.parametrize("size", [(None, None), (32, 48)], ids=["any size", "fixed size"])
@pytest.mark.parametrize("batch", [None, 2], ids=["any batch", "batches of 2"])
def test_every_kind_of_model_can_be_frozen(tmp_path, size, batch):
    toy = Toy.make(3, 1, gain=4)
    toy_models.keras_model(toy, size, batch).save(tmp_path / "toy.keras")
    plan = _plan(tmp_path / "toy.keras", optimize="freeze", activation="sigmoid")
    images = np.asarray([PHOTO[:32, :48], OTHER_PHOTO[:32, :48], PHOTO[32:, :48]])
    got = plan.functions["probability"](image=tf.constant(images))["probability"]
    pipeline = Pipeline(toy, 3, "sigmoid", "unit")
    for image, answer in zip(images, got, strict=True):
        np.testing.assert_allclose(answer[..., 0], pipeline.probability(image), atol=1e-5)


def test_a_model_of_tensorflow_1_can_be_frozen(tmp_path):
    toy = Toy.make(3, 1, gain=4)
    toy_models.save_tf1(toy, tmp_path / "toy", (32, 32))
    plan = _plan(tmp_path / "toy", optimize="freeze", activation="sigmoid")
    got = plan.functions["probability"](image=tf.constant(PHOTO[None, :32, :32]))["probability"][0, ..., 0]
    np.testing.assert_allclose(got, Pipeline(toy, 3, "sigmoid", "unit").probability(PHOTO[:32, :32]), atol=1e-5)


def test_a_model_that_holds_more_than_variables_is_refused(tmp_path):
    class WithTable(tf.Module):
        def __init__(self):
            super().__init__()
            keys, values = tf.constant([0, 1]), tf.constant([0.25, 0.75])
            self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)

        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
        def __call__(self, images):
            return self.table.lookup(tf.cast(images[..., :1] > 0.5, tf.int32))

    tf.saved_model.save(WithTable(), str(tmp_path / "table"))
    with pytest.raises(SpecError, match=r"^optimize: the model cannot be frozen: .*give none$"):
        _plan(tmp_path / "table", optimize="freeze")
    assert _plan(tmp_path / "table", optimize="auto").optimized.choice == "none"


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16")
def test_bfloat16_computes_in_it_and_passes_its_own_goldens(model, plain, tmp_path):
    version_dir = export_model(model, tmp_path / "bfloat16", optimize="bfloat16", **FIELDS)
    _, nodes = ops_of(version_dir)
    assert tf.bfloat16.as_datatype_enum in {node.attr["T"].type for node in nodes if node.op == "Conv2D"}
    difference = np.abs(answers(plain, PHOTO[None]) - answers(version_dir, PHOTO[None]))
    assert difference.max() > 1e-6  # or nothing was rounded
    assert difference.mean() < 0.05  # this network has random weights, and the steepest of outputs


@pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16")
def test_the_demo_model_gives_the_same_masks_in_bfloat16():
    def mask(form):
        plan = Plan.make(load_spec(str(ROOT / "configs/export/coins.yaml"), {**here, "optimize": form}))
        return plan.functions["mask"](image=tf.constant(np.repeat(data.coins()[None, ..., None], 3, -1)))["mask"] > 0

    here = {"source": str(ROOT / "models/coins/coins.keras"), "output_dir": "served", "signatures": ["mask"]}
    plain, rounded = mask("none").numpy(), mask("bfloat16").numpy()
    assert 0.1 < plain.mean() < 0.9
    assert (plain & rounded).sum() / (plain | rounded).sum() >= 0.995


@pytest.mark.skipif(HAS_BFLOAT16, reason="this processor has bfloat16")
def test_bfloat16_is_refused_where_the_processor_has_none(model, tmp_path):
    with pytest.raises(SpecError, match=r"^optimize: 'bfloat16' cannot be made here"):
        export_model(model, tmp_path / "bfloat16", optimize="bfloat16", **FIELDS)


def test_goldens_of_bfloat16_leave_room_for_other_processors():
    assert Optimized(None, "bfloat16").least_tolerance >= 2.0**-8
    assert Optimized(None, "freeze").least_tolerance == Optimized(None, "none").least_tolerance == NEAR_THRESHOLD


def test_auto_measures_and_tells_what_it_found(model, tmp_path):
    model.save(tmp_path / "model.keras")
    optimized = _plan(tmp_path / "model.keras", optimize="auto").optimized
    assert "freeze" in optimized.comparisons
    assert all(found.speedup > 0 for found in optimized.comparisons.values())
    assert optimized.comparisons["freeze"].iou == 1
    assert optimized.choice == choose(optimized.comparisons)
    assert optimized.description.startswith(optimized.choice)
    assert "times as fast" in optimized.description


@pytest.mark.parametrize(
    ("freeze", "bfloat16", "expected"),
    [
        ((1.4, 1.0), (1.9, 0.996), "bfloat16"),
        ((1.4, 1.0), (1.9, 0.994), "freeze"),  # other masks
        ((1.4, 1.0), (1.9, None), "freeze"),  # no masks to compare
        ((1.4, 1.0), (1.45, 0.999), "freeze"),  # hardly faster
        ((1.05, 1.0), (1.08, 0.999), "none"),
        ((0.8, 1.0), (0.9, 0.999), "none"),
        ((0.8, 1.0), (1.2, 0.999), "bfloat16"),
    ],
)
def test_auto_takes_the_fastest_that_is_faithful_and_clearly_faster(freeze, bfloat16, expected):
    assert choose({"freeze": Comparison(*freeze), "bfloat16": Comparison(*bfloat16)}) == expected


def test_other_masks_are_warned_of(model, tmp_path, monkeypatch, caplog):
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(optimization_module, "_iou", lambda *_: 0.9)
    _plan(tmp_path / "model.keras", optimize="freeze")
    assert "optimize: 'freeze' changes the masks of drawn pictures (IoU 0.9000" in caplog.text


def test_forms_are_compared_by_what_the_model_says_rather_than_what_tensorflow_makes_of_it(tmp_path):
    """It forgets the slope of a leaky ReLU behind the sum of a convolution and another picture."""
    image = keras.Input((64, 64, 3))
    x = layers.Conv2D(8, 3, padding="same")(image)
    x = layers.LeakyReLU(negative_slope=0.9)(layers.Add()([layers.Conv2D(8, 3, padding="same")(x), x]))
    total = layers.Conv2D(1, 1, kernel_initializer="ones")(x)
    random = np.random.default_rng(3)
    logits = keras.Model(image, total)
    for layer in logits.layers[1:3]:
        layer.set_weights([random.normal(0, 0.3, weights.shape) for weights in layer.get_weights()])
    middle = float(np.median(logits(PHOTO[None] / 255)))
    keras.Model(image, layers.Rescaling(1.0, offset=-middle)(total)).save(tmp_path / "model.keras")
    plan = _plan(tmp_path / "model.keras", optimize="freeze", activation="sigmoid")
    assert plan.optimized.comparisons["freeze"].iou > 0.999


def test_an_unknown_form_is_refused_with_those_there_are():
    with pytest.raises(SpecError, match=r"optimize: .*'none', 'freeze', 'bfloat16' or 'auto'.*'int8'"):
        make_spec({"source": "model.keras", "output_dir": "served", "optimize": "int8"})


def _plan(source, **fields):
    spec = {"source": str(source), "output_dir": "served", "scaling": "unit", "signatures": ["probability"], **fields}
    return Plan.make(make_spec(spec))
