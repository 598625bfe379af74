"""Every status code through both transports becomes the error of the table."""

import pickle

import numpy as np
import pytest
from any_client import KINDS, make_client
from fake_serving import refuse
from maskport.serving.client import (
    NO_RETRIES,
    AccessDeniedError,
    CallCancelledError,
    DeadlineExceededError,
    InvalidImageError,
    InvalidRequestError,
    InvalidResponseError,
    MaskServingError,
    MessageTooLargeError,
    MixedSizesError,
    ModelFaultError,
    ModelNotFoundError,
    ModelStateError,
    ServerBusyError,
    ServerFaultError,
    ServerOverloadedError,
    ServerUnavailableError,
    SignatureNotFoundError,
    StatusCode,
    UnsupportedCallError,
    errors as module,
)
from maskport.serving.client.errors import CallContext
from maskport.serving.client.transport.refusals import ERRORS, error_of_code

_UNKNOWN_OP = (
    "Op type not registered 'DecodeJpegXl' in binary running on host. Make sure the Op and Kernel are registered in "
    "the binary running in this process."
)
GRPC = {
    "CANCELLED": CallCancelledError,
    "UNKNOWN": ServerFaultError,
    "INVALID_ARGUMENT": InvalidRequestError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "NOT_FOUND": ModelNotFoundError,
    "ALREADY_EXISTS": ModelStateError,
    "PERMISSION_DENIED": AccessDeniedError,
    "RESOURCE_EXHAUSTED": ServerOverloadedError,
    "FAILED_PRECONDITION": ModelStateError,
    "ABORTED": ServerFaultError,
    "OUT_OF_RANGE": InvalidRequestError,
    "UNIMPLEMENTED": UnsupportedCallError,
    "INTERNAL": ServerFaultError,
    "UNAVAILABLE": ServerUnavailableError,
    "DATA_LOSS": ServerFaultError,
    "UNAUTHENTICATED": AccessDeniedError,
}
HTTP = {
    400: (InvalidRequestError, "INVALID_ARGUMENT"),
    401: (AccessDeniedError, "UNAUTHENTICATED"),
    403: (AccessDeniedError, "PERMISSION_DENIED"),
    404: (ModelNotFoundError, "NOT_FOUND"),
    405: (InvalidRequestError, "INVALID_ARGUMENT"),
    408: (DeadlineExceededError, "DEADLINE_EXCEEDED"),
    409: (ServerFaultError, "ABORTED"),
    412: (ModelStateError, "FAILED_PRECONDITION"),
    413: (MessageTooLargeError, "RESOURCE_EXHAUSTED"),
    418: (ServerFaultError, "UNKNOWN"),
    429: (ServerOverloadedError, "RESOURCE_EXHAUSTED"),
    499: (CallCancelledError, "CANCELLED"),
    500: (ServerFaultError, "INTERNAL"),
    501: (UnsupportedCallError, "UNIMPLEMENTED"),
    502: (ServerUnavailableError, "UNAVAILABLE"),
    503: (ServerUnavailableError, "UNAVAILABLE"),
    504: (DeadlineExceededError, "DEADLINE_EXCEEDED"),
    302: (ServerFaultError, "UNKNOWN"),
}


def _failure(kind, serving, behaviour):
    with make_client(kind, serving, retries=NO_RETRIES) as client:
        client.predict("double", {"x": [1.0]})
        serving.behaviours.append(behaviour)
        with pytest.raises(MaskServingError) as caught:
            client.predict("double", {"x": [1.0]})
    return caught.value


def test_a_picture_that_is_refused_here_does_not_name_a_server(serving):
    with make_client("sync-grpc", serving) as client:
        for picture in (np.zeros((4, 5), np.float32), np.full((4, 5), 300, np.uint16), np.zeros((4, 5, 9), np.uint8)):
            with pytest.raises(InvalidImageError) as caught:
                client.segment(picture)
            assert "127.0.0.1" not in str(caught.value)


@pytest.mark.parametrize("code", list(GRPC))
@pytest.mark.parametrize("client", ["sync", "async"])
def test_every_grpc_code(serving, client, code):
    error = _failure(f"{client}-grpc", serving, refuse(code, "the server's words"))
    assert type(error) is GRPC[code]
    assert error.code == StatusCode[code]
    assert error.server_message == "the server's words"
    assert (error.model, error.signature, error.address) == ("model", "double", serving.grpc_address)
    assert str(error).startswith(f"model 'model', signature 'double' at {serving.grpc_address}: ")
    assert "\n" not in str(error)


@pytest.mark.parametrize("status", list(HTTP))
@pytest.mark.parametrize("client", ["sync", "async"])
def test_every_http_status(serving, client, status):
    error = _failure(f"{client}-rest", serving, refuse("UNKNOWN", "the server's words", status))
    wanted, code = HTTP[status]
    assert type(error) is wanted
    assert (error.code, error.http_status) == (StatusCode[code], status)
    assert error.server_message == "the server's words"
    assert (error.model, error.signature, error.address) == ("model", "double", serving.rest_address)


def test_the_table_names_every_code():
    assert set(ERRORS) == set(StatusCode) - {StatusCode.OK}
    assert set(GRPC) == {code.name for code in ERRORS}


