"""What the repository loads, keeps and lets go, and when. The loader is a stand-in: no TensorFlow model runs."""

import os
import pathlib
import threading
import time

import numpy as np
import pytest
from maskport.serving.server.calls import Call
from maskport.serving.server.errors import RequestError
from maskport.serving.server.inference.predictor import Model
from maskport.serving.server.models.lifecycle import ServedModel, State, Version
from maskport.serving.server.models.repository import ModelRepository, RepositorySettings
from maskport.serving.server.models.versions import ALL_VERSIONS, ModelSettings, VersionPolicy
from maskport.serving.status_codes import StatusCode
from waiting import PATIENCE_S

SOON_S = PATIENCE_S


class Runner:
    def __init__(self):
        self.is_closed = False

    def run(self, feeds, fetches, call):
        raise NotImplementedError

    def close(self):
        self.is_closed = True


class Loader:
    """Loads anything at once, unless told to fail or to wait."""

    def __init__(self):
        self.loaded = []
        self.runner = Runner
        self.runners = {}
        self.failing = set()
        self.gates = {}
        self.attempts = []

    def __call__(self, name, version, path):
        self.attempts.append((name, version))
        gate = self.gates.get((name, version))
        if gate is not None:
            assert gate.wait(SOON_S)
        if (name, version) in self.failing:
            raise RequestError(StatusCode.DATA_LOSS, f"cannot read {pathlib.Path(path).name}")
        self.loaded.append((name, version))
        self.runners[name, version] = self.runner()
        return Model(self.runners[name, version], {})


def eventually(check, timeout_s=SOON_S):
    until = time.monotonic() + timeout_s
    while True:
        try:
            value = check()
        except RequestError:
            value = False
        if value:
            return value
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.005)


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def start(loader):
    started = []

    def start_repository(*models, **settings):
        chosen = {"poll_wait_s": 0.02, "max_load_retries": 0, **settings}
        repository = ModelRepository(loader, RepositorySettings(**chosen))
        started.append(repository)
        repository.start(models)
        return repository

    yield start_repository
    for repository in started:
        repository.stop()


@pytest.fixture
def base(tmp_path):
    class Base:
        path = tmp_path / "m"

        def add(self, *versions):
            for version in versions:
                (self.path / str(version)).mkdir(parents=True)

        def remove(self, version):
            (self.path / str(version)).rmdir()

        def model(self, policy=None, name="m", **labels):
            return ModelSettings(name, str(self.path), policy or VersionPolicy(), labels)

    base = Base()
    base.path.mkdir()
    return base


def states(repository, name="m"):
    return {status.version: status.state for status in repository.statuses(name)}


def version_in_use(repository, **choice):
    with repository.acquire("m", **choice) as loaded:
        return loaded.version


def test_the_greatest_version_is_served(start, base, loader):
    base.add(1, 2, 10)
    repository = start(base.model())
    assert repository.wait_until_settled()
    assert states(repository) == {10: State.AVAILABLE}
    assert version_in_use(repository) == 10
    assert loader.loaded == [("m", 10)]


def test_with_all_versions_the_greatest_answers_and_each_can_be_named(start, base):
    base.add(1, 2, 3)
    repository = start(base.model(ALL_VERSIONS))
    repository.wait_until_settled()
    assert version_in_use(repository) == 3
    assert version_in_use(repository, version=1) == 1
    assert [status.version for status in repository.statuses("m")] == [3, 2, 1]


