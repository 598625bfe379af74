"""The metrics page is what TensorFlow Serving's is, and what Prometheus reads."""

import re

import pytest
from maskport.serving.server.metrics import Metrics
from maskport.serving.status_codes import StatusCode
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def metrics():
    return Metrics()


def lines(metrics, name):
    return [line for line in metrics.page().decode().splitlines() if re.search(rf"{name}\b", line)]


def test_requests_are_counted_by_model_and_outcome(metrics):
    metrics.count_request("m", StatusCode.OK)
    metrics.count_request("m", StatusCode.OK)
    metrics.count_request("", StatusCode.INVALID_ARGUMENT)
    assert lines(metrics, "request_count") == [
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="m",status="OK"} 2',
        ':tensorflow:serving:request_count{model_name="",status="INVALID_ARGUMENT"} 1',
    ]


def test_names_that_callers_make_up_do_not_fill_the_memory(metrics):
    metrics.count_request("served", StatusCode.OK)
    for number in range(3000):
        metrics.count_request(f"made-up-{number}", StatusCode.NOT_FOUND)
    metrics.count_request("x" * 100_000, StatusCode.INVALID_ARGUMENT)
    metrics.count_request("late", StatusCode.OK)
    for name in ("served", "late"):
        metrics.count_request(name, StatusCode.INVALID_ARGUMENT)
    found = lines(metrics, "request_count")
    assert len(found) < 1100
    assert max(map(len, found)) < 400
    others = [line for line in found if "(others)" in line]
    assert sum(int(line.rpartition(" ")[2]) for line in others) == 2001 + 1
    for name in ("served", "late"):
        assert f':tensorflow:serving:request_count{{model_name="{name}",status="INVALID_ARGUMENT"}} 1' in found


def test_latencies_are_microseconds_in_tensorflow_servings_buckets(metrics):
    metrics.measure_request("m", "Predict", "GRPC", 25e-6)
    found = lines(metrics, "request_latency_bucket|request_latency_sum|request_latency_count")
    limits = [re.search('le="([^"]+)"', line)[1] for line in found if "le=" in line]
    assert limits[:4] == ["10", "18", "32.4", "58.32"]
    assert limits[-2:] == ["1.47476e+09", "+Inf"]
    assert len(limits) == 34
    values = [line.rsplit(" ", 1)[1] for line in found if "le=" in line]
    assert values[:4] == ["0", "0", "1", "1"]
    labels = 'model_name="m",API="Predict",entrypoint="GRPC"'
    assert f":tensorflow:serving:request_latency_sum{{{labels}}} 25" in found
    assert f":tensorflow:serving:request_latency_count{{{labels}}} 1" in found


def test_page_has_types_and_no_help(metrics):
    page = metrics.page().decode()
    assert "# HELP" not in page
    assert page.startswith("# TYPE :tensorflow:cc:saved_model:load_attempt_count counter\n")
    assert page.endswith("\n")


def test_labels_are_escaped(metrics):
    metrics.count_request('a"b\\c', StatusCode.OK)
    assert ':tensorflow:serving:request_count{model_name="a\\"b\\\\c",status="OK"} 1' in metrics.page().decode()


def test_prometheus_reads_the_page(metrics):
    metrics.count_request("m", StatusCode.OK)
    metrics.measure_run("m", "Predict", 0.002)
    metrics.count_examples("m", 3)
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
        if sample.labels.get("le", "+Inf") == "+Inf"
    }
    # The Python parser gives every counter a _total.
    assert samples[":tensorflow:serving:request_count_total"] == 1
    assert samples[":tensorflow:serving:runtime_latency_sum"] == 2000
    assert samples[":tensorflow:serving:request_example_count_total"] == 3
