"""Detections and the prototypes of their masks: joined maps, by loops over pixels and boxes in NumPy."""

import re
import types
from pathlib import Path

import keras
import numpy as np
import onnx
import onnx_networks as networks
import onnxruntime
import pytest
import tensorflow as tf
from maskport.export import ExportError, SourceError, SpecError
from maskport.export.exporter import Plan
from maskport.export.sources import load_source
from maskport.export.sources.adapting.instances import find_instances
from maskport.export.spec import make_spec

SIZE = (64, 96)
CELLS = 8 * 12 + 4 * 6 + 2 * 3
MAP = (16, 24)
FACTORS, CLASSES = 4, 3


def drawn_parts(count, seed=0, pictures=2):
    """Boxes around few centres, so that many are of one thing, and scores, classes and factors."""
    random = np.random.default_rng(seed)
    centres = random.uniform(0.2, 0.8, (pictures, 6, 2))[:, random.integers(0, 6, count)]
    corners = centres + random.normal(0, 0.02, centres.shape)
    sides = random.uniform(0.25, 0.35, centres.shape)
    boxes = np.concatenate([corners, sides], 2) * np.tile(SIZE[::-1], 2)
    scores = random.uniform(0, 1, (pictures, count, CLASSES)) ** 6
    factors = random.normal(0, 1.5, (pictures, count, FACTORS))
    prototypes = random.normal(0, 1, (pictures, *MAP, FACTORS))
    return [part.astype(np.float32) for part in (boxes, scores, factors, prototypes)]


