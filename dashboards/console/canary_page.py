"""The page of the canary: is everything delivered, which hop is to blame, and the last hours as a strip per exit and door.

What is shown is what the canary's process says at `/canary` of its health port; the page judges nothing itself, and what does not
answer is not green. Every strip is told in words too: its title says when it was not well.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from dashboards.console.layout import Markup, html, notice, table, tag
from dashboards.console.searches import link_to_logs
from dashboards.console.units import duration

TITLES = {"held": "Everything that was sent is where it should be", "convicted": "Convicted", "unknown": "Not known"}
_STATES = {"held": "ok", "convicted": "bad", "unknown": "nodata"}
# Of a letter of a strip: its word and its state. The words are those of the canary's judge.
WORDS: Mapping[str, tuple[str, str]] = {
    "d": ("delivered", "ok"),
    "r": ("reordered", "ok"),
    ".": ("waiting", "nodata"),
    "?": ("unknown", "nodata"),
    "l": ("late", "near"),
    "2": ("duplicated", "bad"),
    "c": ("corrupted", "bad"),
    "p": ("phantom", "bad"),
    "x": ("lost", "bad"),
    " ": ("nothing sent", "none"),
}
_STATE_OF = {word: state for word, state in WORDS.values()}
TOLD_STRETCHES_MAX = 6
# A report that is older is one of a canary that hangs.
STALE_SECONDS = 30.0


def page(said: Mapping[str, Any], now: float) -> Markup:
    """`now`: seconds since 1970. Raises: KeyError, TypeError, ValueError: that is no report of a canary."""
    if not said:
        return html(tag("h1", "Canary"), notice("The canary has just begun: nothing is known yet.", "quiet"))
    old_seconds = now - float(said["at"])
    hangs = old_seconds > STALE_SECONDS
    stale = notice(f"The canary hangs: this is what it knew {duration(old_seconds)} ago.") if hangs else Markup("")
    outcome = "unknown" if hangs else str(said["outcome"])
    verdict = tag(
        "section",
        tag("strong", TITLES[outcome]),
        tag("p", str(said["sentence"])),
        tag("ul", *(tag("li", f"{door}: {words}", class_=_door_state(words)) for door, words in said["doors"])),
        class_=f"verdict state-{_STATES[outcome]}",
        role="status",
        aria_label="Verdict",
    )
    about = (
        f"A probe through each door onto each of {said['shards']} shards every {float(said['interval_seconds']):g} s; "
        f"{said['sent']} sent, {said['pending']} under way. As of {_clock(said['at'])} UTC."
    )
    return html(
        tag("h1", "Canary"), stale, verdict, tag("p", about, class_="quiet"), _exits(said["rows"], float(said["at"]), said),
        tag("h2", "What must not happen"), _checks(said["checks"]), tag("h2", "Cases by name"), _cases(said["cases"]),
    )  # fmt: skip


def _door_state(words: str) -> str:
    return "state-ok" if words == "acknowledges" else "state-nodata" if words.startswith("unknown") else "state-bad"


def _exits(rows: Sequence[Mapping[str, Any]], now: float, said: Mapping[str, Any]) -> Markup:
    minutes = int(said["coarse_minutes"])
    heads = ("Exit", "Door", "Now", "Delivered", "Fresh p50", "p99", "Due", "Looked", f"Strip, {minutes} minutes a stretch")
    return table(heads, [_exit(row, now, minutes) for row in rows], "Each exit through each door, lately", "canary")


def _exit(row: Mapping[str, Any], now: float, minutes: int) -> Markup:
    verdict, blind = str(row["verdict"]), str(row["blind"])
    overdue = f", {row['overdue']} overdue since {duration(float(row['oldest_overdue_seconds']))}" if row["overdue"] else ""
    return tag(
        "tr",
        tag("td", str(row["exit"])),
        tag("td", str(row["door"])),
        tag("td", tag("span", f"{verdict}{overdue}", class_=f"state-{_STATE_OF.get(verdict, 'nodata')}")),
        tag("td", f"{row['delivered']} of {row['judged']}", class_="number"),
        tag("td", _seconds(row["fresh_p50_seconds"]), class_="number"),
        tag("td", _seconds(row["fresh_p99_seconds"]), class_="number"),
        tag("td", _seconds(row["due_seconds"]), class_="number"),
        tag("td", f"can't: {blind}" if blind else _ago(row["looked_seconds"]), class_="state-bad" if blind else None),
        tag("td", strip(str(row["coarse"]), minutes, now)),
    )


def strip(letters: str, minutes: int, now: float) -> Markup:
    """The newest at the right; runs of one letter are one bar."""
    bars, at = [], 0
    for letter, run in groupby(letters):
        wide = len(list(run))
        _, state = WORDS.get(letter, WORDS["?"])
        if state != "none":
            bars.append(tag("rect", x=at, y=0, width=wide, height=10, class_=state))
        at += wide
    told = in_words(letters, minutes, now)
    drawn = tag(
        "svg", *bars, class_="strip", viewBox=f"0 0 {max(1, len(letters))} 10", preserveAspectRatio="none", role="img",
        aria_label=told,
    )  # fmt: skip
    return html(drawn, tag("p", told, class_="quiet"))


def in_words(letters: str, minutes: int, now: float) -> str:
    """When it was not well; at most so many stretches, the newest last."""
    bad = list(_stretches(letters, minutes, now))
    hours = len(letters) * minutes / 60
    if not letters.strip():
        return "nothing was sent"
    if not bad and not {"d", "r"} & set(letters):
        return "nothing is known yet"
    if not bad:
        return f"well for as long as anything was sent within {hours:g} h"
    left_out = f"{len(bad) - TOLD_STRETCHES_MAX} earlier stretches, " if len(bad) > TOLD_STRETCHES_MAX else ""
    return left_out + ", ".join(bad[-TOLD_STRETCHES_MAX:])


def _stretches(letters: str, minutes: int, now: float) -> Iterator[str]:
    last, at = int(now // (60 * minutes)), 0
    for letter, run in groupby(letters):
        count = len(list(run))
        word, state = WORDS.get(letter, WORDS["?"])
        if state in ("near", "bad") or letter == "?":
            first = last - len(letters) + 1 + at
            yield f"{word} {_hour(first * 60 * minutes)}–{_hour((first + count) * 60 * minutes)}"
        at += count


def _checks(checks: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [
        tag(
            "tr",
            tag("td", str(one["name"])),
            tag("td", tag("span", str(one["verdict"]), class_=f"state-{_STATES.get(str(one['verdict']), 'nodata')}")),
            tag("td", str(one["sentence"])),
            tag("td", _clock(one["at"]) if one["at"] else "", class_="time"),
        )
        for one in checks
    ]
    return table(
        ("Check", "Verdict", "What was seen", "When (UTC)"), rows, "Negative checks, each the last time it ran", "canary"
    )


def _cases(cases: Sequence[Mapping[str, Any]]) -> Markup:
    if not cases:
        return notice("No probe has ever been lost, late, doubled, corrupted or made up.", "quiet")
    rows = [
        tag(
            "tr",
            tag("td", _clock(one["at"]), class_="time"),
            tag("td", tag("span", str(one["verdict"]), class_=f"state-{_STATE_OF.get(str(one['verdict']), 'bad')}")),
            tag("td", str(one["exit"])),
            tag("td", str(one["door"])),
            tag("td", tag("a", tag("code", str(one["event"])), href=link_to_logs(event_id=str(one["event"]), since="7d"))),
            tag("td", str(one["detail"])),
        )
        for one in cases
    ]
    return table(("When (UTC)", "Verdict", "Exit", "Door", "Event", ""), rows, "The newest first", "canary")


def _seconds(value: Any) -> str:
    return "" if value is None else duration(float(value))


def _ago(value: Any) -> str:
    return "never" if value is None else f"{duration(float(value))} ago"


def _clock(at: Any) -> str:
    return datetime.fromtimestamp(float(at), UTC).strftime("%Y-%m-%d %H:%M:%S")


def _hour(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")
