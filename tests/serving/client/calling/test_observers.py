import sys

import numpy as np
import pytest
from any_client import make_client
from fake_serving import refuse
from maskport.serving.client import InvalidRequestError, Observer, ServerFaultError
from maskport.serving.client.telemetry import OpenTelemetryObserver
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

PICTURE = np.full((4, 5, 3), 200, np.uint8)


class _Recorder(Observer):
    def __init__(self):
        self.events = []

    def call_started(self, call):
        self.events.append(("started", call.method, call.context.signature))

    def metadata(self, call):
        return [("X-Attempt", str(call.attempts))]  # as X-Ray's propagator writes its own

    def attempt_failed(self, call, error, delay_s):
        self.events.append(("failed", type(error).__name__, call.address))

    def call_ended(self, call):
        self.events.append(("ended", call.method, call.attempts, type(call.error).__name__))
        self.last = call


def test_observers_are_told_of_calls_attempts_and_ends(kind, serving):
    recorder = _Recorder()
    with make_client(kind, serving, observers=[recorder]) as client:
        client.metadata()
        recorder.events.clear()
        serving.behaviours.append(refuse("UNAVAILABLE"))
        client.segment(PICTURE)
    address = serving.address(kind.split("-")[1])
    assert recorder.events == [
        ("started", "Predict", "mask_png"),
        ("failed", "ServerUnavailableError", address),
        ("ended", "Predict", 2, "NoneType"),
    ]
    assert [headers["x-attempt"] for _, headers in serving.calls[-2:]] == ["1", "2"]
    assert recorder.last.request_bytes > 50
    assert recorder.last.response_bytes > 50
    assert recorder.last.seconds > 0
    assert recorder.last.address == address


def test_observers_are_told_of_failures(kind, serving):
    recorder = _Recorder()
    with make_client(kind, serving, observers=[recorder]) as client:
        client.metadata()
        serving.behaviours.append(refuse("INVALID_ARGUMENT"))
        with pytest.raises(InvalidRequestError):
            client.predict("double", {"x": [1.0]})
    assert recorder.events[-1] == ("ended", "Predict", 1, "InvalidRequestError")


def test_opentelemetry_has_a_span_for_every_call_and_its_identity_travels(kind, serving):
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    observer = OpenTelemetryObserver(traces, MeterProvider([reader]))
    with make_client(kind, serving, observers=[observer]) as client:
        client.metadata()
        serving.behaviours += [refuse("UNAVAILABLE"), refuse("INTERNAL", "out of order")]
        with pytest.raises(ServerFaultError):
            client.segment(PICTURE)
        client.segment(PICTURE)
    metadata, failed, fine = exporter.get_finished_spans()
    assert [span.name for span in (metadata, failed, fine)] == [
        "maskport GetModelMetadata",
        "maskport Predict",
        "maskport Predict",
    ]
    assert fine.kind == trace.SpanKind.CLIENT
    assert fine.attributes["maskport.model"] == "model"
    assert fine.attributes["maskport.signature"] == "mask_png"
    assert fine.attributes["server.address"] == serving.address(kind.split("-")[1])
    assert not failed.status.is_ok
    assert failed.attributes["error.type"] == "ServerFaultError"
    assert failed.attributes["maskport.attempts"] == 2
    assert [event.name for event in failed.events] == ["attempt failed"]
    identity = f"{fine.context.trace_id:032x}-{fine.context.span_id:016x}"
    assert identity in serving.calls[-1][1]["traceparent"]
    metrics = {
        metric.name: metric.data.data_points
        for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
        for metric in scope.metrics
    }
    durations = {point.attributes["rpc.status"]: point.count for point in metrics["maskport.client.duration"]
                 if point.attributes["rpc.method"] == "Predict"}  # fmt: skip
    assert durations == {"OK": 1, "INTERNAL": 1}
    assert sum(point.value for point in metrics["maskport.client.retries"]) == 1
    assert metrics["maskport.client.request.size"]


def test_spans_are_children_of_the_callers_also_for_products_asked_for_together(serving):
    exporter = InMemorySpanExporter()
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    with (
        make_client("sync-grpc", serving, observers=[OpenTelemetryObserver(traces)]) as client,
        traces.get_tracer("test").start_as_current_span("request") as parent,
    ):
        client.segment(PICTURE, outputs=("mask", "probability"))
        list(client.segment_many([PICTURE] * 3))
    calls = [span for span in exporter.get_finished_spans() if span.name == "maskport Predict"]
    assert len(calls) == 5
    assert {span.parent.span_id for span in calls} == {parent.get_span_context().span_id}


def test_telemetry_names_its_extra_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "maskport.serving.client.telemetry")
    with pytest.raises(Exception, match=r"pip install 'maskport\[otel\]'"):
        import maskport.serving.client.telemetry  # noqa: F401
