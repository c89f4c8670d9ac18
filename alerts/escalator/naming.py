"""Which events a page is of, by id: asked of the ledger when the page is told, since no metric can hold ids.

Rules. A page never waits for it longer than `ANSWER_SECONDS_MAX` and goes out in any case: without ids it still names the command
that lists them. Ids leave this house here, so personal data in them is masked. Of the newest windows `NAMED_MAX` are told.
"""

import json
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from alerts.escalator.state import Page
from telemetry.personal_data import mask

ANSWER_SECONDS_MAX = 2.0
ANSWER_BYTES_MAX = 4 << 20
NAMED_MAX, NAME_CHARS_MAX = 5, 100
# What the ledger calls that which a page is of.
CLASSES: Mapping[str, frozenset[str]] = {
    "AckedUnaccounted": frozenset(("LOST",)),
    "BackupGap": frozenset(("LOST",)),
    "DuplicatesOverContract": frozenset(("DOUBLED",)),
    "CorruptionDetected": frozenset(("CORRUPT", "PHANTOM")),
}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Naming = Callable[[Page], str]


def nobody(_: Page) -> str:
    """Where there is no ledger to ask."""
    return ""


def by_ledger(url: str) -> Naming:
    """`url`: of the ledger's health port, without a path; empty: there is none. What it returns says "" of what it can't name."""
    return (lambda page: _asked(f"{url.rstrip('/')}/ledger.json", page)) if url else nobody


def _asked(url: str, page: Page) -> str:
    classes = CLASSES.get(page.alert)
    if classes is None:
        return ""
    try:
        with _DIRECT.open(url, timeout=ANSWER_SECONDS_MAX) as answer:
            return names(json.loads(answer.read(ANSWER_BYTES_MAX)), classes, page.labels.get("hop", ""))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # does not answer, or not as it should
        return ""


def names(told: Mapping[str, Any], classes: frozenset[str], hop: str) -> str:
    """Of the findings in the ledger's answer, those of these classes at this hop; at any, if the page names none."""
    findings = [each for each in told["findings"] if each["class"] in classes]
    own = [each for each in findings if hop in ("", "other") or each["hop"] == hop or each["hop"].startswith(f"{hop}/")]
    ids = list(dict.fromkeys(str(each["id"]) for each in own if each["id"]))
    said = ", ".join(_bounded(mask(id)) for id in ids[:NAMED_MAX])
    more = len(ids) - NAMED_MAX
    return f"{said} and {more} more" if more > 0 else said


def _bounded(id: str) -> str:
    return id if len(id) <= NAME_CHARS_MAX else id[: NAME_CHARS_MAX - 1] + "…"
