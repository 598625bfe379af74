"""From a server's words to what is behind them; words as TensorFlow Serving and gRPC were seen to say them."""

import pytest
from maskport.serving.client import (
    AccessDeniedError,
    DeadlineExceededError,
    InvalidRequestError,
    ModelFaultError,
    ModelState,
    ServerBusyError,
    ServerFaultError,
    ServerOverloadedError,
    VersionStatus,
)
from maskport.serving.verify import OutputReport, SignatureReport
from maskport.serving.verify.diagnosis import Facts, find_causes

WRONG = (OutputReport("x", False, 9.0, None, "differs"),)


def causes(**facts):
    return "\n".join(find_causes(Facts(**{"asked_for": "", "expected_source": "served/coins/1", **facts})))


def test_nothing_known_is_nothing_said():
    assert find_causes(Facts(asked_for="", expected_source="x")) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            InvalidRequestError("Task size 3 is larger than maximum input batch size 2"),
            "raise max_batch_size in the batching parameters",
        ),
        (
            ServerOverloadedError("The batch scheduling queue to which this task was submitted is full; currently 1"),
            "raise max_enqueued_batches",
        ),
        (
            InvalidRequestError("Batching Run() input tensors must have equal 0th-dimension size"),
            "batching needs the same first size of all inputs",
        ),
        (
            InvalidRequestError("Batching Run() input tensors must have at least one dimension"),
            "batching refuses inputs without a first dimension",
        ),
        (ServerFaultError("Received http2 header with status: 413"), "nginx: client_max_body_size"),
        (ServerFaultError("Op type not registered 'DecodeWebP' in binary"), "the server's TensorFlow is older"),
        (ServerBusyError("Server Threadpool Exhausted"), "all of its gRPC threads were busy: raise --grpc_max_threads"),
        (ServerBusyError("", server_message=""), "all of its gRPC threads were busy: raise --grpc_max_threads"),
        (ModelFaultError("Resource localhost/table does not exist."), "its calls fail: Resource localhost/table"),
        (AccessDeniedError("no"), "the server wants other credentials"),
        (DeadlineExceededError("late"), "the server is too slow or overloaded: allow more by --timeout"),
    ],
)
def test_words_of_failed_calls(error, words):
    assert words in causes(errors=[error])


def test_a_served_model_whose_op_is_unknown_is_not_called_missing():
    said = causes(
        asked_for="version 2",
        served_version=2,
        statuses=[VersionStatus(2, ModelState.AVAILABLE)],
        errors=[ModelFaultError("Op type not registered 'DecodeJpegXl' in binary running on host. Make sure …")],
        exported_with="2.30.0",
    )
    assert said.startswith(
        "version 2 is served, and its calls fail: the server's TensorFlow is older than the model needs (it was "
        "exported with TensorFlow 2.30.0), or lacks a custom op: it does not know 'DecodeJpegXl': "
    )
    assert "not served" not in said


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("Can't parse /m/1/saved_model.pb as binary proto", "its files are damaged or incomplete"),
        ("Op type not registered 'New' in binary running on host", "is older than the model needs (it was exported"),
        ("NodeDef mentions attr 'x' not in Op<name=Y>", "is older than the model needs (it was exported"),
        ("no memory left", "version 2 did not load: no memory left"),
    ],
)
def test_words_of_a_version_that_did_not_load(message, words):
    status = VersionStatus(2, ModelState.END, "UNKNOWN", message)
    assert words in causes(statuses=[status], exported_with="2.21.0")


def test_an_old_error_of_a_version_that_answers_is_passed_over():
    assert causes(statuses=[VersionStatus(2, ModelState.AVAILABLE, "UNKNOWN", "was full")]) == ""


def test_only_encoded_signatures_that_differ_point_at_decoding():
    reports = [SignatureReport("mask"), SignatureReport("mask_png", WRONG)]
    said = causes(differences=[], signatures=reports, exported_with="2.21.0")
    assert (
        "the server decodes them otherwise, as a TensorFlow that is older or newer than TensorFlow 2.21.0 may" in said
    )
    both = [SignatureReport("mask", WRONG), SignatureReport("mask_png", WRONG)]
    assert "its files (variables/) were changed after the export" in causes(differences=[], signatures=both)


def test_a_version_that_agrees_is_not_wrong_for_its_number():
    assert causes(differences=[], served_version=2, expected_version=1, signatures=[SignatureReport("mask")]) == ""


def test_what_cannot_tell_itself_is_told_by_its_number():
    said = causes(served_version=2, expected_version=1, asked_for="label 'canary'", signatures=[
        SignatureReport("mask", WRONG)])  # fmt: skip
    assert said == (
        "the wrong version is served: version 2 answers for label 'canary', and served/coins/1 is version 1"
    )


def test_each_cause_is_said_once():
    error = InvalidRequestError("Task size 3 is larger than maximum input batch size 2")
    assert len(find_causes(Facts(asked_for="", expected_source="x", errors=[error, error]))) == 1
