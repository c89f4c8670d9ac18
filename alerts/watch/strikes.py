"""From looks to a page: who is blind in several looks in a row is paged about, and it is told when all of them see again.

    standing, report ─► standing ─► what should be told ─► per channel, what still is to be sent

A channel is told by comparing what should be told with what it was told: so a message that failed is sent at the next look, a new
watcher that went blind is told at once, and what lasts is said again. After a start nobody knows what a former self had told: the
first time that all see, PagerDuty is told that it is over, which does nothing if nothing was open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from alerts.watch.judge import Finding, Outcome, Report


@dataclass(frozen=True, slots=True)
class Standing:
    """By watcher: since when it does not see, and in how many looks in a row it was blind."""

    since: Mapping[str, float] = field(default_factory=dict)
    strikes: Mapping[str, int] = field(default_factory=dict)
    # Whom somebody is to know of: watcher and its words.
    paged: Mapping[str, str] = field(default_factory=dict)


def settled(standing: Standing, report: Report) -> Report:
    """The report with what was unknown for too long as blind."""
    return replace(report, findings=tuple(_settled(standing, each, report.at) for each in report.findings))


def _settled(standing: Standing, finding: Finding, now: float) -> Finding:
    lasted_seconds = now - standing.since.get(finding.watcher, now)
    if finding.outcome is Outcome.UNKNOWN and lasted_seconds >= finding.until_seconds:
        return replace(finding, outcome=Outcome.BLIND, words=f"{finding.words}, for {lasted_seconds:.0f} s")
    return finding


def advance(standing: Standing, report: Report, strikes: int) -> Standing:
    """`report` is settled. A watcher that is no longer blind is no longer paged about."""
    bad = {each.watcher: each for each in report.findings if each.outcome is not Outcome.OK}
    blind = {watcher: each.words for watcher, each in bad.items() if each.outcome is Outcome.BLIND}
    counts = {watcher: standing.strikes.get(watcher, 0) + 1 for watcher in blind}
    return Standing(
        since={watcher: standing.since.get(watcher, report.at) for watcher in bad},
        strikes=counts,
        paged={watcher: words for watcher, words in blind.items() if counts[watcher] >= strikes or watcher in standing.paged},
    )


@dataclass(frozen=True, slots=True)
class Told:
    """What one channel was told last: about whom, and when."""

    about: frozenset[str]
    at: float


@dataclass(frozen=True, slots=True)
class Message:
    """What blinds us, by watcher; none: it is over."""

    paged: Mapping[str, str]
    # Of the watchers that are blind, since when the first is.
    since: float = 0.0

    @property
    def over(self) -> bool:
        return not self.paged

    @property
    def summary(self) -> str:
        if self.over:
            return "Every watcher sees again."
        return "MonitorBlind: " + "; ".join(f"{watcher} {words}" for watcher, words in self.paged.items())


def due(standing: Standing, told: Told | None, now: float, repeat_seconds: float) -> Message | None:
    """What a channel still is to be told; `told` None: not known."""
    message = Message(standing.paged, min((standing.since.get(each, now) for each in standing.paged), default=0.0))
    if message.over:
        # While something is on its way to a page nothing is over.
        return message if not standing.strikes and (told is None or told.about) else None
    if told is None or not standing.paged.keys() <= told.about or now - told.at >= repeat_seconds:
        return message
    return None
