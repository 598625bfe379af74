"""What official-stub clients get over gRPC that no recorded request shows: deadlines, cancelling, sizes, health."""

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from maskport.serving.server.fronts.grpc_front import GrpcSettings
from maskport.serving.server.models.versions import ModelSettings
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from waiting import PATIENCE_S, processor_use, wait_until

_ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@pytest.fixture
def connect():
    channels = []

    def open_channel(server, options=_ANY_SIZE):
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", options)
        channels.append(channel)
        return channel

    yield open_channel
    for channel in channels:
        channel.close()


@pytest.fixture
def failing(serve, made_models):
    return serve(ModelSettings("failing", str(made_models("failing/1").parent)), grpc=GrpcSettings(threads=2))


def predict_request(model, signature="", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def busy(seconds):
    return predict_request("failing", "busy", seconds=np.array([seconds], np.float32))


def test_bytes_that_are_no_message_are_refused_and_fill_no_log(failing, connect, caplog):
    predict = connect(failing).unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError) as error:
        predict(b"\xff\xff\xff", timeout=PATIENCE_S)
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert error.value.details() == "Exception deserializing request!"
    assert caplog.records == []


def test_shape_that_no_array_can_have_is_refused(failing, connect):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(failing))
    request = predict_request("failing", x=np.zeros(0, np.float32))
    request.inputs["x"].tensor_shape.dim.add(size=2**62)
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(request, timeout=PATIENCE_S)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "tensor parsing error: x"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("xz", "Inputs contains invalid name. Used request inputs: x, request input: x,z"),
        ("z", "Signature input alias: x(feed name: "),
        ("xkz", "input size does not match signature: 3!=2 len({k,x,z}) != len({k,x}). Sent extra: {z}. "),
        ("x", None),
        ("xk", None),
    ],
)
def test_input_that_a_signature_with_defaults_does_not_have_is_refused(serve, made_models, connect, names, words):
    server = serve(ModelSettings("defaults", str(made_models("defaults/1").parent)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(server))
    request = predict_request("defaults", **dict.fromkeys(names, np.array([2], np.float32)))
    if words is None:
        factor = 2 if "k" in names else 10
        assert list(stub.Predict(request, timeout=PATIENCE_S).outputs["y"].float_val) == [2 * factor]
        return
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(request, timeout=PATIENCE_S)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith(words)


def test_deadline_stops_the_computation(failing, connect):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(failing))
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(busy(30), timeout=0.3)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: processor_use(0.3) < 0.15, "the end of the computation")


def test_cancelling_frees_the_workers_and_stops_the_computation(serve, made_models, connect):
    model = ModelSettings("failing", str(made_models("failing/1").parent))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(serve(model, grpc=GrpcSettings(threads=1))))
    # One that computes, and one that waits behind it. Two that compute could leave none of two processors' threads to
    # what ends them.
    calls = [stub.Predict.future(busy(60)) for _ in range(2)]
    time.sleep(0.3)
    for call in calls:
        call.cancel()
    begin = time.monotonic()
    answer = stub.Predict(predict_request("failing", "lookup", index=np.array([2], np.int32)), timeout=PATIENCE_S)
    assert time.monotonic() - begin < 25
    assert list(answer.outputs["value"].int_val) == [30]
    wait_until(lambda: processor_use(0.3) < 0.15, "the end of the computation")


@pytest.mark.parametrize(("threads", "answered"), [(3, 2), (1, 1)])
def test_calls_beyond_the_threads_are_refused_at_once_whatever_they_ask(serve, made_models, connect, threads, answered):
    model = ModelSettings("failing", str(made_models("failing/1").parent))
    channel = connect(serve(model, grpc=GrpcSettings(threads, refuses=True)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "failing"
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    models.GetModelStatus(status, timeout=PATIENCE_S)
    running = [stub.Predict.future(busy(20)) for _ in range(answered)]
    time.sleep(0.3)
    refused = [stub.Predict.future(busy(20)) for _ in range(5)] + [models.GetModelStatus.future(status)]
    for call in refused:
        assert call.exception(timeout=PATIENCE_S).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert call.exception().details() == "Server Threadpool Exhausted"
    assert not any(call.done() for call in running)
    for call in running:
        call.cancel()
    lookup = predict_request("failing", "lookup", index=np.array([2], np.int32))
    calls = (stub.Predict.future(lookup) for _ in itertools.count())
    call = wait_until(  # until the runs have noticed, or are over
        lambda: (call := next(calls)).exception() is None and call, "an answer"
    )
    assert list(call.result().outputs["value"].int_val) == [30]


def test_requests_beyond_those_that_may_wait_are_refused_at_once(serve, made_models, connect):
    model = ModelSettings("failing", str(made_models("failing/1").parent))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(serve(model, grpc=GrpcSettings(1, max_waiting=2))))
    waiting = [stub.Predict.future(busy(20)) for _ in range(3)]
    time.sleep(0.3)
    refused = stub.Predict.future(busy(20))
    assert refused.exception(timeout=PATIENCE_S).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.exception().details() == "Concurrent RPC limit exceeded!"
    assert not any(call.done() for call in waiting)
    for call in waiting:
        call.cancel()


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_requests_larger_than_the_limit_are_refused_unpacked_ones_too(serve, made_models, connect, compression):
    model = ModelSettings("tensors", str(made_models("tensors/1").parent))
    server = serve(model, grpc=GrpcSettings(2, max_request_bytes=1 << 20))
    predict = prediction_service_pb2_grpc.PredictionServiceStub(connect(server)).Predict
    with pytest.raises(grpc.RpcError, match="larger than max") as error:
        predict(
            predict_request("tensors", "float32", x=np.zeros(1 << 19, np.float32)),
            timeout=PATIENCE_S,
            compression=compression,
        )
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    small = predict(predict_request("tensors", "float32", x=np.zeros(9, np.float32)), compression=compression)
    assert small.outputs["out"].tensor_shape.dim[0].size == 9


def test_connections_beyond_the_limit_are_closed(serve, made_models):
    model = ModelSettings("tensors", str(made_models("tensors/1").parent))
    server = serve(model, grpc=GrpcSettings(2, max_connections=2))

    def greeting(connection):
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        with contextlib.suppress(ConnectionError):
            return connection.recv(9)
        return b""

    with contextlib.ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.grpc_port), PATIENCE_S)) for _ in range(4)
        ]
        assert [bool(greeting(connection)) for connection in connections] == [True, True, False, False]


