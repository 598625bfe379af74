import pytest
from fake_serving import FakeServing


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
