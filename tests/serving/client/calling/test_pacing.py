"""A server whose threads are busy: no call is lost, and no more are sent at one time than it takes."""

import threading
import time

import numpy as np
import pytest
from any_client import make_client
from fake_serving import refuse, slow
from maskport.serving.client import (
    NO_RETRIES,
    DeadlineExceededError,
    MaskServingError,
    MessageTooLargeError,
    RetryPolicy,
    ServerBusyError,
    ServerOverloadedError,
)
from maskport.serving.client.calling.pacing import Pace
from maskport.serving.wire.messages import ModelServerConfig
from waiting import PATIENCE_S

PICTURE = np.full((4, 5, 3), 200, np.uint8)
KINDS = ["sync-grpc", "async-grpc"]


def entered(pace, calls):
    return sum(pace.enter() for _ in range(calls))


def test_nothing_is_held_back_before_a_refusal():
    pace = Pace()
    assert entered(pace, 1000) == 1000
    assert pace.limit is None


def test_what_was_under_way_beside_refused_calls_is_what_a_server_takes():
    pace = Pace()
    entered(pace, 10)
    for _ in range(3):
        pace.leave(refused=True)
    assert pace.limit == 7
    assert entered(pace, 5) == 0
    pace.leave(refused=False)
    assert entered(pace, 5) == 1


def test_one_call_is_always_tried():
    pace = Pace()
    for _ in range(3):
        assert pace.enter()
        pace.leave(refused=True)
        assert pace.limit == 1


def test_more_are_tried_again_where_more_are_wanted():
    pace = Pace()
    assert pace.enter()
    pace.leave(refused=True)
    for _ in range(500):  # one after the other: nobody waits
        assert pace.enter()
        pace.leave(refused=False)
    assert pace.limit == 1
    reached = []
    for _ in range(500):
        while pace.enter():
            pass
        reached.append(pace.limit)
        for _ in range(pace.limit):
            pace.leave(refused=False)
    assert reached == sorted(reached)
    assert pace.limit > 16


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", ["Server Threadpool Exhausted", ""])
@pytest.mark.parametrize("concurrency", [8, 32])
def test_every_picture_of_many_is_answered_and_costs_no_budget(kind, serving, words, concurrency):
    serving.grpc_threads, serving.refusal = 3, words
    serving.behaviours += [slow(0.005)] * 1000
    with make_client(kind, serving, retries=RetryPolicy(budget=0)) as client:
        items = list(client.segment_many([PICTURE] * 80, concurrency=concurrency))
    assert [item.error for item in items] == [None] * 80
    assert serving.most_at_once == 3
    assert all(item.result.mask.all() for item in items)


@pytest.mark.parametrize("kind", KINDS)
def test_the_client_lowers_its_own_concurrency(kind, serving):
    serving.grpc_threads = 3
    serving.behaviours += [slow(0.005)] * 1000
    with make_client(kind, serving) as client:
        list(client.segment_many([PICTURE] * 40, concurrency=16))
        # The first sixteen have shown what the server takes; now and then one more is tried.
        at_first = client.run(_refusals(client)) if kind.startswith("async") else client.refusals
        assert at_first > 0
        list(client.segment_many([PICTURE] * 100, concurrency=16))
        later = client.run(_refusals(client)) if kind.startswith("async") else client.refusals
    assert later - at_first < 30


async def _refusals(client):
    return client._client.refusals


@pytest.mark.parametrize("kind", KINDS)
def test_waiting_for_its_turn_is_no_part_of_the_time_that_one_of_many_may_take(kind, serving):
    serving.grpc_threads = 1
    serving.behaviours += [slow(0.2)] * 100
    with make_client(kind, serving) as client:
        client.metadata()
        began = time.monotonic()
        items = list(client.segment_many([PICTURE] * 16, concurrency=16, timeout=2))
        assert time.monotonic() - began > 2
    assert [item.error for item in items] == [None] * 16


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_never_has_a_thread_ends_by_the_deadline_and_says_what_to_do(kind, serving):
    with make_client(kind, serving) as client:
        client.metadata()
        serving.grpc_threads = 0
        with pytest.raises(ServerBusyError) as caught:
            client.segment(PICTURE, timeout=2)
        errors = [caught.value, next(client.segment_many([PICTURE], timeout=2)).error]
        for error in errors:
            assert "Server Threadpool Exhausted" in str(error)
            assert "raise --grpc_max_threads of tensorflow_model_server" in str(error)
        with pytest.raises(DeadlineExceededError, match="not ready in time: Server Threadpool Exhausted"):
            client.wait_until_ready(2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reload_that_was_refused_never_began_and_is_made_again(kind, serving):
    serving.grpc_threads = 0
    with make_client(kind, serving) as client:
        timer = threading.Timer(0.2, lambda: setattr(serving, "grpc_threads", None))
        timer.start()
        client.reload_config(ModelServerConfig(), timeout=PATIENCE_S)
        timer.join()
    assert len(serving.reloads) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_retries_that_are_bounded_are_so_for_busy_servers_too_unless_refusals_do_not_count(kind, serving):
    for policy, attempts in ((NO_RETRIES, 1), (RetryPolicy(first_delay_s=0.01, max_attempts=3), 3)):
        serving.grpc_threads = 0
        with make_client(kind, serving, retries=policy) as client, pytest.raises(ServerBusyError) as caught:
            client.status()
        assert ("after 3 attempts" in str(caught.value)) == (attempts == 3)
    with make_client(kind, serving, retries=RetryPolicy(max_attempts=1, counts_refusals=False)) as client:
        timer = threading.Timer(0.2, lambda: setattr(serving, "grpc_threads", None))
        timer.start()
        client.status()
        timer.join()
        serving.behaviours.append(refuse("UNAVAILABLE"))
        with pytest.raises(MaskServingError, match="refused"):
            client.segment(PICTURE)


@pytest.mark.parametrize(
    ("kind", "words", "error"),
    [
        ("sync-grpc", "OOM when allocating tensor with shape[1,2]", ServerOverloadedError),
        ("sync-grpc", "The batch scheduling queue to which this task was submitted is full", ServerOverloadedError),
        ("sync-grpc", "CLIENT: Received message larger than max (5 vs. 4)", MessageTooLargeError),
        ("sync-rest", "Server Threadpool Exhausted", ServerOverloadedError),
        ("sync-rest", "", ServerOverloadedError),
    ],
)
def test_other_exhausted_resources_are_not_tried_again(kind, serving, words, error):
    with make_client(kind, serving) as client:
        client.metadata()
        serving.behaviours.append(refuse("RESOURCE_EXHAUSTED", words))
        with pytest.raises(ServerOverloadedError if error is not MessageTooLargeError else error) as caught:
            client.predict("double", {"x": [1.0]})
        assert type(caught.value) is error
        assert len(serving.requests) == 1


def test_who_waits_longest_goes_first(serving):
    serving.grpc_threads = 2
    serving.behaviours += [slow(0.004)] * 5000
    done = dict.fromkeys(range(12), 0)
    enough = threading.Event()
    with make_client("sync-grpc", serving) as client:

        def work(number):
            while not enough.is_set():
                client.segment(PICTURE)
                done[number] += 1
                if done[number] >= 20:
                    enough.set()

        threads = [threading.Thread(target=work, args=(number,)) for number in done]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert min(done.values()) >= 5, done
