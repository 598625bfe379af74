import pytest
from any_client import KINDS, make_client
from fake_serving import FakeServing
from hypothesis import settings
from waiting import PATIENCE_S

# A busy machine is no fault of the code's.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def shared_serving():
    with FakeServing() as serving:
        yield serving


@pytest.fixture
def serving(shared_serving):
    """A server as after its start; the process' one, as starting takes longer than most tests."""
    shared_serving.behaviours.clear()
    shared_serving.calls.clear()
    shared_serving.requests.clear()
    shared_serving.reloads.clear()
    shared_serving.grpc_threads = None
    shared_serving.refusal = "Server Threadpool Exhausted"
    shared_serving.most_at_once = 0
    shared_serving.version = 7
    shared_serving.statuses = [(7, 30, 0, "")]
    return shared_serving


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def client(kind, serving):
    with make_client(kind, serving, timeout=PATIENCE_S) as client:
        yield client
