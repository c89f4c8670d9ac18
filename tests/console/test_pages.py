"""The console's pages over sources that answer, refuse, hang, or are not there."""

import asyncio
import base64
import json
import re
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from dashboards.console import sources
from dashboards.console.app import ConsoleSettings
from dashboards.console.layout import PAGES
from tests.console.asked import Answer, Asker, Handler, prometheus_saying, running, saying, serving
from tests.console.parsed import Parsed

TRACE = "00c0ffee" * 4
HOSTILE = "</td></title><script>alert(1)</script>\"' onmouseover='x"
NO_METRICS = prometheus_saying([])


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address where nobody listens, for as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


class Held:
    """A source that says nothing until it is let go."""

    def __init__(self, answer: Handler) -> None:
        self.begun, self.go, self._answer, self.asked = asyncio.Event(), asyncio.Event(), answer, 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        self.begun.set()
        await self.go.wait()
        return await self._answer(request)


def attributes(**values: str) -> list[dict[str, Any]]:
    return [{"key": key.replace("__", "."), "value": {"stringValue": value}} for key, value in values.items()]


def stored_trace(**said: str) -> dict[str, Any]:
    """As the store writes it: ids in base64, times as text."""
    span = {
        "traceId": base64.b64encode(bytes.fromhex(TRACE)).decode(), "spanId": base64.b64encode(b"12345678").decode(),
        "name": said.pop("name", "process events-clean"), "startTimeUnixNano": "1795640758000000000",
        "endTimeUnixNano": "1795640760000000000", "attributes": attributes(spillway__hop="lake", **said),
    }  # fmt: skip
    resource = {"attributes": attributes(service__instance__id="etl-1")}
    return {"batches": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}


LINE = {"time_unix_nano": 1795640759000000000, "level": "WARNING", "event": "a micro-batch took long", "trace_id": TRACE,
        "part": "etl", "worker": "etl-1", "fields": {}}  # fmt: skip


async def over(stack: AsyncExitStack, prometheus: str = "", store: str = "", **more: Any) -> Asker:
    return await stack.enter_async_context(running(ConsoleSettings(prometheus, store, **more)))


async def page(path: str, prometheus: str = "", store: str = "", **more: Any) -> tuple[Answer, Parsed]:
    async with running(ConsoleSettings(prometheus, store, **more)) as asker:
        answer = await asker.get(path)
    return answer, Parsed(answer.text)


# -- every page


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/dashboards",
        "/d/spillway-hop-lake",
        "/alerts",
        "/alerts/silence",
        "/traces",
        "/logs",
        "/ledger",
        "/runbooks/lake",
        "/login",
        f"/trace/{TRACE}",
    ],
)
async def test_every_page_has_a_title_one_heading_a_skip_link_a_menu_and_the_list_of_keys(path: str, nowhere: str) -> None:
    _, parsed = await page(path, nowhere, nowhere)
    assert [{"class": "skip", "href": "#content"}] == list(parsed.all("a"))[:1]
    assert ("en", "content", 1) == (
        next(parsed.all("html"))["lang"], next(parsed.all("main"))["id"], len(list(parsed.all("h1")))
    )  # fmt: skip
    assert [each.path for each in PAGES] == [each["href"] for each in parsed.all("a") if "data-key" in each]
    assert 1 == len(list(parsed.all("dialog")))
    assert [] == parsed.dangers()


async def test_the_theme_that_was_chosen_is_rendered_and_no_other() -> None:
    async with running(ConsoleSettings("", "")) as asker:
        pages = [Parsed((await asker.get("/logs", cookie=f"theme={theme}")).text) for theme in ("dark", "light", '"><x')]
    assert ["dark", "light", None] == [next(each.all("html")).get("data-theme") for each in pages]


