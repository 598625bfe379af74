"""A server that answers every call with the same mask after a set time: what is left is the client's own time.

`python -m benchmarks.canned_server MASK.png SECONDS` prints its port, and ends with its standard input.
"""

import sys
import time
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from tensorflow import make_tensor_proto
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

_STRING = 7


def main(mask_file: str, seconds: str) -> None:
    answer = predict_pb2.PredictResponse()
    answer.model_spec.name, answer.model_spec.version.value = "model", 1
    answer.outputs["mask_bytes"].CopyFrom(make_tensor_proto([Path(mask_file).read_bytes()]))
    answer.outputs["error"].CopyFrom(make_tensor_proto([b""]))
    table = get_model_metadata_pb2.SignatureDefMap()
    signature = table.signature_def["mask_png"]
    signature.method_name = "tensorflow/serving/predict"
    for entry in (signature.inputs["image_bytes"], signature.outputs["mask_bytes"], signature.outputs["error"]):
        entry.dtype = _STRING
        entry.tensor_shape.dim.add(size=-1)
    metadata = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=answer.model_spec)
    metadata.metadata["signature_def"].Pack(table)

    def predict(request: Any, context: Any) -> Any:
        time.sleep(float(seconds))
        return answer

    def handler(function: Any, request: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(function, request.FromString, lambda m: m.SerializeToString())

    handlers = {
        "Predict": handler(predict, predict_pb2.PredictRequest),
        "GetModelMetadata": handler(lambda *_: metadata, get_model_metadata_pb2.GetModelMetadataRequest),
    }
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service = grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)
    server.add_generic_rpc_handlers((service,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