def overlap(one, other):
    (left, top), (right, bottom) = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = max(right - left, 0) * max(bottom - top, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def chosen(boxes, scores, confidence):
    """Corners, scores, classes and numbers of what is left of one picture's detections, the surest first."""
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    best, kinds = scores.max(1), scores.argmax(1)
    kept = []
    for number in np.argsort(-best):
        same = [other for other in kept if kinds[other] == kinds[number]]
        if best[number] > confidence and all(overlap(corners[number], corners[other]) <= 0.7 for other in same):
            kept.append(number)
    return corners[kept], best[kept], kinds[kept], kept


def painted(corners, kinds, factors, prototypes, classes):
    """Of one picture, [h, w, classes + 1]: the rest, and each class."""
    height, width = prototypes.shape[:2]
    scale = np.tile([width / SIZE[1], height / SIZE[0]], 2)
    found = np.zeros((height, width, classes + 1))
    for box, kind, own in zip(corners * scale, kinds, factors, strict=True):
        for y in range(height):
            for x in range(width):
                if box[0] <= x < box[2] and box[1] <= y < box[3]:
                    probability = 1 / (1 + np.exp(-(prototypes[y, x] @ own)))
                    found[y, x, kind + 1] = max(found[y, x, kind + 1], probability)
    found[..., 0] = 1 - found[..., 1:].max(-1)
    return found


def wanted_maps(boxes, scores, factors, prototypes, confidence=0.25):
    maps = []
    for number, picture in enumerate(prototypes):
        corners, _, kinds, kept = chosen(boxes[number], scores[number], confidence)
        maps.append(painted(corners, kinds, factors[number, kept], picture, scores.shape[-1]))
    return np.stack(maps)


def joined(detections, prototypes, classes=None, data_format="channels_last", confidence=0.25):
    form = find_instances(detections, prototypes, SIZE, data_format=data_format, classes=classes, confidence=confidence)
    return form, np.asarray(form(tf.constant(detections), tf.constant(prototypes), tf.constant(SIZE)))


@pytest.mark.parametrize("confidence", [0.25, 0.6])
def test_one_is_left_of_many_detections_of_one_thing(confidence):
    boxes, scores, factors, prototypes = drawn_parts(CELLS)
    kept = chosen(boxes[0], scores[0], confidence)[3]
    sure = (scores[0].max(1) > confidence).sum()
    assert 3 < len(kept) < sure  # or the test would tell nothing of what is left out
    columns = np.concatenate([boxes, scores, factors], 2).transpose(0, 2, 1)
    form, maps = joined(columns, prototypes, confidence=confidence)
    assert (form.rows_first, form.classes) == (False, CLASSES)
    np.testing.assert_allclose(maps, wanted_maps(boxes, scores, factors, prototypes, confidence), atol=1e-5)


@pytest.mark.parametrize("layout", ["rows", "object", "shares", "first", "two_strides"])
def test_layouts(layout):
    count = {"object": 3 * CELLS, "two_strides": 8 * 12 + 4 * 6}.get(layout, CELLS)
    boxes, scores, factors, prototypes = drawn_parts(count)
    wanted = wanted_maps(boxes, scores, factors, prototypes)
    given = boxes / np.tile(SIZE[::-1], 2).astype(np.float32) if layout == "shares" else boxes
    told = scores
    if layout == "object":
        has_object = np.linspace(0.9, 1, count, dtype=np.float32)[np.newaxis, :, np.newaxis].repeat(2, 0)
        told = np.concatenate([has_object, scores / has_object], 2)
    detections = np.concatenate([given, told, factors], 2)
    if layout in ("first", "two_strides"):
        detections = detections.transpose(0, 2, 1)
    if layout == "first":
        prototypes = prototypes.transpose(0, 3, 1, 2)
    form, maps = joined(detections, prototypes)
    assert form.has_object_score == (layout == "object")
    np.testing.assert_allclose(maps, wanted, atol=1e-5)


@pytest.mark.parametrize("classes", [None, 1, CLASSES - 1, CLASSES])
@pytest.mark.parametrize("count", [50, CELLS])
def test_what_a_model_has_chosen_itself_is_taken_as_it_is(classes, count):
    """Also where it chooses as many as a grid has cells; and where it finds nothing, rows are of zeros."""
    boxes, scores, factors, prototypes = drawn_parts(CELLS)
    rows, maps = [], []
    for number in range(2):
        corners, best, kinds, kept = chosen(boxes[number], scores[number], 0.1)
        found = np.concatenate([corners, best[:, np.newaxis], kinds[:, np.newaxis], factors[number, kept]], 1)
        rows.append(np.pad(found, [(0, count - len(found)), (0, 0)]))
        is_sure = (best > 0.25) & (kinds < (classes or CLASSES))
        assert 0 < is_sure.sum() < len(best)
        kinds = kinds if classes else np.zeros_like(kinds)
        own = factors[number, kept][is_sure]
        maps.append(painted(corners[is_sure], kinds[is_sure], own, prototypes[number], classes or 1))
    wanted = np.stack(maps) if classes else np.stack(maps)[..., 1:]
    rows = np.stack(rows).astype(np.float32)
    form, found = joined(rows, prototypes, classes)
    assert form.are_chosen
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    of_noise = find_instances(
        np.zeros_like(rows), prototypes, SIZE, data_format="channels_last", classes=classes, confidence=0.25
    )
    assert of_noise == form
    rows[:, 20:, 5] = -1  # as some fill up
    rows[:, 20:, 4] = 0.9
    shares = rows / np.float32([*SIZE[::-1], *SIZE[::-1], *[1] * (2 + FACTORS)])
    np.testing.assert_allclose(joined(shares, prototypes, classes)[1], joined(rows, prototypes, classes)[1], atol=1e-5)


def test_numbers_of_a_detection_are_not_taken_for_their_count():
    """As many numbers as the two coarsest grids have cells."""
    numbers = 6 * 9 + 3 * 4  # of a picture of 96 by 144 pixels
    detections = np.zeros((1, numbers, 12 * 18 + 6 * 9 + 3 * 4), np.float32)
    form = find_instances(
        detections, np.zeros((1, 24, 36, 32)), (96, 144), data_format="channels_last", classes=1, confidence=0.25
    )
    assert (form.rows_first, form.classes) == (False, numbers - 4 - 32)


def test_where_nothing_is_found_all_is_the_rest():
    boxes, scores, factors, prototypes = drawn_parts(CELLS)
    _, maps = joined(np.concatenate([boxes, scores / 5, factors], 2), prototypes)
    assert (maps[..., 0] == 1).all()
    assert (maps[..., 1:] == 0).all()


@pytest.mark.parametrize("shape", [(1, 84, 20), (1, CELLS, 4 + FACTORS), (1, 300, 7 + FACTORS)])
def test_what_is_neither_is_not_joined(shape):
    assert (
        find_instances(
            np.zeros(shape), np.zeros((1, *MAP, FACTORS)), SIZE, data_format="channels_last", classes=1, confidence=0.25
        )
        is None
    )


class Segmenter(tf.Module):
    """A network of three strides, whose boxes are large and whose scores are on both sides of the limit."""

    def __init__(self):
        random = np.random.default_rng(1)
        kernel = random.normal(0, 0.5, (1, 1, 3, 4 + CLASSES + FACTORS)).astype(np.float32)
        self.head = tf.Variable(kernel)
        self.shared = tf.Variable(random.normal(0, 2, (1, 1, 3, FACTORS)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([1, *SIZE, 3], name="image")])
    def __call__(self, image):
        return self.run(image)

    def run(self, image):
        levels = []
        for stride in (8, 16, 32):
            features = tf.nn.avg_pool2d(image, stride, stride, "VALID") - 0.5
            levels.append(tf.reshape(tf.nn.conv2d(features, self.head, 1, "VALID"), [1, -1, self.head.shape[3]]))
        boxes, scores, factors = tf.split(tf.concat(levels, 1), [4, CLASSES, FACTORS], 2)
        boxes = tf.sigmoid(boxes) * tf.constant([*SIZE[::-1]] * 2, tf.float32)
        rows = tf.concat([boxes, tf.sigmoid(scores), factors], 2)
        prototypes = tf.nn.conv2d(tf.nn.avg_pool2d(image, 4, 4, "VALID") - 0.5, self.shared, 1, "VALID")
        return {"detections": tf.transpose(rows, [0, 2, 1]), "prototypes": prototypes}


def make_segmenter():
    return Segmenter()


def saved(folder, model):
    tf.saved_model.save(model, str(folder / "saved"), signatures=model.__call__)
    return folder / "saved"


def lite(folder, model):
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved(folder, model)))
    (folder / "net.tflite").write_bytes(converter.convert())
    return folder / "net.tflite"