@pytest.mark.parametrize(
    ("choice", "code", "text"),
    [
        ({"name": "other"}, StatusCode.NOT_FOUND, "Servable not found for request: Latest(other)"),
        ({"name": "m", "version": 9}, StatusCode.NOT_FOUND, "Servable not found for request: Specific(m, 9)"),
        ({"name": "m", "label": "x"}, StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label: x"),
    ],
)
def test_what_is_not_served_cannot_be_used(start, base, choice, code, text):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    with pytest.raises(RequestError) as failure, repository.acquire(**choice):
        pass
    assert (failure.value.code, failure.value.message) == (code, text)


def test_new_version_is_loaded_before_the_old_one_goes(start, base, loader):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    loader.gates["m", 2] = gate = threading.Event()
    base.add(2)
    eventually(lambda: states(repository).get(2) == State.LOADING)
    assert states(repository)[1] == State.AVAILABLE
    assert version_in_use(repository) == 1
    gate.set()
    eventually(lambda: states(repository) == {2: State.AVAILABLE, 1: State.END})
    assert loader.runners["m", 1].is_closed
    assert version_in_use(repository) == 2


def test_old_version_waits_for_the_last_request_that_uses_it(start, base, loader):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    with repository.acquire("m") as held, repository.acquire("m"):
        base.add(2)
        eventually(lambda: states(repository)[1] == State.UNLOADING)
        assert version_in_use(repository) == 2
        assert held.version == 1
        assert not loader.runners["m", 1].is_closed
    eventually(lambda: states(repository)[1] == State.END)
    assert loader.runners["m", 1].is_closed


def test_unloading_that_waits_does_not_hold_up_loading(start, base):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    with repository.acquire("m"):
        base.add(2)
        eventually(lambda: states(repository)[1] == State.UNLOADING)
        base.add(3)
        eventually(lambda: states(repository).get(3) == State.AVAILABLE)


def test_deleted_version_gives_way_to_the_one_below(start, base):
    base.add(1, 2)
    repository = start(base.model())
    repository.wait_until_settled()
    base.remove(2)
    eventually(lambda: states(repository) == {2: State.END, 1: State.AVAILABLE})
    with pytest.raises(RequestError, match="Specific\\(m, 2\\)"):
        version_in_use(repository, version=2)


def test_last_version_goes_when_its_directory_does(start, base, caplog):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    base.remove(1)
    eventually(lambda: states(repository) == {1: State.END})
    with pytest.raises(RequestError, match="Latest\\(m\\)"):
        version_in_use(repository)
    assert sum("No versions of servable m" in text for text in caplog.messages) == 1


def test_version_that_comes_back_is_loaded_again(start, base, loader):
    base.add(1, 2)
    repository = start(base.model())
    repository.wait_until_settled()
    base.remove(2)
    eventually(lambda: states(repository)[2] == State.END)
    base.add(2)
    eventually(lambda: states(repository) == {2: State.AVAILABLE, 1: State.END})
    assert loader.loaded == [("m", 2), ("m", 1), ("m", 2)]


@pytest.mark.parametrize("retries", [0, 5], ids=["failed", "waiting for a retry"])
def test_version_that_serves_on_beside_a_broken_one_is_kept_when_that_is_removed(start, base, loader, retries):
    base.add(1)
    repository = start(base.model(), max_load_retries=retries)
    repository.wait_until_settled()
    loader.failing.add(("m", 2))
    base.add(2)
    eventually(lambda: repository.statuses("m", 2)[0].error)
    base.remove(2)
    _stays_in_use(repository, loader, 1)
    assert states(repository) == {2: State.END, 1: State.AVAILABLE}
    loader.failing.clear()
    base.add(3)
    eventually(lambda: states(repository) == {3: State.AVAILABLE, 2: State.END, 1: State.END})


def test_version_that_serves_on_beside_one_being_loaded_is_kept_when_that_is_removed(start, base, loader):
    repository, gate = _remove_while_loading(start, base, loader)
    gate.set()
    eventually(lambda: states(repository) == {2: State.END, 1: State.AVAILABLE})
    _stays_in_use(repository, loader, 1)


def test_version_that_is_replaced_while_it_is_loaded_is_loaded_anew_and_leaves_no_gap(start, base, loader):
    repository, gate = _remove_while_loading(start, base, loader)
    base.add(2)
    _stays_in_use(repository, loader, 1)
    loader.gates["m", 2] = second_gate = threading.Event()
    gate.set()
    eventually(lambda: loader.attempts.count(("m", 2)) == 2)
    _stays_in_use(repository, loader, 1)
    second_gate.set()
    eventually(lambda: states(repository) == {2: State.AVAILABLE, 1: State.END})


def _remove_while_loading(start, base, loader):
    """Removes version 2 while it is loaded, beside version 1; returns the repository and the gate of the loading."""
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    loader.gates["m", 2] = gate = threading.Event()
    base.add(2)
    eventually(lambda: states(repository).get(2) == State.LOADING)
    base.remove(2)
    _stays_in_use(repository, loader, 1)
    return repository, gate


def _stays_in_use(repository, loader, version):
    """Uses the model for several looks at the disk; RequestError where there is a gap."""
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        assert version_in_use(repository) == version
        time.sleep(0.001)
    assert loader.loaded.count(("m", version)) == 1


def test_base_path_that_vanishes_takes_nothing_down(start, base, caplog):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    base.path.rename(base.path.with_name("away"))
    eventually(lambda: any("Could not find base path" in text for text in caplog.messages))
    assert version_in_use(repository) == 1
    base.path.with_name("away").rename(base.path)
    base.add(2)
    eventually(lambda: version_in_use(repository) == 2)


def test_missing_base_path_is_waited_for_and_said_once(start, base, caplog):
    base.path.rmdir()
    repository = start(base.model())
    settled = threading.Thread(target=repository.wait_until_settled)
    settled.start()
    time.sleep(0.2)
    assert settled.is_alive()
    base.add(1)
    settled.join(SOON_S)
    assert not settled.is_alive()
    assert version_in_use(repository) == 1
    assert sum("Could not find base path" in text for text in caplog.messages) == 1


def test_missing_base_path_of_one_model_does_not_stop_the_others(start, base, tmp_path):
    base.add(1)
    repository = start(base.model(), ModelSettings("lost", str(tmp_path / "lost")))
    eventually(lambda: version_in_use(repository) == 1)
    base.add(2)
    eventually(lambda: version_in_use(repository) == 2)


def test_waiting_for_models_can_be_ended(start, base):
    repository = start(base.model())
    assert not repository.wait_until_settled(lambda: True)


def test_broken_version_shows_its_error_and_the_old_one_goes_on(start, base, loader):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    loader.failing.add(("m", 2))
    base.add(2)
    eventually(lambda: states(repository).get(2) == State.END)
    newest, older = repository.statuses("m")
    assert (newest.error.code, newest.error.message) == (StatusCode.DATA_LOSS, "cannot read 2")
    assert older.state == State.AVAILABLE
    assert older.error is None
    assert version_in_use(repository) == 1
    time.sleep(0.1)
    assert loader.attempts.count(("m", 2)) == 1
    base.add(3)
    eventually(lambda: states(repository) == {3: State.AVAILABLE, 2: State.END, 1: State.END})


def test_broken_model_does_not_keep_the_others_from_being_served(start, base, loader, tmp_path):
    base.add(1)
    (tmp_path / "bad" / "1").mkdir(parents=True)
    loader.failing.add(("bad", 1))
    repository = start(
        base.model(),
        ModelSettings("bad", str(tmp_path / "bad")),
        max_load_retries=5,
        retry_interval_s=60,
    )
    assert repository.wait_until_settled()
    assert version_in_use(repository) == 1
    (broken,) = repository.statuses("bad")
    assert broken.state == State.LOADING
    assert broken.error.message == "cannot read 1"


def test_loading_is_tried_again_so_many_times(start, base, loader):
    base.add(1)
    loader.failing.add(("m", 1))
    repository = start(base.model(), max_load_retries=2, retry_interval_s=0.01)
    eventually(lambda: states(repository) == {1: State.END})
    assert len(loader.attempts) == 3


def test_loading_that_succeeds_at_last_leaves_no_error(start, base, loader):
    base.add(1)
    loader.failing.add(("m", 1))
    repository = start(base.model(), max_load_retries=1000, retry_interval_s=0.01)
    eventually(lambda: len(loader.attempts) > 2)
    loader.failing.clear()
    eventually(lambda: states(repository) == {1: State.AVAILABLE})
    assert repository.statuses("m")[0].error is None


def test_other_models_are_loaded_while_one_waits_for_its_next_attempt(start, base, loader):
    base.add(1)
    loader.failing.add(("m", 1))
    repository = start(base.model(), max_load_retries=5, retry_interval_s=60)
    repository.wait_until_settled()
    base.add(2)
    eventually(lambda: states(repository).get(2) == State.AVAILABLE)


def test_version_that_is_deleted_while_it_waits_is_tried_no_more(start, base, loader):
    base.add(1)
    loader.failing.add(("m", 1))
    repository = start(base.model(), max_load_retries=5, retry_interval_s=0.2)
    repository.wait_until_settled()
    base.remove(1)
    eventually(lambda: states(repository) == {1: State.END})
    attempts = len(loader.attempts)
    time.sleep(0.3)
    assert len(loader.attempts) == attempts


def test_poll_wait_of_zero_looks_once(start, base):
    base.add(1)
    repository = start(base.model(), poll_wait_s=0)
    repository.wait_until_settled()
    base.add(2)
    time.sleep(0.1)
    assert states(repository) == {1: State.AVAILABLE}


def test_negative_poll_wait_never_looks(start, base):
    base.add(1)
    repository = start(base.model(), poll_wait_s=-1)
    time.sleep(0.05)
    with pytest.raises(RequestError, match="Could not find any versions of model m"):
        repository.statuses("m")


# ------------------------------------------------------------------ labels


def test_labels_at_the_start_need_the_permission(start, base):
    base.add(1)
    with pytest.raises(RequestError, match="assign label to version 1 of model m, which is not currently"):
        start(base.model(stable=1))


def test_permitted_label_may_name_a_version_that_is_not_there(start, base):
    base.add(1)
    repository = start(base.model(stable=1, ghost=9), allows_labels_for_unavailable=True)
    repository.wait_until_settled()
    assert version_in_use(repository, label="stable") == 1
    with pytest.raises(RequestError, match="Specific\\(m, 9\\)"):
        version_in_use(repository, label="ghost")


def test_label_moves_by_reload_to_an_available_version_only(start, base):
    base.add(1, 2)
    repository = start(base.model(ALL_VERSIONS))
    repository.wait_until_settled()
    repository.reload([base.model(ALL_VERSIONS, stable=1)], Call())
    assert version_in_use(repository, label="stable") == 1
    with pytest.raises(RequestError, match="assign label to version 3"):
        repository.reload([base.model(ALL_VERSIONS, stable=3)], Call())
    assert version_in_use(repository, label="stable") == 1
    repository.reload([base.model(ALL_VERSIONS, stable=2)], Call())
    assert version_in_use(repository, label="stable") == 2
    repository.reload([base.model(ALL_VERSIONS)], Call())
    with pytest.raises(RequestError, match="Unrecognized servable version label: stable"):
        version_in_use(repository, label="stable")


def test_assigned_label_moves_to_an_available_version_only_even_with_the_permission(start, base):
    base.add(1)
    repository = start(base.model(stable=1), allows_labels_for_unavailable=True)
    repository.wait_until_settled()
    with pytest.raises(RequestError, match="assign label to version 7"):
        repository.reload([base.model(stable=7)], Call())


@pytest.mark.parametrize("allowed", [False, True])
def test_model_that_is_new_in_a_reload_brings_labels_only_with_the_permission(start, base, tmp_path, allowed):
    base.add(1)
    repository = start(base.model(), allows_labels_for_unavailable=allowed)
    repository.wait_until_settled()
    (tmp_path / "n" / "4").mkdir(parents=True)
    reloaded = [base.model(), ModelSettings("n", str(tmp_path / "n"), labels={"first": 4})]
    if not allowed:
        with pytest.raises(RequestError, match="assign label to version 4 of model n, which is not currently"):
            repository.reload(reloaded, Call())
        assert repository.names() == {"m"}
        # First the model, and then its label.
        repository.reload([base.model(), ModelSettings("n", str(tmp_path / "n"))], Call())
    repository.reload(reloaded, Call())
    with repository.acquire("n", label="first") as loaded:
        assert loaded.version == 4


# ------------------------------------------------------------------ reload


def test_reload_adds_and_removes_models(start, base, tmp_path):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    (tmp_path / "n" / "1").mkdir(parents=True)
    repository.reload([ModelSettings("n", str(tmp_path / "n"))], Call())
    assert states(repository, "n") == {1: State.AVAILABLE}
    eventually(lambda: states(repository) == {1: State.END})
    repository.reload([base.model()], Call())
    eventually(lambda: states(repository) == {1: State.AVAILABLE})


def test_reload_changes_the_policy_without_a_gap(start, base):
    base.add(1, 2)
    repository = start(base.model())
    repository.wait_until_settled()
    repository.reload([base.model(VersionPolicy(None, (1,)))], Call())
    eventually(lambda: states(repository) == {2: State.END, 1: State.AVAILABLE})


def test_reload_waits_until_a_new_model_is_loaded(start, base, loader, tmp_path):
    repository = start(base.model())
    loader.gates["n", 1] = gate = threading.Event()
    (tmp_path / "n" / "1").mkdir(parents=True)
    threading.Timer(0.2, gate.set).start()
    repository.reload([ModelSettings("n", str(tmp_path / "n"))], Call())
    assert gate.is_set()


def test_reload_says_which_new_models_failed_and_serves_the_others(start, loader, tmp_path):
    repository = start()
    for name in ("good", "bad"):
        (tmp_path / name / "1").mkdir(parents=True)
    loader.failing.add(("bad", 1))
    with pytest.raises(RequestError) as failure:
        repository.reload([ModelSettings(name, str(tmp_path / name)) for name in ("good", "bad")], Call())
    assert str(failure.value) == (
        "UNKNOWN: 1 model(s) did not become available: "
        "{{{name: bad version: 1} due to error: DATA_LOSS: cannot read 1}, }"
    )
    assert states(repository, "good") == {1: State.AVAILABLE}


def test_reload_of_a_path_without_versions_is_refused_and_changes_nothing(start, base, tmp_path):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    for path in (tmp_path / "nowhere", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(RequestError, match=f"base path {path}") as failure:
            repository.reload([ModelSettings("n", str(path))], Call())
        assert failure.value.code == StatusCode.FAILED_PRECONDITION
    assert version_in_use(repository) == 1


def test_reload_that_may_wait_for_paths_serves_the_model_once_it_comes(start, base, tmp_path):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    later = ModelSettings("later", str(tmp_path / "later"))
    repository.reload([base.model(), later], Call(), waits_for_paths=True)
    (tmp_path / "later" / "1").mkdir(parents=True)
    eventually(lambda: states(repository, "later") == {1: State.AVAILABLE})


def test_objection_comes_after_the_other_checks_and_before_any_change(start, base):
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()

    def object_to_it():
        raise RequestError(StatusCode.PERMISSION_DENIED, "not you")

    with pytest.raises(RequestError, match="assign label"):
        repository.reload([base.model(stable=9)], Call(), check=object_to_it)
    with pytest.raises(RequestError, match="not you"):
        repository.reload([], Call(), check=object_to_it)
    assert version_in_use(repository) == 1


def test_model_that_was_taken_out_and_is_back_is_undecided_until_its_path_is_looked_at(tmp_path):
    """Else a reload that waits for it would take what was unloaded for what failed."""
    model = ServedModel("m", ModelSettings("m", str(tmp_path)))
    model.versions[1] = Version("m", 1, str(tmp_path / "1"), State.END, is_wanted=False)
    assert not model.is_decided
    model.looked_at = model.settings
    assert model.is_decided


def test_reload_gives_up_with_its_caller(start, loader, tmp_path):
    repository = start()
    loader.gates["n", 1] = gate = threading.Event()
    (tmp_path / "n" / "1").mkdir(parents=True)
    with pytest.raises(RequestError) as failure:
        repository.reload([ModelSettings("n", str(tmp_path / "n"))], Call(timeout_s=0.2))
    assert failure.value.code == StatusCode.DEADLINE_EXCEEDED
    gate.set()


def test_single_version_directory_is_that_version(start, base):
    base.add(3, 4)
    repository = start(ModelSettings("m", str(base.path / "3"), only_version=3))
    repository.wait_until_settled()
    assert states(repository) == {3: State.AVAILABLE}


def test_stop_closes_every_model(loader, base):
    base.add(1, 2)
    repository = ModelRepository(loader, RepositorySettings())
    repository.start([base.model(ALL_VERSIONS)])
    repository.wait_until_settled()
    repository.stop()
    assert all(runner.is_closed for runner in loader.runners.values())
    assert len(loader.runners) == 2


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_memory_of_an_unloaded_version_goes_back_to_the_operating_system(start, base, loader):
    def resident_mb():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    class Blocks(Runner):
        def __init__(self):
            super().__init__()
            self.blocks = [np.ones(64 * 1024, np.uint8) for _ in range(4096)]

        def close(self):
            super().close()
            self.blocks.clear()

    loader.runner = Blocks
    base.add(1)
    repository = start(base.model())
    repository.wait_until_settled()
    loaded_mb = resident_mb()
    base.remove(1)
    eventually(lambda: states(repository) == {1: State.END})
    assert loaded_mb - resident_mb() > 200
