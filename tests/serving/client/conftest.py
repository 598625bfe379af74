import pytest
from any_client import KINDS, make_client
from hypothesis import settings
from waiting import PATIENCE_S

# A busy machine is no fault of the code's.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def client(kind, serving):
    with make_client(kind, serving, timeout=PATIENCE_S) as client:
        yield client
