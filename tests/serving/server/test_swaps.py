"""Versions come and go under load, with all that goes wrong at it; no call fails, and each answer is of one version."""

import collections
import http.client
import json
import shutil
import threading

import grpc
import numpy as np
import pytest
import tensorflow as tf
from maskport.serving.server.models.repository import RepositorySettings
from maskport.serving.server.models.versions import ModelSettings
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from waiting import PATIENCE_S, wait_until

FAST_POLLING = RepositorySettings(poll_wait_s=0.05, max_load_retries=0)
FACTORS = [(2.0, 1.0), (3.0, -1.0), (0.5, 10.0)]
"""Of the versions in turn: each answers x * a + b."""
X = np.arange(5000, dtype=np.float32)


def factors_of(version):
    return FACTORS[(version - 1) % 3]


def request_for(x, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    return request


class Callers:
    """Sixteen that call all the time: eight ask for the newest version and four for a label over gRPC, four over REST.

    Attributes:
        failures: what went wrong.
        answered: how many calls were, by version.
    """

    def __init__(self, server):
        self.failures = []
        self.answered = collections.Counter()
        self._address = f"127.0.0.1:{server.grpc_port}"
        self._rest_port = server.rest_port
        self._ended = threading.Event()
        calls = [self._call_newest] * 8 + [self._call_stable] * 4 + [self._call_rest] * 4
        self._threads = [threading.Thread(target=self._run, args=(call,)) for call in calls]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, call):
        try:
            call()
        except Exception as error:
            self.failures.append(error)

    def _call_newest(self):
        self._call_grpc(request_for(X))

    def _call_stable(self):
        self._call_grpc(request_for(X, label="stable"))

    def _call_grpc(self, request):
        with grpc.insecure_channel(self._address) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            last = 0
            while not self._ended.is_set():
                answer = predict(request, timeout=PATIENCE_S)
                version = answer.model_spec.version.value
                a, b = factors_of(version)
                np.testing.assert_array_equal(tf.make_ndarray(answer.outputs["y"]), (X * a + b).astype(np.float32))
                assert version >= last
                last = version
                self.answered[version] += 1

    def _call_rest(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._rest_port, timeout=PATIENCE_S)
        while not self._ended.is_set():
            connection.request("POST", "/v1/models/m:predict", '{"instances": [10, 20]}')
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            assert json.loads(body)["predictions"] in [[a * 10 + b, a * 20 + b] for a, b in FACTORS]
        connection.close()


@pytest.mark.parametrize("swaps", [8, pytest.param(100, marks=pytest.mark.long)])
def test_no_call_fails_and_no_answer_is_mixed_while_versions_change(serve, publish, tmp_path, caplog, swaps):
    """Good versions and broken ones, some deleted, labels moved, configurations with mistakes."""
    base_path = publish("arithmetic/1", "m/1").parent
    config = tmp_path / "models.config"

    def configure(stable):
        text = (
            f"model_config_list {{ config {{ name: 'm' base_path: '{base_path}' model_platform: 'tensorflow'"
            f" model_version_policy {{ latest {{ num_versions: 2 }} }}"
            f" version_labels {{ key: 'stable' value: {stable} }} }} }}"
        )
        config.with_suffix(".new").write_text(text)
        config.with_suffix(".new").rename(config)

    def remove(version):
        (base_path / str(version)).rename(base_path / ".removed")
        shutil.rmtree(base_path / ".removed")

    server = serve(
        ModelSettings("m", str(base_path)), repository=FAST_POLLING, config_file=str(config), config_poll_wait_s=0.05
    )
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        states = model_service_pb2_grpc.ModelServiceStub(channel)
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

        def state_of(version):
            asked = get_model_status_pb2.GetModelStatusRequest()
            asked.model_spec.name = "m"
            found = states.GetModelStatus(asked, timeout=PATIENCE_S).model_version_status
            return next((entry.state for entry in found if entry.version == version), None)

        def is_stable(version):
            try:
                answer = predict(request_for([1.0], label="stable"), timeout=PATIENCE_S)
            except grpc.RpcError:  # before the first label
                return False
            return answer.model_spec.version.value == version

        available, ended = (get_model_status_pb2.ModelVersionStatus.State.Value(name) for name in ("AVAILABLE", "END"))
        configure(stable=1)
        wait_until(lambda: is_stable(1), "the first label")
        with Callers(server) as callers:
            version, made = 1, 0
            for swap in range(swaps):
                version += 1
                if swap % 5 == 3:
                    publish("broken/1", f"m/{version}")
                    wait_until(lambda: state_of(version) == ended, "the broken version's end")  # noqa: B023
                    remove(version)
                    version += 1
                publish(f"arithmetic/{(version - 1) % 3 + 1}", f"m/{version}")
                wait_until(lambda: state_of(version) == available, "the new version")  # noqa: B023
                if swap % 3 == 1:
                    made += 1
                    config.write_text(f"model_config_list {{ mistake {made}")
                    wait_until(
                        lambda: sum("Models config not applied" in text for text in caplog.messages) == made,  # noqa: B023
                        "the complaint about the configuration",
                    )
                configure(stable=version)
                wait_until(lambda: is_stable(version), "the label's move")  # noqa: B023
                if swap % 4 == 2:
                    older = max(int(path.name) for path in base_path.iterdir() if int(path.name) < version)
                    remove(older)
                    wait_until(lambda: state_of(older) in (ended, None), "the deleted version's end")  # noqa: B023
    assert not callers.failures
    assert len(callers.answered) > 0.8 * swaps
    print(f"{swaps} swaps, {callers.answered.total()} calls over gRPC answered, none failed")


def test_broken_version_does_not_replace_the_one_that_works(serve, publish):
    base_path = publish("arithmetic/1", "m/1").parent
    server = serve(ModelSettings("m", str(base_path)), repository=FAST_POLLING)
    publish("broken/1", "m/2")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        asked = get_model_status_pb2.GetModelStatusRequest()
        asked.model_spec.name = "m"

        def listed():
            states = model_service_pb2_grpc.ModelServiceStub(channel)
            return states.GetModelStatus(asked, timeout=PATIENCE_S).model_version_status

        wait_until(
            lambda: [(entry.version, entry.state) for entry in listed()] == [(2, 50), (1, 30)], "version 2's failure"
        )
        assert listed()[0].status.error_message == f"Can't parse {base_path}/2/saved_model.pb as binary proto"
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request_for([1.0]), timeout=PATIENCE_S).outputs["y"].float_val == [3]
