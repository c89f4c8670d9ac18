"""What an engineer on call sees of a live stack: whole traces, signals of every hop, panels with data; and it harms nothing."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from dashboards.queries import all_queries
from loadtests.producer import watched
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.sdk.client import Client
from pipeline.stack.launch import Stack
from telemetry.hops import BY_NAME, HOPS, expected_hops
from telemetry.metrics import TELEMETRY_ITEMS, TRACES_JUDGED
from telemetry.process import Telemetry
from telemetry.tracing import trace_of
from tests.e2e.conftest import Pipeline, wait_until
from tests.e2e.evidence import Evidence, let_in

pytestmark = [pytest.mark.stack, pytest.mark.spark, pytest.mark.timeout(420)]

TRACES = 1_000
AT_ONCE = 16
WHOLE_SHARE_MIN = 0.999
SOURCE = "/tests/telemetry"
HEALED_SECONDS_MAX = 60.0
DISK_MIB = 24
FLOOD_REQUESTS = 150


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30.0) as answer:
        return json.loads(answer.read())


def _prometheus(pipeline: Pipeline, query: str) -> list[Any]:
    said = _get(f"{pipeline.env['SPILLWAY_PROMETHEUS_URL']}/api/v1/query?{urllib.parse.urlencode({'query': query})}")
    return list(said["data"]["result"])


def _value(pipeline: Pipeline, query: str) -> float:
    return sum(float(series["value"][1]) for series in _prometheus(pipeline, query))


def _spans(pipeline: Pipeline, trace_id: str) -> list[dict[str, Any]]:
    """The spans of a trace, each with its hop; none if the store does not know it."""
    try:
        said = _get(f"{pipeline.env['SPILLWAY_STORE_URL']}/api/traces/{trace_id}")
    except urllib.error.HTTPError as exc:
        if exc.code == 404:
            return []
        raise
    found = []
    for batch in said.get("batches") or said.get("resourceSpans"):
        for scope in batch["scopeSpans"]:
            for span in scope["spans"]:
                attributes = {pair["key"]: next(iter(pair["value"].values())) for pair in span["attributes"]}
                found.append(span | {"hop": attributes["spillway.hop"], "attributes": attributes})
    return found


def _hops(pipeline: Pipeline, trace_id: str) -> set[str]:
    return {span["hop"] for span in _spans(pipeline, trace_id)}


def _client(pipeline: Pipeline, producer: Telemetry) -> Client:
    return Client(pipeline.doors.grpc, pipeline.key, source=SOURCE, telemetry=producer)


def _post(pipeline: Pipeline, id: str, traceparent: str = "") -> None:
    event = {
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": PageViewed.DESCRIPTOR.full_name,
        "time": "2026-11-25T05:00:00Z",
        "datacontenttype": "application/json",
        "data": {"pageUrl": "https://shop.example/"},
    }
    headers = {"authorization": f"Bearer {pipeline.key}", "content-type": "application/cloudevents+json"}
    if traceparent:
        headers["traceparent"] = traceparent
    request = urllib.request.Request(f"{pipeline.doors.http}/v1/events", json.dumps(event).encode(), headers)
    with urllib.request.urlopen(request, timeout=20.0) as answer:
        assert 200 <= answer.status < 300


def _send_through_both_doors(pipeline: Pipeline, producer: Telemetry, count: int) -> None:
    with _client(pipeline, producer) as client:
        for number in range(count):
            client.send(PageViewed(page_url="https://shop.example/"), subject=f"v-{number}", canary="probe")
            _post(pipeline, f"both-{number}-{time.time_ns()}")


def _tree(spans: list[dict[str, Any]]) -> dict[str, str]:
    """Hop by hop, the hop of its parent; "" for the root, "?" for a parent that is not there."""
    by_id = {span["spanId"]: span["hop"] for span in spans}
    return {span["hop"]: by_id.get(span["parentSpanId"], "?") if span.get("parentSpanId") else "" for span in spans}


@pytest.fixture(scope="module")
def producer(stack: Stack) -> Iterator[Telemetry]:
    """The SDK in this process ships its spans to the stack's store, and has a port that Prometheus scrapes."""
    with watched(stack, "tests") as telemetry:
        yield telemetry


@pytest.fixture
def watched_pipeline(pipeline: Pipeline, producer: Telemetry) -> Pipeline:
    return let_in(pipeline)


def test_a_canary_event_of_the_sdk_is_one_trace_over_every_hop(watched_pipeline: Pipeline, producer: Telemetry) -> None:
    pipeline = watched_pipeline
    with _client(pipeline, producer) as client:
        sent = client.send(PageViewed(page_url="https://shop.example/"), subject="visitor-1", canary="probe-1")
        sent.result(30.0)
    trace_id = trace_of(SOURCE, sent.id).hex_id
    wanted = expected_hops(http=False, sdk=True)
    wait_until(lambda: wanted <= _hops(pipeline, trace_id), lambda: f"a whole trace: {_hops(pipeline, trace_id)} of {wanted}")
    tree = _tree(_spans(pipeline, trace_id))
    assert {
        "sdk": "",
        "grpc-door": "sdk",
        "redactor": "grpc-door",
        "lake": "redactor",
        "rds": "redactor",
        "redis": "redactor",
        "backup": "grpc-door",
    } == {hop: tree[hop] for hop in wanted}
    assert [] == [hop for hop, parent in tree.items() if parent == "?"]


