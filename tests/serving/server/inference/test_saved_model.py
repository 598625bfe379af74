"""SavedModels run in a session with TensorFlow Serving's texts, stop when told to, and leave no memory behind."""

import gc
import os
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from conformance import models
from maskport.serving.server.calls import Call
from maskport.serving.server.errors import RequestError
from maskport.serving.server.inference.saved_model import SavedModel, SessionSettings
from maskport.serving.status_codes import StatusCode
from waiting import processor_use, wait_until

SETTINGS = SessionSettings(interruptible_runs=4)


@pytest.fixture
def load(made_models):
    loaded = []

    def load_model(name, settings=SETTINGS):
        model = SavedModel(str(made_models(name)), settings)
        loaded.append(model)
        return model

    yield load_model
    for model in loaded:
        model.close()


def run(model, signature, call=None, outputs=None, **inputs):
    chosen = model.signatures[signature]
    feeds = {chosen.inputs[name].name: array for name, array in inputs.items()}
    fetches = [chosen.outputs[name].name for name in outputs or sorted(chosen.outputs)]
    return model.run(feeds, fetches, call or Call())


def busy(model, seconds, call):
    return run(model, "busy", call, seconds=np.array([seconds], np.float32))


def error_of(action):
    with pytest.raises(RequestError) as failure:
        action()
    return failure.value


def test_variables_are_restored(load):
    (y,) = run(load("arithmetic/2"), "serving_default", x=np.array([1, 2], np.float32))
    assert y.tolist() == [2, 5]


def test_scalars_and_strings_come_as_arrays(load):
    strings = load("strings/1")
    text = np.empty((), object)
    text[()] = b"hello"
    (length,) = run(strings, "scalar", text=text)
    assert (length.shape, length.dtype, length.item()) == ((), np.int32, 5)
    words = np.array([[b"a", b"b\x00"]], object)
    (joined,) = run(strings, "join", words=words)
    assert joined.tolist() == [b"a b\x00"]


def test_only_what_is_fetched_is_computed(load):
    two = load("two_inputs/1")
    x = np.ones(1, np.float32)
    (total,) = run(two, "serving_default", outputs=["sum"], x=x, y=x)
    assert total.tolist() == [2]


def test_the_graph_is_placed_once_for_all_that_signatures_answer(load, monkeypatch):
    """TensorFlow places all of it again whenever a session's graph has grown."""
    two, extended = load("two_inputs/1"), []
    extend = tf.compat.v1.Session._extend_graph
    monkeypatch.setattr(tf.compat.v1.Session, "_extend_graph", lambda self: [extended.append(1), extend(self)])
    names, x = sorted(two.signatures["serving_default"].outputs), np.ones(1, np.float32)
    for outputs in (names, names[::-1]):
        run(two, "serving_default", outputs=outputs, x=x, y=x)
    assert (len(names), len(extended)) == (2, 0)
    run(two, "serving_default", outputs=names[:1], x=x, y=x)
    assert len(extended) == 1


def test_errors_of_the_graph_keep_their_code_and_text(load):
    failing = load("failing/1")
    negative = error_of(lambda: run(failing, "serving_default", x=np.array([-1], np.float32)))
    assert negative.code == StatusCode.INVALID_ARGUMENT
    assert negative.message.startswith("assertion failed: [x must be positive] [-1]\n\t [[")
    wrong = error_of(lambda: run(failing, "serving_default", x=np.array([1], np.int32)))
    assert (wrong.code, wrong.message) == (
        StatusCode.INVALID_ARGUMENT,
        "Expects arg[0] to be float but int32 is provided",
    )


@pytest.mark.parametrize("is_initialiser", [False, True], ids=["run", "load"])
def test_error_that_quotes_bytes_that_are_not_utf_8_is_told_with_marks_for_them(tmp_path, is_initialiser):
    path = tmp_path / "1"
    numbers = models.takes(text=([None], tf.string))(lambda text: {"number": tf.strings.to_number(text)})
    models.save(path, {"serving_default": numbers})
    if is_initialiser:
        models.rewrite(path, _read_bytes_at_first)
        error = error_of(lambda: SavedModel(str(path), SETTINGS))
    else:
        model = SavedModel(str(path), SETTINGS)
        error = error_of(lambda: run(model, "serving_default", text=np.array([b"1", b"\xff\xfe"], object)))
        assert run(model, "serving_default", text=np.array([b"2"], object))[0].tolist() == [2]
        model.close()
    assert error.code == StatusCode.INVALID_ARGUMENT
    assert error.message.startswith("StringToNumberOp could not correctly convert string: \ufffd\ufffd\n\t [[")


def _read_bytes_at_first(meta_graph):
    """Gives a model an initialiser that makes a number of bytes that are none."""
    graph = tf.Graph()
    with graph.as_default():
        number = tf.strings.to_number(tf.constant(b"\xff\xfe", name="no_text"), name="no_number")
    meta_graph.graph_def.node.extend(graph.as_graph_def().node)
    initialiser = meta_graph.signature_def["__saved_model_init_op"]
    initialiser.outputs["__saved_model_init_op"].name = number.name


def test_run_that_takes_too_long_is_stopped(load):
    failing = load("failing/1")
    begin = time.monotonic()
    late = error_of(lambda: busy(failing, 30, Call(timeout_s=0.2)))
    assert time.monotonic() - begin < 25
    assert (late.code, late.message) == (StatusCode.DEADLINE_EXCEEDED, "Timed out waiting for notification")
    assert_at_rest()


