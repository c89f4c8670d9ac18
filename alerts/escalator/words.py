"""What a page says, for every channel and the console. Times are shown in UTC: no reader's clock and no summer time gets in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from alerts.escalator.state import Kind, Note, Page, Setup

SUMMARY_CHARS_MAX = 1024
Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Message:
    """One note, ready to be put into a channel's own form."""

    # The idempotence key of this message, and the key of its page.
    id: str
    key: str
    kind: Kind
    title: str
    # What a reader must know, by name, in order. None of them is empty.
    facts: Mapping[str, str]
    # (text, address)
    links: tuple[tuple[str, str], ...]
    # Links that act; only for channels that a person reads.
    acknowledge: str
    resolve: str
    severity: Severity
    alert: str
    hop: str
    who: str
    since: float
    labels: Mapping[str, str]


def message(note: Note, page: Page | None, setup: Setup, acknowledge: str = "", resolve: str = "", events: str = "") -> Message:
    """Of a test page there is no page. `events`: which ones it is of, in words, if that is known."""
    if page is None:
        title = "TestPage: the path of a page works; nothing is to be done"
        facts = {"What this is": "The hourly test page came back through Alertmanager and is shown to the pager."}
        return Message(
            note.id, note.key, note.kind, title, facts, (), "", "", "info", "TestPage", "telemetry", note.who, note.created_at, {}
        )
    return Message(
        note.id, note.key, note.kind, title_of(page), facts_of(page, note, setup, events), links_of(page, setup),
        acknowledge, resolve,
        "warning" if page.labels.get("severity") == "ticket" else "critical",
        page.alert, page.labels.get("hop", ""), note.who, page.starts_at, page.labels,
    )  # fmt: skip


def title_of(page: Page) -> str:
    summary = page.annotations.get("summary", "")
    text = f"{page.alert}: {summary}" if summary else page.alert
    return text if len(text) <= SUMMARY_CHARS_MAX else text[: SUMMARY_CHARS_MAX - 1] + "…"


def facts_of(page: Page, note: Note, setup: Setup, events: str) -> dict[str, str]:
    said = page.annotations
    told = {
        "What users feel": said.get("feels", ""),
        "Since": utc(page.starts_at),
        "Probable cause": said.get("cause", ""),
        "Events": events,
        "Hop": page.labels.get("hop", ""),
        "Error budget left": said.get("budget", ""),
        "Series that fire": str(len(page.members)) if len(page.members) > 1 else "",
        "Level": level_words(note, setup, page),
        "Acknowledged": f"by {page.acknowledged_by}, {utc(page.acknowledged_at)}" if page.acknowledged_at else "",
        "Resolved": f"{page.resolved_by and f'by {page.resolved_by}, '}{utc(page.resolved_at)}" if page.resolved_at else "",
        "Owner": page.labels.get("owner", ""),
        "Key": page.key,
    }
    return {name: text for name, text in told.items() if text}


def links_of(page: Page, setup: Setup) -> tuple[tuple[str, str], ...]:
    said = page.annotations
    alerts = f"{setup.console}/alerts" if setup.console else ""
    named = (
        ("Runbook", said.get("runbook", "")), ("Dashboard", said.get("dashboard", "")), ("Traces", said.get("trace", "")),
        ("All pages", alerts),
    )  # fmt: skip
    return tuple((text, url) for text, url in named if url.startswith(("http://", "https://")))


def level_words(note: Note, setup: Setup, page: Page) -> str:
    levels = len(setup.policy_of(page).levels)
    if note.kind != "trigger" or (note.level, note.round) == (1, 1):
        return ""
    again = f", told the {ordinal(note.round)} time" if note.round > 1 else ""
    return f"{note.level} of {levels}{again}: nobody acknowledged"


def next_words(page: Page, setup: Setup) -> str:
    """What happens by itself, in words."""
    policy = setup.policy_of(page)
    if page.state == "resolved":
        return f"over since {utc(page.resolved_at)}{page.resolved_by and f', by {page.resolved_by}'}"
    if page.state == "acknowledged":
        return f"nothing: {page.acknowledged_by} has it" if page.cleared_at is None else "resolved once the monitoring sees again"
    if page.due_at is None:
        last = policy.levels[-1].acknowledge_seconds
        return "nothing: nobody need acknowledge" if last is None else "nothing more: everybody was told, nobody acknowledged"
    again = page.level >= len(policy.levels)
    number = 1 if again else page.level + 1
    whom = ", ".join(f"{target.who} by {target.channel}" for target in policy.levels[number - 1].targets)
    return f"level {number}{' again' if again else ''} at {utc(page.due_at)}: {whom}"


def utc(at: float | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
