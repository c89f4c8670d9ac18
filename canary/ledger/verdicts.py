"""Verdicts as they lie in the bucket: an object for each hour of accept times, rewritten as verdicts come and change.

    ledger/verdicts/yyyy/MM/dd/HH.json

A window that is OK is one short row. Windows that will not be judged again are `closed`, by the second at which they begin; a
service that begins anew goes on from there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from canary.ledger.books import Window
from canary.ledger.judge import Class, Finding, Verdict
from pipeline.backup.objects import NoSuchObject, Objects
from pipeline.errors import Corrupt
from pipeline.ledger.identity import Name
from pipeline.ledger.segment import hour_of
from pipeline.ledger.tally import WINDOW_SECONDS

PREFIX = "ledger/verdicts/"
VERSION = 1
# Of one window; the number of those beyond is told.
FINDINGS_MAX = 1_000
HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict as it is kept."""

    window: Window
    kind: Class
    # Acknowledged, with repetitions.
    events: int
    # Seconds since 1970.
    judged_at: float
    findings: tuple[Finding, ...] = ()
    # Findings that are not among these.
    beyond: int = 0
    # How it was found, if not by digests.
    how: str = ""

    @staticmethod
    def of(verdict: Verdict, judged_at: float, how: str = "") -> "Judged":
        kept = verdict.findings[:FINDINGS_MAX]
        return Judged(verdict.window, verdict.kind, verdict.events, judged_at, kept, len(verdict.findings) - len(kept), how)


def key_of(hour: str) -> str:
    return f"{PREFIX}{hour}.json"


def hours(start: float, end: float) -> Iterator[str]:
    at = int(start) // HOUR_SECONDS * HOUR_SECONDS
    while at <= end:
        yield hour_of(at)
        at += HOUR_SECONDS


class Verdicts:
    """What was judged, by window."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.rows: dict[Window, Judged] = {}
        self._closed: set[int] = set()
        self._changed: set[str] = set()

    def load(self, start: float, end: float) -> list[str]:
        """Read what there is of these accept times, and say what could not be read. Raises: Unavailable."""
        complaints = []
        for hour in hours(start, end):
            try:
                closed, rows = decode(self._objects.get(key_of(hour)))
            except NoSuchObject:
                continue
            except Corrupt as exc:
                complaints.append(f"{key_of(hour)}: {exc}")
                continue
            self._closed |= closed
            self.rows |= {row.window: row for row in rows}
        return complaints

    def put(self, row: Judged) -> Judged | None:
        """Keep it, and return the one before."""
        before = self.rows.get(row.window)
        self.rows[row.window] = row
        self._changed.add(hour_of(row.window.start))
        return before

    def is_closed(self, start: int) -> bool:
        return start in self._closed

    def close(self, start: int) -> None:
        if start not in self._closed:
            self._closed.add(start)
            self._changed.add(hour_of(start))

    def reopen(self, start: int) -> None:
        self._closed.discard(start)

    def save(self) -> None:
        """Write what changed. Raises: Unavailable: it is written the next time."""
        for hour in sorted(self._changed):
            begins = datetime.strptime(hour, "%Y/%m/%d/%H").replace(tzinfo=UTC).timestamp()
            within = range(int(begins), int(begins) + HOUR_SECONDS)
            rows = [row for window, row in self.rows.items() if window.start in within]
            self._objects.put(key_of(hour), encode({start for start in self._closed if start in within}, rows), {})
            self._changed.discard(hour)

    def forget(self, before: int) -> None:
        """What begins in an hour that is over by then. What is not written yet stays."""
        first = before // HOUR_SECONDS * HOUR_SECONDS
        if not self._changed:
            self.rows = {window: row for window, row in self.rows.items() if window.start >= first}
            self._closed = {start for start in self._closed if start >= first}


def encode(closed: set[int], rows: list[Judged]) -> bytes:
    ordered = sorted(rows, key=lambda row: (row.window.start, row.window))
    said = {
        "version": VERSION,
        "closed": _ranges(closed),
        "ok": [[*row.window, row.events, row.judged_at] for row in ordered if row.kind is Class.OK],
        "windows": [_row(row) for row in ordered if row.kind is not Class.OK],
    }
    return orjson.dumps(said)


def decode(body: bytes) -> tuple[set[int], list[Judged]]:
    """Raises: Corrupt."""
    try:
        said = orjson.loads(body)
        if said["version"] != VERSION:
            raise Corrupt(f"verdicts of version {said['version']}")
        rows = [Judged(Window(*row[:3]), Class.OK, row[3], row[4]) for row in said["ok"]]
        rows += [judged_of(row) for row in said["windows"]]
        closed = {start for first, last in said["closed"] for start in range(first, last + WINDOW_SECONDS, WINDOW_SECONDS)}
        return closed, rows
    except (ValueError, KeyError, TypeError, IndexError) as exc:
        raise Corrupt("the verdicts can't be read") from exc


def _ranges(starts: set[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for start in sorted(starts):
        if ranges and ranges[-1][1] == start - WINDOW_SECONDS:
            ranges[-1][1] = start
        else:
            ranges.append([start, start])
    return ranges


def _row(row: Judged) -> dict[str, Any]:
    said: dict[str, Any] = {
        "window": list(row.window),
        "verdict": row.kind.value,
        "events": row.events,
        "judged_at": row.judged_at,
    }
    said |= {"findings": [_finding(each) for each in row.findings], "beyond": row.beyond}
    return said | ({"how": row.how} if row.how else {})


def _finding(each: Finding) -> dict[str, Any]:
    said: dict[str, Any] = {"class": each.kind.value, "hop": each.hop, "detail": each.detail}
    if each.key is not None:
        said |= {"key": f"{each.key:016x}", "id": each.name.id, "source": each.name.source}
        said |= {"whole": [each.name.id_is_whole, each.name.source_is_whole]}
    if each.places:
        said["places"] = list(each.places)
    return said | ({"last_seen": each.last_seen} if each.last_seen else {})


def judged_of(said: Mapping[str, Any]) -> Judged:
    findings = tuple(_finding_of(each) for each in said["findings"])
    window = Window(*said["window"])
    return Judged(
        window, Class(said["verdict"]), said["events"], said["judged_at"], findings, said["beyond"], said.get("how", "")
    )


def _finding_of(said: Mapping[str, Any]) -> Finding:
    key, name = None, Name(None, None, False, False)
    if "key" in said:
        key, name = int(said["key"], 16), Name(said["id"], said["source"], *said["whole"])
    places = tuple(said.get("places", ()))
    return Finding(Class(said["class"]), said["hop"], said["detail"], key, name, places, said.get("last_seen", ""))
