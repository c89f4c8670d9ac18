"""`spillway explain` with the trace store beside it: what real hops said, nothing said, and a store that can't be asked.

That every place itself is asked is tested against a live stack, in tests/e2e.
"""

import io
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from rich.console import Console

from pipeline.consumer.hop import HopTelemetry
from pipeline.dead_letters.letters import event_letter
from pipeline.doors.accept import Rejected
from pipeline.doors.reasons import Reason, Status
from pipeline.doors.spans import Answered, DoorSpans
from pipeline.event import StoredRecord, stored_batch
from pipeline.explain.command import answer
from pipeline.explain.fate import Became
from pipeline.explain.journey import Seen, Sighting, Wanted
from pipeline.explain.told import Asked, Told, of_event, of_trace
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.streams.batching import Origin
from telemetry import log as logs
from telemetry.metrics import Metrics
from telemetry.otlp import LogLine
from telemetry.personal_data import mask
from telemetry.store_client import StoreError, TraceStore, Within
from telemetry.tracing import Tracer, trace_of
from tests.explain.conftest import RealStore
from tests.explain.test_store_client import serving, tempo
from tests.explain.trail import BEGAN_NS, Trail, at_ns

WITHIN = Within(BEGAN_NS // 10**9 - 60, BEGAN_NS // 10**9 + 60)
NOW = BEGAN_NS / 1e9 + 100.0
PLACES = ("web-events", "web backup", "events", "backup", "events-clean", "lake", "rds", "redis", "dead letters")


def told(store: RealStore, id: str, source: str = "", tenant: str = "") -> Told:
    return of_event(store.client, Asked(id, source, tenant, WITHIN), NOW)


def sightings(found: Sequence[str] = (), unknown: Sequence[str] = ()) -> list[Sighting]:
    return [
        Sighting(place, Seen.FOUND if place in found else Seen.UNKNOWN if place in unknown else Seen.ABSENT, f"at {place}")
        for place in PLACES
    ]


def answered(seen: list[Sighting], told: Told | None, untold: str = "", **known: object) -> tuple[int, str]:
    out = io.StringIO()
    wanted = Wanted("e-1", **known)  # type: ignore[arg-type]
    code = answer(Console(file=out, width=200, highlight=False), wanted, seen, told, untold)
    return code, out.getvalue()


class Line:
    """Log lines of one part as its process ships them."""

    def __init__(self, part: str) -> None:
        self.shipped: list[LogLine] = []
        self.log = logs.configure(part, f"{part}-1", scrub=mask, stream=io.StringIO(), ship=self.shipped.append)


# -- what hops say


def test_the_times_of_a_delivered_event_are_shown_under_its_places(store: RealStore) -> None:
    trail = Trail("delivered").by_sdk().redacted().loaded().backed_up()
    store.takes(*trail.emitted)
    found = told(store, "delivered", "/shop", "acme")
    accepted_at = datetime.fromtimestamp(BEGAN_NS / 1e9, UTC)
    code, text = answered(sightings(["events", "lake", "rds"]), found, accepted_at=accepted_at, door="grpc")
    assert 0 == code
    assert "Delivered everywhere in 2.00 s; slowest hop lake (80%: waited 1.00 s, took 600 ms)." in text
    assert f"`spillway trace {trail.trace.hex_id}` shows all of this trace." in text
    # The places' own word is the last, and their table has its rows alone.
    assert "Delivered." == text.splitlines()[-1]
    rows = [line.split("│")[0].strip() for line in text.splitlines() if "│" in line]
    assert ["events", "backup", "events-clean", "lake", "rds", "redis", "dead letters"] == rows


def test_a_rejected_event_is_explained_by_the_span_of_a_real_door(store: RealStore) -> None:
    event = CloudEvent(id="rejected-1", source="/shop", spec_version="1.0", type="no.such.Type")
    spans, line = list[ReadableSpan](), Line("http-door")
    door = DoorSpans("http", "web-events", Tracer("http-door", "http-door-1", spans.append), line.log)
    now = time.perf_counter()
    rejected = Rejected(Reason.UNKNOWN_TYPE, "there is no such type", event)
    door.answered(
        Answered(Origin("acme", "http"), 1, {0: rejected}, {0: Status.REJECTED}, {}, {0: "unknown_type"}, now - 0.01, now)
    )
    store.takes(*spans)
    store.takes_lines(line.shipped, "http-door")
    found = told(store, "rejected-1")
    assert [(Became.REJECTED, "http-door", "unknown_type")] == [(fate.became, fate.at, fate.why) for fate in found.fates]
    assert ["event rejected"] == [each.event for each in found.lines]
    code, text = answered(sightings(), found)
    assert 0 == code
    assert text.rstrip().endswith(
        "Rejected at http-door: unknown_type. It was never acknowledged, so no place has it: mend it at its producer."
    )


def test_a_rejected_event_without_a_span_is_explained_by_its_log_line(store: RealStore) -> None:
    store.takes_lines(
        [LogLine(1, "warning", "event rejected", "", {"event_id": "rejected-2", "reason": "bad_json"})], "http-door"
    )
    found = told(store, "rejected-2")
    assert () == found.fates
    code, text = answered(sightings(), found)
    assert (0, True) == (code, "Rejected at http-door: bad_json. It was never acknowledged" in text)


def test_an_event_that_was_rejected_once_and_is_somewhere_now_is_not_called_rejected(store: RealStore) -> None:
    code, text = answered(sightings(["events", "lake", "rds"]), told(store, "rejected-2"))
    assert (0, "Delivered.") == (code, text.splitlines()[-1])


def test_a_rejected_event_may_have_been_accepted_later_if_not_every_place_could_be_read(store: RealStore) -> None:
    code, text = answered(sightings(unknown=["rds"]), told(store, "rejected-2"))
    assert (2, True) == (code, "Whether it was accepted later is not known" in text)


def test_a_dead_letter_of_a_real_worker_is_explained_with_its_key(store: RealStore) -> None:
    event = CloudEvent(id="dead-1", source="/shop", spec_version="1.0", type="t")
    event.attributes["canary"].ce_boolean = True
    batch = stored_batch(
        [event], tenant="acme", accepted_at_unix_micros=BEGAN_NS // 1000, door="grpc", worker="w", slice=0, slices=1
    )
    record = StoredRecord("events", "shardId-000000000001", "7", b"canary", BEGAN_NS // 1000 + 1)
    spans: list[ReadableSpan] = []
    clock = iter((at_ns(0.5), at_ns(0.75)))
    hop = HopTelemetry("redactor", Metrics(), Tracer("redactor", "redactor-1", spans.append), lambda: next(clock))
    with hop.delivery([record]) as delivery:
        assert delivery.opened(record, batch)
        delivery.dead([event_letter("redactor", "undecodable", "no such type", record, batch, 0)])
    store.takes(*spans)
    found = told(store, "dead-1")
    (fate,) = found.fates
    step = fate.step("redactor")
    assert step is not None
    assert (Became.DEAD_LETTER, "redactor", "undecodable", 0.25) == (fate.became, fate.at, fate.why, step.took_seconds)
    _, text = answered(sightings(["dead letters"]), found)
    assert "`spillway dlq redrive --key dead-letters/redactor/undecodable/2026/11/25/" in text


def test_an_event_that_nobody_traced_is_said_to_have_no_spans_and_the_answer_goes_on(store: RealStore) -> None:
    code, text = answered(sightings(["events", "lake", "rds"]), told(store, "nobody-traced-this"))
    assert (0, 1, "Delivered.") == (code, text.count("Times at each hop: no spans"), text.splitlines()[-1])


def test_an_event_that_was_rejected_and_then_sent_again_well_is_not_called_rejected(store: RealStore) -> None:
    """Its door's span is the later one's; the line of the first time is still there."""
    store.takes(*Trail("mended").by_sdk().emitted)
    line = LogLine(1, "warning", "event rejected", "", {"event_id": "mended", "reason": "bad_json"})
    store.takes_lines([line], "grpc-door")
    code, text = answered(sightings(), told(store, "mended"))
    assert (1, True, False) == (code, "Found nowhere." in text, "Rejected at" in text)


# -- which event


def test_only_the_events_of_the_source_and_tenant_in_question_are_told_of(store: RealStore) -> None:
    mine, others = Trail("shared", "/mine").by_sdk(), Trail("shared", "/others").by_sdk()
    store.takes(*mine.emitted, *others.emitted)
    line = {"event_id": "shared", "reason": "x"}
    store.takes_lines(
        [LogLine(1, "warning", "a", "", line | {"tenant": "acme"}), LogLine(2, "warning", "b", "", line | {"tenant": "evil"}),
         LogLine(3, "warning", "c", "", line | {"event_source": "/others"}), LogLine(4, "warning", "d", "", line)],
        "redactor",
    )  # fmt: skip
    assert {"/mine", "/others"} == {fate.source for fate in told(store, "shared").fates}
    found = told(store, "shared", "/mine", "acme")
    assert (["/mine"], ["a", "d"]) == ([fate.source for fate in found.fates], [each.event for each in found.lines])
    assert () == told(store, "shared", "/mine", "evil").fates


def test_an_id_that_holds_personal_data_is_found_though_spans_have_it_masked(store: RealStore) -> None:
    id = "order-of-jane.doe@shop.example"
    trace, spans = trace_of("/shop", id), list[ReadableSpan]()
    Tracer("grpc-door", "w", spans.append, scrub=mask).event(trace, "grpc-door", at_ns(0.0), at_ns(0.1))
    assert id not in str(spans[0].attributes)
    store.takes(*spans)
    assert [trace.hex_id] == [fate.trace_id for fate in told(store, id).fates]


def test_an_event_is_found_in_a_tempo_by_the_trace_id_of_its_identity() -> None:
    """Where neither a search nor a question for events finds it."""
    trace = trace_of("/shop", "e-1")
    said = {"spillway.hop": "grpc-door", "cloudevents.event_id": "e-1", "cloudevents.event_source": "/shop"}
    span = {
        "traceId": trace.hex_id, "spanId": f"{trace.span_id('grpc-door'):016x}", "name": "accept",
        "startTimeUnixNano": str(at_ns(0.0)), "endTimeUnixNano": str(at_ns(0.1)),
        "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in said.items()],
    }  # fmt: skip
    pages = {
        "/api/search": {"traces": []},
        f"/api/traces/{trace.hex_id}": {"batches": [{"scopeSpans": [{"spans": [span]}]}]},
    }
    with serving(tempo(pages)) as url:
        found = of_event(TraceStore(url), Asked("e-1", "/shop", within=WITHIN), NOW)
    assert [("redactor", Became.WAITS)] == [(fate.at, fate.became) for fate in found.fates]
    assert "this store keeps none" == found.lines_unknown


# -- what is not known


def test_a_store_that_is_away_makes_the_times_unknown_and_nothing_else() -> None:
    code, text = answered(sightings(["events", "lake", "rds"]), None, "the trace store at http://x does not answer: refused")
    assert (0, "Delivered.") == (code, text.splitlines()[-1])
    assert "Times at each hop: UNKNOWN, the trace store at http://x does not answer: refused" in text


@pytest.mark.parametrize(
    ("seen", "code"), [(sightings(), 1), (sightings(unknown=["lake"]), 2), (sightings(unknown=["redis"]), 1)]
)
def test_found_nowhere_without_a_store_does_not_rule_out_that_a_door_rejected_it(seen: list[Sighting], code: int) -> None:
    got, text = answered(seen, None, "the trace store at http://x does not answer: refused")
    assert code == got
    assert "Found nowhere." in text
    assert "Whether a door rejected it is not known without the trace store." in text


@pytest.mark.parametrize("break_at", ["/api/events", "/api/traces", "/api/logs"])
def test_each_question_that_fails_is_told_where_its_answer_would_be(break_at: str) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    pages: dict[str, Callable[[], bytes]] = {
        "/api/events": lambda: b'{"traces": [{"traceID": "%s"}]}' % trace_id.encode(),
        "/api/traces": lambda: b'{"batches": []}',
        "/api/logs": lambda: b"[]",
    }

    def page(path: str) -> tuple[int, bytes]:
        name = next(name for name in pages if path.startswith(name))
        return (503, b"the store can't read") if name == break_at else (200, pages[name]())

    with serving(page) as url:
        asked = Asked("e-1", within=WITHIN)
        if break_at == "/api/logs":
            assert "says 503: the store can't read" in of_event(TraceStore(url), asked, NOW).lines_unknown
        else:
            with pytest.raises(StoreError, match="says 503: the store can't read"):
                of_event(TraceStore(url), asked, NOW)


def test_a_trace_without_spans_whose_lines_are_not_known_is_not_known() -> None:
    def page(path: str) -> tuple[int, bytes]:
        if path == "/api/echo":
            return 200, b"echo"
        return (404, b"trace not found") if path.startswith("/api/traces") else (503, b"the store can't read")

    with serving(page) as url, pytest.raises(StoreError, match="its log lines are not known"):
        of_trace(TraceStore(url), "4bf92f3577b34da6a3ce929d0e0e4736", NOW)


def test_an_event_that_hides_markup_in_its_source_breaks_no_headline() -> None:
    _, text = answered(sightings(["events"]), None, "away", source="[/red]\x1b[2J", tenant="[bold]")
    assert "e-1, tenant [bold], source [/red]\\x1b[2J" == text.splitlines()[0]