async def test_the_range_that_was_chosen_last_is_the_next_pages() -> None:
    async with running(ConsoleSettings("", "")) as asker:

        def chosen(answer: Answer) -> list[str]:
            return [each["value"] for each in Parsed(answer.text).all("option") if "selected" in each][:1]

        assert ["6h"] == chosen(await asker.get("/d/spillway-hop-lake", cookie="range=6h"))
        assert ["1h"] == chosen(await asker.get("/d/spillway-hop-lake?range=1h", cookie="range=6h"))
        assert ["15m"] == chosen(await asker.get("/d/spillway-hop-lake", cookie="range=9y"))


async def test_what_is_not_there_is_said_with_the_menu() -> None:
    for path in ("/nowhere", "/d/nowhere", "/runbooks/nowhere"):
        answer, parsed = await page(path)
        assert (404, True) == (answer.status, "Overview" in parsed.words)
    answer, _ = await page("/api/nowhere")
    assert (404, {"error": "there is no such thing"}) == (answer.status, answer.json)


async def test_probes_are_answered_whatever_is_away(nowhere: str) -> None:
    async with running(ConsoleSettings(nowhere, nowhere)) as asker:
        assert ["ok\n", "ready\n"] == [(await asker.get(path)).text for path in ("/healthz", "/readyz")]


# -- a source that is not there


async def test_without_prometheus_the_overview_says_so_and_no_hop_is_green(nowhere: str) -> None:
    answer, parsed = await page("/", nowhere, nowhere)
    assert 200 == answer.status
    assert f"Prometheus at {nowhere} does not answer" in parsed.words
    assert "Nothing is known of any hop" in parsed.words
    assert "state-ok" not in answer.text


async def test_without_prometheus_the_browser_is_told_so_in_each_place(nowhere: str) -> None:
    async with running(ConsoleSettings(nowhere, nowhere)) as asker:
        hops, panel = (await asker.get("/api/hops")).json, (await asker.get("/api/panels/spillway-cost/2")).json
    said = f"Prometheus at {nowhere} does not answer"
    assert [f"{said} (connection refused)"] * 2 == [hops["error"], panel["why"]]
    assert ("Prometheus does not answer", "which processes answer is not known") == (panel["error"], hops["targets"])
    assert {"nodata"} == {each["state"] for each in hops["hops"]}


@pytest.mark.parametrize("path", ["/traces", f"/trace/{TRACE}", "/logs"])
async def test_without_the_store_its_pages_say_so_and_keep_their_forms(path: str, nowhere: str) -> None:
    answer, parsed = await page(path, nowhere, nowhere)
    assert (200, True) == (answer.status, f"The trace store at {nowhere} does not answer" in parsed.words)
    assert ("form" in [tag for tag, _ in parsed.elements]) is True


async def test_a_source_that_is_not_configured_is_said_to_be_so() -> None:
    assert "Prometheus is not configured" in (await page("/"))[1].words
    assert "The trace store is not configured" in (await page("/logs"))[1].words


# -- a source that hangs


@pytest.mark.parametrize(("path", "form"), [("/traces", "Event id"), (f"/trace/{TRACE}", TRACE), ("/logs", "Trace id")])
async def test_while_the_store_thinks_the_page_is_there_and_its_answer_follows(path: str, form: str) -> None:
    held = Held(saying({"traces": []} if path == "/traces" else stored_trace()))
    held_lines = Held(saying([]))
    held_lines.go = held.go
    async with serving(search=held, traces=held, logs=held_lines) as store, running(ConsoleSettings("", store)) as asker:
        first: list[str] = []

        def seen(piece: bytes) -> None:
            """The first piece comes while the store is still held."""
            first.append(piece.decode())
            held.go.set()

        answer = await asker.ask("GET", path, {}, seen=seen)
    assert form in Parsed(first[0]).words
    assert "Asking the trace store." in Parsed(first[0]).words
    assert "</html>" not in first[0]
    assert answer.text.endswith("</body></html>")