def frozen(folder, model):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = convert_variables_to_constants_v2(model.__call__.get_concrete_function())
    (folder / "graph.pb").write_bytes(function.graph.as_graph_def().SerializeToString())
    return folder / "graph.pb"


def of_keras(folder, model):
    layers = keras.layers
    image = keras.Input((*SIZE, 3))
    centred = layers.Rescaling(1.0, -0.5)(image)
    head = layers.Conv2D(model.head.shape[3], 1, use_bias=False)
    levels = [
        layers.Reshape((-1, head.filters))(head(layers.AveragePooling2D(stride)(centred))) for stride in (8, 16, 32)
    ]
    rows = layers.Concatenate(1)(levels)
    boxes = layers.Rescaling([*SIZE[::-1]] * 2)(keras.ops.sigmoid(rows[..., :4]))
    scores = keras.ops.sigmoid(rows[..., 4:-FACTORS])
    shared = layers.Conv2D(FACTORS, 1, use_bias=False, name="prototypes")
    answers = [
        layers.Permute((2, 1), name="detections")(layers.Concatenate(2)([boxes, scores, rows[..., -FACTORS:]])),
        shared(layers.AveragePooling2D(4)(centred)),
    ]
    head.set_weights([model.head.numpy()])
    shared.set_weights([model.shared.numpy()])
    keras.Model(image, answers).save(folder / "model.keras")
    return folder / "model.keras"


def of_tensorflow_1(folder, model):
    v1 = tf.compat.v1
    weights = types.SimpleNamespace(head=model.head.numpy(), shared=model.shared.numpy())
    with tf.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [1, *SIZE, 3], "image")
        v1.saved_model.simple_save(session, str(folder / "old"), {"image": image}, Segmenter.run(weights, image))
    return folder / "old"


@pytest.fixture
def images():
    return np.random.default_rng(5).uniform(0, 1, (2, 1, 1, 3)).astype(np.float32) + np.random.default_rng(6).uniform(
        -0.5, 0.5, (2, *SIZE, 3)
    ).astype(np.float32)


def spec_of(path, outputs, **fields):
    return make_spec({"source": str(path), "source_output": outputs, "output_dir": "served", **fields})


def loaded(path, outputs, **fields):
    return load_source(spec_of(path, outputs, **fields))


def check_reference(reference, images):
    """What is compared is what the two runtimes give before any detection is left out, each kind of number alone."""
    one = tf.constant(images[:1])
    found, wanted = reference.counterpart(one), reference.call(one)
    assert [part.shape[-1] for part in found] == [4, CLASSES, FACTORS, FACTORS]
    for ours, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-4)


def parts_of(detections, prototypes):
    rows = detections.transpose(0, 2, 1)
    return np.split(rows, [4, rows.shape[2] - FACTORS], axis=2), prototypes


