"""Where the embedded server answers otherwise on purpose: docs/embedded_server.md lists the reasons."""

import dataclasses

from conformance.cases import Json


@dataclasses.dataclass(frozen=True)
class Departure:
    """One recorded answer that is not given.

    Attributes:
        answer: what is answered instead: the parts of it that count.
        listed_as: words of its entry in the list of departures.
    """

    answer: dict[str, Json]
    listed_as: str


_EMPTY_BATCH = "An empty batch"
_NOT_UTF8 = "Strings that are not UTF-8"
_MISSING_PATH = "A reload that names a missing or empty base path"
_WRONG_TYPE = "A tensor of the wrong type"
_MANY_AXES = "more than 64 axes"
_TWO_MEMBERS = "Of several members of one name"
_AS_CONTENT = "with `--enable_serialization_as_tensor_content`"

DEPARTURES = {
    "batching/empty_batch": Departure({"code": "OK"}, _EMPTY_BATCH),
    "batching/padded_empty": Departure({"code": "OK"}, _EMPTY_BATCH),
    "batching/wrong_dtype": Departure(
        {"code": "INVALID_ARGUMENT", "details": "Expects arg[0] to be float but int32 is provided"}, _WRONG_TYPE
    ),
    "grpc_tensors/content_flag_rest": Departure({"status": 200, "body": {"predictions": [1.5]}}, _AS_CONTENT),
    "grpc_tensors/many_dims": Departure({"code": "INVALID_ARGUMENT", "details": "tensor parsing error: x"}, _MANY_AXES),
    "rest_bytes/b64_non_utf8": Departure(
        {
            "status": 200,
            "body": {
                "predictions": [
                    {"echo": {"b64": "//4A"}, "echo_bytes": {"b64": "//4A"}, "length": 3},
                ]
            },
        },
        _NOT_UTF8,
    ),
    "rest_bytes/raw_output_non_utf8": Departure({"status": 200, "body": {"predictions": [{"b64": "//4="}]}}, _NOT_UTF8),
    "rest_json/key_twice_signature": Departure({"status": 200, "body": {"predictions": [10.5]}}, _TWO_MEMBERS),
    "rest_row/duplicate_instances": Departure({"status": 200, "body": {"predictions": [12.5]}}, _TWO_MEMBERS),
    "rest_row/duplicate_key_in_object": Departure(
        {"status": 200, "body": {"predictions": [{"difference": 5.0, "sum": 9.0}]}}, _TWO_MEMBERS
    ),
    "reload_missing/02_missing_path": Departure({"code": "FAILED_PRECONDITION"}, _MISSING_PATH),
    "reload_missing/06_next_reload_waits": Departure({"code": "OK"}, _MISSING_PATH),
    "reload_missing/07_not_added": Departure({"code": "OK"}, _MISSING_PATH),
}
