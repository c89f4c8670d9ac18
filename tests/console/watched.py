"""Prometheus, Alertmanager and the escalator as the page of alerts asks them: one server that plays the three, and remembers.

`Night` is what they know at a moment: who is paged for what, what explains it, what is silenced. Acknowledging and silencing
change it. Parts are taken away by `away`, to hang by `hangs`.

    python -m tests.console.watched           # a console over it, until Ctrl-C; prints the address
"""

import argparse
import asyncio
import signal
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.console.live import console

BUDGET = "11.2% of the error budget of freshness-rds is left"
CONSOLE = "http://console.example:8088"
SLOS = {  # objective, left, burn rate
    "grpc-door-availability": (0.999, 0.93, 0.4),
    "http-door-availability": (0.999, 0.81, 0.9),
    "durability": (0.99999, 1.0, 0.0),
    "freshness-lake": (0.99, 0.64, 1.1),
    "freshness-rds": (0.99, 0.112, 14.9),
    "freshness-redis": (0.99, 0.97, 0.2),
    "correctness": (0.9999, -0.35, 0.0),
    "backup-coverage": (0.999, 0.99, 0.0),
}


def rfc3339(at: float) -> str:
    """With nine digits, as Go writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def labelled(name: str, severity: str, kind: str, **more: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, "kind": kind, "owner": "pipeline", "policy": "default", **more}


def annotated(name: str, summary: str, **more: str) -> dict[str, str]:
    links = {"dashboard": f"{CONSOLE}/d/spillway-canary", "runbook": f"{CONSOLE}/runbooks/{name}"}
    return {"summary": summary, "feels": "Nothing that happens shows in RDS.", **links, **more}


@dataclass
class Night:
    now: float = field(default_factory=time.time)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    pending: list[dict[str, Any]] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)
    silences: list[dict[str, Any]] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    slos: dict[str, tuple[float, float, float]] = field(default_factory=lambda: dict(SLOS))
    # Beginnings of paths that answer 503, or not at all.
    away: set[str] = field(default_factory=set)
    hangs: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def fires(self, name: str, severity: str, kind: str, summary: str, ago: float, said: Mapping[str, str] | None = None,
              inhibited_by: Sequence[str] = (), silenced_by: Sequence[str] = (), **labels: str) -> dict[str, Any]:  # fmt: skip
        alert = {
            "labels": labelled(name, severity, kind, **labels), "annotations": annotated(name, summary, **(said or {})),
            "startsAt": rfc3339(self.now - ago), "endsAt": rfc3339(self.now + 240), "updatedAt": rfc3339(self.now),
            "fingerprint": f"{len(self.alerts):016x}", "receivers": [{"name": "escalator"}],
            "status": {
                "state": "suppressed" if inhibited_by or silenced_by else "active", "inhibitedBy": list(inhibited_by),
                "silencedBy": list(silenced_by),
            },
        }  # fmt: skip
        self.alerts.append(alert)
        return alert

    def paged(self, alert: Mapping[str, Any], ago: float, **more: Any) -> dict[str, Any]:
        name = alert["labels"]["alertname"]
        page = {
            "key": f"{name}/{len(self.pages)}", "alert": name, "labels": alert["labels"], "annotations": alert["annotations"],
            "state": "open", "starts_at": self.now - ago - 5, "opened_at": self.now - ago, "acknowledged_at": None,
            "acknowledged_by": None, "resolved_at": None, "policy": "default", "level": 1, "levels": 3,
            "next_at": self.now + 110, "next": "level 2: sam by pagerduty", "series": 1,
            "notified": [self.notified(ago - 2, 1, "alice", "pagerduty", "delivered")], **more,
        }  # fmt: skip
        self.pages.append(page)
        return page

    def notified(self, ago: float, level: int, who: str, channel: str, outcome: str, detail: str = "") -> dict[str, Any]:
        return {"at": self.now - ago, "level": level, "who": who, "channel": channel, "outcome": outcome, "detail": detail}


def quiet(now: float | None = None) -> Night:
    """Nothing fires but the dead man's switch, and all watchers are well."""
    night = Night(now if now is not None else time.time())
    night.fires("Watchdog", "none", "watch", "Always fires.", 86400)
    night.slos = {name: (objective, 0.9, 0.2) for name, (objective, _, _) in SLOS.items()}
    night.health = {
        "now": night.now,
        "deadman": {"state": "ok", "seen_at": night.now - 21, "due_at": night.now + 39},
        "test_page": {"state": "ok", "sent_at": night.now - 1400, "returned_at": night.now - 1392, "seconds": 8.2},
        "channels": [
            {"name": "pagerduty", "state": "ok", "last_ok_at": night.now - 240, "last_error": None},
            {"name": "slack", "state": "ok", "last_ok_at": night.now - 1392, "last_error": None},
            {"name": "mail", "state": "untried", "last_ok_at": None, "last_error": None},
        ],
        "outbox": {"pending": 0, "oldest_at": None},
        "said": "Alerts arrive, the test page came back after 8 s, and both channels that were tried take pages.",
    }
    return night


