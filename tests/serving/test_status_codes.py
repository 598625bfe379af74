"""The status codes against those of gRPC and of TensorFlow."""

import grpc
from maskport.serving.status_codes import StatusCode
from tensorflow.core.protobuf import error_codes_pb2

OURS = {code.name: int(code) for code in StatusCode}


def test_codes_are_grpc_s():
    assert {code.name: code.value[0] for code in grpc.StatusCode} == OURS


def test_codes_are_tensorflow_s():
    theirs = {name: number for name, number in error_codes_pb2.Code.items() if not name.startswith("DO_NOT_USE")}
    assert theirs == OURS
