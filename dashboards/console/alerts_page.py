"""The page of alerts, and what the overview shows of it: who is asked to do what, why, and what nobody can see.

From the top: one sentence; then each problem, a page with the symptom that it is about and beneath it the causes that explain it;
what fires without paging; budgets; silences; the watchers; history. Each part is drawn anew by the browser every few seconds,
but for one in which somebody is typing. While a watcher is blind nothing is green.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.console import alert_answers, alerting, standing
from dashboards.console.alerting import Firing, Notice, Paged, Problem, Silence, Watch, known
from dashboards.console.forms import COMMENT_CHARS_MAX, WHO_CHARS_MAX, Forms
from dashboards.console.layout import Markup, choice, counted, html, notice, table, tag
from dashboards.console.moments import age, ago, clock, due, own_path, since
from dashboards.console.sources import Away, Unanswered
from telemetry.hops import BY_NAME

PATH, BRIEF = "/alerts", "/alerts/brief"
DONE = {"acknowledged": "Acknowledged.", "silenced": "Silenced.", "ended": "That silence has ended."}
SILENCE_SECONDS: Mapping[str, float] = {"15m": 900, "1h": 3600, "4h": 14400, "12h": 43200, "24h": 86400}
_SILENCE_WORDS = {"15m": "15 minutes", "1h": "1 hour", "4h": "4 hours", "12h": "12 hours", "24h": "24 hours"}
# Labels that every alert has, and that say nothing of what it is about.
_OF_ALL = frozenset(("severity", "kind", "owner", "policy", "job", "monitor", "prometheus"))
BRIEF_PAGES_MAX, BRIEF_REASONS_MAX = 5, 3
# What a storm leaves: those that are most urgent, and how many more there are.
PROBLEMS_MAX, CAUSES_MAX, ALONE_MAX, NOTICES_MAX = 25, 6, 40, 8
NOBODY = "UNKNOWN to anybody: no page is known to be open, which does not mean that none should be."


@dataclass(frozen=True, slots=True)
class _View:
    watch: Watch
    now: float
    forms: Forms
    who: str


def page(watch: Watch, now: float, forms: Forms, who: str, said: Markup) -> Markup:
    """`said`: what came of what was just done."""
    view = _View(watch, now, forms, who)
    shown = alerting.problems(watch)
    return html(
        tag("h1", "Alerts"),
        said,
        _part("verdict", _verdict(watch)),
        _part("open", _problems(view, shown)),
        _part("alone", _alone(view, shown)),
        _part("budgets", standing.budgets(watch)),
        _part("silences", standing.silences(watch, now, forms)),
        _part("watchers", standing.watchers(watch, now)),
        _part("history", _history(view)),
    )


def _part(name: str, body: Markup) -> Markup:
    return tag("div", body, id=f"alerts-{name}", data_part=True)


def _verdict(watch: Watch) -> Markup:
    state, text = alerting.verdict(watch)
    return tag(
        "section", tag("strong", text), tag("ul", *_reasons(watch)), class_=f"verdict state-{state}", role="status",
        aria_label="Verdict",
    )  # fmt: skip


def _reasons(watch: Watch) -> Iterator[Markup]:
    for reason in alerting.blind(watch):
        yield tag("li", f"UNKNOWN: {reason}", class_="state-nodata")
    for reason in alerting.deaf(watch):
        yield tag("li", reason, class_="state-bad")
    if alerting.unreachable(watch):
        yield tag("li", "no channel reaches a person: pages stand here and in the escalator's log alone", class_="state-near")


# -- the overview's line


def brief(watch: Watch, now: float) -> Markup:
    state, text = alerting.verdict(watch)
    items = [
        tag("li", tag("a", each.alert, href=f"{PATH}#{_anchor(each)}"), f": {_line_of(each)}", class_=f"state-{_state(each)}")
        for each in sorted(watch.open, key=lambda one: (one.state == "acknowledged", one.opened_at))[:BRIEF_PAGES_MAX]
    ]
    more = len(watch.open) - len(items)
    return _brief(state, text, html(*items, *([tag("li", f"{more} more")] if more > 0 else []), *_first_reasons(watch)))


def brief_awaited() -> Markup:
    return _brief("nodata", "UNKNOWN: asking Alertmanager and the escalator", Markup(""))


def _brief(state: str, text: str, items: Markup) -> Markup:
    return tag(
        "section", tag("strong", tag("a", "Alerts", href=PATH), f": {text}"), tag("ul", items), class_=f"verdict state-{state}",
        id="alerts-brief", data_part=True, aria_label="Alerts", role="status",
    )  # fmt: skip


def _first_reasons(watch: Watch) -> list[Markup]:
    found = list(_reasons(watch))
    left = len(found) - BRIEF_REASONS_MAX
    return found[:BRIEF_REASONS_MAX] + ([tag("li", f"{left} more reasons", class_="state-nodata")] if left > 0 else [])


def _line_of(page: Paged) -> str:
    summary = page.annotations.get("summary", "")
    who = f", acknowledged by {page.acknowledged_by}" if page.state == "acknowledged" else ", nobody has acknowledged it"
    return f"{summary}{who}"


# -- problems


def _problems(view: _View, shown: Sequence[Problem]) -> Markup:
    parts = [tag("h2", "What users feel, and who is paged")]
    if isinstance(view.watch.pages, Unanswered):
        parts.append(notice(f"UNKNOWN: who is paged. {view.watch.pages}. {NOBODY}", "bad"))
    if isinstance(view.watch.alertmanager, Unanswered):
        parts.append(
            notice(f"UNKNOWN: what is silenced or inhibited. {view.watch.alertmanager}. Shown is what Prometheus fires.")
        )
    if isinstance(view.watch.alertmanager, Unanswered) and isinstance(view.watch.prometheus, Unanswered):
        parts.append(notice(f"UNKNOWN: what fires. {view.watch.prometheus}.", "bad"))
    if not shown and not alerting.blind(view.watch):
        parts.append(notice("No symptom fires and no page is open.", "quiet"))
    return html(*parts, *(_problem(view, each) for each in shown[:PROBLEMS_MAX]), _left_out(shown[PROBLEMS_MAX:]))


def _left_out(rest: Sequence[Problem]) -> Markup:
    if not rest:
        return Markup("")
    by_name = ", ".join(f"{count} {name}" for name, count in Counter(each.name for each in rest).most_common(20))
    return notice(f"{counted(len(rest), 'more problems')} not shown: {by_name}. `spillway pages list` has every page.", "bad")


def _problem(view: _View, problem: Problem) -> Markup:
    page, said, name = problem.page, problem.annotations, problem.name
    state, words = _standing(view, problem)
    head = (
        tag("h3", name, *_about(problem.labels)),
        tag("span", words, class_="words"),
        tag("p", since(problem.since, view.now), class_="when"),
    )
    return tag(
        "article",
        tag("header", *head),
        *_summaries(problem),
        tag("p", "Users feel: ", said["feels"], class_="feels") if said.get("feels") else Markup(""),
        _facts(view, problem),
        tag(
            "div",
            _acknowledge(view, page) if page and page.wakes and page.state == "open" else Markup(""),
            _leads(name, said, problem.symptoms[0].fingerprint if problem.symptoms else ""),
            class_="do",
        ),
        _causes(view, problem),
        _notified(view, page) if page else Markup(""),
        class_=f"problem state-{state}", id=_anchor(page) if page else None, aria_label=name,
    )  # fmt: skip


def _anchor(page: Paged) -> str:
    return "page-" + "".join(letter if letter.isalnum() else "-" for letter in page.key)[:80]


def _state(page: Paged) -> str:
    return {"open": "bad", "acknowledged": "near", "resolved": "nodata"}[page.state]


def _standing(view: _View, problem: Problem) -> tuple[str, str]:
    """State and words of a problem."""
    page, symptoms = problem.page, problem.symptoms
    silenced = bool(symptoms) and all(each.silenced_by for each in symptoms)
    if page is None:
        if silenced:
            return "near", _silenced(view, symptoms[0])
        if instead := _pages_instead(view, symptoms[0]):
            return "near", instead
        if not any(each.pages for each in symptoms):
            return "near", "a ticket: nobody is paged"
        known_to_all = not isinstance(view.watch.pages, Unanswered)
        return ("bad", "no page is open for it") if known_to_all else ("bad", "UNKNOWN who is paged")
    gone = not symptoms and not isinstance(view.watch.alertmanager, Unanswered) and not page.own
    rest = ", does not fire any more" if gone else f", {_silenced(view, symptoms[0])}" if silenced else ""
    if not page.wakes and page.state == "open":
        return "near", f"a ticket: nobody need acknowledge it{rest}"
    if page.state == "acknowledged":
        return "near", f"acknowledged by {page.acknowledged_by or 'somebody'}{rest}"
    return "bad", f"nobody has acknowledged it{rest}"


def _pages_instead(view: _View, alert: Firing) -> str:
    """What inhibits it; empty: nothing that fires."""
    names = dict.fromkeys(each.name for each in view.watch.firing if each.fingerprint in alert.inhibited_by)
    return f"{', '.join(names)} pages for it" if names else ""


def _silenced(view: _View, alert: Firing) -> str:
    found: Silence | None = next((each for each in known(view.watch.silences) if each.id in alert.silenced_by), None)
    return f"silenced by {found.by} until {clock(found.ends_at, view.now)}: {found.comment}" if found else "silenced"


def _about(labels: Mapping[str, str]) -> list[Markup]:
    """What tells this alert from others of its name."""
    shown = sorted(name for name in labels if name not in _OF_ALL and name not in ("alertname", "hop"))
    return [tag("code", f"{name}={labels[name]}") for name in shown]


def _summaries(problem: Problem) -> list[Markup]:
    texts = [each.annotations.get("summary", "") for each in problem.symptoms] or [problem.annotations.get("summary", "")]
    return [tag("p", text, class_="summary") for text in dict.fromkeys(texts) if text]


def _facts(view: _View, problem: Problem) -> Markup:
    hop, page, said = problem.labels.get("hop", ""), problem.page, problem.annotations
    facts: list[tuple[str, str]] = []
    if hop:
        facts.append(("Hop", tag("a", BY_NAME[hop].title, href=f"/d/spillway-hop-{hop}") if hop in BY_NAME else hop))
    if page:
        facts += [("Paged", _paged(page, view.now)), ("Level", _level(page)), ("Next", _next(page, view.now))]
        if page.acknowledged_at is not None:
            facts.append(("Acknowledged", html(page.acknowledged_by, ", ", ago(page.acknowledged_at, view.now))))
    if said.get("budget"):
        facts.append(("Error budget", said["budget"]))
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", text)) for name, text in facts), class_="facts")


def _paged(page: Paged, now: float) -> Markup:
    """Who, by which channel, and what became of it: the newest of each."""
    triggers = sorted((each for each in page.notified if each.kind == "trigger"), key=lambda one: one.at)
    newest = {(each.who, each.channel): each for each in triggers}
    if not newest:
        return Markup("nobody yet")
    shown = sorted(newest.values(), key=lambda one: -one.at)[:4]
    lines = [html(each.who, " by ", each.channel, ": ", _outcome(each.outcome), ", ", ago(each.at, now)) for each in shown]
    return html(*(tag("span", line, class_="line") for line in lines))


_DELIVERED = frozenset(("delivered", "sent", "ok", "accepted", "recorded"))


def _outcome(outcome: str) -> Markup:
    return tag("span", outcome, class_=None if outcome in _DELIVERED else "state-bad")


def _level(page: Paged) -> str:
    level = f"{page.level} of {page.levels}" if page.levels else str(page.level)
    return f"{level}, policy {page.policy}" if page.policy else level


def _next(page: Paged, now: float) -> Markup:
    words = page.next or ("somebody" if page.next_at else "nobody")
    return html(tag("strong", due(page.next_at, now)), ": ", words) if page.next_at is not None else html(words)


def _acknowledge(view: _View, page: Paged) -> Markup:
    entry = tag(
        "input", type="text", name="who", value=view.who, required=True, maxlength=WHO_CHARS_MAX, autocomplete="username",
        spellcheck="false", class_="short",
    )  # fmt: skip
    return tag(
        "form",
        tag("label", tag("span", "I am"), entry),
        view.forms.hidden(key=page.key),
        tag("button", "Acknowledge", type="submit", class_="main", aria_label=f"Acknowledge {page.alert}"),
        method="post", action=f"{PATH}/acknowledge", class_="act",
    )  # fmt: skip


def _causes(view: _View, problem: Problem) -> Markup:
    text = problem.annotations.get("cause", "")
    if not problem.causes:
        return tag("p", "Probable cause: ", text or "none is known; begin with the runbook", class_="cause")
    items = [_cause(view, each) for each in problem.causes[:CAUSES_MAX]]
    if len(problem.causes) > CAUSES_MAX:
        items.append(tag("li", f"{len(problem.causes) - CAUSES_MAX} more", class_="quiet"))
    return html(tag("h4", "Probable cause"), tag("ul", *items, class_="causes"))


def _cause(view: _View, cause: Firing) -> Markup:
    hop = cause.labels.get("hop", "")
    at = f" at {BY_NAME[hop].title}" if hop in BY_NAME else ""
    state = "pending, " if cause.state == "pending" else "silenced, " if cause.silenced_by else ""
    return tag(
        "li",
        tag("p", tag("strong", cause.name), at, " ", *_about(cause.labels), " ",
            tag("span", state, since(cause.since, view.now), class_="quiet"),
            _leads(cause.name, cause.annotations, cause.fingerprint), class_="head"),
        tag("p", cause.annotations.get("summary", "")),
    )  # fmt: skip


def _leads(name: str, said: Mapping[str, str], fingerprint: str) -> Markup:
    """The runbook first: it is what is read at night."""
    links = [(title, own_path(said.get(key, ""))) for title, key in (("Dashboard", "dashboard"), ("Traces", "trace"))]
    links.insert(0, ("Runbook", own_path(said.get("runbook", "")) or f"/runbooks/{name}"))
    if fingerprint and name != alerting.WATCHDOG:
        links.append(("Silence", f"{PATH}/silence?alert={fingerprint}"))
    shown = [tag("a", title, href=url, aria_label=f"{title}: {name}") for title, url in links if url]
    return tag("span", *shown, class_="around", role="group", aria_label=f"From {name}")


def _notified(view: _View, page: Paged) -> Markup:
    if not page.notified:
        return Markup("")
    return tag(
        "details",
        tag("summary", f"Notifications ({len(page.notified)})", aria_label=f"Notifications of {page.alert}"),
        _notices(page, view.now),
        id=f"{_anchor(page)}-said",
    )


def _notices(page: Paged, now: float) -> Markup:
    rows = [_notice(each, now) for each in page.notified[-NOTICES_MAX:]]
    return tag("ul", *rows, class_="notices")


def _notice(told: Notice, now: float) -> Markup:
    what = f"{clock(told.at, now)} {told.kind}, level {told.level}: {told.who} by {told.channel}: "
    return tag("li", what, _outcome(told.outcome), f" {told.detail}" if told.detail else "")


# -- what fires and pages nobody


def _alone(view: _View, shown: Sequence[Problem]) -> Markup:
    found = alerting.alone(view.watch, shown)
    watches = [each for each in view.watch.firing if each.kind == "watch" and each.name != alerting.WATCHDOG]
    everything = (*watches, *found)
    if not everything:
        return Markup("")
    rows = [
        tag(
            "tr",
            tag("td", tag("a", each.name, href=own_path(each.annotations.get("runbook", "")) or f"/runbooks/{each.name}"), " ",
                *_about(each.labels)),
            tag("td", BY_NAME[hop].title if (hop := each.labels.get("hop", "")) in BY_NAME else hop),
            tag("td", each.annotations.get("summary", "")),
            tag("td", since(each.since, view.now), class_="time"),
            tag("td", _told(view, each), _silenced(view, each) if each.silenced_by else _way_to_silence(each)),
            data_line=True,
        )
        for each in everything[:ALONE_MAX]
    ]  # fmt: skip
    caption = "Tickets: they page nobody, and no symptom fires that they explain."
    if len(everything) > ALONE_MAX:
        caption += f" {len(everything) - ALONE_MAX} more are not shown."
    return html(tag("h2", "Fires without paging"), table(("Alert", "Hop", "What", "Since", ""), rows, caption))


def _told(view: _View, alert: Firing) -> Markup:
    """Who has it as a ticket."""
    page = next((each for each in view.watch.told if alerting.belongs(alert, each)), None)
    if page is None:
        return Markup("")
    if page.state == "acknowledged":
        return html(f"acknowledged by {page.acknowledged_by}; ")
    who = dict.fromkeys(f"{each.who} by {each.channel}" for each in page.notified if each.outcome in _DELIVERED)
    return html(f"told {', '.join(who)}; " if who else "")


def _way_to_silence(alert: Firing) -> Markup:
    return tag("a", "Silence", href=f"{PATH}/silence?alert={alert.fingerprint}") if alert.fingerprint else Markup("")


# -- history


def _history(view: _View) -> Markup:
    title = tag("h2", "Pages that have ended")
    history = view.watch.history
    if isinstance(history, Unanswered):
        return html(title, notice(f"UNKNOWN: {history}."))
    ended = [each for each in history if each.state == "resolved" and each.alert != alerting.TEST_PAGE]
    if not ended:
        return html(title, notice("None.", "quiet"))
    newest = sorted(ended, key=lambda one: -(one.resolved_at or one.opened_at))[: alert_answers.HISTORY_MAX]
    rows = [_ended(each, view.now) for each in newest]
    heads = ("Opened (UTC)", "Alert", "What", "Lasted", "Acknowledged", "Notifications")
    return html(title, table(heads, rows, f"The newest {alert_answers.HISTORY_MAX}; `spillway pages list` has them all."))


def _ended(page: Paged, now: float) -> Markup:
    after = f"{page.acknowledged_by}, after {age(page.acknowledged_at - page.opened_at)}" if page.acknowledged_at else "nobody"
    lasted = age(page.resolved_at - page.opened_at) if page.resolved_at else ""
    said = tag("details", tag("summary", str(len(page.notified))), _notices(page, now), id=f"{_anchor(page)}-ended")
    return tag(
        "tr",
        tag("td", clock(page.opened_at, now), class_="time"),
        tag("td", tag("a", page.alert, href=f"/runbooks/{page.alert}"), " ", *_about(page.labels)),
        tag("td", page.annotations.get("summary", "")),
        tag("td", lasted, class_="number"),
        tag("td", after),
        tag("td", said if page.notified else "none"),
        data_line=True,
    )


# -- a silence


def silence_form(alert: Firing | Unanswered | None, forms: Forms, who: str) -> Markup:
    title = tag("h1", "Silence an alert")
    back = tag("p", tag("a", "Back to alerts", href=PATH))
    if isinstance(alert, Unanswered):
        return html(title, notice(f"UNKNOWN: {alert}. Nothing can be silenced."), back)
    if alert is None:
        return html(title, notice("That alert does not fire any more, or never did.", "quiet"), back)
    fields = (
        choice("for", "For", tuple(_SILENCE_WORDS.items()), "1h"),
        _text("who", "I am", who, WHO_CHARS_MAX, class_=""),
        _text("comment", "Because", "", COMMENT_CHARS_MAX, class_="wide"),
    )
    labels = matchers_of(alert)
    hint = "A silence hides the alert from everybody. To say that you are at it, acknowledge its page instead."
    return html(
        title,
        tag("p", tag("strong", alert.name), " ", alert.annotations.get("summary", "")),
        tag("p", "Alerts with all of these labels: ", *(tag("code", f'{one["name"]}="{one["value"]}" ') for one in labels)),
        tag("p", hint, class_="quiet"),
        tag("form", *fields, forms.hidden(alert=alert.fingerprint), tag("button", "Silence", type="submit", class_="main"),
            method="post", action=f"{PATH}/silences", class_="search"),
        back,
    )  # fmt: skip


def _text(name: str, label: str, value: str, chars_max: int, class_: str) -> Markup:
    entry = tag("input", type="text", name=name, value=value, required=True, maxlength=chars_max, autocomplete="off")
    return tag("label", tag("span", label), entry, class_=class_ or None)


def matchers_of(alert: Firing) -> list[dict[str, Any]]:
    """This alert, and no other of its name."""
    names = sorted(name for name in alert.labels if name not in _OF_ALL)
    return [{"name": name, "value": alert.labels[name], "isRegex": False, "isEqual": True} for name in names]


def silence_of(alert: Firing, seconds: float, who: str, comment: str, now: float) -> dict[str, Any]:
    """As Alertmanager wants it."""
    return {
        "matchers": matchers_of(alert),
        "startsAt": standing.rfc3339(now),
        "endsAt": standing.rfc3339(now + seconds),
        "createdBy": who,
        "comment": comment,
    }


# -- what came of what was done


def said_done(text: str) -> Markup:
    return notice(text, "quiet") if text else Markup("")


def refused(text: str) -> Markup:
    return notice(text, "bad")


def not_done(what: str, exc: Unanswered) -> Markup:
    if isinstance(exc, Away):
        return notice(f"It is not known whether that was {what}: {exc}. Look below, then press again.", "bad")
    return notice(f"That was not {what}: {exc}.", "bad")