def test_a_caller_who_waits_for_ever_is_not_computed_for_for_ever(serve, made_models, connect):
    model = ModelSettings("failing", str(made_models("failing/1").parent))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(serve(model, grpc=GrpcSettings(1, timeout_s=0.3))))
    for timeout_s in (None, PATIENCE_S):
        with pytest.raises(grpc.RpcError) as error:
            stub.Predict(busy(60), timeout=timeout_s)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_client_that_closes_its_channel_stops_the_computation(failing, connect):
    channel = connect(failing)
    prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(busy(60))
    time.sleep(0.3)
    channel.close()
    wait_until(lambda: processor_use(0.3) < 0.15, "the end of the computation")


def test_large_messages_pass_both_ways(serve, made_models, connect):
    server = serve(ModelSettings("tensors", str(made_models("tensors/1").parent)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(server))
    x = np.random.default_rng(0).normal(size=5_000_000).astype(np.float32)
    answer = stub.Predict(predict_request("tensors", "float32", x=x), timeout=PATIENCE_S)
    np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["out"]), x)


def test_long_error_texts_are_cut_as_tensorflow_serving_cuts_them(failing, connect):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(failing))
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(predict_request("failing", "é" * 2000, x=[1.0]))
    details = error.value.details()
    assert details.endswith("...TRUNCATED")
    assert 1000 < len(details.removesuffix("...TRUNCATED").encode()) <= 1024


def test_unknown_methods_are_unimplemented_without_words(failing, connect):
    method = connect(failing).unary_unary("/tensorflow.serving.PredictionService/Nothing")
    with pytest.raises(grpc.RpcError) as error:
        method(b"")
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "")


def test_health_service_is_there_where_it_is_asked_for(serve, made_models, connect):
    model = ModelSettings("m", str(made_models("arithmetic/1")), only_version=1)
    with_it = health_pb2_grpc.HealthStub(connect(serve(model, grpc=GrpcSettings(threads=2, has_health_service=True))))
    without = health_pb2_grpc.HealthStub(connect(serve(model)))
    request = health_pb2.HealthCheckRequest()
    assert with_it.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as error:
        without.Check(request)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_health_services_package_is_needed_only_where_it_is_asked_for():
    """It does not load beside an older protobuf, as Beam's wheels ask for."""
    code = "import sys; sys.modules['grpc_health.v1'] = None; from maskport.serving.server.fronts import grpc_front"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_requests_are_counted_and_timed(failing, connect):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connect(failing))
    stub.Predict(predict_request("failing", "lookup", index=np.array([1], np.int32)))
    with pytest.raises(grpc.RpcError):
        stub.Predict(predict_request("failing", "lookup", index=np.array([7], np.int32)))
    page = failing.metrics.page().decode()
    assert ':request_count{model_name="failing",status="OK"} 1' in page
    assert ':request_count{model_name="failing",status="INVALID_ARGUMENT"} 1' in page
    assert ':request_latency_count{model_name="failing",API="Predict",entrypoint="GRPC"} 1' in page
    assert ':runtime_latency_count{model_name="failing",API="Predict",runtime="TF1"} 1' in page


# ------------------------------------------------------------------ reload


def reload_request(**paths):
    request = model_management_pb2.ReloadConfigRequest()
    for name, path in paths.items():
        request.config.model_config_list.config.add(name=name, base_path=str(path), model_platform="tensorflow")
    return request


