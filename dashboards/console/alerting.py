"""What is known of alerts, pages, silences, budgets and watchers, and what it means.

Rules. Prometheus, Alertmanager and the escalator are asked (`alert_answers.py`), and each may be away; what it alone knows is
then an `Unanswered` in the place of the value, never an empty list, and `blind` says so. An alert that Prometheus fires is shown
even if Alertmanager is away. A cause stands beneath each symptom that it explains: one that inhibits it, or that names it.
Nothing here is green while a watcher does not see.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from dashboards.console.sources import Unanswered

State = Literal["ok", "near", "bad", "nodata"]
T = TypeVar("T")

WATCHDOG, TEST_PAGE = "Watchdog", "TestPage"
# A notification that waits longer is stuck.
OUTBOX_SECONDS_MAX = 60.0
# Of the budget: less is worth a look.
BUDGET_NEAR = 0.25
# As the rules write it: `RdsErrors at rds (firing); HotShard at kinesis (pending)`.
_NAMED = re.compile(r"(\w+)(?: at ([\w-]+))?")
_KINDS = ("symptom", "cause", "watch")


@dataclass(frozen=True, slots=True)
class Firing:
    """An alert that fires, or that is pending."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    # Unix seconds.
    since: float
    state: Literal["firing", "pending"] = "firing"
    # Of Alertmanager; empty if only Prometheus knows it.
    fingerprint: str = ""
    inhibited_by: tuple[str, ...] = ()
    silenced_by: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "?")

    @property
    def kind(self) -> str:
        kind = self.labels.get("kind", "")
        return kind if kind in _KINDS else "symptom"

    @property
    def pages(self) -> bool:
        return self.labels.get("severity", "page") == "page"


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification of a page."""

    at: float
    level: int
    who: str
    channel: str
    outcome: str
    detail: str
    # Of: trigger, acknowledge, resolve.
    kind: str = "trigger"


@dataclass(frozen=True, slots=True)
class Paged:
    """A page as the escalator keeps it."""

    key: str
    alert: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    state: Literal["open", "acknowledged", "resolved"]
    opened_at: float
    starts_at: float | None
    acknowledged_at: float | None
    acknowledged_by: str
    resolved_at: float | None
    policy: str
    level: int
    levels: int
    next_at: float | None
    next: str
    notified: tuple[Notice, ...]
    # Of the escalator itself: Alertmanager never had it.
    own: bool = False

    @property
    def wakes(self) -> bool:
        """A ticket is told in working hours; nobody need acknowledge it."""
        return self.labels.get("severity") != "ticket"


@dataclass(frozen=True, slots=True)
class Silence:
    id: str
    state: Literal["active", "pending", "expired"]
    # As people write them: `alertname="CanaryLost"`.
    matchers: tuple[str, ...]
    starts_at: float
    ends_at: float
    by: str
    comment: str


@dataclass(frozen=True, slots=True)
class Channel:
    name: str
    state: str
    last_ok_at: float | None
    last_error: str
    # The console and the log do not.
    reaches_a_person: bool = True


@dataclass(frozen=True, slots=True)
class Health:
    """What the escalator says of itself and of who watches it."""

    now: float | None
    deadman: str
    deadman_seen_at: float | None
    deadman_due_at: float | None
    test_page: str
    test_page_sent_at: float | None
    test_page_returned_at: float | None
    test_page_seconds: float | None
    channels: tuple[Channel, ...]
    waiting: int
    oldest_at: float | None
    said: str
    # False: the disk refuses, and a restart would forget pages.
    durable: bool = True


@dataclass(frozen=True, slots=True)
class Budget:
    """One SLO. None: not known."""

    slo: str
    objective: float | None = None
    days: float | None = None
    # Share of the error budget that is left; below 0: overspent.
    left: float | None = None
    # Times the pace that would just use the budget up.
    burn: float | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """All of it at one moment; what is not known is the reason for that."""

    alertmanager: tuple[Firing, ...] | Unanswered
    prometheus: tuple[Firing, ...] | Unanswered
    pages: tuple[Paged, ...] | Unanswered
    health: Health | Unanswered
    history: tuple[Paged, ...] | Unanswered = ()
    silences: tuple[Silence, ...] | Unanswered = ()
    budgets: tuple[Budget, ...] | Unanswered = ()

    @property
    def open(self) -> tuple[Paged, ...]:
        """Pages that are not resolved, without the hourly test and without tickets."""
        return tuple(each for each in self.told if each.wakes)

    @property
    def told(self) -> tuple[Paged, ...]:
        """The same with tickets, which the escalator keeps as pages that nobody need acknowledge."""
        return tuple(each for each in known(self.pages) if each.state != "resolved" and each.alert != TEST_PAGE)

    @property
    def firing(self) -> tuple[Firing, ...]:
        """What Alertmanager has, but for the hourly test; if it is away, what Prometheus fires."""
        if isinstance(self.alertmanager, Unanswered):
            found = tuple(each for each in known(self.prometheus) if each.state == "firing")
        else:
            found = self.alertmanager
        return tuple(each for each in found if each.name != TEST_PAGE)

    @property
    def pending(self) -> tuple[Firing, ...]:
        return tuple(each for each in known(self.prometheus) if each.state == "pending")


@dataclass(frozen=True, slots=True)
class Problem:
    """What an engineer deals with at a time: a page, or a symptom without one, with the causes that explain it."""

    # One of the two is there.
    page: Paged | None
    symptoms: tuple[Firing, ...]
    causes: tuple[Firing, ...] = field(default=())

    @property
    def name(self) -> str:
        return self.page.alert if self.page else self.symptoms[0].name

    @property
    def labels(self) -> Mapping[str, str]:
        return self.symptoms[0].labels if self.symptoms else self.page.labels if self.page else {}

    @property
    def annotations(self) -> Mapping[str, str]:
        """As they are now; what the alert does not say any more, as they were when it paged."""
        return {**(self.page.annotations if self.page else {}), **(self.symptoms[0].annotations if self.symptoms else {})}

    @property
    def since(self) -> float:
        """What users feel began then: the alert, not the page."""
        return (self.page.starts_at or self.page.opened_at) if self.page else self.symptoms[0].since


def known(value: tuple[T, ...] | Unanswered) -> tuple[T, ...]:
    return () if isinstance(value, Unanswered) else value


# -- what it means


def problems(watch: Watch) -> list[Problem]:
    """Pages that nobody has acknowledged, then the acknowledged, tickets, and symptoms without a page; the oldest first."""
    symptoms = [each for each in watch.firing if each.kind == "symptom"]
    by_name = _grouped((each.name, each) for each in symptoms)
    explaining = _Explaining.of([each for each in (*watch.firing, *watch.pending) if each.kind == "cause"])
    found, covered = [], set()
    for page in sorted(watch.told, key=lambda each: (not each.wakes, each.state == "acknowledged", each.opened_at)):
        if page.labels.get("kind") == "cause":
            continue
        own = tuple(each for each in by_name.get(page.alert, ()) if belongs(each, page))
        covered |= {id(each) for each in own}
        found.append(_problem(page, own, explaining))
    rest = [each for each in symptoms if id(each) not in covered]
    rest.sort(key=lambda each: (bool(each.silenced_by), not each.pages, each.since))
    return found + [_problem(None, (each,), explaining) for each in rest]


def belongs(alert: Firing, page: Paged) -> bool:
    """The page is of this alert, or of a group that it is in."""
    return alert.name == page.alert and all(alert.labels.get(name) == value for name, value in page.labels.items())


@dataclass(frozen=True, slots=True)
class _Explaining:
    """Causes by what leads to them from a symptom: its fingerprint, its words."""

    inhibited_by: Mapping[str, Sequence[Firing]]
    named: Mapping[str, Sequence[Firing]]

    @classmethod
    def of(cls, causes: Sequence[Firing]) -> "_Explaining":
        return cls(
            _grouped((fingerprint, each) for each in causes for fingerprint in each.inhibited_by),
            _grouped((each.name, each) for each in causes),
        )

    def causes_of(self, symptom: Firing) -> Iterator[Firing]:
        yield from self.inhibited_by.get(symptom.fingerprint, ())
        for name, hop in _NAMED.findall(symptom.annotations.get("cause", "")):
            yield from (each for each in self.named.get(name, ()) if not hop or each.labels.get("hop") == hop)


def _grouped(pairs: Iterable[tuple[str, Firing]]) -> dict[str, list[Firing]]:
    found: dict[str, list[Firing]] = {}
    for key, each in pairs:
        found.setdefault(key, []).append(each)
    return found


def _problem(page: Paged | None, symptoms: tuple[Firing, ...], explaining: _Explaining) -> Problem:
    asked = symptoms or ((Firing(page.labels, page.annotations, page.opened_at),) if page else ())
    causes = {id(cause): cause for symptom in asked for cause in explaining.causes_of(symptom)}.values()
    return Problem(page, symptoms, tuple(sorted(causes, key=lambda each: (each.state != "firing", each.since))))


def alone(watch: Watch, shown: Sequence[Problem]) -> list[Firing]:
    """What fires and stands beneath no symptom: causes (they page nobody), the longest first."""
    nested = {id(cause) for each in shown for cause in each.causes}
    found = [each for each in watch.firing if each.kind == "cause" and id(each) not in nested]
    return sorted(found, key=lambda each: each.since)


def blind(watch: Watch) -> list[str]:
    """Why the page can't be trusted to show everything; empty: it can."""
    said = []
    for value in (watch.prometheus, watch.alertmanager, watch.pages, watch.health):
        if isinstance(value, Unanswered) and (text := str(value)) not in said:
            said.append(text)
    if not isinstance(watch.prometheus, Unanswered) and not _has_watchdog(watch.prometheus):
        said.append(f"Prometheus does not fire {WATCHDOG}: its alert rules are not loaded, or it does not evaluate them")
    elif not isinstance(watch.alertmanager, Unanswered) and not _has_watchdog(watch.alertmanager):
        said.append(f"Alertmanager has no {WATCHDOG}: what Prometheus fires does not reach it")
    if not isinstance(watch.health, Unanswered) and watch.health.deadman != "ok":
        said.append(f"the dead man's switch is {watch.health.deadman}: alerts may not reach the escalator")
    return said


