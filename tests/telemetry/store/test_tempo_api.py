"""What a Grafana Tempo data source asks, and whether it can read the answers: each is parsed strictly as Tempo's Protobuf.

What it asks is in grafana/grafana-tempo-datasource `pkg/tempo` (commit 6cc1347c8a29): `/api/echo` for its health, search with
`Accept: application/json`, a trace with `Accept: application/protobuf` by version 2 and then 1, tags and values by version 2.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict

from telemetry.store import query, tempo
from telemetry.store.traceql import SPOKEN
from tests.telemetry.store.running import Answer, Running, running
from tests.telemetry.store.spans import AT_NS, SECOND_NS, line, lines, request, span, trace_id
from tests.telemetry.store.tempopb import message

AT = AT_NS // SECOND_NS


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def store(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """Two traces: one of two services with an error, one second long; and one of a span, two and a half later. Only read here."""
    async with running(tmp_path_factory.mktemp("store")) as store:
        first = span(1, 1, name="send", duration_ns=SECOND_NS, attributes={"tenant": "x", "count": 2, "share": 0.5, "ok": True})
        second = span(1, 2, name="take", parent=1, error="boom", attributes={"cloudevents.event_id": "e/1"})
        second.links.add(trace_id=trace_id(2), span_id=b"\1" * 8)
        await store.take(request(first, resource={"service.name": "shop"}))
        await store.take(request(second))
        later = span(2, 3, name="later", start_ns=AT_NS + 5 * SECOND_NS // 2, attributes={"cloudevents.event_id": "e/1"})
        await store.take(request(later))
        records = [
            line("started", at_ns=AT_NS),
            line("rejected", at_ns=AT_NS + SECOND_NS, level="WARNING", severity=13, trace=1, event_id="e/1", reason="too large"),
        ]
        await store.take(lines(records), "/v1/logs")
        yield store


def read(name: str, answer: Answer) -> Any:
    """The answer as a message; a field that Tempo has not is an error, as for Grafana."""
    assert (200, "application/json") == (answer.status, answer.headers["content-type"]), answer.text
    return ParseDict(answer.json, message(name)(), ignore_unknown_fields=False)


async def test_it_is_healthy_and_ready_and_says_whose_api_it_speaks(store: Running) -> None:
    for path, said in (("/api/echo", b"echo"), ("/ready", b"ready")):
        answer = await store.get(path)
        assert (200, said) == (answer.status, answer.body)
    assert "2.8.0" == (await store.get("/api/status/buildinfo")).json["version"]


@pytest.mark.parametrize("id", [trace_id(1).hex(), trace_id(1).hex().upper().lstrip("0"), "1", "0001"])
async def test_a_trace_by_id_is_the_same_in_every_version_and_encoding(store: Running, id: str) -> None:
    answers = [
        await store.get(f"/api/{version}traces/{id}", accept=accept, start=AT - 9, end=AT + 9)
        for version in ("", "v2/")
        for accept in ("application/json", "application/protobuf", "*/*")
    ]
    assert {200} == {answer.status for answer in answers}
    json_1, wire_1, any_1, json_2, wire_2, any_2 = answers
    assert "application/protobuf" == wire_1.headers["content-type"] == wire_2.headers["content-type"]
    whole = message("Trace")()
    whole.ParseFromString(wire_1.body)
    assert [{"send"}, {"take"}] == [{one.name for one in of.scope_spans[0].spans} for of in whole.resourceSpans]
    assert ["shop", "spillway"] == [of.resource.attributes[0].value.string_value for of in whole.resourceSpans]
    # Version 1 has `batches`, where the message has `resourceSpans`; Tempo renames it in the same way.
    assert ["batches"] == list(json_1.json)
    assert whole == ParseDict({"resourceSpans": json_1.json["batches"]}, message("Trace")())
    second = message("TraceByIDResponse")(trace=whole)
    assert second == read("TraceByIDResponse", json_2) == message("TraceByIDResponse").FromString(wire_2.body)
    assert (json_1.body, json_2.body) == (any_1.body, any_2.body)


async def test_a_trace_of_more_spans_than_are_shown_says_that_it_is_partial(
    store: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "TRACE_SPANS_MAX", 1)
    by_json = read("TraceByIDResponse", await store.get("/api/v2/traces/1"))
    by_wire = message("TraceByIDResponse").FromString((await store.get("/api/v2/traces/1", accept="application/protobuf")).body)
    assert by_json == by_wire
    assert (1, "the trace has more spans than are shown") == (by_wire.status, by_wire.message)
    assert ["send"] == [one.name for of in by_wire.trace.resourceSpans for one in of.scope_spans[0].spans]
    assert 0 == read("TraceByIDResponse", await store.get("/api/v2/traces/2")).status


async def test_a_trace_of_more_bytes_than_are_shown_is_partial_and_never_empty(
    store: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "TRACE_BYTES_MAX", 10)
    found = read("TraceByIDResponse", await store.get("/api/v2/traces/1"))
    assert (1, 1) == (found.status, len(found.trace.resourceSpans))


@pytest.mark.parametrize("version", ["", "v2/"])
async def test_a_trace_that_is_not_there_is_404_and_what_is_no_id_400(store: Running, version: str) -> None:
    answer = await store.get(f"/api/{version}traces/{'f' * 32}")
    assert (404, "trace not found") == (answer.status, answer.text)
    for wrong in ("xyz", "f" * 33, "1 1", "%2F"):
        answer = await store.get(f"/api/{version}traces/{wrong}")
        assert 400 == answer.status or (wrong == "%2F" and answer.status == 404), wrong


def ids(found: Any) -> list[int]:
    return [int(trace.traceID, 16) for trace in found.traces]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [2, 1]),
        ({"q": "{}", "limit": 20, "spss": 3, "start": AT - 9, "end": AT + 9}, [2, 1]),
        ({"q": "{ status = error }"}, [1]),
        ({"q": '{ resource.service.name = "shop" && duration >= 1s }'}, [1]),
        ({"q": '{ .tenant =~ "x|y" }'}, [1]),
        ({"q": "{}", "limit": 1}, [2]),
        ({"q": "{}", "end": AT + 1}, [1]),
        ({"q": "{}", "start": AT + 2, "end": AT + 2}, [2]),
        ({"q": "{}", "start": f"{AT}.5"}, [2]),
        ({"q": "{}", "start": AT_NS + 1}, [2]),
        ({"q": '{ name = "none" }'}, []),
        # As older Grafanas ask.
        ({"tags": 'tenant=x name="send"'}, [1]),
        ({"tags": "count=2 ok=true"}, [1]),
        ({"tags": "error=true"}, [1]),
        ({"tags": "service.name=shop", "minDuration": "1s", "maxDuration": "2s"}, [1]),
        ({"tags": "service.name=shop", "minDuration": "1.1s"}, []),
        ({"q": "{ true }", "minDuration": "500ms"}, [1]),
    ],
)  # fmt: skip
async def test_a_search_answers_as_tempo_would(store: Running, asked: dict[str, Any], expected: list[int]) -> None:
    assert expected == ids(read("SearchResponse", await store.get("/api/search", **asked)))


async def test_a_found_trace_says_what_grafana_shows_of_it(store: Running) -> None:
    (found,) = read("SearchResponse", await store.get("/api/search", q="{ status = error }")).traces
    assert (trace_id(1).hex(), "shop", "send", AT_NS, 1000) == (
        found.traceID, found.rootServiceName, found.rootTraceName, found.startTimeUnixNano, found.durationMs,
    )  # fmt: skip
    (matched,) = found.spanSets
    assert matched == found.spanSet
    assert (1, [("take", AT_NS, 5_000_000, (2).to_bytes(8, "big").hex())]) == (
        matched.matched,
        [(one.name, one.startTimeUnixNano, one.durationNanos, one.spanID) for one in matched.spans],
    )
    assert {"shop": (1, 0), "spillway": (1, 1)} == {
        name: (of.spanCount, of.errorCount) for name, of in found.serviceStats.items()
    }


async def test_a_found_span_says_its_service_its_hop_and_its_failure(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.take(request(span(1, 1, error="boom", attributes={"spillway.hop": "redactor"})))
        (found,) = read("SearchResponse", await store.get("/api/search", q="{ status = error }")).traces
    assert [("service.name", "spillway"), ("spillway.hop", "redactor"), ("status", "error")] == [
        (pair.key, pair.value.string_value) for pair in found.spanSet.spans[0].attributes
    ]


async def test_of_the_spans_that_fit_as_many_are_shown_as_asked_for_and_all_are_counted(store: Running) -> None:
    (found,) = read("SearchResponse", await store.get("/api/search", q='{ trace:id = "1" }', spss=1)).traces
    assert (2, 1) == (found.spanSet.matched, len(found.spanSet.spans))


@pytest.mark.parametrize(
    ("path", "asked", "why"),
    [
        ("/api/search", {"q": "{ } | rate()"}, SPOKEN),
        ("/api/search", {"q": "{ rootName = `x` }"}, SPOKEN),
        ("/api/search", {"minDuration": "1 day"}, "no duration"),
        ("/api/search", {"tags": "a"}, "key=value"),
        ("/api/search", {"tags": 'a="b'}, "has no end"),
        ("/api/search", {"limit": "0"}, "a number from 1 to"),
        ("/api/search", {"limit": "²"}, "a number from 1 to"),
        ("/api/search", {"spss": "-1"}, "a number from 1 to"),
        ("/api/search", {"start": "yesterday"}, "seconds since 1970"),
        ("/api/search", {"end": "nan"}, "seconds since 1970"),
        ("/api/search", {"start": "10", "end": "9"}, "start is after end"),
        ("/api/search/tags", {"start": "x"}, "seconds since 1970"),
        ("/api/v2/search/tag/nonsense/values", {}, SPOKEN),
        ("/api/metrics/query_range", {"q": "{ } | rate()"}, "Prometheus"),
        ("/api/logs", {"level": "loud"}, "level is one of"),
        ("/api/logs", {"trace": "1"}, "trace_id"),
        ("/api/logs", {"trace_id": "xyz"}, "no trace id"),
    ],
)
async def test_what_is_not_spoken_is_400_and_says_what_is(store: Running, path: str, asked: dict[str, str], why: str) -> None:
    answer = await store.get(path, **asked)
    assert (400, True) == (answer.status, why in answer.text), answer.text


async def test_another_page_is_404_and_says_where_to_look(store: Running) -> None:
    answer = await store.get("/api/overrides")
    assert (404, True) == (answer.status, "telemetry/store/README.md" in answer.text)
    assert (Path(__file__).parents[3] / "telemetry" / "store" / "README.md").exists()


async def test_tags_in_both_versions(store: Running) -> None:
    resource = ["service.instance.id", "service.name", "spillway.part"]
    of_span = ["cloudevents.event_id", "count", "ok", "share", "tenant"]
    first = read("SearchTagsResponse", await store.get("/api/search/tags"))
    assert sorted(resource + of_span) == list(first.tagNames)
    second = read("SearchTagsV2Response", await store.get("/api/v2/search/tags", limit=5000))
    scopes = {scope.name: list(scope.tags) for scope in second.scopes}
    assert {"resource": resource, "span": of_span, "intrinsic": list(tempo.INTRINSICS)} == scopes
    for scope, names in scopes.items():
        (one,) = read("SearchTagsV2Response", await store.get("/api/v2/search/tags", scope=scope)).scopes
        assert (scope, names) == (one.name, list(one.tags))
    assert [] == list(read("SearchTagsV2Response", await store.get("/api/v2/search/tags", scope="event")).scopes)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("span.tenant", [("string", "x")]),
        (".count", [("int", "2")]),
        ("span.share", [("float", "0.5")]),
        ("span.ok", [("bool", "true")]),
        ("resource.service.name", [("string", "shop"), ("string", "spillway")]),
        ("name", [("string", "later"), ("string", "send"), ("string", "take")]),
        ("status", [("keyword", "error"), ("keyword", "ok"), ("keyword", "unset")]),
        ("span.cloudevents.event_id", [("string", "e/1")]),
        ("span.none", []),
    ],
)
async def test_values_of_a_tag_in_both_versions(store: Running, tag: str, expected: list[tuple[str, str]]) -> None:
    found = read("SearchTagValuesV2Response", await store.get(f"/api/v2/search/tag/{tag}/values", q="{}", limit=5000))
    assert expected == [(one.type, one.value) for one in found.tagValues]
    first = read("SearchTagValuesResponse", await store.get(f"/api/search/tag/{tag.removeprefix('span.')}/values"))
    assert [value for _, value in expected] == list(first.tagValues)


async def test_values_are_narrowed_by_a_query_and_not_by_a_half_typed_one(store: Running) -> None:
    path = "/api/v2/search/tag/name/values"
    narrowed = read("SearchTagValuesV2Response", await store.get(path, q="{ status = error }"))
    assert ["take"] == [one.value for one in narrowed.tagValues]
    half = read("SearchTagValuesV2Response", await store.get(path, q="{ status = "))
    assert ["later", "send", "take"] == [one.value for one in half.tagValues]


async def test_a_tag_with_a_slash_is_found_however_often_it_is_escaped(tmp_path: Path) -> None:
    once = quote("span.http/route", safe="")
    async with running(tmp_path) as store:
        await store.take(request(span(9, 9, attributes={"http/route": "/a"})))
        for escaped in ("span.http/route", once, quote(once, safe="")):
            answer = await store.get(f"/api/v2/search/tag/{escaped}/values")
            assert ["/a"] == [one.value for one in read("SearchTagValuesV2Response", answer).tagValues], escaped


# -- our own questions


async def test_lines_by_each_of_their_sides(store: Running) -> None:
    rejected = {
        "time_unix_nano": AT_NS + SECOND_NS,
        "level": "warning",
        "event": "rejected",
        "trace_id": trace_id(1).hex(),
        "fields": {"event_id": "e/1", "reason": "too large"},
        "part": "redactor",
        "worker": "redactor-1",
    }
    asked: list[dict[str, str | int]] = [
        {"trace_id": "1"},
        {"event_id": "e/1"},
        {"level": "warning"},
        {"q": "TOO LARGE"},
        {"q": "reject"},
        {"start": AT + 1},
        {"start": AT + 1, "end": AT + 1},
        {"limit": 1},
        {"process": "redactor-1", "level": "WARN"},
        {"part": "redactor", "q": "large"},
    ]
    for one in asked:
        assert [rejected] == (await store.get("/api/logs", **one)).json, one
    assert ["started", "rejected"] == [one["event"] for one in (await store.get("/api/logs")).json]
    assert ["started"] == [one["event"] for one in (await store.get("/api/logs", end=AT)).json]
    assert [] == (await store.get("/api/logs", part="lake")).json


async def test_the_traces_of_an_event_the_latest_first(store: Running) -> None:
    found = await store.get("/api/events/e/1")
    expected = [{"traceID": trace_id(number).hex(), "source": "", "eventID": "e/1"} for number in (2, 1)]
    assert {"traces": expected} == found.json == (await store.get("/api/events/e%2F1")).json
    assert {"traces": []} == (await store.get("/api/events/none")).json


# -- bounds


async def test_more_questions_than_may_be_asked_at_once_are_told_to_come_again(
    store: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempo, "QUESTIONS_MAX", 3)
    answers = await asyncio.gather(*(store.get("/api/search") for _ in range(30)))
    assert {200, 429} == {answer.status for answer in answers}
    assert {"2"} == {answer.headers["retry-after"] for answer in answers if answer.status == 429}
    assert 200 == (await store.get("/api/search")).status


async def test_a_question_that_takes_too_long_is_504(tmp_path: Path) -> None:
    async with running(tmp_path, query_seconds_max=0.000001) as store:
        await store.take(request(*(span(number, number) for number in range(1, 50))))
        answer = await store.get("/api/search")
        assert (504, True) == (answer.status, "shorter time range" in answer.text)
        assert 200 == (await store.get("/api/echo")).status