@pytest.fixture
def models_beside(publish):
    """Base paths: one to start with, one beside it, one under it, and one elsewhere."""
    start = publish("arithmetic/1", "zoo/start/1").parent
    return {
        "start": start,
        "beside": publish("arithmetic/2", "zoo/beside/1").parent,
        "under": publish("arithmetic/2", "zoo/start/under/1").parent,
        "elsewhere": publish("arithmetic/2", "elsewhere/m/1").parent,
    }


@pytest.mark.parametrize("where", ["start", "beside", "under"])
def test_reload_takes_paths_of_the_start_and_near_it(serve, connect, models_beside, where):
    server = serve(ModelSettings("m", str(models_beside["start"])))
    models = model_service_pb2_grpc.ModelServiceStub(connect(server))
    models.HandleReloadConfigRequest(reload_request(new=models_beside[where]), timeout=PATIENCE_S)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "new"
    assert models.GetModelStatus(status).model_version_status[0].state == 30


def test_reload_refuses_paths_elsewhere(serve, connect, models_beside, tmp_path):
    server = serve(ModelSettings("m", str(models_beside["start"])))
    models = model_service_pb2_grpc.ModelServiceStub(connect(server))
    link = models_beside["start"].parent / "link"
    link.symlink_to(models_beside["elsewhere"])
    sly = f"{models_beside['start']}/../../elsewhere/m"
    sibling_by_name = f"{models_beside['start']}-not/deep"
    for path in (models_beside["elsewhere"], link, sly, sibling_by_name, "/"):
        with pytest.raises(grpc.RpcError) as error:
            models.HandleReloadConfigRequest(reload_request(new=path), timeout=PATIENCE_S)
        wanted = grpc.StatusCode.PERMISSION_DENIED if path != sibling_by_name else grpc.StatusCode.FAILED_PRECONDITION
        assert error.value.code() in (grpc.StatusCode.PERMISSION_DENIED, wanted), path
    predictions = prediction_service_pb2_grpc.PredictionServiceStub(connect(server))
    predictions.Predict(predict_request("m", x=[1.0]))


def test_other_errors_of_a_reload_come_before_the_refusal(serve, connect, models_beside):
    server = serve(ModelSettings("m", str(models_beside["start"])))
    models = model_service_pb2_grpc.ModelServiceStub(connect(server))
    request = reload_request(new=models_beside["elsewhere"])
    request.config.model_config_list.config[0].model_platform = "pytorch"
    with pytest.raises(grpc.RpcError, match="requests unsupported platform pytorch"):
        models.HandleReloadConfigRequest(request)
    request = reload_request(new=models_beside["elsewhere"])
    request.config.model_config_list.config[0].version_labels["stable"] = 9
    with pytest.raises(grpc.RpcError, match="Request to assign label to version 9"):
        models.HandleReloadConfigRequest(request)


def test_platform_of_a_served_model_stays(serve, connect, models_beside):
    server = serve(ModelSettings("m", str(models_beside["start"])))
    models = model_service_pb2_grpc.ModelServiceStub(connect(server))
    request = reload_request(m=models_beside["start"])
    request.config.model_config_list.config[0].model_platform = "pytorch"
    request.config.model_config_list.config[0].version_labels["stable"] = 9
    with pytest.raises(grpc.RpcError) as error:
        models.HandleReloadConfigRequest(request)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == (
        "Illegal to change a model's platform. "
        "For model m platform was tensorflow and new platform requested is pytorch"
    )


def test_reload_takes_any_path_where_that_is_permitted(serve, connect, models_beside):
    server = serve(ModelSettings("m", str(models_beside["start"])), allows_reload_outside_roots=True)
    models = model_service_pb2_grpc.ModelServiceStub(connect(server))
    response = models.HandleReloadConfigRequest(reload_request(new=models_beside["elsewhere"]), timeout=PATIENCE_S)
    assert response.status.error_code == 0


def test_reload_says_by_how_much_metrics_grew(serve, connect, models_beside):
    server = serve(ModelSettings("m", str(models_beside["start"])))
    models = model_service_pb2_grpc.ModelServiceStub(connect(server))
    request = reload_request(m=models_beside["start"], new=models_beside["beside"])
    request.metric_names.extend(["/tensorflow/serving/model_warmup_records_read", "/no/such/metric"])
    response = models.HandleReloadConfigRequest(request, timeout=PATIENCE_S)
    grown = {metric.name: metric.int64_value_increase for metric in response.metric}
    assert grown == {"/tensorflow/serving/model_warmup_records_read": 0, "/no/such/metric": 0}


def test_two_reloads_at_a_time_take_turns(serve, connect, models_beside):
    server = serve(ModelSettings("m", str(models_beside["start"])))
    models = model_service_pb2_grpc.ModelServiceStub(connect(server))
    threads = [
        threading.Thread(
            target=models.HandleReloadConfigRequest,
            args=(reload_request(**{name: models_beside[name]}),),
            kwargs={"timeout": 30},
        )
        for name in ("start", "beside") * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    status = get_model_status_pb2.GetModelStatusRequest()
    states = []
    for name in ("start", "beside"):
        status.model_spec.name = name
        states.append(models.GetModelStatus(status).model_version_status[0].state)
    assert 30 in states
