"""The ledger's page: windows by tier and verdict as the ledger process says them on its health port, and what it convicts."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dashboards.console.layout import Markup, counted, html, notice, table, tag

PATH = "/ledger.json"
# It says something every few seconds; older than this it keeps no ledger.
SILENT_SECONDS_MAX = 30.0
WINDOWS_MAX, FINDINGS_MAX = 120, 200
STATES = {"OK": "ok", "LATE": "near", "UNKNOWN": "near", "": "nodata"}
# What each column shows: the first of these tiers that the window's door has.
_TIERS = (
    ("acknowledged", ("{door}-door:acknowledged",)),
    ("transcoder", ("transcoder:read",)),
    ("redactor", ("redactor:read",)),
    ("clean", ("redactor:clean",)),
    ("backup", ("backup:read", "backup/web-events:read")),
)


def shown(said: Mapping[str, Any], now: float) -> Markup:
    """Raises: KeyError, TypeError, ValueError: that was not the ledger's answer."""
    old = now - float(said["written_at"])
    parts = [_verdict(said["counts"], old)]
    if said["findings"]:
        parts += [tag("h2", "Convicted, or not known"), _findings(said["findings"])]
    parts += [tag("h2", "Windows"), _windows(said["windows"])]
    return html(*parts)


def _verdict(counts: Mapping[str, int], old: float) -> Markup:
    if old > SILENT_SECONDS_MAX:
        return notice(f"UNKNOWN: the ledger has judged nothing for {old:.0f} s. This is what it knew then.", "bad")
    bad = {kind: count for kind, count in counts.items() if count and kind not in STATES}
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()) if count)
    if bad:
        return notice(f"Not every acknowledged event is where it must be. Windows of the last hour: {listed}.", "bad")
    if counts.get("UNKNOWN"):
        return notice(f"Not everything could be seen. Windows of the last hour: {listed}.")
    return notice(f"Every event that was due is accounted for. Windows of the last hour: {listed or 'none'}.", "quiet")


def _findings(findings: Sequence[Mapping[str, Any]]) -> Markup:
    rows = []
    for each in findings[:FINDINGS_MAX]:
        verdict = tag("span", str(each["class"]), class_=f"state-{STATES.get(each['class'], 'bad')}")
        event = tag("code", str(each["id"])) if each.get("id") else Markup("")
        cells = (verdict, str(each["hop"]), event, str(each["tenant"]), _when(each["start"]), str(each["detail"]))
        rows.append(tag("tr", *(tag("td", cell) for cell in cells), data_line=True))
    heads = ("class", "hop", "event", "tenant", "accepted from", "what is wrong")
    return table(heads, rows, f"{counted(len(findings), 'findings')}; `spillway ledger missing` says where the payload is.")


def _windows(windows: Sequence[Mapping[str, Any]]) -> Markup:
    if not windows:
        return notice("No event came in the last five minutes.", "quiet")
    rows = []
    for each in windows[:WINDOWS_MAX]:
        verdict = str(each["verdict"])
        seen = [tag("td", _seen(each, names), class_="number") for _, names in _TIERS]
        state = tag("td", tag("span", verdict or "open", class_=f"state-{STATES.get(verdict, 'bad')}"))
        where = (_when(each["start"]), str(each["tenant"]), str(each["door"]))
        rows.append(tag("tr", *(tag("td", cell) for cell in where), *seen, state, data_line=True))
    heads = ("accepted from", "tenant", "door", *(name for name, _ in _TIERS), "verdict")
    return table(heads, rows, "Events that each tier saw, with repetitions, in ten seconds of accept time.")


def _seen(window: Mapping[str, Any], names: Sequence[str]) -> str:
    door, tiers = window["door"], window["tiers"]
    if names == ("transcoder:read",) and door != "http":
        return ""
    found = [tiers[name.format(door=door)] for name in names if name.format(door=door) in tiers]
    return str(max(map(int, found), default=0))


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(float(seconds), UTC):%H:%M:%S}"
