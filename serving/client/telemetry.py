"""OpenTelemetry: a span for every call, its identity on the wire, and metrics. Needs the extra `otel`."""

from collections.abc import Sequence

from .calling.observers import ObservedCall, Observer
from .errors import MaskServingError, UnsupportedCallError

try:
    from opentelemetry import metrics, propagate, trace
except ImportError as import_error:
    raise UnsupportedCallError(
        "tracing needs the package opentelemetry-api", hint="install it with: pip install 'maskport[otel]'"
    ) from import_error

_NAME = "maskport"


class OpenTelemetryObserver(Observer):
    """Makes a client span of every call, under the caller's own, and passes its identity to the server.

    Metrics: `maskport.client.duration` (seconds, histogram), `maskport.client.request.size` and
    `maskport.client.response.size` (bytes, histograms), `maskport.client.retries` (counter); each by method,
    model, signature and status code.

    Args:
        tracer_provider: None is the global one.
        meter_provider: None is the global one.
    """

    def __init__(
        self, tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
    ):
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._duration = meter.create_histogram("maskport.client.duration", "s", "Time of a call.")
        self._sent = meter.create_histogram("maskport.client.request.size", "By", "Size of a request.")
        self._received = meter.create_histogram("maskport.client.response.size", "By", "Size of an answer.")
        self._retries = meter.create_counter("maskport.client.retries", "1", "Attempts after the first.")

    def call_started(self, call: ObservedCall) -> None:
        """Starts the call's span."""
        call.notes[self] = self._tracer.start_span(
            f"maskport {call.method}", kind=trace.SpanKind.CLIENT, attributes=_attributes(call)
        )

    def metadata(self, call: ObservedCall) -> Sequence[tuple[str, str]]:
        """Returns the span's identity, as the configured propagator writes it."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context=trace.set_span_in_context(call.notes[self]))
        return list(carrier.items())

    def attempt_failed(self, call: ObservedCall, error: MaskServingError, delay_s: float) -> None:
        """Notes the attempt on the span."""
        call.notes[self].add_event(
            "attempt failed",
            {"error.type": type(error).__name__, "server.address": call.address, "maskport.delay_s": delay_s},
        )
        self._retries.add(1, _attributes(call))

    def call_ended(self, call: ObservedCall) -> None:
        """Ends the span, and counts."""
        span: trace.Span = call.notes[self]
        code = "OK"
        if call.error is not None:
            code = call.error.code.name if call.error.code is not None else "UNKNOWN"
            span.set_status(trace.StatusCode.ERROR, str(call.error))
            span.set_attribute("error.type", type(call.error).__name__)
        span.set_attributes({"server.address": call.address, "maskport.attempts": call.attempts})
        span.end()
        attributes = {**_attributes(call), "rpc.status": code}
        self._duration.record(call.seconds, attributes)
        if call.error is None:
            self._sent.record(call.request_bytes, attributes)
            self._received.record(call.response_bytes, attributes)


def _attributes(call: ObservedCall) -> dict[str, str]:
    named = {"maskport.model": call.context.model, "maskport.signature": call.context.signature}
    return {"rpc.method": call.method} | {name: value for name, value in named.items() if value is not None}