async def test_a_prometheus_that_hangs_holds_up_neither_the_overview_nor_a_hops_page() -> None:
    held = Held(NO_METRICS)
    async with serving(query=held, values=held) as prometheus, running(ConsoleSettings(prometheus, "")) as asker:
        overview, hop = await asyncio.gather(asker.get("/"), asker.get("/d/spillway-hop-lake"))
        assert not held.go.is_set()
        assert "Prometheus is slow to answer: asking again." in Parsed(overview.text).words
        assert "Hop: Lake" in Parsed(hop.text).words
        held.go.set()


async def test_who_was_silent_for_a_whole_question_is_not_waited_for_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ASK_SECONDS_MAX", 0.2)
    held = Held(NO_METRICS)
    async with serving(query_range=held, query=held) as prometheus, running(ConsoleSettings(prometheus, "")) as asker:
        first = (await asker.get("/api/panels/spillway-cost/2")).json
        asked = held.asked
        second = (await asker.get("/api/panels/spillway-cost/3")).json
        held.go.set()
    assert 1 <= asked == held.asked
    assert first["why"] == second["why"] == f"Prometheus at {prometheus} does not answer (no answer in 0.2 s)"


async def test_one_question_that_takes_too_long_does_not_silence_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ASK_SECONDS_MAX", 0.2)
    held, quick = Held(NO_METRICS), NO_METRICS
    async with serving(query_range=held, query=quick) as prometheus, running(ConsoleSettings(prometheus, "")) as asker:
        slow = asyncio.create_task(asker.get("/api/panels/spillway-hop-lake/2"))
        await held.begun.wait()
        assert "" == (await asker.get("/api/hops")).json["error"]
        assert "does not answer" in (await slow).json["error"]
        assert "" == (await asker.get("/api/hops")).json["error"]
        held.go.set()


# -- a source that says no, or nonsense


async def test_what_the_store_refuses_is_shown_in_its_words() -> None:
    async with serving(search=lambda _: _text("can't read 'x' at character 3", 400)) as store:
        _, parsed = await page("/traces?q=%7Bx%7D", "", store)
    assert "The trace store says 400: can't read 'x' at character 3" in parsed.words


async def test_a_trace_that_is_not_there_is_404_and_says_why_that_may_be() -> None:
    async with serving(logs=saying([])) as store:
        answer, parsed = await page(f"/trace/{TRACE}", "", store)
    assert 404 == answer.status
    assert "it was not kept, has expired, or is on its way still" in parsed.words