@pytest.mark.parametrize(
    ("code", "words", "wanted"),
    [
        ("FAILED_PRECONDITION", 'Serving signature key "s" not found.', SignatureNotFoundError),
        ("INVALID_ARGUMENT", 'Serving signature name: "s" not found in signature def', SignatureNotFoundError),
        ("INVALID_ARGUMENT", "Unrecognized servable version label: x", ModelNotFoundError),
        ("FAILED_PRECONDITION", "… different shapes and padding is turned off. …", MixedSizesError),
        (
            "RESOURCE_EXHAUSTED",
            "CLIENT: Received message larger than max (5 vs. 4)",
            MessageTooLargeError,
        ),
        ("INTERNAL", "Serving signature key of the model's own", ServerFaultError),
        ("RESOURCE_EXHAUSTED", "Server Threadpool Exhausted", ServerBusyError),
        ("RESOURCE_EXHAUSTED", "", ServerBusyError),
        ("RESOURCE_EXHAUSTED", "OOM when allocating tensor", ServerOverloadedError),
        ("NOT_FOUND", "Servable not found for request: Latest(m)", ModelNotFoundError),
        ("NOT_FOUND", "Servable not found for request: Specific(m, 3)", ModelNotFoundError),
        ("NOT_FOUND", "Could not find any versions of model m", ModelNotFoundError),
        ("NOT_FOUND", "Could not find version 3 of model m", ModelNotFoundError),
        ("NOT_FOUND", "", ModelNotFoundError),
        ("NOT_FOUND", _UNKNOWN_OP, ModelFaultError),
        ("INVALID_ARGUMENT", "No OpKernel was registered to support Op 'X' used by {{node x}}", ModelFaultError),
        ("NOT_FOUND", "No registered 'X' OpKernel for 'CPU' devices compatible with node {{node x}}", ModelFaultError),
        ("NOT_FOUND", "Resource localhost/table_9/N10tensorflow6lookupE does not exist.", ModelFaultError),
        ("NOT_FOUND", "/models/words.txt; No such file or directory", ModelFaultError),
        ("NOT_FOUND", "what an op of one's own does not find\n\t [[{{node look_up}}]]", ModelFaultError),
        ("NOT_FOUND", "what an op of one's own does not find [[{{node look_up}}]]", ModelFaultError),
        ("UNIMPLEMENTED", "The Conv2D op supports only NHWC\n\t [[{{node conv}}]]", ModelFaultError),
        ("PERMISSION_DENIED", "/secret; Permission denied\n\t [[{{node read}}]]", ModelFaultError),
        ("INVALID_ARGUMENT", "indices[0] = 7 is not in [0, 4)\n\t [[{{node gather}}]]", InvalidRequestError),
        ("FAILED_PRECONDITION", "Table not initialized.\n\t [[{{node find}}]]", ModelStateError),
    ],
)
def test_words_of_the_server_tell_more_than_the_code(code, words, wanted):
    error = error_of_code(StatusCode[code], words)
    assert type(error) is wanted
    assert error.code == StatusCode[code]


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_that_lacks_an_op_is_told_from_a_missing_model(kind, serving):
    error = _failure(kind, serving, refuse("NOT_FOUND", _UNKNOWN_OP))
    assert type(error) is ModelFaultError
    assert error.code == StatusCode.NOT_FOUND
    assert "Op type not registered 'DecodeJpegXl' in binary running on host" in str(error)
    assert "this server cannot run it" in str(error)


def test_what_names_nodes_of_the_graph_is_left_out_of_the_text_but_kept():
    words = "Input is not invertible.\n\t [[{{function_node __inference_1615}}]]"
    error = error_of_code(StatusCode.INVALID_ARGUMENT, words)
    assert str(error) == "Input is not invertible."
    assert error.server_message == words


def test_the_text_is_one_line_with_place_problem_and_advice():
    error = ModelNotFoundError("no such\nmodel.", context=CallContext("grpc://h:1", "m", 3, None, "s"))
    assert str(error) == (
        "model 'm' version 3, signature 's' at grpc://h:1: no such model; "
        "check the name and version with status(), or wait with wait_until_ready()"
    )


def _family(error_class):
    return [error_class, *(each for child in error_class.__subclasses__() for each in _family(child))]


@pytest.mark.parametrize("error_class", _family(MaskServingError), ids=lambda error_class: error_class.__name__)
def test_the_family_is_named_documented_and_can_cross_processes(error_class):
    assert error_class.__name__.endswith("Error")
    assert error_class.__name__ in module.__doc__
    error = error_class("what", hint="do", server_message="words", context=CallContext("a", "m"))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_class
    assert str(copy) == str(error)
    assert (copy.code, copy.server_message, copy.model) == (error.code, "words", "m")


def test_html_of_a_proxy_is_told_from_the_servers_own_words(serving):
    client = make_client("sync-rest", f"{serving.rest_address}/elsewhere")
    with client, pytest.raises(InvalidRequestError, match="Malformed request"):
        client.status()


def test_a_port_of_the_other_protocol_is_named_as_such(serving):
    crossed = {"sync-rest": serving.grpc_address.replace("grpc:", "http:")}
    crossed["sync-grpc"] = serving.rest_address.replace("http:", "grpc:")
    for kind, address in crossed.items():
        with make_client(kind, address) as client, pytest.raises(InvalidResponseError, match="does not speak"):
            client.status(timeout=5)