def bad(now: float | None = None) -> Night:
    """RDS is down at night: one page nobody has acknowledged, one that is, causes, tickets, a silence, and what was before."""
    night = quiet(now)
    night.slos = dict(SLOS)
    trace = {"trace": f"{CONSOLE}/traces?q=%7B%20status%20%3D%20error%20%7D"}
    lost = night.fires(
        "CanaryLost", "page", "symptom", "42 probes did not reach rds through either door within 30 s.", 252,
        {**trace, "cause": "RdsErrors at rds (firing); EtlBatchFailed at rds (pending)", "budget": BUDGET}, exit="rds", hop="rds",
    )  # fmt: skip
    stale = night.fires(
        "ExitStale", "page", "symptom", "rds is 4 min behind; 90 s are promised.", 175,
        {**trace, "cause": "RdsErrors at rds (firing)"}, exit="rds", hop="rds",
    )  # fmt: skip
    night.fires("RdsErrors", "ticket", "cause", "rds: 31 failed batches in 5 min: connection refused.", 262,
                inhibited_by=[lost["fingerprint"]], exit="rds", hop="rds")  # fmt: skip
    night.fires("HotShard", "ticket", "cause", "shardId-000000000001 of events takes 91 % of its limit.", 5400, stream="events",
                hop="kinesis")  # fmt: skip
    night.fires("DeadLettersGrowing", "ticket", "cause", "0.3 dead letters a second at the redactor.", 9000,
                silenced_by=["silence-1"], stage="redactor", hop="redactor")  # fmt: skip
    night.pending.append({
        "labels": labelled("EtlBatchFailed", "ticket", "cause", exit="rds", hop="rds"),
        "annotations": annotated("EtlBatchFailed", "2 batches into rds failed."), "activeAt": rfc3339(night.now - 20),
        "state": "pending", "value": "2e+00",
    })  # fmt: skip
    night.paged(lost, 247, notified=[
        night.notified(245, 1, "alice", "pagerduty", "delivered"), night.notified(245, 1, "alice", "slack", "refused", "500"),
    ])  # fmt: skip
    night.paged(stale, 170, state="acknowledged", acknowledged_at=night.now - 90, acknowledged_by="alice", next_at=None,
                next="nobody: acknowledged")  # fmt: skip
    for number, (name, summary) in enumerate(
        (("CanarySlow", "Half of the probes reach the lake after 40 s."), ("IngestErrorsFastBurn", "8 % fail at the grpc door."),
         ("BackupGap", "No object of events for 11 min."), ("PagerRefusing", "pagerduty refuses pages: 429."))
    ):  # fmt: skip
        ended = {"labels": labelled(name, "page", "symptom", hop="lake"), "annotations": annotated(name, summary)}
        ago = 7200.0 + number * 30000
        night.paged(ended, ago, state="resolved", resolved_at=night.now - ago + 900, next_at=None, next="",
                    acknowledged_at=night.now - ago + 70, acknowledged_by="alice",
                    notified=[night.notified(ago - 2, 1, "alice", "pagerduty", "delivered"),
                              night.notified(ago - 900, 1, "alice", "pagerduty", "resolved")])  # fmt: skip
    for name, state, starts, ends, comment in (
        ("silence-1", "active", -1800, 5400, "new schema is being rolled out, ticket 812"),
        ("silence-2", "expired", -90000, -86000, "reshard"),
    ):
        night.silences.append(silence(name, state, night.now + starts, night.now + ends, "bob", comment, "DeadLettersGrowing"))
    return night


def silence(name: str, state: str, starts: float, ends: float, by: str, comment: str, alert: str) -> dict[str, Any]:
    matchers = [{"name": "alertname", "value": alert, "isRegex": False, "isEqual": True}]
    return {
        "id": name, "status": {"state": state}, "matchers": matchers, "startsAt": rfc3339(starts), "endsAt": rfc3339(ends),
        "updatedAt": rfc3339(starts), "createdBy": by, "comment": comment,
    }  # fmt: skip


# -- the server