@pytest.mark.parametrize("kind", [saved, lite, frozen, of_keras, of_tensorflow_1])
def test_a_file_is_served_as_a_map_of_each_class(kind, tmp_path, images):
    model = Segmenter()
    answers = [model(image[np.newaxis]) for image in images]
    detections, prototypes = (
        np.concatenate([answer[name] for answer in answers]) for name in ("detections", "prototypes")
    )
    (boxes, scores, factors), prototypes = parts_of(detections, prototypes)
    wanted = wanted_maps(boxes, scores, factors, prototypes)
    assert 0.01 < (wanted[..., 0] < 0.5).mean() < 0.99
    path = kind(tmp_path, model)
    with pytest.raises(
        SourceError, match=r"choose one by source_output: .*; or, of detections .* both: [^ ]+$"
    ) as told:
        load_source(make_spec({"source": str(path), "output_dir": "served"}))
    outputs = str(told.value).rpartition(" ")[2]
    source = loaded(path, outputs)
    assert source.output_channels == CLASSES + 1
    np.testing.assert_allclose(source.forward(tf.constant(images)), wanted, atol=1e-4)
    assert (source.reference is not None) == (kind is lite)
    if source.reference:
        check_reference(source.reference, images)
    turned = loaded(path, ", ".join(reversed(outputs.split(","))), confidence=1)
    assert (np.asarray(turned.forward(tf.constant(images)))[..., 1:] == 0).all()


def test_a_builder_is_asked_by_both_names(images, monkeypatch):
    monkeypatch.syspath_prepend(__file__.rpartition("/")[0])
    source = loaded("test_instances:make_segmenter", "detections,prototypes", trust_builder_weights=True)
    assert source.forward(tf.constant(images)).shape == (2, *MAP, CLASSES + 1)


@pytest.mark.parametrize("size", [SIZE, ("h", "w")])
def test_an_onnx_file_is_served_as_onnxruntime_and_the_reference_have_it(tmp_path, images, size):
    path = networks.yolo_segmenter(tmp_path / "net.onnx", size)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    answers = [session.run(None, {"images": image[np.newaxis].transpose(0, 3, 1, 2)}) for image in images]
    detections, prototypes = (np.concatenate(output) for output in zip(*answers, strict=True))
    (boxes, scores, factors), prototypes = parts_of(detections, prototypes.transpose(0, 2, 3, 1))
    wanted = wanted_maps(boxes, scores, factors, prototypes)
    assert 0.01 < (wanted[..., 0] < 0.5).mean() < 0.99
    table = (Path(__file__).parents[4] / "docs/sources.md").read_text()
    outputs = re.search(r"\| a network that finds instances, .* --source_output=([^` ]+)`", table)[1]
    source = loaded(path, outputs)
    np.testing.assert_allclose(source.forward(tf.constant(images)), wanted, atol=1e-4)
    check_reference(source.reference, images)
    plan = Plan.make(spec_of(path, outputs, scaling="unit", foreground=[1, 2]))
    assert plan.alignment is None
    assert plan.comparison.largest < 1e-4 < plan.comparison.answers_range


@pytest.mark.parametrize("names", [None, ["rest", "coin", "cat"], ["rest", "coin"], ["coin"]])
def test_a_file_that_chooses_detections_names_its_classes_or_the_spec_does(tmp_path, images, names):
    path = networks.yolo_segmenter(tmp_path / "net.onnx", SIZE, chooses=True)
    rows, prototypes = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"images": images[:1].transpose(0, 3, 1, 2)}
    )
    assert rows.shape == (1, 50, 6 + FACTORS)
    (row,), prototypes = rows, prototypes[0].transpose(1, 2, 0)
    kinds = row[:, 5].astype(int)
    assert len({*kinds[row[:, 4] > 0.4]}) > 1
    if names == ["coin"]:
        kinds[:] = 0
    known = CLASSES if names is None else len(names) - 1 or 1
    kept = (row[:, 4] > 0.4) & (kinds < known)
    wanted = painted(row[kept, :4], kinds[kept], row[kept, 6:], prototypes, known)
    found = loaded(path, "output0,output1", classes=names, confidence=0.4).forward(tf.constant(images[:1]))
    np.testing.assert_allclose(found[0], wanted[..., 1:] if names == ["coin"] else wanted, atol=1e-4)


class Pair(tf.Module):
    """Answers what it is given: detections and prototypes."""

    def __init__(self, shape, answer):
        self.call = tf.function(answer, input_signature=[tf.TensorSpec(shape, name="image")], autograph=False)

    def save(self, folder):
        tf.saved_model.save(self, str(folder / "saved"), signatures=self.call)
        return folder / "saved"


