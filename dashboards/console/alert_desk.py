"""The routes of alerts: what they read, and the three things that can be done: acknowledge, silence, end a silence.

Rules. Each source has `ANSWER_SECONDS_MAX`; who is later is UNKNOWN on this page, and asked again by the next. What is done
goes to the escalator or Alertmanager at once, once; the page that follows says whether it was done, as they answered.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from dashboards.console import alert_answers as answers
from dashboards.console import alerting, alerts_page
from dashboards.console.alerting import Firing, Watch
from dashboards.console.forms import COMMENT_CHARS_MAX, Forms, Refusal, remember_who, remembered_who, who_of
from dashboards.console.layout import Markup
from dashboards.console.sources import Away, Json, Prometheus, Source, Unanswered

ANSWER_SECONDS_MAX = 2.0
BAD_GATEWAY = 502
NOTHING = Markup("")
T = TypeVar("T")
# Title, body, status; the frame is the console's.
Show = Callable[[Request, str, Markup, int], Response]


class AlertDesk:
    def __init__(self, prometheus: Prometheus, alertmanager: Source, escalator: Source, forms: Forms, show: Show) -> None:
        self._prometheus, self._alertmanager, self._escalator = prometheus, alertmanager, escalator
        self._forms, self._show = forms, show

    # -- pages

    async def page(self, request: Request, said: Markup = NOTHING, status: int = 200) -> Response:
        watch = await self.read()
        done = alerts_page.DONE.get(request.query_params.get("done", ""), "") if not said else ""
        body = alerts_page.page(watch, time.time(), self._forms, remembered_who(request), said or alerts_page.said_done(done))
        return self._show(request, "Alerts", body, status)

    async def brief(self, _: Request) -> Response:
        """What the overview shows of it, alone: asked for by the browser."""
        return HTMLResponse(alerts_page.brief(await self.read(whole=False), time.time()))

    async def brief_within(self, seconds: float) -> Markup:
        """The same for the first render of the overview, which waits for nobody."""
        try:
            async with asyncio.timeout(seconds):
                return alerts_page.brief(await self.read(whole=False), time.time())
        except TimeoutError:
            return alerts_page.brief_awaited()

    async def silence_form(self, request: Request) -> Response:
        found = await self._alert(request.query_params.get("alert", ""))
        body = alerts_page.silence_form(found, self._forms, remembered_who(request))
        return self._show(request, "Silence an alert", body, 404 if found is None else 200)

    # -- what is done

    async def acknowledge(self, request: Request) -> Response:
        try:
            given = await self._forms.read(request)
            who = who_of(given)
            key = given.get("key", "")
            await self._escalator.send("POST", f"/api/pages/{quote(key, safe='')}/acknowledge", {"who": who})
        except Refusal as exc:
            return await self.page(request, alerts_page.refused(str(exc)), exc.status)
        except Unanswered as exc:
            return await self.page(request, alerts_page.not_done("acknowledged", exc), BAD_GATEWAY)
        return _then("acknowledged", request, who)

    async def silence(self, request: Request) -> Response:
        try:
            given = await self._forms.read(request)
            who, seconds = who_of(given), alerts_page.SILENCE_SECONDS.get(given.get("for", ""))
            comment = given.get("comment", "")[:COMMENT_CHARS_MAX]
            alert = await self._alert(given.get("alert", ""))
            if not isinstance(alert, Firing):
                raise Refusal("That alert is not firing any more, or is not known: nothing was silenced.", 409)
            if alert.name == alerting.WATCHDOG:
                raise Refusal(f"{alerting.WATCHDOG} is the dead man's switch: silenced, it pages. Nothing was done.", 400)
            if not comment or seconds is None:
                raise Refusal("A silence needs a reason and a time: nothing was done.", 400)
            await self._alertmanager.send(
                "POST", "/api/v2/silences", alerts_page.silence_of(alert, seconds, who, comment, time.time())
            )
        except Refusal as exc:
            return await self.page(request, alerts_page.refused(str(exc)), exc.status)
        except Unanswered as exc:
            return await self.page(request, alerts_page.not_done("silenced", exc), BAD_GATEWAY)
        return _then("silenced", request, who)

    async def expire(self, request: Request) -> Response:
        try:
            given = await self._forms.read(request)
            await self._alertmanager.send("DELETE", f"/api/v2/silence/{quote(given.get('id', ''), safe='')}")
        except Refusal as exc:
            return await self.page(request, alerts_page.refused(str(exc)), exc.status)
        except Unanswered as exc:
            return await self.page(request, alerts_page.not_done("ended", exc), BAD_GATEWAY)
        return _then("ended", request, "")

    # -- what is read

    async def read(self, *, whole: bool = True) -> Watch:
        """`whole`: with what only the page of alerts shows."""
        alertmanager, escalator = self._alertmanager, self._escalator
        more = (
            _answer(escalator, "/api/pages", answers.pages_of, _which("closed", answers.HISTORY_MAX)),
            _answer(alertmanager, "/api/v2/silences", answers.silences_of),
            _asked(self._budgets(), "Prometheus"),
        ) if whole else ()  # fmt: skip
        firing, prometheus, pages, health, *rest = await asyncio.gather(
            _answer(alertmanager, "/api/v2/alerts", answers.firing_of_alertmanager),
            _answer(self._prometheus.source, "/api/v1/alerts", answers.firing_of_prometheus),
            _answer(escalator, "/api/pages", answers.pages_of, _which("open", answers.OPEN_MAX)),
            _answer(escalator, "/api/health", answers.health_of),
            *more,
        )
        return Watch(firing, prometheus, pages, health, *rest)

    async def _budgets(self) -> tuple[alerting.Budget, ...]:
        return answers.budgets_of(await self._prometheus.now(answers.BUDGETS_QUERY))

    async def _alert(self, fingerprint: str) -> Firing | Unanswered | None:
        found = await _answer(self._alertmanager, "/api/v2/alerts", answers.firing_of_alertmanager)
        if isinstance(found, Unanswered):
            return found
        return next((each for each in found if each.fingerprint == fingerprint), None)


def routes(desk: Callable[[], AlertDesk]) -> list[Route]:
    """`desk` is asked at each request: sources are there only while the console runs."""

    def get(
        path: str, does: Callable[[AlertDesk], Callable[[Request], Coroutine[Any, Any, Response]]], method: str = "GET"
    ) -> Route:
        async def handler(request: Request) -> Response:
            return await does(desk())(request)

        return Route(path, handler, methods=[method])

    return [
        get("/alerts", lambda one: one.page),
        get("/alerts/brief", lambda one: one.brief),
        get("/alerts/silence", lambda one: one.silence_form),
        get("/alerts/acknowledge", lambda one: one.acknowledge, "POST"),
        get("/alerts/silences", lambda one: one.silence, "POST"),
        get("/alerts/silences/expire", lambda one: one.expire, "POST"),
    ]


async def _answer(
    source: Source, path: str, shape: Callable[[Json], T], params: Sequence[tuple[str, str]] = ()
) -> T | Unanswered:
    return await _asked(source.read(path, params, shape), source.name)


async def _asked(question: Coroutine[Any, Any, T], name: str) -> T | Unanswered:
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            return await question
    except TimeoutError:
        return Away(f"{name} does not answer within {ANSWER_SECONDS_MAX:g} s")
    except Unanswered as exc:
        return exc


def _which(state: str, limit: int) -> tuple[tuple[str, str], ...]:
    return ("state", state), ("limit", str(limit))


def _then(done: str, request: Request, who: str) -> Response:
    answer = RedirectResponse(f"/alerts?done={done}", 303)
    if who:
        remember_who(answer, who, secure=request.url.scheme == "https")
    return answer
