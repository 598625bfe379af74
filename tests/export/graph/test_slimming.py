"""What is taken out of a saved graph, on a version that an export wrote, and that TensorFlow 2 still loads it."""

import re

import numpy as np
import pytest
import tensorflow as tf
from maskport.export.graph.saving import save
from maskport.export.graph.slimming import slim
from tensorflow.core.framework import function_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By who saved it, a module of two signatures with the same branches and loops: TensorFlow, and the export."""

    def graph(image):
        big = tf.reduce_sum(image) > 1.0
        return tf.cond(big, lambda: image * 2.0, lambda: tf.while_loop(lambda x: x < 9, lambda x: x + 4, [image])[0])

    spec = tf.TensorSpec([], tf.float32, name="image")
    double = tf.function(lambda image: {"mask": graph(image)}, autograph=False).get_concrete_function(spec)
    more = tf.function(lambda image: {"more": graph(image) + 1.0}, autograph=False).get_concrete_function(spec)
    signatures = {"mask": double, "serving_default": double, "more": more}
    folder = tmp_path_factory.mktemp("models")
    tf.saved_model.save(tf.Module(), str(folder / "plain"), signatures)
    save(tf.Module(), folder / "slim", signatures)
    return folder


@pytest.fixture
def plain(folders):
    return folders / "plain"


@pytest.fixture
def slimmed(folders):
    return folders / "slim"


def graph_of(folder):
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0]


def bodies(folder):
    """Each function's text without its name, and without the numbers in the names of those that it calls."""
    texts = []
    for function in graph_of(folder).graph_def.library.function:
        function.signature.name = ""
        texts.append(re.sub(r'name: "(\w+?)_\d+"', r'name: "\1"', str(function)))
    return texts


def test_functions_that_are_the_same_are_saved_once(plain, slimmed):
    inner = [text for text in bodies(slimmed) if "signature_wrapper" not in text and "mul" in text]
    assert len([text for text in bodies(plain) if "mul" in text]) == 2
    assert len(inner) == 1


def test_serving_default_is_another_name_of_mask(plain, slimmed):
    def tensors(folder):
        return [str(graph_of(folder).signature_def[name]) for name in ("mask", "serving_default")]

    assert len({*tensors(plain)}) == 2
    assert len({*tensors(slimmed)}) == 1


@pytest.mark.parametrize("value", [0.25, 3.0])
def test_answers_are_the_same(plain, slimmed, value):
    signatures = tf.saved_model.load(str(slimmed)).signatures
    expected = 2 * value if value > 1 else value + 4 * np.ceil((9 - value) / 4)
    assert signatures["mask"](image=tf.constant(value))["mask"] == expected
    assert signatures["more"](image=tf.constant(value))["more"] == expected + 1
    # As a server does, by a session.
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        found = tf.compat.v1.saved_model.load(session, ["serve"], str(slimmed)).signature_def
        for name, output, wanted in [("serving_default", "mask", expected), ("more", "more", expected + 1)]:
            fetched, fed = found[name].outputs[output].name, found[name].inputs["image"].name
            assert session.run(fetched, {fed: value}) == wanted


def test_the_fingerprint_is_of_the_new_file(plain, slimmed):
    old, new = (tf.saved_model.experimental.read_fingerprint(str(folder)) for folder in (plain, slimmed))
    assert new.saved_model_checksum != old.saved_model_checksum


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    """A module whose signature computes the same twice, hands values on, and draws random numbers twice."""

    class Repeating(tf.Module):
        def __init__(self):
            super().__init__()
            self.weight = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="image")], autograph=False)
        def answer(self, image):
            one, other = (tf.reduce_sum(tf.identity(image) * 3.0 + 1.0) for _ in range(2))
            before = self.weight.read_value()
            with tf.control_dependencies([self.weight.assign_add(1.0)]):
                after = self.weight.read_value()
            noise = [tf.random.uniform([], dtype=tf.float32) for _ in range(2)]
            same = tf.identity(image)
            return {"mask": one + other, "weights": tf.stack([before, after]), "noise": tf.stack(noise), "same": same}

    folder = tmp_path_factory.mktemp("repeated") / "1"
    module = Repeating()
    save(module, folder, {"mask": module.answer.get_concrete_function()})
    return folder


def test_what_is_computed_twice_is_saved_once(repeated):
    bodies = [f for f in graph_of(repeated).graph_def.library.function if "RandomUniform" in str(f)]
    assert bodies
    for body in bodies:
        ops = [node.op for node in body.node_def]
        assert ops.count("Sum") == ops.count("Mul") == 1
        assert ops.count("RandomUniform") == ops.count("ReadVariableOp") == 2
        constants = [str(node.attr) for node in body.node_def if node.op == "Const"]
        assert len(constants) == len({*constants})


