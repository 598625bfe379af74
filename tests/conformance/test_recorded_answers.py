"""Every recorded request is answered as TensorFlow Serving answered it."""

import json
import pathlib
import time

import pytest
from conformance import servers
from conformance.cases import DATA, Case, cases, setups
from conformance.comparing import differences
from conformance.departures import DEPARTURES

_SINGLE = [case for name, setup in setups().items() if not setup.is_sequence for case in cases(name)]
_SEQUENCES = [name for name, setup in setups().items() if setup.is_sequence and cases(name)]
_DOCS = pathlib.Path(__file__).parents[2] / "docs" / "embedded_server.md"
_WAIT_SHARE = 0.2
"""The waits before some steps of a sequence are made for a server that looks at the disk once a second before
it acts. The embedded server acts at once, and then only takes the time that loading takes."""
_PATIENCE = 10
"""So many times a wait, a machine under load may take."""


def _check(case: Case, received: dict, *, is_embedded: bool) -> list[str]:
    found = differences(case, received)
    departure = DEPARTURES.get(case.id)
    if departure is None or not (found or is_embedded):
        return found
    wanted = departure.answer
    if "body" in wanted:
        received = {**received, "body": json.loads(received["body"])}
    return [] if wanted.items() <= {**received}.items() else [f"wanted {wanted}, received {received}"]


@pytest.mark.parametrize("case", _SINGLE, ids=lambda case: case.id)
def test_answer_is_as_recorded(case, serving):
    sender = serving.sender(case.setup)
    received = sender.send(case.located(serving.located()))
    assert not _check(case.located(serving.located()), received, is_embedded=serving.is_embedded)


@pytest.mark.parametrize("setup", _SEQUENCES)
def test_sequence_of_answers_is_as_recorded(setup, serving):
    sender = serving.sender(setup, fresh=True)
    failures = []
    for case in cases(setup):
        failures += [f"{case.id} {line}" for line in _step(case, sender, serving)]
    assert not failures, "\n".join(failures)


def _step(case, sender, serving) -> list[str]:
    located = case.located(serving.located())
    wait_s = case.request.get("wait_s", 0)
    time.sleep(wait_s * (_WAIT_SHARE if serving.is_embedded else 1))
    until = time.monotonic() + wait_s * _PATIENCE
    while True:
        found = _check(located, sender.send(located), is_embedded=serving.is_embedded)
        # What changes the server is sent once; a look at it may be repeated.
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.1)


@pytest.mark.docker
@pytest.mark.parametrize("setup", [name for name in setups() if cases(name)])
def test_image_of_tensorflow_serving_answers_as_recorded(setup, serving):
    if not servers.has_docker():
        pytest.skip("no Docker engine")
    sender = serving.sender(setup, engine="docker", fresh=True)
    failures = []
    for case in cases(setup):
        located = case.located(serving.located("docker"))
        time.sleep(case.request.get("wait_s", 0))
        failures += [f"{case.id} {line}" for line in differences(located, sender.send(located))]
    serving.stop()
    assert not failures, "\n".join(failures)


def test_all_recorded_cases_belong_to_a_known_set_up():
    recorded = {case["id"] for file in (DATA / "cases").glob("*.json") for case in json.loads(file.read_text())}
    assert {case.id for name in setups() for case in cases(name)} == recorded
    assert len(recorded) == 750


@pytest.mark.parametrize("case_id", ["rest_images/png_not_png", "rest_images/png_text"])
def test_formats_that_a_release_does_not_read_yet_are_no_difference(case_id):
    case = next(case for case in cases("main") if case.id == case_id)
    recorded = case.answers[0]
    assert "JPEG, JPEG XL, PNG" in recorded["body"]
    assert not differences(case, {**recorded, "body": recorded["body"].replace("JPEG XL, ", "")})
    assert differences(case, {**recorded, "body": recorded["body"].replace("PNG, ", "")})


@pytest.mark.parametrize("case_id", DEPARTURES)
def test_departure_is_listed_in_the_documentation(case_id):
    assert DEPARTURES[case_id].listed_as in " ".join(_DOCS.read_text().split())
