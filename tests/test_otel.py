"""The reports on a recovered call to the real OpenTelemetry and Prometheus packages."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from clients import Client

from resilient_requests import ConnectionOpened, ResilientAdapter
from resilient_requests.testing import FaultServer, reset, respond, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip(
    "opentelemetry.sdk", reason="needs opentelemetry-sdk: pip install --group partners"
)
# ruff: isort: off
from opentelemetry.sdk.metrics import MeterProvider  # after the question whether it is there
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from resilient_requests.otel import OpenTelemetryObserver
# ruff: isort: on

RESENT = "http.request.resend_count"
DOCS = Path(__file__).resolve().parent.parent / "docs" / "observability.md"


class Telemetry:
    """A tracer and a meter that keep everything they get."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = self.traces.get_tracer("test")
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self._reader])
        self.observer = OpenTelemetryObserver(meter_provider=self.meters)

    def current(self, name: str, kind: SpanKind = SpanKind.INTERNAL) -> Any:
        """A span that is the current one while it lasts."""
        return self.tracer.start_as_current_span(name, kind=kind)

    def close(self) -> None:
        """End its threads."""
        self.traces.shutdown()
        self.meters.shutdown()

    def finished(self, name: str) -> ReadableSpan:
        """The one span of that name."""
        (span,) = [span for span in self.spans.get_finished_spans() if span.name == name]
        return span

    def metrics(self) -> dict[str, list[Any]]:
        """The data points by the name of the instrument."""
        data = self._reader.get_metrics_data()
        found = [
            metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return {metric.name: list(metric.data.data_points) for metric in found}


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    """Nothing global is touched."""
    telemetry = Telemetry()
    yield telemetry
    telemetry.close()


def test_a_recovered_reset_is_on_the_current_span(
    telemetry: Telemetry, fault_server: FaultServer
) -> None:
    """One event for each attempt, the idle age with it, and no span of ours."""
    with Client(fault_server, observers=[telemetry.observer]) as client:
        client.warm()
        fault_server.script(reset())
        with telemetry.current("work"):
            client.post()
    span = telemetry.finished("work")
    failed, succeeded = span.events

    assert len(telemetry.spans.get_finished_spans()) == 1
    assert span.attributes is not None
    assert span.attributes[RESENT] == 1
    assert failed.name == succeeded.name == "resilient_requests.attempt"
    assert failed.attributes is not None
    assert str(failed.attributes["error.type"]).startswith("ConnectionError")
    assert failed.attributes["resilient_requests.reused"] is True
    assert failed.attributes["resilient_requests.idle_for"] > 0  # type: ignore[operator]  # a float
    assert failed.attributes["http.request.method"] == "POST"
    assert succeeded.attributes is not None
    assert succeeded.attributes["http.response.status_code"] == 200


def test_a_call_without_a_retry_has_no_resend_count(
    telemetry: Telemetry, fault_server: FaultServer
) -> None:
    """The conventions want it on resendings only."""
    with Client(fault_server, observers=[telemetry.observer]) as client, telemetry.current("work"):
        client.get()
    span = telemetry.finished("work")

    assert RESENT not in (span.attributes or {})
    assert [event.name for event in span.events] == ["resilient_requests.attempt"]


def test_the_span_of_an_incoming_request_gets_no_resend_count(
    telemetry: Telemetry, fault_server: FaultServer
) -> None:
    """The count would be a statement about the request that is served."""
    fault_server.script(reset())
    span_kind = SpanKind.SERVER
    with (
        Client(fault_server, observers=[telemetry.observer]) as client,
        telemetry.current("serve", span_kind),
    ):
        client.get()
    span = telemetry.finished("serve")

    assert RESENT not in (span.attributes or {})
    assert len(span.events) == 2


def test_a_denied_retry_and_the_end_of_a_stream_are_span_events(
    telemetry: Telemetry, fault_server: FaultServer
) -> None:
    """Why nothing follows, and how a stream went."""
    fault_server.script(stream([b"x"]), reset())
    once: dict[str, Any] = {"policy": {"max_retries": 0}, "observers": [telemetry.observer]}
    with Client(fault_server, **once) as client, telemetry.current("work"):
        with client.get(stream=True) as response:
            list(response.iter_content(None))
        with pytest.raises(requests.ConnectionError):
            client.get()
    events = {
        event.name: dict(event.attributes or {}) for event in telemetry.finished("work").events
    }

    assert events["resilient_requests.retry_denied"]["resilient_requests.reason"] == "exhausted"
    assert events["resilient_requests.stream_ended"]["resilient_requests.complete"] is True


def test_the_urllib3_instrumentation_gets_the_count_on_its_own_spans(
    telemetry: Telemetry, fault_server: FaultServer
) -> None:
    """One span for each attempt, the number on those that resend, and nowhere else."""
    instrumentation = pytest.importorskip("opentelemetry.instrumentation.urllib3")
    instrumentor = instrumentation.URLLib3Instrumentor()
    instrumentor.instrument(
        tracer_provider=telemetry.traces,
        meter_provider=telemetry.meters,
        request_hook=telemetry.observer.request_hook,
    )
    try:
        with Client(fault_server, observers=[telemetry.observer]) as client:
            client.warm()
            telemetry.spans.clear()
            fault_server.script(reset(), reset())
            with telemetry.current("work"):
                client.post()
    finally:
        instrumentor.uninstrument()
    attempts = [
        span for span in telemetry.spans.get_finished_spans() if span.kind is SpanKind.CLIENT
    ]

    assert [(span.attributes or {}).get(RESENT) for span in attempts] == [None, 1, 2]
    assert RESENT not in (telemetry.finished("work").attributes or {})
    assert len(telemetry.finished("work").events) == 3


def test_metrics_have_the_names_of_the_conventions(
    telemetry: Telemetry, fault_server: FaultServer
) -> None:
    """A dashboard that knows HTTP clients then knows this one."""
    fault_server.script(respond(b"ok"), reset(), stream([b"x"]))
    with Client(fault_server, observers=[telemetry.observer]) as client:
        client.get()
        with client.get(stream=True) as response:
            list(response.iter_content(None))
    metrics = telemetry.metrics()
    durations = metrics["http.client.request.duration"]
    (retries,) = metrics["resilient_requests.retries"]

    assert sum(point.count for point in durations) == 3
    assert {point.attributes.get("http.response.status_code") for point in durations} == {200, None}
    for point in durations:
        assert point.attributes["http.request.method"] == "GET"
        assert point.attributes["server.address"] == fault_server.host
        assert point.attributes["server.port"] == fault_server.port
        assert point.attributes["url.scheme"] == "http"
    assert (retries.value, retries.attributes["resilient_requests.reused"]) == (1, True)
    assert retries.attributes["error.type"].startswith("ConnectionError")
    assert metrics["resilient_requests.connections.opened"][0].value == 2
    assert metrics["resilient_requests.stream.duration"][0].count == 1


def test_durations_are_left_to_an_instrumentation_that_is_there(
    telemetry: Telemetry, fault_server: FaultServer
) -> None:
    """Two of them would count each request twice."""
    with Client(fault_server, observers=[telemetry.observer]) as client:
        with telemetry.current("attempt") as span:
            telemetry.observer.request_hook(span)
        client.get()

    assert "http.client.request.duration" not in telemetry.metrics()


def test_without_a_span_and_a_meter_nothing_happens(fault_server: FaultServer) -> None:
    """The API without an SDK does nothing, and must not fail."""
    with Client(fault_server, observers=[OpenTelemetryObserver()]) as client:
        assert client.get().status_code == 200


def test_an_adapter_with_the_observer_pickles() -> None:
    """A session goes to a worker process with all that is on it."""
    adapter = pickle.loads(pickle.dumps(ResilientAdapter(observers=[OpenTelemetryObserver()])))

    assert isinstance(adapter._observers[0], OpenTelemetryObserver)


def test_it_is_used_from_any_thread(telemetry: Telemetry) -> None:
    """An adapter is."""
    event = ConnectionOpened(
        call_id="x",
        origin="https://h:443",
        attempt=1,
        elapsed=0.1,
        connect=0.1,
        handshake=0.0,
        tls=None,
    )

    def tell() -> None:
        for _ in range(100):
            telemetry.observer(event)

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert telemetry.metrics()["resilient_requests.connections.opened"][0].value == 400


def recipe() -> str:
    """The Prometheus observer as the documentation shows it."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (found,) = [block for block in blocks if "prometheus_client" in block]
    assert isinstance(found, str)
    return found


CHECK = """
import prometheus_client, requests, sys
from resilient_requests.testing import FaultServer, reset, respond
with FaultServer(respond(b"ok"), reset()) as server, requests.Session() as session:
    session.mount("http://", ResilientAdapter(observers=[count]))
    session.get(server.url + "/path?query"); session.get(server.url)
    sys.stdout.write(prometheus_client.generate_latest().decode())
"""


@pytest.mark.slow
def test_the_prometheus_recipe_counts_what_happens() -> None:
    """It runs in a process of its own, since the registry is a global one."""
    pytest.importorskip("prometheus_client")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", recipe() + CHECK],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("http_client_")]
    totals: Counter[str] = Counter()
    for line in lines:
        name = re.split(r"[{ ]", line)[0]
        totals[name] += int(float(line.rpartition(" ")[2]))

    assert len(recipe().splitlines()) <= 36
    assert totals["http_client_attempts_total"] == 3
    assert totals["http_client_retries_total"] == 1
    assert "path" not in done.stdout.replace("python", "")
