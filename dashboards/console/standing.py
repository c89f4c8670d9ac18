"""Parts of the page of alerts that stand still: error budgets with their nines, silences, and the watchers themselves."""

from datetime import UTC, datetime

from dashboards.console import alerting
from dashboards.console.alerting import Budget, Channel, Health, Silence, Watch
from dashboards.console.forms import Forms
from dashboards.console.layout import Markup, html, notice, table, tag
from dashboards.console.moments import age, ago, clock, due
from dashboards.console.sources import Unanswered
from dashboards.console.units import text_of, unit_of

YEAR_SECONDS, DAY_SECONDS = 365 * 86400, 86400
ENDED_SILENCES_MAX = 5
SLO_PAGE = "/d/spillway-slo"
_SHARE = unit_of("percentunit")


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- budgets


def budgets(watch: Watch) -> Markup:
    title = tag("h2", "Error budgets ", tag("a", "as charts", href=SLO_PAGE, class_="lead"))
    found = watch.budgets
    if isinstance(found, Unanswered):
        return html(title, notice(f"UNKNOWN: how much of the error budgets is left. {found}."))
    if not found:
        return html(title, notice("UNKNOWN: Prometheus has no SLO. Its alert rules are not loaded, or nothing reports yet."))
    green = not alerting.blind(watch)
    heads = ("SLO", "Objective", "May fail a year", "in the period", "Budget left", "Burn rate now")
    caption = "A burn rate of 1 uses the budget up exactly at the end of the period. The least left first."
    return html(title, table(heads, [_budget(each, green) for each in found], caption, "budgets"))


def _budget(budget: Budget, green: bool) -> Markup:
    state = alerting.budget_state(budget.left)
    share = tag(
        "svg", tag("rect", x=0, y=0, width=f"{100 * min(1.0, max(0.0, budget.left or 0.0)):.1f}", height=10),
        class_="share", viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true",
    )  # fmt: skip
    left = (
        text_of(budget.left, _SHARE)
        if budget.left is None or budget.left >= 0
        else f"overspent by {text_of(-budget.left, _SHARE)}"
    )
    burn = "no data" if budget.burn is None else f"{budget.burn:.2f}"
    return tag(
        "tr",
        tag("td", budget.slo),
        tag("td", _exact(budget.objective), class_="number"),
        tag("td", may_fail(budget.objective, YEAR_SECONDS), class_="number"),
        tag("td", may_fail(budget.objective, budget.days and budget.days * DAY_SECONDS), class_="number"),
        tag("td", share, tag("span", left, class_=f"state-{state}" if green or state != "ok" else None)),
        tag("td", tag("span", burn, class_="state-near" if (budget.burn or 0.0) > 1.0 else None), class_="number"),
        data_line=True,
    )


def _exact(share: float | None) -> str:
    """An objective as it is written: 99.9, 99.999."""
    return "no data" if share is None else f"{round(100 * share, 6):g} %"


def may_fail(objective: float | None, seconds: float | None) -> str:
    """The nines in time: 99 % of a year is 3.65 days, 99.999 % is 5.26 minutes."""
    if objective is None or not seconds:
        return "no data"
    bad = (1 - objective) * seconds
    for scale, name in ((DAY_SECONDS, "days"), (3600, "hours"), (60, "minutes")):
        if bad >= scale:
            return f"{bad / scale:.3g} {name}"
    return "none" if bad < 1e-6 else f"{bad:.3g} seconds"


# -- silences


def silences(watch: Watch, now: float, forms: Forms) -> Markup:
    title = tag("h2", "Silences")
    found = watch.silences
    if isinstance(found, Unanswered):
        return html(title, notice(f"UNKNOWN: {found}."))
    ended = [each for each in found if each.state == "expired"][:ENDED_SILENCES_MAX]
    rows = [_silence(each, now, forms) for each in (*(each for each in found if each.state != "expired"), *ended)]
    if not rows:
        return html(title, notice("None. An alert above has a link that makes one.", "quiet"))
    return html(
        title, table(("State", "Alerts with", "Until (UTC)", "By", "Because", ""), rows, "In force, to come, and ended lately")
    )


def _silence(silence: Silence, now: float, forms: Forms) -> Markup:
    words, state = {"active": ("in force", "near"), "pending": ("to come", "nodata"), "expired": ("ended", "nodata")}[
        silence.state
    ]
    end = tag(
        "form", forms.hidden(id=silence.id),
        tag("button", "End it", type="submit", aria_label=f"End the silence of {', '.join(silence.matchers)}"),
        method="post", action="/alerts/silences/expire",
    ) if silence.state != "expired" else Markup("")  # fmt: skip
    until = due(silence.ends_at, now) if silence.state == "active" else Markup("")
    return tag(
        "tr",
        tag("td", tag("span", words, class_=f"state-{state}")),
        tag("td", *(tag("code", f"{each} ") for each in silence.matchers)),
        tag("td", clock(silence.ends_at, now), " ", until),
        tag("td", silence.by),
        tag("td", silence.comment),
        tag("td", end),
        data_line=True,
    )


# -- who watches the watchers


def watchers(watch: Watch, now: float) -> Markup:
    title = tag("h2", "The watchers")
    if isinstance(watch.health, Unanswered):
        return html(title, notice(f"UNKNOWN: {watch.health}. `spillway watch` asks from outside.", "bad"))
    green = not alerting.blind(watch)
    health = watch.health
    rows = [_deadman(health, now, green), _test_page(health, now, green), _outbox(health, now)]
    rows += [_row(f"Channel {each.name}", each.state, _taken(each, now), green) for each in health.channels]
    return html(title, tag("p", health.said), table(("What", "State", ""), rows, "Said by the escalator"))


def _deadman(health: Health, now: float, green: bool) -> Markup:
    told = html("seen ", ago(health.deadman_seen_at, now))
    if health.deadman_due_at is not None:
        told = html(told, ", the next ", due(health.deadman_due_at, now))
    return _row("Dead man's switch", health.deadman, told, green)


def _test_page(health: Health, now: float, green: bool) -> Markup:
    took = f", it took {age(health.test_page_seconds)}" if health.test_page_seconds is not None else ""
    told = html("sent ", ago(health.test_page_sent_at, now), "; came back ", ago(health.test_page_returned_at, now), took)
    return _row("Test page, hourly", health.test_page, told, green)


def _outbox(health: Health, now: float) -> Markup:
    if not health.waiting:
        return _row("Outbox", "empty", Markup("nothing waits to be sent"), False)
    return _row("Outbox", f"{health.waiting} waiting", html("the oldest since ", ago(health.oldest_at, now)), False)


def _taken(channel: Channel, now: float) -> Markup:
    told = (
        html("last taken ", ago(channel.last_ok_at, now)) if channel.last_ok_at is not None else Markup("has taken nothing yet")
    )
    return html(told, f"; last error: {channel.last_error}" if channel.last_error else "")


_STATES = {"ok": "ok", "late": "bad", "failed": "bad", "refusing": "bad", "never": "nodata", "untried": "nodata"}


def _row(what: str, state: str, told: Markup, green: bool) -> Markup:
    shown = _STATES.get(state, "nodata")
    return tag(
        "tr",
        tag("td", what),
        tag("td", tag("span", state, class_=f"state-{shown}" if green or shown != "ok" else None)),
        tag("td", told),
    )
