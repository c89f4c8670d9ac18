"""Does a watcher watch? From what it answered to OK, BLIND or UNKNOWN, each in words. No clock and no network in here.

    answers of each watcher, the time, limits ─► a finding for each ─► the outcome: the worst of them

Rules
- Who does not answer, answers an error, or something that can't be read, is blind: whatever is the reason, it can't be relied on.
- Who answers has to show that it works: a time that moves, not a status that was true once.
- UNKNOWN is never OK. Who has just begun is unknown for a while (`until_seconds`), and blind after that. A watcher that sees in
  part, as a canary while one exit is down, is unknown and never blind: what it can't see has alerts of its own.
- A place that nobody told us where to find is unknown, not left out.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from alerts.watch.settings import ADDRESSES, Limits
from alerts.watchdog import WATCHDOG
from telemetry import metrics as m

NAMES_SHOWN_MAX = 4


class Outcome(StrEnum):
    OK = "OK"
    BLIND = "BLIND"
    UNKNOWN = "UNKNOWN"


EXIT_CODES = {Outcome.OK: 0, Outcome.BLIND: 1, Outcome.UNKNOWN: 2}
_GRAVITY = (Outcome.BLIND, Outcome.UNKNOWN, Outcome.OK)


@dataclass(frozen=True, slots=True)
class Answer:
    """To one question. `status` 0: there was none, and `error` says why."""

    status: int
    body: str = ""
    error: str = ""


# By question, as in QUESTIONS.
Answers = Mapping[str, Answer]

# By watcher: what is asked, by a name.
QUESTIONS: Mapping[str, Mapping[str, str]] = {
    "prometheus": {
        "ready": "/-/ready",
        "rules": "/api/v1/rules",
        "targets": "/api/v1/targets?state=active",
        "alertmanagers": "/api/v1/alertmanagers",
    },
    "alertmanager": {"ready": "/-/ready", "silences": "/api/v2/silences"},
    "escalator": {"health": "/api/health"},
    "canary": {"report": "/canary"},
    "ledger": {"standing": "/ledger.json", "metrics": "/metrics"},
    "console": {"health": "/healthz"},
}
assert QUESTIONS.keys() == ADDRESSES.keys()


@dataclass(frozen=True, slots=True)
class Finding:
    watcher: str
    outcome: Outcome
    words: str
    # Unknown for longer than this is blind.
    until_seconds: float = math.inf


@dataclass(frozen=True, slots=True)
class Report:
    at: float
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        found = {each.outcome for each in self.findings}
        return next((each for each in _GRAVITY if each in found), Outcome.UNKNOWN)

    @property
    def sentence(self) -> str:
        match self.outcome:
            case Outcome.OK:
                return f"All {len(self.findings)} watchers see: {', '.join(each.watcher for each in self.findings)}."
            case Outcome.BLIND:
                bad = [each for each in self.findings if each.outcome is Outcome.BLIND]
                return " ".join(f"{each.watcher} {each.words}." for each in bad)
            case _:
                if not self.findings:
                    return "Nobody is watched: there is no watcher to ask."
                bad = [each for each in self.findings if each.outcome is Outcome.UNKNOWN]
                return " ".join(f"{each.watcher} {each.words}." for each in bad)

    def json(self) -> dict[str, Any]:
        findings = [{name: value for name, value in asdict(each).items() if name != "until_seconds"} for each in self.findings]
        return {"at": self.at, "outcome": self.outcome, "sentence": self.sentence, "watchers": findings}


class _NotSeeing(Exception):
    """Blind; the words."""


class _NotKnown(Exception):
    """Unknown: the words, and until when that is in order."""

    def __init__(self, words: str, until_seconds: float = math.inf) -> None:
        super().__init__(words)
        self.until_seconds = until_seconds


def judge(answers: Mapping[str, Answers | None], now: float, limits: Limits) -> Report:
    """`None` for a watcher: nobody said where it is."""
    return Report(now, tuple(_finding(watcher, given, now, limits) for watcher, given in answers.items()))


def _finding(watcher: str, given: Answers | None, now: float, limits: Limits) -> Finding:
    if given is None:
        return Finding(watcher, Outcome.UNKNOWN, f"is nowhere: set {ADDRESSES[watcher]}, or leave it out by --without {watcher}")
    try:
        return Finding(watcher, Outcome.OK, _JUDGES[watcher](given, now, limits))
    except _NotSeeing as exc:
        return Finding(watcher, Outcome.BLIND, str(exc))
    except _NotKnown as exc:
        return Finding(watcher, Outcome.UNKNOWN, str(exc), exc.until_seconds)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        return Finding(watcher, Outcome.BLIND, f"answers what can't be read ({type(exc).__name__}: {str(exc)[:80]})")


# -- one judge for each: it returns what speaks for the watcher, or raises what speaks against it


def _prometheus(given: Answers, now: float, limits: Limits) -> str:
    _text(given["ready"])
    targets = _json(given["targets"])["data"]["activeTargets"]
    if not targets:
        raise _NotKnown("scrapes nobody yet", limits.begun)
    up = [target for target in targets if target["health"] == "up"]
    scraped_seconds = now - max(_time(target["lastScrape"]) for target in targets)
    if scraped_seconds > limits.scraped:
        raise _NotSeeing(f"has scraped nobody for {_span(scraped_seconds)}")
    if not up:
        if any(target["health"] == "unknown" for target in targets):
            raise _NotKnown("has scraped nobody yet", limits.begun)
        raise _NotSeeing(f"sees none of {len(targets)} processes: no scrape works")
    groups = _json(given["rules"])["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    if not any(rule["name"] == WATCHDOG for rule in rules):
        raise _NotSeeing("has no alert rules (there is no Watchdog): look at its rule_files")
    evaluated = {group["name"]: _time(group["lastEvaluation"]) for group in groups}
    if not all(evaluated.values()):
        raise _NotKnown("has not evaluated every rule yet", limits.begun)
    interval = {group["name"]: float(group["interval"]) for group in groups}
    old = [name for name, at in evaluated.items() if now - at > limits.evaluated + 2 * interval[name]]
    evaluated_seconds = now - min(evaluated.values())
    if old:
        raise _NotSeeing(f"does not evaluate its rules {_some(old)}, for {_span(evaluated_seconds)} and more")
    failing = [rule["name"] for rule in rules if rule["health"] == "err" and rule["type"] == "alerting"]
    if failing:
        raise _NotSeeing(f"can't evaluate {_some(failing)}")
    if not _json(given["alertmanagers"])["data"]["activeAlertmanagers"]:
        raise _NotSeeing("knows no Alertmanager to tell")
    alerting = sum(rule["type"] == "alerting" for rule in rules)
    return f"scrapes {len(up)} of {len(targets)} processes, evaluates {alerting} alerts, each within {_span(evaluated_seconds)}"


def _alertmanager(given: Answers, now: float, limits: Limits) -> str:
    _text(given["ready"])
    silences = _json(given["silences"])
    if not isinstance(silences, list):
        raise TypeError("silences are no list")
    for silence in silences:
        whole = not any(each["name"] == "alertname" and each.get("isEqual", True) for each in silence["matchers"])
        if silence["status"]["state"] == "active" and whole:
            ends = datetime.fromtimestamp(_time(silence["endsAt"]), UTC)
            raise _NotKnown(f"is silenced until {ends:%H:%M:%S} UTC by {silence['createdBy']}: {silence['comment'][:80]}")
    return "is ready, and no silence covers every alert"


def _escalator(given: Answers, now: float, limits: Limits) -> str:
    said = _json(given["health"])
    deadman, test, outbox = said["deadman"], said["test_page"], said["outbox"]
    if not said["durable"]:
        raise _NotSeeing("can't keep pages: its disk refuses")
    if deadman["state"] == "late":
        seen = f"for {_span(now - deadman['seen_at'])}" if deadman["seen_at"] else "since it began"
        raise _NotSeeing(f"has heard no Watchdog {seen}: rules are not evaluated, or alerts do not get through")
    refusing = [each["name"] for each in said["channels"] if each["state"] == "refusing"]
    if refusing:
        raise _NotSeeing(f"can't page by {_some(refusing)}: refused")
    if outbox["pending"] and outbox["oldest_at"] and now - outbox["oldest_at"] > limits.outbox:
        raise _NotSeeing(f"has {outbox['pending']} messages that nobody took, the oldest for {_span(now - outbox['oldest_at'])}")
    if test["state"] in ("late", "failed"):
        raise _NotSeeing(f"sent a test page that did not come back ({test['state']})")
    if deadman["state"] != "ok":
        raise _NotKnown("has not heard Watchdog yet", limits.begun)
    heard = f"heard Watchdog {_span(now - deadman['seen_at'])} ago"
    if test["state"] == "ok":
        return f"{heard}, its last test page came back {_span(now - test['returned_at'])} ago"
    return f"{heard}, its first test page is to come"


def _canary(given: Answers, now: float, limits: Limits) -> str:
    said = _json(given["report"])
    if not said:
        raise _NotKnown("has just begun", limits.begun)
    if now - said["at"] > limits.canary_report:
        raise _NotSeeing(f"hangs: what it knows is {_span(now - said['at'])} old")
    rows = said["rows"]
    if not rows or not said["sent"]:
        raise _NotKnown("has sent no probe yet", limits.begun)
    old = {row["exit"]: row["looked_seconds"] for row in rows if (row["looked_seconds"] or 0.0) > limits.canary_looked}
    away = {row["exit"] for row in rows if row["blind"]} | old.keys()
    never = {row["exit"] for row in rows if row["looked_seconds"] is None} - away
    if away >= {row["exit"] for row in rows}:
        raise _NotSeeing("can look at no exit")
    if away:
        raise _NotKnown(f"can't look at {_some(sorted(away))}")
    if never:
        raise _NotKnown(f"has not looked at {_some(sorted(never))} yet", limits.begun)
    looked_seconds = max(row["looked_seconds"] for row in rows)
    return f"sent {said['sent']} probes, looked at each of {len({row['exit'] for row in rows})} exits {_span(looked_seconds)} ago"


def _ledger(given: Answers, now: float, limits: Limits) -> str:
    said = _json(given["standing"])
    if not said["written_at"]:
        raise _NotKnown("has finished no round yet", limits.begun)
    if now - said["written_at"] > limits.ledger_round:
        raise _NotSeeing(f"has finished no round for {_span(now - said['written_at'])}")
    # A figure that is missing is no sight.
    if _value(_text(given["metrics"]), m.LEDGER_SIGHT.name) != 1.0:
        raise _NotSeeing("can't look at everything")
    if not said["judged_to"]:
        raise _NotKnown("has judged no window yet", limits.ledger_judged)
    judged_seconds = now - said["judged_to"]
    if judged_seconds > limits.ledger_judged:
        raise _NotSeeing(f"has judged no window for {_span(judged_seconds)}")
    return f"has judged all up to {_span(judged_seconds)} ago"


def _console(given: Answers, now: float, limits: Limits) -> str:
    _text(given["health"])
    return "answers"


_JUDGES: Mapping[str, Callable[[Answers, float, Limits], str]] = {
    "prometheus": _prometheus,
    "alertmanager": _alertmanager,
    "escalator": _escalator,
    "canary": _canary,
    "ledger": _ledger,
    "console": _console,
}


# -- reading answers


def _text(answer: Answer) -> str:
    if not answer.status:
        raise _NotSeeing(f"does not answer ({answer.error})")
    if answer.status != 200:
        raise _NotSeeing(f"answers {answer.status}: {answer.body[:80].strip()}")
    return answer.body


def _json(answer: Answer) -> Any:
    return json.loads(_text(answer))


def _time(text: str) -> float:
    """RFC 3339 as Go writes it: nanoseconds, and a year 1 for never."""
    if text.startswith("0001-"):
        return 0.0
    head, dot, tail = text.partition(".")
    digits = "".join(each for each in tail[:9] if each.isdigit())
    zone = tail.lstrip("0123456789") if dot else ""
    return datetime.fromisoformat((f"{head}.{digits[:6]:0<6}{zone}" if dot else head).replace("Z", "+00:00")).timestamp()


def _value(exposition: str, metric: str) -> float | None:
    """Of a metric without labels."""
    for line in exposition.splitlines():
        if line.startswith(f"{metric} "):
            return float(line.split()[1])
    return None


def _span(seconds: float) -> str:
    return f"{max(0.0, seconds):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _some(names: Iterable[str]) -> str:
    listed = list(dict.fromkeys(names))
    more = f" and {len(listed) - NAMES_SHOWN_MAX} more" if len(listed) > NAMES_SHOWN_MAX else ""
    return ", ".join(listed[:NAMES_SHOWN_MAX]) + more
