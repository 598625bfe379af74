"""From what servers and libraries report to the client's errors: status codes, HTTP statuses, telling words."""

from ...status_codes import StatusCode
from .. import errors

ERRORS: dict[StatusCode, type[errors.MaskServingError]] = {
    StatusCode.CANCELLED: errors.CallCancelledError,
    StatusCode.UNKNOWN: errors.ServerFaultError,
    StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    StatusCode.NOT_FOUND: errors.ModelNotFoundError,
    StatusCode.ALREADY_EXISTS: errors.ModelStateError,
    StatusCode.PERMISSION_DENIED: errors.AccessDeniedError,
    StatusCode.RESOURCE_EXHAUSTED: errors.ServerOverloadedError,
    StatusCode.FAILED_PRECONDITION: errors.ModelStateError,
    StatusCode.ABORTED: errors.ServerFaultError,
    StatusCode.OUT_OF_RANGE: errors.InvalidRequestError,
    StatusCode.UNIMPLEMENTED: errors.UnsupportedCallError,
    StatusCode.INTERNAL: errors.ServerFaultError,
    StatusCode.UNAVAILABLE: errors.ServerUnavailableError,
    StatusCode.DATA_LOSS: errors.ServerFaultError,
    StatusCode.UNAUTHENTICATED: errors.AccessDeniedError,
}
# TensorFlow Serving answers 400 for three codes and 409 for two; one is made of them. What it never answers is proxies'
# and load balancers'.
CODES_OF_HTTP = {
    **dict.fromkeys((400, 405, 411, 415, 422), StatusCode.INVALID_ARGUMENT),
    401: StatusCode.UNAUTHENTICATED,
    **dict.fromkeys((403, 407), StatusCode.PERMISSION_DENIED),
    404: StatusCode.NOT_FOUND,
    **dict.fromkeys((408, 504), StatusCode.DEADLINE_EXCEEDED),
    409: StatusCode.ABORTED,
    412: StatusCode.FAILED_PRECONDITION,
    **dict.fromkeys((413, 429), StatusCode.RESOURCE_EXHAUSTED),
    499: StatusCode.CANCELLED,
    500: StatusCode.INTERNAL,
    501: StatusCode.UNIMPLEMENTED,
    **dict.fromkeys((502, 503), StatusCode.UNAVAILABLE),
}

# Words of TensorFlow Serving and of gRPC that tell more than the code does, most telling first.
_TELLING_WORDS: dict[str, type[errors.MaskServingError]] = {
    "Serving signature key": errors.SignatureNotFoundError,
    "Serving signature name": errors.SignatureNotFoundError,
    "different shapes and padding is turned off": errors.MixedSizesError,
    "Unrecognized servable version label": errors.ModelNotFoundError,
    "larger than max": errors.MessageTooLargeError,
}
# Only codes by which these things are reported: a model may use the same words in its own failure.
_CODES_WITH_WORDS = (
    StatusCode.INVALID_ARGUMENT,
    StatusCode.FAILED_PRECONDITION,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
)
# How gRPC's C++ server refuses a call for which it has no thread: in older releases without a word. Whoever else is as
# silent (proxies that limit rates) has not begun the call either; nor has the Python server, where too many wait.
_NO_THREAD = ("Server Threadpool Exhausted", "Concurrent RPC limit exceeded!", "")
# Words of a graph that lacks something in this server, whatever the code that they come with.
_NOT_REGISTERED = ("Op type not registered", "No OpKernel was registered", "No registered '")
# A graph's own errors name its nodes.
_NODES = ("[[{{", "\n\t [[")
# How TensorFlow Serving's REST API says that JSON has no numbers of a dtype.
_NO_FORM_IN_JSON = "Conversion of JSON Value"
# The codes that mean the server itself, or the call's target, unless they come out of a graph.
_CODES_OF_TARGETS = (
    StatusCode.NOT_FOUND,
    StatusCode.UNIMPLEMENTED,
    StatusCode.PERMISSION_DENIED,
    StatusCode.UNAUTHENTICATED,
)
# Words by which a graph does not find something, where no node is named.
_MISSING_IN_GRAPH = (
    "does not exist",
    "No such file or directory",
    "not found in checkpoint",
    "unable to find feed output",
    "FetchOutputs node",
    "is not defined",
)
_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "Hostname Verification")


def error_of_code(code: StatusCode, server_message: str, http_status: int | None = None) -> errors.MaskServingError:
    """Returns the error that a status code (but OK), perhaps made from one of HTTP, and the server's words mean."""
    error_class = ERRORS[code]
    if code in _CODES_WITH_WORDS:
        error_class = next((found for words, found in _TELLING_WORDS.items() if words in server_message), error_class)
    if http_status == 413:
        error_class = errors.MessageTooLargeError
    elif code == StatusCode.RESOURCE_EXHAUSTED and http_status is None and server_message.strip() in _NO_THREAD:
        error_class = errors.ServerBusyError
    elif _is_of_the_graph(code, server_message):
        error_class = errors.ModelFaultError
    # What follows names nodes of the graph, which callers have no use for; server_message keeps it.
    problem = server_message.partition("\n\t [[")[0]
    is_about_json = code == StatusCode.UNIMPLEMENTED and _NO_FORM_IN_JSON in server_message
    return error_class(
        problem or f"the server answered {code.name} without a word",
        hint="TensorFlow Serving's REST API reads no such numbers: use its grpc:// address" if is_about_json else None,
        code=code,
        http_status=http_status,
        server_message=server_message,
    )


def certificate_error(words: str) -> errors.AccessDeniedError | None:
    """Returns the error of a connection that failed, as a library says, over the server's certificate; else None."""
    if not holds_any(words, _CERTIFICATE):
        return None
    return errors.AccessDeniedError(
        f"the server's certificate is not accepted: {words}",
        hint="check ca_file and server_name of Tls",
        code=StatusCode.UNAUTHENTICATED,
    )


def holds_any(text: str, telling: tuple[str, ...]) -> bool:
    """Returns whether a text holds one of some telling words."""
    return any(words in text for words in telling)


def _is_of_the_graph(code: StatusCode, words: str) -> bool:
    """Returns whether a graph lacks something in its server, rather than the server what was asked for."""
    if holds_any(words, _NOT_REGISTERED):
        return True
    if code not in _CODES_OF_TARGETS:
        return False
    return holds_any(words, _NODES) or (code == StatusCode.NOT_FOUND and holds_any(words, _MISSING_IN_GRAPH))