def app(night: Night) -> web.Application:
    made = web.Application(middlewares=[_absence(night)])
    router = made.router

    def says(path: str, answer: Callable[[web.Request], Any]) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            return web.json_response(answer(request))

        router.add_get(path, handler)

    says("/api/v2/alerts", lambda _: night.alerts)
    says("/api/v2/silences", lambda _: night.silences)
    says("/api/v1/alerts", lambda _: {"status": "success", "data": {"alerts": _of_prometheus(night)}})
    says("/api/v1/query", lambda request: _budgets(night, request.query["query"]))
    says("/api/health", lambda _: night.health)
    says("/api/pages", lambda request: {"now": night.now, "pages": _pages(night, request.query["state"])})

    async def acknowledge(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        night.asked.append(("acknowledge", request.match_info["key"], body))
        page = next((each for each in night.pages if each["key"] == request.match_info["key"]), None)
        if page is None:
            return web.json_response({"error": "there is no such page"}, status=404)
        page.update(state="acknowledged", acknowledged_at=night.now, acknowledged_by=body["who"], next_at=None, next="nobody")
        return web.json_response(page)

    async def make_silence(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        night.asked.append(("silence", "", body))
        night.silences.append({**body, "id": f"made-{len(night.silences)}", "status": {"state": "active"}})
        return web.json_response({"silenceID": night.silences[-1]["id"]})

    async def expire(request: web.Request) -> web.StreamResponse:
        night.asked.append(("expire", request.match_info["id"], None))
        for each in night.silences:
            if each["id"] == request.match_info["id"]:
                each["status"] = {"state": "expired"}
        return web.Response()

    async def change(request: web.Request) -> web.StreamResponse:
        """For a browser's script: who is away from now on."""
        night.away = set(await request.json())
        return web.Response()

    router.add_post("/away", change)
    router.add_post("/api/pages/{key:.+}/acknowledge", acknowledge)
    router.add_post("/api/v2/silences", make_silence)
    router.add_delete("/api/v2/silence/{id}", expire)
    return made


def _absence(night: Night) -> Any:
    @web.middleware
    async def absence(request: web.Request, handler: Any) -> web.StreamResponse:
        if any(request.path.startswith(each) for each in night.hangs):
            await asyncio.Event().wait()
        if any(request.path.startswith(each) for each in night.away):
            return web.Response(status=503, text="away")
        answer: web.StreamResponse = await handler(request)
        return answer

    return absence


def _pages(night: Night, state: str) -> list[dict[str, Any]]:
    return [each for each in night.pages if state == "all" or (each["state"] == "resolved") == (state == "closed")]


def _of_prometheus(night: Night) -> list[dict[str, Any]]:
    firing = [
        {
            "labels": each["labels"],
            "annotations": each["annotations"],
            "activeAt": each["startsAt"],
            "state": "firing",
            "value": "1",
        }
        for each in night.alerts
    ]
    return [*firing, *night.pending]


def _budgets(night: Night, query: str) -> dict[str, Any]:
    """Nothing, to whoever asks for something else."""
    found = []
    for slo, (objective, left, burn) in night.slos.items() if "slo:objective:ratio" in query else ():
        values = {
            "slo:objective:ratio": objective, "slo:time_period:days": 30, "slo:current_burn_rate:ratio": burn,
            "slo:period_error_budget_remaining:ratio": left,
        }  # fmt: skip
        for name, value in values.items():
            labels = {"__name__": name, "sloth_service": "spillway", "sloth_slo": slo, "sloth_id": f"spillway-{slo}"}
            found.append({"metric": labels, "value": [night.now, str(value)]})
    return {"status": "success", "data": {"resultType": "vector", "result": found}}


@asynccontextmanager
async def watched(night: Night) -> AsyncIterator[str]:
    runner = web.AppRunner(app(night), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert site._server is not None
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    finally:
        await runner.cleanup()


@contextmanager
def watched_beside(night: Night) -> Iterator[str]:
    """The same in a thread, for who waits for a browser."""
    began, ended = threading.Event(), threading.Event()
    address: list[str] = []

    async def serve() -> None:
        async with watched(night) as url:
            address.append(url)
            began.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        assert began.wait(10), "the stand-in did not start"
        yield address[0]
    finally:
        ended.set()
        thread.join(10)


@contextmanager
def console_over(night: Night, folder: Path) -> Iterator[tuple[str, str]]:
    """The addresses of a console of its own, and of what it asks."""
    with watched_beside(night) as url, console(folder, url, url, None, "--alertmanager", url, "--escalator", url) as address:
        yield address, url


def main() -> None:
    parser = argparse.ArgumentParser(description="A console over a bad night, to look at its page of alerts.")
    parser.add_argument("--quiet", action="store_true", help="a quiet night instead")
    chosen = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    night = quiet() if chosen.quiet else bad()
    with tempfile.TemporaryDirectory(prefix="spillway-watched-") as folder, console_over(night, Path(folder)) as (url, _):
        print(url, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
