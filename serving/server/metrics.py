"""What is counted and measured, under TensorFlow Serving's names, for Prometheus.

prometheus_client keeps the numbers; the page is written here, as TensorFlow Serving's differs from what that
library writes: no HELP lines, and counters without `_total`, which dashboards made for TensorFlow Serving
would not find.
"""

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import Metric

from ..status_codes import StatusCode

DEFAULT_PATH = "/monitoring/prometheus/metrics"

_RUNTIME = "TF1"
"""TensorFlow Serving's word for a graph that runs in a session."""


_MAX_NAMES, _MAX_NAME_LENGTH = 1000, 256
_OTHERS = "(others)"


def _exponential(first: float, factor: float, count: int) -> list[float]:
    return [first * factor**index for index in range(count)]


_LATENCY_BUCKETS = _exponential(10, 1.8, 33)
_QUEUING_BUCKETS = _exponential(100, 1.2, 52)
_EXAMPLE_BUCKETS = _exponential(1, 2, 15)
_BATCH_BUCKETS = _exponential(1, 2, 13)


class Metrics:
    """The numbers of one server. Durations come in as seconds and are kept in microseconds."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        serving = ":tensorflow:serving:"
        batching = serving + "batching_session:"
        self._requests = self._counter(serving + "request_count", "model_name", "status")
        self._request_latency = self._histogram(
            serving + "request_latency", _LATENCY_BUCKETS, "model_name", "API", "entrypoint"
        )
        self._runtime_latency = self._histogram(
            serving + "runtime_latency", _LATENCY_BUCKETS, "model_name", "API", "runtime"
        )
        self._examples = self._counter(serving + "request_example_count_total", "model")
        self._example_counts = self._histogram(serving + "request_example_counts", _EXAMPLE_BUCKETS, "model")
        self._warmup_latency = self._histogram(
            serving + "model_warmup_latency", _LATENCY_BUCKETS, "model_path", "status"
        )
        self._warmup_records = self._counter(serving + "model_warmup_records_read", "model_path", "status")
        self._queuing_latency = self._histogram(batching + "queuing_latency", _QUEUING_BUCKETS, "thread_pool_name")
        self._batches = self._counter(batching + "wrapped_run_count")
        self._batch_sizes = self._histogram(batching + "processed_batch_size", _BATCH_BUCKETS)
        self._loads = self._counter(":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status")
        self._load_latency = self._counter(":tensorflow:cc:saved_model:load_latency", "model_path")
        self._graph_runs = self._counter(":tensorflow:core:graph_runs")
        self._names: set[str] = set()

    # A metric's help text, which the page leaves out, keeps its name: the library takes _total off a counter's.

    def _counter(self, name: str, *labels: str) -> Counter:
        return Counter(name, name, labels, registry=self._registry)

    def _histogram(self, name: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, name, labels, registry=self._registry, buckets=buckets)

    def count_request(self, model: str, code: StatusCode) -> None:
        """Counts an answered request by how it ended.

        Anybody can ask for models that are not there: beyond some, these count under one name.
        """
        if code is StatusCode.OK or (len(self._names) < _MAX_NAMES and len(model) <= _MAX_NAME_LENGTH):
            self._names.add(model)
        elif model not in self._names:
            model = _OTHERS
        self._requests.labels(model, code.name).inc()

    def measure_request(self, model: str, api: str, entrypoint: str, seconds: float) -> None:
        """Records how long a successful request took; `entrypoint` is GRPC or REST."""
        self._request_latency.labels(model, api, entrypoint).observe(seconds * 1e6)

    def measure_run(self, model: str, api: str, seconds: float) -> None:
        """Records how long a request's run of the graph took, waiting for a batch included."""
        self._runtime_latency.labels(model, api, _RUNTIME).observe(seconds * 1e6)

    def count_examples(self, model: str, count: int) -> None:
        """Records how many examples a request had."""
        self._example_counts.labels(model).observe(count)
        self._examples.labels(model).inc(count)

    def measure_load(self, path: str, seconds: float, *, succeeded: bool) -> None:
        """Records an attempt at loading a version."""
        self._loads.labels(path, "success" if succeeded else "fail").inc()
        if succeeded:
            self._load_latency.labels(path).inc(int(seconds * 1e6))

    def measure_warmup(self, path: str, seconds: float, records: int) -> None:
        """Records that a version was warmed up."""
        self._warmup_latency.labels(path, "OK").observe(seconds * 1e6)
        self._warmup_records.labels(path, "OK").inc(records)

    def measure_queuing(self, thread_pool: str, seconds: float) -> None:
        """Records how long a request waited for its batch to begin."""
        self._queuing_latency.labels(thread_pool).observe(seconds * 1e6)

    def count_batch(self, size: int) -> None:
        """Counts a batch that was run, of so many rows with the padding."""
        self._batches.inc()
        self._batch_sizes.observe(size)

    def count_graph_run(self) -> None:
        """Counts a run of a model's graph."""
        self._graph_runs.inc()

    def value(self, name: str) -> int:
        """Returns the first value of a counter such as `/tensorflow/serving/request_count`; 0 where there is none."""
        wanted = name.replace("/", ":")
        for metric in self._registry.collect():
            if metric.documentation == wanted and metric.type == "counter" and metric.samples:
                return int(metric.samples[0].value)
        return 0

    def page(self) -> bytes:
        """Returns all numbers in Prometheus' text form, in order of their names."""
        metrics = sorted(self._registry.collect(), key=lambda metric: metric.documentation)
        return ("\n".join(line for metric in metrics for line in _lines(metric)) + "\n").encode()


def _lines(metric: Metric) -> Iterator[str]:
    yield f"# TYPE {metric.documentation} {metric.type}"
    for sample in metric.samples:
        if sample.name.endswith("_created"):
            continue
        name = metric.documentation if metric.type == "counter" else sample.name
        labels = ",".join(_label(*label) for label in sample.labels.items())
        value = f"{sample.value:g}" if sample.name.endswith("_sum") else str(int(sample.value))
        yield f"{name}{{{labels}}} {value}"


def _label(name: str, value: str) -> str:
    if name == "le" and value != "+Inf":
        value = f"{float(value):g}"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'{name}="{escaped}"'


class Stopwatch:
    """Measures the time since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._start