def test_run_whose_time_is_over_already_is_not_begun(load):
    late = error_of(lambda: busy(load("failing/1"), 30, Call(timeout_s=0)))
    assert late.code == StatusCode.DEADLINE_EXCEEDED


def test_cancelled_run_is_stopped(load):
    failing = load("failing/1")
    call = Call()
    threading.Timer(0.2, call.cancel).start()
    begin = time.monotonic()
    assert error_of(lambda: busy(failing, 30, call)).code == StatusCode.CANCELLED
    assert time.monotonic() - begin < 25
    assert_at_rest()
    assert run(failing, "lookup", index=np.array([1], np.int32))[0].tolist() == [20]


def test_call_that_was_cancelled_before_is_not_begun(load):
    call = Call()
    call.cancel()
    assert error_of(lambda: busy(load("failing/1"), 30, call)).code == StatusCode.CANCELLED


def test_cancelling_stops_no_other_run(load):
    failing = load("failing/1")
    # More runs than there are slots, and each slot used again and again.
    failures = []

    def worker(number):
        for turn in range(60):
            call = Call()
            canceller = None
            if number % 2 == 0:
                canceller = threading.Timer(0.0005 * (turn % 7), call.cancel)
                canceller.start()
            try:
                (value,) = run(failing, "lookup", call, index=np.array([turn % 3], np.int32))
                if value.tolist() != [10 * (turn % 3 + 1)]:
                    failures.append(value)
            except RequestError as error:
                if canceller is None or error.code != StatusCode.CANCELLED:
                    failures.append(error)
            if canceller is not None:
                canceller.join()

    workers = [threading.Thread(target=worker, args=(number,)) for number in range(8)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    assert not failures
    assert sorted(failing._interrupter._free) == [0, 1, 2, 3]


def test_more_kinds_of_fetches_than_are_watched_still_run(load, monkeypatch):
    monkeypatch.setattr("maskport.serving.server.inference.interruption._MAX_ENDINGS", 1)
    two = load("two_inputs/1")
    x = np.ones(1, np.float32)
    for outputs in (["sum"], ["difference"], ["sum", "difference"]):
        assert len(run(two, "serving_default", outputs=outputs, x=x, y=x)) == len(outputs)


def assert_at_rest():
    """The process computes nothing any more."""
    wait_until(lambda: processor_use(0.3) < 0.15, "the end of the computation")


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("broken/1", StatusCode.DATA_LOSS, "Can't parse {path}/saved_model.pb as binary proto"),
        (
            "no_file/1",
            StatusCode.NOT_FOUND,
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            "`saved_model.pb`)\nSpecified file path: {path}",
        ),
        (
            "other_tag/1",
            StatusCode.NOT_FOUND,
            "Could not find meta graph def matching supplied tags: {{ serve }}. To inspect available tag-sets in "
            "the SavedModel, please use the SavedModel CLI: `saved_model_cli`",
        ),
    ],
)
def test_what_does_not_load_is_named_in_tensorflow_servings_words(made_models, name, code, text):
    path = str(made_models(name))
    failure = error_of(lambda: SavedModel(path, SETTINGS))
    assert (failure.code, failure.message) == (code, text.format(path=path))


def test_other_tags_can_be_asked_for(made_models):
    SavedModel(str(made_models("other_tag/1")), SessionSettings(tags=frozenset({"other"}))).close()


def test_truncated_variables_are_an_error_of_loading(publish):
    path = publish("arithmetic/1", "m/1")
    data = next((path / "variables").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:-4])
    assert error_of(lambda: SavedModel(str(path), SETTINGS)).code in (StatusCode.DATA_LOSS, StatusCode.OUT_OF_RANGE)


def test_tables_and_assets_are_initialised(tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("zero\none\ntwo\n")

    class Lookup(tf.Module):
        def __init__(self):
            super().__init__()
            initializer = tf.lookup.TextFileInitializer(
                str(words),
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
            )
            self.table = tf.lookup.StaticHashTable(initializer, -1)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "word")])
        def find(self, word):
            return {"number": self.table.lookup(word)}

    module = Lookup()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.find)
    words.unlink()
    model = SavedModel(str(tmp_path / "1"), SETTINGS)
    try:
        (numbers,) = run(model, "serving_default", word=np.array([b"two", b"nine"], object))
    finally:
        model.close()
    assert numbers.tolist() == [2, -1]


def test_models_of_tensorflow_1_are_served(tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None], "x")
        w = v1.get_variable("w", initializer=3.0, use_resource=False)
        y = tf.multiply(x, w, "y")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(tmp_path / "1"))
        signature = v1.saved_model.signature_def_utils.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    model = SavedModel(str(tmp_path / "1"), SETTINGS)
    try:
        assert run(model, "serving_default", x=np.array([2], np.float32))[0].tolist() == [6]
    finally:
        model.close()


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_closing_a_model_gives_its_memory_back(tmp_path):
    class Large(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.ones([8, 1024, 1024]))  # 32 MB

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def scale(self, x):
            return {"y": x * self.weights[0, 0, 0]}

    module = Large()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.scale)
    del module
    gc.collect()

    def load_and_close():
        model = SavedModel(str(tmp_path / "1"), SETTINGS)
        assert run(model, "serving_default", x=np.array([2], np.float32))[0].tolist() == [2]
        model.close()
        gc.collect()

    for _ in range(3):
        load_and_close()
    before = resident_mb()
    for _ in range(10):
        load_and_close()
    assert resident_mb() - before < 48
