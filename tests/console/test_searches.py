"""What the forms ask the trace store, and how its answers read."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.console import searches
from dashboards.console.searches import Found, Question, lines_found, lines_of_trace, log_params, trace_form, trace_results
from telemetry.store.traceql import All, Compare, Field, parse
from tests.console.parsed import Parsed

NOW = 1_795_640_758.0
TRACE = "00c0ffee" * 4
HOSTILE = "</td><script>alert(1)</script>\"' onmouseover='x"


def question(**given: str) -> Question:
    return Question.read(given)


def test_an_empty_form_asks_for_the_traces_of_events() -> None:
    assert '{ span.cloudevents.event_id != "" }' == question().traceql()


def test_every_field_is_a_condition() -> None:
    asked = question(tenant="acme", hop="lake", status="dead_letter", min_duration="250ms", of="all")
    assert (
        '{ span.spillway.tenant = "acme" && span.spillway.hop = "lake" && span.spillway.final = "dead_letter"'
        ' && duration >= 250ms && span.spillway.hop != "backup" }'
    ) == asked.traceql()


def test_slow_steps_of_the_backup_are_found_by_asking_for_the_backup() -> None:
    assert '{ span.spillway.hop = "backup" && duration >= 1m }' == question(hop="backup", min_duration="1m", of="all").traceql()


def test_written_traceql_is_asked_as_it_is() -> None:
    assert "{ status = error }" == question(q="{ status = error }", tenant="acme").traceql()


@pytest.mark.parametrize("given", [{"of": each} for each in searches.KINDS] + [{"status": each} for each in searches.ENDS])
def test_the_store_speaks_every_choice_of_the_form(given: dict[str, str]) -> None:
    parse(question(**given).traceql())


@given(st.text(max_size=60), st.text(max_size=60))
def test_whatever_is_typed_is_one_value_to_the_store(tenant: str, event_id: str) -> None:
    """Nobody writes TraceQL by way of a field."""
    asked = question(tenant=tenant, event_id=event_id, of="all")
    typed = [("cloudevents.event_id", event_id.strip()), ("spillway.tenant", tenant.strip())]
    wanted = tuple(Compare(Field("span", name), "=", value) for name, value in typed if value)
    found = parse(asked.traceql())
    assert wanted == (found.parts if isinstance(found, All) else (found,) if isinstance(found, Compare) else ())


@pytest.mark.parametrize("typed", ["soon", "1", "-1s", "1s }", "1 s", "1d"])
def test_a_duration_that_is_none_is_said(typed: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        question(min_duration=typed).traceql()


def test_a_range_of_a_panel_is_kept_and_can_be_left() -> None:
    asked = question(start="1795640000", end="1795640900", q="{ }")
    assert [("start", "1795640000"), ("end", "1795640900")] == asked.params(NOW)[-2:]
    form = Parsed(trace_form(asked))
    assert "11-25 20:53:20 to 11-25 21:08:20 any time" in form.words
    assert "/traces?q=%7B+%7D&of=events" in [each["href"] for each in form.all("a")]


def test_a_range_that_is_none_is_the_usual_one() -> None:
    assert [("start", str(int(NOW) - 3600)), ("end", str(int(NOW) + 60))] == question(start="x", end="٣", since="1y").params(NOW)[
        -2:
    ]


# -- what was found


def found(**changed: Any) -> dict[str, Any]:
    spans = [
        {"name": "process events-clean", "durationNanos": "2200000000"},
        {"name": "process backup/events", "durationNanos": "60000000000"},
        {"name": "send", "durationNanos": "30000000"},
    ]
    return {
        "traceID": TRACE, "rootTraceName": "send", "startTimeUnixNano": str(int(NOW) * 10**9), "durationMs": 60000,
        "spanSets": [{"spans": spans, "matched": 11}], "serviceStats": {"spillway": {"spanCount": 11, "errorCount": 0}},
        **changed,
    }  # fmt: skip


def test_the_longest_step_is_not_the_backup() -> None:
    assert ("process events-clean", 2.2) == (lambda each: (each.step, each.step_seconds))(Found.read(found()))


def test_a_step_is_named_by_its_hop_where_the_store_says_it() -> None:
    spans = [{"name": "x", "durationNanos": "1", "attributes": [{"key": "spillway.hop", "value": {"stringValue": "lake"}}]}]
    assert "lake" == Found.read(found(spanSets=[{"spans": spans}])).step


def test_newest_first_and_each_leads_to_its_trace() -> None:
    later = found(traceID="1", startTimeUnixNano=str(int(NOW) * 10**9 + 1), serviceStats={"s": {"spanCount": 3, "errorCount": 2}})
    page = Parsed(trace_results([found(), later]))
    assert [f"/trace/{'1'.rjust(32, '0')}", f"/trace/{TRACE}"] == [each["href"] for each in page.all("a")]
    assert "2 traces, newest first" in page.words
    assert "2 failed" in page.words


def test_an_answer_with_nothing_in_it_is_read() -> None:
    assert Found("0" * 32, 0, "", "", 0.0, 0, 0) == Found.read({})
    assert "1 trace, newest first" in Parsed(trace_results([{}])).words


def test_no_trace_says_how_many_are_kept() -> None:
    assert "No trace fits." in Parsed(trace_results([])).words


# -- lines


def line(**changed: Any) -> dict[str, Any]:
    return {
        "time_unix_nano": int(NOW) * 10**9, "level": "WARNING", "event": "event rejected", "trace_id": TRACE, "part": "grpc",
        "worker": "grpc-1", "fields": {"event_id": "e 1", "reason": "rule", "part": "grpc", "empty": ""}, **changed,
    }  # fmt: skip


def test_a_line_says_when_who_what_and_leads_to_its_trace_and_its_event() -> None:
    page = Parsed(lines_found([line()]))
    assert "11-25 21:05:58.000warninggrpc-1event rejected event_id=e 1 reason=rule 00c0ffee" in page.words
    assert ["/traces?event_id=e+1&since=7d", f"/trace/{TRACE}"] == [each["href"] for each in page.all("a")]


def test_found_lines_are_newest_first_and_lines_of_a_trace_in_their_order_with_the_time_since_it_began() -> None:
    lines = [line(event="earlier"), line(event="later", time_unix_nano=int(NOW) * 10**9 + 1_500_000_000)]
    search, trace = Parsed(lines_found(lines)).words, Parsed(lines_of_trace(lines, int(NOW) * 10**9)).words
    assert search.index("later") < search.index("earlier")
    assert trace.index("earlier") < trace.index("later")
    assert "1.5 s" in trace


def test_an_exception_is_folded_below_its_line() -> None:
    page = Parsed(lines_found([line(fields={"exception": "Traceback\n  File x\nValueError: y"})]))
    assert ["Traceback\n  File x\nValueError: y"] == [page.text[page.text.index("Traceback") :].split("00c0")[0]]
    assert 1 == len(list(page.all("details")))


def test_nothing_of_a_line_or_a_trace_becomes_markup() -> None:
    fields = {HOSTILE: HOSTILE, "event_id": HOSTILE, "exception": f"{HOSTILE}\n{HOSTILE}"}
    evil = line(level=HOSTILE, event=HOSTILE, trace_id=HOSTILE, part=HOSTILE, worker=HOSTILE, fields=fields)
    spans = [{"name": HOSTILE, "durationNanos": "1"}]
    evil_trace = found(traceID=HOSTILE, rootTraceName=HOSTILE, spanSets=[{"spans": spans}])
    asked = question(**dict.fromkeys(("tenant", "event_id", "hop", "status", "min_duration", "q", "since", "of"), HOSTILE))
    page = Parsed(lines_found([evil]) + lines_of_trace([evil], 1) + trace_results([evil_trace]) + trace_form(asked))
    assert [] == page.dangers()
    assert page.text.count(HOSTILE) >= 12


def test_a_forms_text_and_time_are_what_the_store_is_asked() -> None:
    given = {"q": "took long ", "level": "warning", "process": "etl", "trace_id": "", "since": "15m"}
    assert [
        ("q", "took long"), ("level", "warning"), ("process", "etl"), ("start", str(int(NOW) - 900)), ("end", str(int(NOW) + 60)),
        ("limit", "200"),
    ] == log_params(given, NOW)  # fmt: skip
