"""A version is loaded, warmed up and wrapped for batching as the settings say."""

import os
import pathlib
import threading

import numpy as np
import pytest
import tensorflow as tf
from maskport.serving.server.calls import Call
from maskport.serving.server.errors import RequestError
from maskport.serving.server.inference.batching import BatchingRunner
from maskport.serving.server.inference.saved_model import SavedModel
from maskport.serving.server.metrics import Metrics
from maskport.serving.server.models import warmup
from maskport.serving.server.models.loading import LoadSettings, ModelLoader
from maskport.serving.server.models.text_configs import BatchingSettings
from maskport.serving.status_codes import StatusCode
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)
from waiting import PATIENCE_S


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def load(metrics):
    ended = []

    def load_version(path, **settings):
        loader = ModelLoader(LoadSettings(**settings), metrics)
        ended.append(loader.stop)
        model = loader("m", int(path.name), str(path))
        ended.insert(0, model.runner.close)
        return model

    yield load_version
    for end in ended:
        end()


def write_warmup(path: pathlib.Path, *records: prediction_log_pb2.PredictionLog) -> None:
    (path / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for record in records:
            writer.write(record.SerializeToString())


def predict_log(**inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "another name"
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, tf.float32))
    return prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))


def page(metrics):
    return metrics.page().decode()


def test_warmup_requests_are_replayed(load, publish, metrics):
    path = publish("arithmetic/1", "m/1")
    write_warmup(path, predict_log(x=[1.0]), predict_log(x=[1.0, 2.0]))
    load(path, warmup_iterations=3)
    assert f':tensorflow:serving:model_warmup_records_read{{model_path="{path}",status="OK"}} 2' in page(metrics)


def test_every_kind_of_warmup_request_is_replayed(load, publish):
    path = publish("examples/1", "m/1")
    examples = regression_pb2.RegressionRequest().input
    examples.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    logs = prediction_log_pb2
    several = inference_pb2.MultiInferenceRequest(input=examples)
    task = several.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name, task.model_spec.signature_name = "m", "regress"
    classify = classification_pb2.ClassificationRequest(input=examples)
    classify.model_spec.signature_name = "classify"
    write_warmup(
        path,
        logs.PredictionLog(regress_log=logs.RegressLog(request=regression_pb2.RegressionRequest(input=examples))),
        logs.PredictionLog(classify_log=logs.ClassifyLog(request=classify)),
        logs.PredictionLog(multi_inference_log=logs.MultiInferenceLog(request=several)),
    )
    load(path)


@pytest.mark.parametrize(
    ("record", "code", "text"),
    [
        (predict_log(wrong=[1.0]), StatusCode.INVALID_ARGUMENT, "Signature input alias: x"),
        (
            prediction_log_pb2.PredictionLog(session_run_log=prediction_log_pb2.SessionRunLog()),
            StatusCode.UNIMPLEMENTED,
            "Unsupported log_type for warmup",
        ),
    ],
)
def test_warmup_request_that_fails_fails_the_load(load, publish, record, code, text):
    path = publish("arithmetic/1", "m/1")
    write_warmup(path, record)
    with pytest.raises(RequestError, match=text) as failure:
        load(path)
    assert failure.value.code == code
    load(path, warms_up=False)


def of_signature(name, **inputs):
    log = predict_log(**inputs)
    log.predict_log.request.model_spec.signature_name = name
    return log


def test_warmup_requests_of_several_graphs_are_replayed_at_one_time(load, publish, monkeypatch):
    path = publish("arithmetic/1", "m/1")
    write_warmup(path, of_signature("one"), of_signature("other"))
    both, calls = threading.Barrier(2), []

    def replay(model, record, call):
        calls.append(call)
        both.wait(PATIENCE_S)

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(warmup, "_replay", replay)
    load(path)
    assert len({*calls}) == 2


def test_warmup_requests_of_one_graph_are_replayed_one_by_one_in_their_order(load, publish, monkeypatch):
    path = publish("arithmetic/1", "m/1")
    sizes = [4, 1, 2, 8]
    write_warmup(path, *[of_signature("" if size % 2 else "serving_default", x=[1.0] * size) for size in sizes])
    running, replayed = threading.Lock(), []

    def replay(model, record, call):
        assert running.acquire(blocking=False)
        replayed.append(record.predict_log.request.inputs["x"].tensor_shape.dim[0].size)
        running.release()

    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(warmup, "_replay", replay)
    load(path)
    assert replayed == sizes


def test_warmup_file_that_is_none_fails_the_load(load, publish):
    path = publish("arithmetic/1", "m/1")
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "tf_serving_warmup_requests").write_bytes(b"this is no record file, but longer")
    with pytest.raises(RequestError) as failure:
        load(path)
    assert failure.value.code == StatusCode.DATA_LOSS
    assert failure.value.message == (
        "corrupted record at 0 (Is this even a TFRecord file?). Please verify your warmup data is in TFRecord format."
    )


def test_more_warmup_records_than_a_thousand_fail_the_load(load, publish):
    path = publish("arithmetic/1", "m/1")
    write_warmup(path, *[predict_log(x=[1.0])] * 1001)
    with pytest.raises(RequestError, match=r"Number of warmup records exceeds the maximum \(1000\)"):
        load(path)


def test_file_in_place_of_a_version_directory_does_not_load(load, tmp_path):
    (tmp_path / "11").write_text("a file")
    with pytest.raises(RequestError) as failure:
        load(tmp_path / "11")
    assert failure.value.code == StatusCode.FAILED_PRECONDITION
    assert failure.value.message == (
        "Error while attempting to reserve resources to load servable {name: m version: 11}: "
        f"{tmp_path}/11; Not a directory"
    )


def test_attempts_at_loading_are_counted(load, made_models, metrics):
    good, bad = made_models("arithmetic/1"), made_models("broken/1")
    load(good)
    with pytest.raises(RequestError):
        load(bad)
    counts = page(metrics)
    name = ":tensorflow:cc:saved_model:load_attempt_count"
    assert f'{name}{{model_path="{good}",status="success"}} 1' in counts
    assert f'{name}{{model_path="{bad}",status="fail"}} 1' in counts


def test_batching_wraps_the_session(load, made_models):
    model = load(made_models("arithmetic/1"), batching=BatchingSettings(max_batch_size=2))
    assert isinstance(model.runner, BatchingRunner)
    signature = model.signatures["serving_default"]
    (y,) = model.runner.run(
        {signature.inputs["x"].name: np.array([1], np.float32)}, [signature.outputs["y"].name], Call()
    )
    assert y.tolist() == [3]


def test_own_batching_file_counts_where_it_is_asked_for(load, publish):
    with_file, without = publish("arithmetic/1", "m/1"), publish("arithmetic/2", "m/2")
    (with_file / "batching_params.pbtxt").write_text("max_batch_size { value: 7 }")
    chosen = {"batching": BatchingSettings(max_batch_size=2), "reads_batching_files": True}
    assert load(with_file, **chosen).runner._settings.max_batch_size == 7
    assert isinstance(load(without, **chosen).runner, SavedModel)


@pytest.mark.parametrize("text", ["max_batch_size { value: 0 }", "nonsense", "allowed_batch_sizes: 2"])
def test_batching_file_that_makes_no_sense_fails_the_load(load, publish, text):
    path = publish("arithmetic/1", "m/1")
    (path / "batching_params.pbtxt").write_text(text)
    with pytest.raises(RequestError) as failure:
        load(path, batching=BatchingSettings(), reads_batching_files=True)
    assert failure.value.code == StatusCode.INVALID_ARGUMENT