def _has_watchdog(alerts: Sequence[Firing]) -> bool:
    return any(each.name == WATCHDOG and each.state == "firing" for each in alerts)


def deaf(watch: Watch) -> list[str]:
    """Why a page may not reach anybody."""
    if isinstance(watch.health, Unanswered):
        return []
    health = watch.health
    durable = [] if health.durable else ["the escalator's disk refuses: a restart would forget pages"]
    said = [f"{each.name} refuses pages" + (f" ({each.last_error})" if each.last_error else "") for each in health.channels
            if each.state == "refusing"]  # fmt: skip
    said = durable + said
    if health.test_page in ("late", "failed"):
        said.append(f"the test page {'did not come back in time' if health.test_page == 'late' else 'failed'}")
    if health.waiting and health.oldest_at is not None and health.now is not None:
        waits = health.now - health.oldest_at
        if waits > OUTBOX_SECONDS_MAX:
            said.append(f"{health.waiting} notifications wait to be sent, the oldest for {waits:.0f} s")
    return said


def unreachable(watch: Watch) -> bool:
    """Nobody has been told to the escalator whom a page could wake."""
    return not isinstance(watch.health, Unanswered) and not any(each.reaches_a_person for each in watch.health.channels)


def verdict(watch: Watch) -> tuple[State, str]:
    """State and one sentence; never ok while anything is not known."""
    open_pages = watch.open
    unanswered = [each for each in open_pages if each.state == "open"]
    unknown, unheard = blind(watch), deaf(watch)
    if unanswered:
        more = f", {len(open_pages) - len(unanswered)} acknowledged" if len(open_pages) > len(unanswered) else ""
        return "bad", f"{_pages(len(unanswered))} nobody has acknowledged{more}" + ("; the rest is UNKNOWN" if unknown else "")
    if unknown:
        acknowledged = f"; {_pages(len(open_pages))} acknowledged" if open_pages else ""
        return "nodata", f"UNKNOWN: the watchers are blind{acknowledged}"
    if unheard:
        return "bad", "A page may not reach anybody"
    paging = [each for each in watch.firing if each.kind == "symptom" and each.pages]
    if _unpaged(watch, paging):
        return "bad", "A symptom fires, and no page is open for it"
    if open_pages:
        return "near", f"{_pages(len(open_pages))} acknowledged, none waits for anybody"
    silenced = sum(bool(each.silenced_by) for each in paging)
    if silenced:
        return "near", f"{silenced} silenced: {'it pages' if silenced == 1 else 'they page'} nobody"
    if unreachable(watch):
        return "near", "No page is open; no channel reaches a person"
    if any(each.kind != "watch" for each in watch.firing):
        return "near", "No page is open; something fires that pages nobody"
    return "ok", "No page is open, and the watchers see"


def _unpaged(watch: Watch, paging: Iterable[Firing]) -> bool:
    """One has no page though nobody silenced it and no other symptom pages for it. Somebody else's page is none of its own."""
    told = watch.told
    waits = (each for each in paging if not each.silenced_by and not each.inhibited_by)
    return any(not any(belongs(each, page) for page in told) for each in waits)


def _pages(count: int) -> str:
    return f"{count} page{'' if count == 1 else 's'}"


def budget_state(left: float | None) -> State:
    if left is None or left != left:
        return "nodata"
    return "bad" if left <= 0 else "near" if left < BUDGET_NEAR else "ok"