def parts_of_noise(count):
    boxes, scores, factors, prototypes = drawn_parts(count, pictures=1)
    detections = np.concatenate([boxes, scores, factors], 2).transpose(0, 2, 1)
    return detections, prototypes, wanted_maps(boxes, scores, factors, prototypes)


def test_a_model_of_one_picture_is_asked_one_by_one(tmp_path, images):
    detections, prototypes, wanted = parts_of_noise(CELLS)
    path = Pair([*SIZE, 3], lambda image: {"d": detections[0] + 0 * image[0, 0, 0], "p": prototypes[0]}).save(tmp_path)
    maps = loaded(path, "p,d").forward(tf.constant(images))
    np.testing.assert_allclose(maps, np.repeat(wanted, 2, 0), atol=1e-5)


@pytest.mark.parametrize("outputs", ["d,p", "p,d"])
def test_ranks_and_channels_that_nobody_knows_are_seen_when_it_runs(tmp_path, images, outputs):
    detections, prototypes, wanted = parts_of_noise(CELLS)

    def answer(image):
        zero = 0 * image[:, 0, 0, 0]
        unknown = tf.raw_ops.PlaceholderWithDefault
        return {
            "d": unknown(input=detections + zero[:, tf.newaxis, tf.newaxis], shape=None),
            "p": unknown(input=prototypes + zero[:, tf.newaxis, tf.newaxis, tf.newaxis], shape=None),
        }

    path = Pair([1, *SIZE, 3], answer).save(tmp_path)
    np.testing.assert_allclose(loaded(path, outputs).forward(tf.constant(images[:1])), wanted, atol=1e-5)


def test_more_pictures_at_a_time_than_are_drawn_are_compared_all_the_same(tmp_path):
    path = networks.yolo_segmenter(tmp_path / "net.onnx", SIZE)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 8
    for one in model.graph.initializer:  # the shape that the rows of each stride get
        if one.data_type == onnx.TensorProto.INT64 and list(one.dims) == [3]:
            one.CopyFrom(onnx.numpy_helper.from_array(np.array([8, 11, -1]), one.name))
    onnx.save(model, path)
    plan = Plan.make(spec_of(path, "output0,output1", scaling="unit", foreground=[1]))
    assert plan.comparison.largest < 1e-4


def test_what_fails_at_the_sizes_that_are_tried_is_told_with_advice(tmp_path):
    detections, prototypes, _ = parts_of_noise(CELLS)

    def answer(image):
        tf.debugging.assert_equal(tf.shape(image)[1:3] % 96, 0)
        return {"d": detections, "p": prototypes}

    path = Pair([1, None, None, 3], answer).save(tmp_path)
    with pytest.raises(SourceError, match=r"fails on a 284x572 picture: .*; if it takes sizes .*--pad_to_multiple"):
        loaded(path, "d,p")


def test_ops_of_python_are_named_before_they_run(tmp_path):
    detections, prototypes, _ = parts_of_noise(CELLS)
    path = Pair(
        [1, *SIZE, 3], lambda image: {"d": tf.py_function(lambda: detections, [], tf.float32), "p": prototypes}
    ).save(tmp_path)
    with pytest.raises(ExportError, match="EagerPyFunc"):
        loaded(path, "d,p")


def test_a_joined_map_lies_as_it_does(tmp_path):
    path = networks.yolo_segmenter(tmp_path / "net.onnx", SIZE)
    with pytest.raises(SpecError, match=r"^map_alignment: 'centre' is for maps that a model answers"):
        Plan.make(spec_of(path, "output0,output1", scaling="unit", foreground=[1], map_alignment="centre"))


def test_two_other_outputs_are_not_joined(tmp_path):
    path = networks.torch_unet(tmp_path / "net.onnx")
    with pytest.raises(SourceError, match=r"^source_output: .* answers \[1, 1, 64, 128\] and .*; wanted detections"):
        loaded(path, "out,side1")
    with pytest.raises(SourceError, match=r"prototypes of their masks are two outputs; got 'out,side1,side2'"):
        loaded(path, "out,side1,side2")
    with pytest.raises(SourceError, match=r"has no output 'side9'"):
        loaded(path, "out,side9")
    with pytest.raises(SourceError, match=r"^confidence: is for models that answer detections and the prototypes"):
        loaded(path, "out", confidence=0.5)