def test_a_canary_event_by_http_is_one_trace_and_child_of_the_page_that_sent_it(watched_pipeline: Pipeline) -> None:
    pipeline = watched_pipeline
    trace_id, page_span = os.urandom(16).hex(), os.urandom(8).hex()
    _post(pipeline, f"page-{trace_id}", f"00-{trace_id}-{page_span}-01")
    wanted = expected_hops(http=True, sdk=False) | {"backup/web-events"}
    wait_until(lambda: wanted <= _hops(pipeline, trace_id), lambda: f"a whole trace: {_hops(pipeline, trace_id)} of {wanted}")
    tree = _tree(_spans(pipeline, trace_id))
    assert {
        "http-door": "?",  # the page's own span, which is not in our store
        "transcoder": "http-door",
        "backup/web-events": "http-door",
        "grpc-door": "transcoder",
        "redactor": "grpc-door",
        "backup": "grpc-door",
        "lake": "redactor",
        "rds": "redactor",
        "redis": "redactor",
    } == {hop: tree[hop] for hop in wanted}
    assert ["http-door"] == [hop for hop, parent in tree.items() if parent == "?"]


@pytest.mark.slow
def test_of_a_thousand_traces_under_load_nearly_all_are_whole_and_the_figure_is_a_metric(
    watched_pipeline: Pipeline, producer: Telemetry
) -> None:
    pipeline = watched_pipeline
    judged = f'sum by (verdict) ({TRACES_JUDGED.name}{{verdict="%s"}})'
    before = {verdict: _value(pipeline, judged % verdict) for verdict in ("whole", "partial")}
    with _client(pipeline, producer) as client:
        # Each in company of nine that nobody traces.
        sent = []
        for number in range(10 * TRACES):
            canary = "probe" if number % 10 == 0 else ""
            delivery = client.send(
                PageViewed(page_url=f"https://shop.example/{number}"), subject=f"v-{number % 50}", canary=canary
            )
            if canary:
                sent.append(trace_of(SOURCE, delivery.id).hex_id)
        client.flush(60.0)
    wanted = expected_hops(http=False, sdk=True)
    whole: set[str] = set()

    def look() -> bool:
        left = [trace_id for trace_id in sent if trace_id not in whole]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            whole.update(
                id for id, hops in zip(left, pool.map(lambda id: _hops(pipeline, id), left), strict=True) if wanted <= hops
            )
        return len(whole) >= WHOLE_SHARE_MIN * TRACES

    wait_until(look, lambda: f"{WHOLE_SHARE_MIN:.1%} of the traces are whole: {len(whole)} of {len(sent)}")

    def gained(verdict: str) -> float:
        return _value(pipeline, judged % verdict) - before[verdict]

    wait_until(
        lambda: gained("whole") + gained("partial") >= TRACES, lambda: f"all judged: {gained('whole')}, {gained('partial')}"
    )
    assert gained("whole") >= WHOLE_SHARE_MIN * TRACES
    print(f"whole: {len(whole)} of {len(sent)}; judged whole {gained('whole'):.0f}, partial {gained('partial'):.0f}")


def test_every_signal_of_every_hop_reports_in_a_live_run(watched_pipeline: Pipeline, producer: Telemetry) -> None:
    pipeline = watched_pipeline
    _send_through_both_doors(pipeline, producer, 20)
    missing: set[tuple[str, str]] = set()

    def all_there() -> bool:
        missing.clear()
        for hop in HOPS:
            for name, one in hop.signals.items():
                if not _prometheus(pipeline, one.at("1m")):
                    missing.add((hop.name, name))
        return not missing

    wait_until(all_there, lambda: f"every hop has its four signals; no data: {sorted(missing)}", 90.0)


def test_the_traffic_of_every_hop_moves_with_the_events(watched_pipeline: Pipeline, producer: Telemetry) -> None:
    """A query that is answered may still read the wrong series."""
    pipeline = watched_pipeline
    still = list(BY_NAME)
    _send_through_both_doors(pipeline, producer, 50)

    def moved() -> bool:
        still[:] = [name for name in still if _value(pipeline, BY_NAME[name].traffic.at("1m")) == 0.0]
        return not still

    wait_until(moved, lambda: f"traffic at every hop; none at {still}", 90.0)