def test_a_graph_of_what_was_computed_twice_answers_the_same(repeated):
    signature = tf.saved_model.load(str(repeated)).signatures["mask"]
    for call in (0, 1):
        found = {name: value.numpy() for name, value in signature(image=tf.constant([1.0, 2.0])).items()}
        assert found["mask"] == 2 * (4.0 + 7.0)
        assert [*found["weights"]] == [2.0 + call, 3.0 + call]
        assert found["noise"][0] != found["noise"][1]
        assert [*found["same"]] == [1.0, 2.0]


def slimmed_function(nodes, returned, awaited=(), beside=()):
    """Slims a function of nodes, (name, op, inputs); gives the nodes, the returned values and what is awaited.

    `beside` are pairs of names: the first node is to be where the second is.
    """
    function = function_pb2.FunctionDef()
    function.signature.name = "f"
    for name, op, inputs in nodes:
        function.node_def.add(name=name, op=op, input=inputs).attr["T"].type = tf.float32.as_datatype_enum
    by_name = {node.name: node for node in function.node_def}
    for name, other in beside:
        by_name[name].attr["_class"].list.s.append(b"loc:@" + other.encode())
    function.ret.update(returned)
    function.control_ret.update({name: name for name in awaited})
    graph = meta_graph_pb2.MetaGraphDef()
    graph.graph_def.library.function.append(function)
    slim(graph)
    (slimmed,) = graph.graph_def.library.function
    nodes = [(node.name, node.op, [*node.input]) for node in slimmed.node_def]
    return nodes, dict(slimmed.ret), {*slimmed.control_ret.values()}


def test_nodes_that_are_to_be_beside_others_stay():
    twins = [(name, "Neg", ["x"]) for name in "abc"]
    nodes, _, _ = slimmed_function([*twins, ("d", "Add", ["a:y:0", "b:y:0"])], {"z": "d:z:0"}, beside=[("c", "b")])
    assert nodes == [*twins, ("d", "Add", ["a:y:0", "b:y:0"])]


def test_nodes_are_merged_whatever_their_order_and_whichever_of_their_values_is_used():
    last = ("sum", "Add", ["two:output:1", "one:output:1"])
    splits = [(name, "Split", [f"{name}_negative:y:0", "x"]) for name in ("one", "two")]
    negatives = [(f"{name}_negative", "Neg", ["x"]) for name in ("one", "two")]
    nodes, returned, _ = slimmed_function([last, *splits, *negatives], {"z": "sum:z:0", "other": "two:output:10"})
    assert nodes == [
        ("sum", "Add", ["one:output:1", "one:output:1"]),
        ("one", "Split", ["one_negative:y:0", "x"]),
        ("one_negative", "Neg", ["x"]),
    ]
    assert returned == {"z": "sum:z:0", "other": "one:output:10"}


def test_what_is_handed_on_is_returned_itself():
    chain = [("a", "Identity", ["x"]), ("b", "Identity", ["a:output:0"]), ("c", "Neg", ["b:output:0"])]
    nodes, returned, _ = slimmed_function(chain, {"z": "b:output:0", "negative": "c:y:0"})
    assert nodes == [("c", "Neg", ["x"])]
    assert returned == {"z": "x", "negative": "c:y:0"}


def test_what_waits_or_is_waited_for_stays():
    nodes = [
        ("first", "Identity", ["x"]),
        ("one", "Neg", ["x", "^first"]),
        ("two", "Neg", ["x", "^first"]),
        ("waiting", "Identity", ["x", "^one", "^two"]),
        ("last", "Identity", ["y"]),
    ]
    found, returned, awaited = slimmed_function(nodes, {"z": "waiting:output:0"}, awaited=["last", "two"])
    assert found == [
        ("first", "Identity", ["x"]),
        ("one", "Neg", ["x", "^first"]),
        ("waiting", "Identity", ["x", "^one"]),
        ("last", "Identity", ["y"]),
    ]
    assert returned == {"z": "waiting:output:0"}
    assert awaited == {"one", "last"}


def test_variables_of_the_first_releases_loops_stay_apart():
    nodes = [("one", "Enter", ["x"]), ("two", "Enter", ["x"]), ("sum", "Add", ["one:output:0", "two:output:0"])]
    assert slimmed_function(nodes, {"z": "sum:z:0"})[0] == nodes


def test_what_writes_variables_is_not_saved(repeated, tmp_path):
    plain = tmp_path / "plain"
    loaded = tf.saved_model.load(str(repeated))
    tf.saved_model.save(loaded, str(plain), loaded.signatures)  # one that is loaded is saved again

    def operations(folder):
        graph = graph_of(folder).graph_def
        return {node.op for nodes in [graph.node, *(f.node_def for f in graph.library.function)] for node in nodes}

    assert "SaveV2" in operations(plain)
    assert "SaveV2" not in operations(repeated)
    assert "RestoreV2" in operations(repeated)
    assert "Const" in {node.op for node in graph_of(plain).graph_def.node}
    assert "Const" not in {node.op for node in graph_of(repeated).graph_def.node}
    again = tf.saved_model.load(str(plain)).signatures["mask"](image=tf.constant([1.0, 2.0]))
    assert [*again["weights"].numpy()] == [2.0, 3.0]
