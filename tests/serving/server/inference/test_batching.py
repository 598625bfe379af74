"""Requests are merged by TensorFlow Serving's rules. The runner is a stand-in that shows what it was given."""

import threading
import time

import numpy as np
import pytest
from maskport.serving.server.calls import Call
from maskport.serving.server.errors import RequestError
from maskport.serving.server.inference.batch_queues import BatchScheduler
from maskport.serving.server.inference.batching import BatchingRunner
from maskport.serving.server.metrics import Metrics
from maskport.serving.server.models.text_configs import BatchingSettings, PoolSettings
from maskport.serving.status_codes import StatusCode
from tensorflow.core.framework import types_pb2
from waiting import PATIENCE_S

LONG_S = PATIENCE_S


class Doubler:
    """Doubles what it is fed, and keeps what it was fed. A gate holds it up."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.is_closed = False

    def run(self, feeds, fetches, call):
        assert self.gate.wait(LONG_S)
        self.batches.append({name: array.copy() for name, array in feeds.items()})
        outputs = {"y": feeds["x"] * 2, "total": np.sum(feeds["x"]), "short": feeds["x"][:1]}
        return [outputs[name] for name in fetches]

    def close(self):
        self.is_closed = True


@pytest.fixture
def doubler():
    return Doubler()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def batching(doubler, metrics):
    schedulers = []

    def make(threads=1, dtypes=None, shapes=None, **settings):
        scheduler = BatchScheduler(PoolSettings(threads, "pool"))
        schedulers.append(scheduler)
        chosen = BatchingSettings(**{"max_batch_size": 4, "timeout_s": LONG_S, **settings})
        chosen.check()
        return BatchingRunner(doubler, dtypes or {}, scheduler, chosen, metrics, shapes)

    yield make
    doubler.gate.set()
    for scheduler in schedulers:
        scheduler.stop()


def test_a_request_of_another_shape_than_the_signature_has_meets_no_others(batching, doubler):
    runner = batching(shapes={"x": (-1, 2)})
    doubler.gate.clear()
    waiting = [Caller(runner, {"x": np.full((1, 2), value, np.float32)}) for value in range(2)]
    others = [Caller(runner, {"x": np.zeros(shape, np.float32)}) for shape in ((1, 3), (1, 2, 1), (1,))]
    doubler.gate.set()
    for caller in others:
        assert caller.end().error is None
    assert sorted(batch["x"].shape for batch in doubler.batches) == [(1,), (1, 2, 1), (1, 3)]
    waiting += [Caller(runner, {"x": np.full((1, 2), value, np.float32)}) for value in (2, 3)]
    assert [caller.end().error for caller in waiting] == [None] * 4
    assert doubler.batches[-1]["x"].shape == (4, 2)


class Caller(threading.Thread):
    """Runs a request in a thread of its own, and keeps how it ended."""

    def __init__(self, runner, feeds, fetches=("y",), call=None):
        super().__init__(daemon=True)
        self.arguments = (feeds, list(fetches), call or Call())
        self.runner = runner
        self.outputs = self.error = None
        self.start()

    def run(self):
        try:
            self.outputs = self.runner.run(*self.arguments)
        except RequestError as error:
            self.error = error

    def end(self):
        self.join(LONG_S)
        assert not self.is_alive()
        return self


def rows(*values):
    return {"x": np.array(values, np.float32)}


def wait_until(check):
    until = time.monotonic() + LONG_S
    while not check():
        assert time.monotonic() < until
        time.sleep(0.002)


def queued(runner):
    return sum(len(batch.parts) for queue in runner._queues.values() for batch in queue.batches)


def test_full_batch_is_run_at_once_and_everyone_gets_his_own_rows(batching, doubler):
    runner = batching()
    callers = []
    for values in ((1, 2), (3,), (4,)):
        callers.append(Caller(runner, rows(*values)))
        wait_until(lambda: queued(runner) == len(callers) or doubler.batches)
    assert [caller.end().outputs[0].tolist() for caller in callers] == [[2, 4], [6], [8]]
    assert [batch["x"].tolist() for batch in doubler.batches] == [[1, 2, 3, 4]]


def test_waiting_time_may_be_longer_than_a_thread_can_wait(batching, doubler):
    runner = batching(timeout_s=(2**63 - 1) / 1e6)
    first = Caller(runner, rows(1), call=Call(timeout_s=(2**63 - 1) / 1e3))
    wait_until(lambda: queued(runner) == 1)
    time.sleep(0.05)
    second = Caller(runner, rows(2, 3, 4))
    assert first.end().outputs[0].tolist() == [2]
    assert second.end().outputs[0].tolist() == [4, 6, 8]
    assert len(doubler.batches) == 1


def test_lone_request_waits_for_company_as_long_as_it_is_told_to(batching):
    runner = batching(timeout_s=0.1)
    begin = time.monotonic()
    assert runner.run(rows(1), ["y"], Call())[0].tolist() == [2]
    assert time.monotonic() - begin >= 0.1


def test_without_waiting_time_a_request_is_run_as_soon_as_a_thread_is_free(batching, doubler):
    runner = batching(timeout_s=0)
    doubler.gate.clear()
    first = Caller(runner, rows(1))
    wait_until(lambda: queued(runner) == 0 and runner._queues)
    others = [Caller(runner, rows(value)) for value in (2, 3)]
    wait_until(lambda: queued(runner) == 2)
    doubler.gate.set()
    assert first.end().outputs[0].tolist() == [2]
    assert [caller.end().outputs[0].tolist() for caller in others] == [[4], [6]]
    assert [len(batch["x"]) for batch in doubler.batches] == [1, 2]


def test_request_that_does_not_fit_opens_the_next_batch(batching, doubler):
    runner = batching(timeout_s=2)
    doubler.gate.clear()
    callers = [Caller(runner, rows(1, 2, 3))]
    wait_until(lambda: queued(runner) == 1)
    callers.append(Caller(runner, rows(4, 5)))
    wait_until(lambda: len(runner._queues) == 1 and sum(map(len, [c.arguments[0] for c in callers])) == 2)
    time.sleep(0.02)
    doubler.gate.set()
    assert [caller.end().outputs[0].tolist() for caller in callers] == [[2, 4, 6], [8, 10]]
    assert [len(batch["x"]) for batch in doubler.batches] == [3, 2]


def test_other_outputs_or_inputs_are_not_merged(batching, doubler):
    runner = batching(timeout_s=0.05)
    callers = [Caller(runner, rows(1, 2)), Caller(runner, rows(3, 4), ("y", "short"))]
    callers[0].end()
    assert callers[1].end().error is not None
    assert sorted(len(batch["x"]) for batch in doubler.batches) == [2, 2]


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        (rows(1, 2, 3, 4, 5), "Task size 5 is larger than maximum input batch size 4"),
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x": np.float32(1).reshape(())}, "Batching Run() input tensors must have at least one dimension"),
        (
            {**rows(1, 2), "k": np.ones(1, np.float32)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
    ],
)
def test_request_that_cannot_be_merged_is_refused(batching, feeds, text):
    with pytest.raises(RequestError) as failure:
        batching().run(feeds, ["y"], Call())
    assert (failure.value.code, failure.value.message) == (StatusCode.INVALID_ARGUMENT, text)


def test_wrong_type_fails_its_own_request_only(batching, doubler):
    runner = batching(dtypes={"x": types_pb2.DT_FLOAT}, max_batch_size=2)
    good = Caller(runner, rows(1))
    wait_until(lambda: queued(runner) == 1)
    with pytest.raises(RequestError, match=r"Expects arg\[0\] to be float but int32 is provided"):
        runner.run({"x": np.array([1], np.int32)}, ["y"], Call())
    Caller(runner, rows(2)).end()
    assert good.end().outputs[0].tolist() == [2]


def test_empty_batch_is_run_alone(batching, doubler):
    assert batching().run({"x": np.zeros((0,), np.float32)}, ["y"], Call())[0].tolist() == []
    assert doubler.batches[0]["x"].shape == (0,)


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("total", "Batched output tensor has 0 dimensions"),
        (
            "short",
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
            "input tensors",
        ),
    ],
)
def test_output_that_cannot_be_split_fails(batching, output, text):
    with pytest.raises(RequestError) as failure:
        batching(timeout_s=0).run(rows(1, 2), [output], Call())
    assert (failure.value.code, failure.value.message) == (StatusCode.FAILED_PRECONDITION, text)


def test_full_queue_refuses_further_requests(batching, doubler):
    runner = batching(timeout_s=0, max_enqueued_batches=1, max_batch_size=2)
    doubler.gate.clear()
    running = Caller(runner, rows(0, 0))
    wait_until(lambda: runner._queues and queued(runner) == 0)
    waiting = Caller(runner, rows(1, 2))
    wait_until(lambda: queued(runner) == 1)
    with pytest.raises(RequestError) as failure:
        runner.run(rows(3), ["y"], Call())
    assert failure.value.code == StatusCode.UNAVAILABLE
    assert failure.value.message == (
        "The batch scheduling queue to which this task was submitted is full; currently 1 batches enqueued "
        "and max_enqueued_batches is 1"
    )
    doubler.gate.set()
    assert running.end().error is None
    assert waiting.end().error is None


def test_different_shapes_fail_the_whole_batch_unless_they_are_padded(batching):
    runner = batching(max_batch_size=2)
    first = Caller(runner, {"x": np.ones((1, 2), np.float32)})
    wait_until(lambda: queued(runner) == 1)
    second = Caller(runner, {"x": np.ones((1, 3), np.float32)})
    for caller in (first.end(), second.end()):
        assert caller.error.code == StatusCode.FAILED_PRECONDITION
        assert "different shapes and padding is turned off" in caller.error.message


def test_padding_fills_with_the_first_element(batching, doubler):
    runner = batching(max_batch_size=2, pads_lengths=True)
    first = Caller(runner, {"x": np.array([[7, 8]], np.float32)})
    wait_until(lambda: queued(runner) == 1)
    second = Caller(runner, {"x": np.array([[1, 2, 3]], np.float32)})
    first.end()
    second.end()
    assert doubler.batches[0]["x"].tolist() == [[7, 8, 7], [1, 2, 3]]
    assert first.outputs[0].tolist() == [[14, 16, 14]]


def test_batch_is_padded_to_an_allowed_size_with_its_last_row(batching, doubler):
    runner = batching(timeout_s=0, allowed_sizes=(2, 4))
    assert runner.run(rows(1, 2, 3), ["y"], Call())[0].tolist() == [2, 4, 6]
    assert runner.run(rows(5), ["y"], Call())[0].tolist() == [10]
    # As TensorFlow Serving: the first row of the last request.
    assert [batch["x"].tolist() for batch in doubler.batches] == [[1, 2, 3, 1], [5, 5]]


def test_large_request_fills_the_open_batch_and_further_ones(batching, doubler):
    runner = batching(timeout_s=0.05, max_batch_size=9, split_size=4)
    doubler.gate.clear()
    running = Caller(runner, rows(0, 0, 0, 0))
    wait_until(lambda: runner._queues and queued(runner) == 0)
    small = Caller(runner, rows(1))
    wait_until(lambda: queued(runner) == 1)
    large = Caller(runner, rows(*range(2, 11)))
    wait_until(lambda: queued(runner) == 4)
    doubler.gate.set()
    assert running.end().error is None
    assert small.end().outputs[0].tolist() == [2]
    assert large.end().outputs[0].tolist() == list(range(4, 22, 2))
    assert [batch["x"].tolist() for batch in doubler.batches[1:]] == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_the_parts_of_a_large_request_are_run_at_one_time(batching, doubler, monkeypatch):
    all_there = threading.Barrier(4)
    run = doubler.run

    def run_together(*words):
        all_there.wait(LONG_S)
        return run(*words)

    monkeypatch.setattr(doubler, "run", run_together)
    runner = batching(threads=4, max_batch_size=16, split_size=4)
    assert runner.run(rows(*range(16)), ["y"], Call())[0].tolist() == list(range(0, 32, 2))


def test_queue_without_room_for_all_of_a_large_request_refuses_it(batching, doubler):
    runner = batching(max_batch_size=9, split_size=2, max_enqueued_batches=2)
    waiting = Caller(runner, rows(1))
    wait_until(lambda: queued(runner) == 1)
    with pytest.raises(RequestError) as failure:
        runner.run(rows(2, 3, 4, 5), ["y"], Call())
    assert (failure.value.code, failure.value.message) == (
        StatusCode.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full; task size is 4 but scheduling "
        "capacity is only 3 (num_enqueued_batches=1, max_enqueued_batches=2, open_batch_size=1, "
        "max_execution_batch_size=2)",
    )
    assert runner.run(rows(2), ["y"], Call())[0].tolist() == [4]
    assert waiting.end().outputs[0].tolist() == [2]


def test_failure_of_one_part_fails_the_whole_request(batching, doubler):
    runner = batching(timeout_s=0, max_batch_size=4, split_size=2)
    with pytest.raises(RequestError, match="Batched output tensor has 0 dimensions"):
        runner.run(rows(1, 2, 3), ["total"], Call())
    with pytest.raises(RequestError, match="larger than maximum input batch size 4"):
        runner.run(rows(1, 2, 3, 4, 5), ["y"], Call())


def test_parts_that_wait_are_dropped_when_the_caller_leaves(batching, doubler):
    runner = batching(timeout_s=0, max_batch_size=8, split_size=2)
    doubler.gate.clear()
    with pytest.raises(RequestError) as failure:
        runner.run(rows(1, 2, 3, 4), ["y"], Call(2))
    assert failure.value.code == StatusCode.DEADLINE_EXCEEDED
    assert queued(runner) == 0
    doubler.gate.set()
    assert runner.run(rows(5), ["y"], Call())[0].tolist() == [10]
    assert [batch["x"].tolist() for batch in doubler.batches] == [[1, 2], [5]]


def test_strings_are_merged_and_padded(batching, doubler):
    runner = batching(timeout_s=0, allowed_sizes=(4,))
    texts = np.empty(2, object)
    texts[:] = [b"a", b"bc"]
    assert runner.run({"x": texts}, ["y"], Call())[0].tolist() == [b"aa", b"bcbc"]
    assert doubler.batches[0]["x"].tolist() == [b"a", b"bc", b"a", b"a"]


def test_last_allowed_size_must_be_the_greatest():
    with pytest.raises(RequestError) as failure:
        BatchingSettings(max_batch_size=4, allowed_sizes=(1, 2)).check()
    assert failure.value.message == (
        "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; expected 4"
    )


def test_failure_of_the_graph_reaches_every_caller_of_the_batch(batching, doubler):
    def fail(feeds, fetches, call):
        raise RequestError(StatusCode.OUT_OF_RANGE, "no such row")

    doubler.run = fail
    runner = batching(max_batch_size=2)
    first = Caller(runner, rows(1))
    wait_until(lambda: queued(runner) == 1)
    second = Caller(runner, rows(2))
    assert [str(caller.end().error) for caller in (first, second)] == ["OUT_OF_RANGE: no such row"] * 2


def test_caller_whose_time_is_over_leaves_the_queue(batching, doubler):
    runner = batching()
    with pytest.raises(RequestError) as failure:
        runner.run(rows(1), ["y"], Call(timeout_s=0.05))
    assert failure.value.code == StatusCode.RESOURCE_EXHAUSTED
    assert failure.value.message == "Run() timeout exceeded while waiting in batching queue"
    assert queued(runner) == 0
    callers = [Caller(runner, rows(value)) for value in (1, 2, 3, 4)]
    assert sorted(caller.end().outputs[0].item() for caller in callers) == [2, 4, 6, 8]


def test_caller_who_hangs_up_leaves_the_queue(batching):
    runner = batching()
    call = Call()
    caller = Caller(runner, rows(1), call=call)
    wait_until(lambda: queued(runner) == 1)
    call.cancel()
    assert caller.end().error.code == StatusCode.CANCELLED
    assert queued(runner) == 0


def test_caller_whose_time_is_over_during_the_run_does_not_wait_for_the_others(batching, doubler):
    runner = batching(timeout_s=0)
    doubler.gate.clear()
    caller = Caller(runner, rows(1), call=Call(timeout_s=2))
    assert caller.end().error.code == StatusCode.DEADLINE_EXCEEDED


def test_queues_share_the_threads_in_turns(batching, doubler):
    runner = batching(timeout_s=0, max_batch_size=1, max_enqueued_batches=100)
    doubler.gate.clear()
    first = Caller(runner, rows(0))
    wait_until(lambda: runner._queues and queued(runner) == 0)
    busy = []
    for value in range(1, 5):
        busy.append(Caller(runner, rows(value)))
        wait_until(lambda: queued(runner) == len(busy))
    other = Caller(runner, rows(9), ("short",))
    wait_until(lambda: queued(runner) == 5)
    doubler.gate.set()
    for caller in (first, other, *busy):
        caller.end()
    order = [batch["x"].tolist()[0] for batch in doubler.batches]
    assert order.index(9) <= 2, order


def test_closing_closes_the_runner(batching, doubler):
    runner = batching(timeout_s=0)
    runner.run(rows(1), ["y"], Call())
    runner.close()
    assert doubler.is_closed


def test_waiting_times_and_batches_are_recorded(batching, metrics):
    runner = batching(timeout_s=0, allowed_sizes=(4,))
    runner.run(rows(1, 2), ["y"], Call())
    page = metrics.page().decode()
    assert ":tensorflow:serving:batching_session:wrapped_run_count{} 1" in page
    assert ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name="pool"} 1' in page
    assert ":tensorflow:serving:batching_session:processed_batch_size_sum{} 4" in page