@pytest.mark.slow
def test_the_store_may_die_and_fill_with_rubbish_and_no_event_is_touched(watched_pipeline: Pipeline, producer: Telemetry) -> None:
    pipeline = watched_pipeline
    lost = f'sum({TELEMETRY_ITEMS.name}{{outcome=~"failed|dropped"}})'
    before = _value(pipeline, lost)
    pipeline.stack.hold("store")
    os.kill(pipeline.stack.pid("store"), signal.SIGKILL)
    ids = []
    try:
        with _client(pipeline, producer) as client:
            for number in range(200):
                page = PageViewed(page_url=f"https://shop.example/{number}")
                ids.append(client.send(page, subject="v", canary="probe").id)
            client.flush(30.0)
        evidence = Evidence(pipeline)
        wanted = {(SOURCE, id) for id in ids}
        wait_until(lambda: wanted <= set(evidence.rds()) and wanted <= set(evidence.lake()), "all are delivered without a store")
        wait_until(lambda: _value(pipeline, lost) > before, "the loss of telemetry shows", HEALED_SECONDS_MAX)
    finally:
        pipeline.stack.release("store")
        pipeline.stack.wait_ready("store", HEALED_SECONDS_MAX)
    assert Counter(dict.fromkeys(wanted, 1)) == Counter({one: count for one, count in evidence.rds().items() if one in wanted})
    # It heals by itself.
    id = f"after-{time.time_ns()}"
    _post(pipeline, id, f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01")
    known = f"{pipeline.env['SPILLWAY_STORE_URL']}/api/events/{id}"
    wait_until(lambda: _get(known)["traces"], "spans arrive again", HEALED_SECONDS_MAX)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own for the store is mounted by root")
def test_the_stores_disk_may_be_flooded_until_it_is_full_and_no_event_is_touched(
    watched_pipeline: Pipeline, producer: Telemetry
) -> None:
    pipeline, stack = watched_pipeline, watched_pipeline.stack
    lost = f'sum({TELEMETRY_ITEMS.name}{{outcome=~"failed|dropped"}})'
    with _small_disk(pipeline):
        before = _value(pipeline, lost)
        answers = Counter(_flood(pipeline))
        assert answers[503] + answers[429], f"the store never said no: {answers}"
        ids = []
        with _client(pipeline, producer) as client:
            for number in range(200):
                page = PageViewed(page_url=f"https://shop.example/{number}")
                ids.append(client.send(page, subject="v", canary="probe").id)
            client.flush(30.0)
        evidence = Evidence(pipeline)
        wanted = {(SOURCE, id) for id in ids}
        wait_until(lambda: wanted <= set(evidence.rds()) and wanted <= set(evidence.lake()), "all are delivered without a store")
        wait_until(lambda: _value(pipeline, lost) > before, "the loss of telemetry shows", HEALED_SECONDS_MAX)
        assert "ready" == stack.process("store").state, "a full disk is no reason to die"
    assert Counter(dict.fromkeys(wanted, 1)) == Counter({one: count for one, count in evidence.rds().items() if one in wanted})
    id = f"after-{time.time_ns()}"
    _post(pipeline, id, f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01")
    known = f"{pipeline.env['SPILLWAY_STORE_URL']}/api/events/{id}"
    wait_until(lambda: _get(known)["traces"], "spans arrive again", HEALED_SECONDS_MAX)


@contextmanager
def _small_disk(pipeline: Pipeline) -> Iterator[None]:
    """The store on a file system of its own, of a few MiB, and back on its old one afterwards."""
    stack, folder = pipeline.stack, pipeline.stack.folder.data("store")

    def with_store_held(*command: str) -> None:
        stack.hold("store")
        try:
            stack.wait_until("store", lambda process: process.state == "held", HEALED_SECONDS_MAX, "held")
            subprocess.run(command, check=True, timeout=30.0)
        finally:
            stack.release("store")
            stack.wait_ready("store", HEALED_SECONDS_MAX)

    with_store_held("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "spillway-tests", str(folder))
    try:
        yield
    finally:
        with_store_held("umount", str(folder))


def _flood(pipeline: Pipeline) -> Iterator[int]:
    """Answers of the store to more spans than the small disk holds."""
    session = requests.Session()
    session.trust_env = False
    for _ in range(FLOOD_REQUESTS):
        spans = [
            Span(trace_id=os.urandom(16), span_id=os.urandom(8), name="rubbish", start_time_unix_nano=1, end_time_unix_nano=2,
                 attributes=[KeyValue(key="x", value=AnyValue(string_value=os.urandom(1000).hex()))])
            for _ in range(200)
        ]  # fmt: skip
        request = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])])
        yield session.post(
            f"{pipeline.env['SPILLWAY_STORE_URL']}/v1/traces",
            request.SerializeToString(),
            headers={"content-type": "application/x-protobuf"},
            timeout=30.0,
        ).status_code


def test_every_panel_of_every_dashboard_has_data(watched_pipeline: Pipeline, producer: Telemetry) -> None:
    pipeline = watched_pipeline
    queries = all_queries()
    assert queries
    _send_through_both_doors(pipeline, producer, 50)
    empty: list[tuple[str, str, str]] = []

    def answered() -> bool:
        empty[:] = [row for row in (empty or queries) if not _prometheus(pipeline, row[2])]
        return not empty

    wait_until(answered, lambda: f"every panel has data; these have none: {empty}", 150.0)