@pytest.mark.parametrize("text", ["<html>no</html>", "", "[1", "null", "3", '{"data": 3, "batches": 3, "traces": 3}', '["x"]'])
async def test_an_answer_that_is_no_answer_is_said_to_be_none(text: str) -> None:
    async def nonsense(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    async with (
        serving(query=nonsense, query_range=nonsense, search=nonsense, traces=nonsense, logs=nonsense) as url,
        running(ConsoleSettings(url, url)) as asker,
    ):
        assert "answered with something" in (await asker.get("/api/hops")).json["error"]
        assert "answered with something" in (await asker.get("/api/panels/spillway-cost/2")).json["error"]
        for path in ("/traces", "/logs", f"/trace/{TRACE}", "/"):
            assert "answered with something" in (await asker.get(path)).text, path


async def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ANSWER_BYTES_MAX", 1 << 20)
    async with serving(logs=lambda _: _text("[" + "1," * (1 << 20) + "1]", 200)) as store:
        _, parsed = await page("/logs", "", store)
    assert "answered with more than 1 MiB: narrow the question" in parsed.words


async def _text(text: str, status: int) -> web.StreamResponse:
    return web.Response(text=text, status=status)


# -- pages with something on them


async def test_a_trace_is_shown_with_its_lines_and_leads_on() -> None:
    async with serving(
        traces=saying(stored_trace(cloudevents__event_id="e1", spillway__tenant="acme")), logs=saying([LINE])
    ) as store:
        answer, parsed = await page(f"/trace/{TRACE.upper()}", "", store)
    assert 200 == answer.status
    assert "lake, took 2 s" in [each.get("aria-label") for each in parsed.all("summary")]
    assert "1 s warning etl-1 a micro-batch took long" in Parsed(answer.text.replace("<", " <")).words
    links = [each["href"] for each in parsed.all("a")]
    assert {"/logs?event_id=e1&since=7d", f"/logs?trace_id={TRACE}&since=7d"} <= set(links)


async def test_nothing_that_comes_from_outside_becomes_markup() -> None:
    hostile = stored_trace(name=HOSTILE, cloudevents__event_id=HOSTILE, spillway__tenant=HOSTILE, note=HOSTILE)
    hostile_line = {**LINE, "event": HOSTILE, "worker": HOSTILE, "fields": {HOSTILE: HOSTILE}}
    hostile_series = [{"metric": {"process": HOSTILE, "worker": HOSTILE}, "value": [1, "0"]}]
    values = saying({"status": "success", "data": [HOSTILE]})
    paths = [f"/trace/{TRACE}", "/logs", "/", "/d/spillway-hop-lake"]
    paths += [f"/traces?q={HOSTILE}&tenant={HOSTILE}&start={HOSTILE}", f"/logs?q={HOSTILE}&level={HOSTILE}", f"/trace/{HOSTILE}"]
    paths += [
        f"/d/spillway-hop-lake?range={HOSTILE}&var-worker={HOSTILE}",
        f"/login?to={HOSTILE}",
        f"/runbooks/{HOSTILE}",
        f"/{HOSTILE}",
    ]
    async with (
        serving(traces=saying(hostile), logs=saying([hostile_line]), search=saying({"traces": []})) as store,
        serving(query=prometheus_saying(hostile_series), values=values) as prometheus,
        running(ConsoleSettings(prometheus, store)) as asker,
    ):
        for path in paths:
            answer = await asker.get(path.replace("#", "%23"))
            assert [] == Parsed(answer.text).dangers(), path
        assert HOSTILE in Parsed((await asker.get(f"/trace/{TRACE}")).text).text


async def test_a_trace_id_typed_as_a_search_leads_to_the_trace() -> None:
    async with running(ConsoleSettings("", "")) as asker:
        for field in ("q", "event_id"):
            answer = await asker.get(f"/traces?{field}={TRACE.upper()}")
            assert (303, f"/trace/{TRACE}") == (answer.status, answer.headers["location"])


async def test_what_is_no_trace_id_is_not_asked_for(nowhere: str) -> None:
    for id in ("xyz", "1" * 33, "..%2f..%2fapi", "a b"):
        answer, parsed = await page(f"/trace/{id}", "", nowhere)
        assert (404, True) == (answer.status, "That is no trace id" in parsed.words or "no such page" in parsed.words)


# -- dashboards


async def test_a_hops_page_leads_to_the_hops_around_its_traces_runbooks_and_lines() -> None:
    _, parsed = await page("/d/spillway-hop-redactor")
    links = [each["href"] for each in parsed.all("a")]
    assert {"/d/spillway-hop-grpc-door", "/d/spillway-hop-lake", "/runbooks/redactor", "/logs?process=redactor"} <= set(links)


async def test_every_panel_leads_to_runbooks_and_to_traces_of_the_time_that_is_shown() -> None:
    answer, _ = await page("/d/spillway-hop-lake?range=1h")
    panels = re.split(r'<section class="panel', answer.text)[1:]
    assert [] == [each[:80] for each in panels if "/traces?q=" not in each or "/runbooks/lake" not in each]
    ranges = {(int(start), int(end)) for start, end in re.findall(r"start=(\d+)&amp;end=(\d+)", answer.text)}
    assert [3600] == [end - start for start, end in ranges]


async def test_the_worker_menu_has_the_workers_that_report() -> None:
    values = saying({"status": "success", "data": ["etl-2", "etl-1"]})
    async with serving(values=values) as prometheus:
        _, parsed = await page("/d/spillway-hop-lake?var-worker=etl-2", prometheus)
    options = [(each["value"], "selected" in each) for each in parsed.all("option")][-3:]
    assert [(".*", False), ("etl-1", False), ("etl-2", True)] == options


async def test_a_price_is_no_field_and_what_is_assumed_is() -> None:
    _, parsed = await page("/d/spillway-cost")
    fields = [each["name"] for each in parsed.all("input")]
    assert ["var-fargate_vcpu", "var-fargate_memory_gb", "var-backup_days", "var-objects_a_commit"] == fields


async def test_a_panel_that_is_none_is_404() -> None:
    async with running(ConsoleSettings("", "")) as asker:
        for path in ("/api/panels/nowhere/1", "/api/panels/spillway-cost/999", "/api/panels/spillway-cost/x"):
            assert 404 == (await asker.get(path)).status


async def test_a_folder_without_dashboards_leaves_the_map(tmp_path: Path) -> None:
    answer, parsed = await page("/", dashboards=tmp_path)
    assert (200, True) == (answer.status, "There is no overview dashboard" in parsed.words)
    assert "Firehose backup" in parsed.words


# -- runbooks


async def test_a_hops_runbooks_are_those_that_name_it_and_then_the_others(tmp_path: Path) -> None:
    (tmp_path / "LakeSlow.md").write_text("# The lake is slow\n\nSee the `lake`.\n")
    (tmp_path / "DoorFull.md").write_text("# A door is full\n\nThe `grpc-door` refuses.\n")
    (tmp_path / "..md").write_text("# no")
    links = {}
    for name in ("lake", "overview", "redis"):
        _, parsed = await page(f"/runbooks/{name}", runbooks=tmp_path)
        links[name] = [each["href"] for each in parsed.all("a") if each["href"].startswith("/runbooks")]
    door, lake = "/runbooks/DoorFull", "/runbooks/LakeSlow"
    assert {"lake": [lake, door], "overview": [door, lake], "redis": [door, lake]} == links


async def test_a_runbook_is_a_page(tmp_path: Path) -> None:
    written = ("# The lake is slow", "", "See [traces](/traces?q=x), not [evil](javascript:x).", "")
    written += ("1. Look", "   twice", "2. Mend `it`", "", "```sh", "make <it>", "```", "")
    (tmp_path / "LakeSlow.md").write_text("\n".join(written))
    answer, parsed = await page("/runbooks/LakeSlow", runbooks=tmp_path)
    assert "<h1>The lake is slow</h1>" in answer.text
    assert "<ol><li>Look twice</li><li>Mend <code>it</code></li></ol><pre><code>make &lt;it&gt;\n</code></pre>" in answer.text
    assert ([], True) == (parsed.dangers(), "[evil](javascript:x)" in parsed.text)


async def test_a_hop_without_runbooks_says_so(tmp_path: Path) -> None:
    answer, parsed = await page("/runbooks/lake", runbooks=tmp_path)
    assert (200, True) == (answer.status, "No runbook is written yet" in parsed.words)


# -- sizes and targets


async def test_answers_are_sent_small_to_who_takes_them_so() -> None:
    async with running(ConsoleSettings("", "")) as asker:
        plain, small = await asker.get("/d/spillway-overview"), await asker.get("/d/spillway-overview", accept_encoding="gzip")
    assert ("gzip", True) == (small.headers["content-encoding"], len(small.body) * 5 < len(plain.body))


async def test_workers_that_should_be_scraped_and_are_not_known_to_prometheus_are_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text(
        json.dumps([{"targets": ["x"], "labels": {"worker": "grpc-1"}}, {"targets": ["y"], "labels": {"worker": "etl-1"}}])
    )
    (tmp_path / "broken.json").write_text("{")
    up = prometheus_saying([{"metric": {"process": "grpc", "worker": "grpc-1"}, "value": [1, "1"]}])
    async with serving(query=up) as prometheus:
        for targets in (tmp_path, tmp_path / "stack.json"):
            async with running(replace(ConsoleSettings(prometheus, ""), targets=targets)) as asker:
                assert "1 of 2 processes do not answer: etl-1" == (await asker.get("/api/hops")).json["targets"]
