"""`spillway ledger`, `spillway ledger verify|missing`."""

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import boto3
import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from canary.ledger.exits import LakeExit, RdsExit
from canary.ledger.judge import Class, Finding
from canary.ledger.letters import LetterSource
from canary.ledger.scan import Scanned, scan
from canary.ledger.settings import LedgerSettings
from canary.ledger.status import Progress, Status, read_status
from canary.ledger.verdicts import FINDINGS_MAX, Judged, Verdicts
from canary.ledger.verify import Stores, verify
from pipeline.backup.objects import NoSuchObject, S3Objects
from pipeline.backup.reader import Backup
from pipeline.config import Settings, load
from pipeline.errors import SpillwayError
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings, RdsSettings
from pipeline.ledger import tiers
from pipeline.ledger.tally import WINDOW_SECONDS

EXIT_CONVICTED, EXIT_UNKNOWN = 1, 2
# A service that wrote nothing for so long keeps no ledger.
SILENT_SECONDS_MAX = 30.0
WINDOWS_SHOWN_MAX = 40
FINDINGS_SHOWN_MAX = 200
DEFAULT_MINUTES = 60
CONVICTING = (Class.LOST, Class.CORRUPT, Class.PHANTOM, Class.DOUBLED)
_COLOURS = {"OK": "green", "LATE": "yellow", "UNKNOWN": "yellow", "": "dim"}
_COLUMNS = (
    ("acknowledged", (tiers.HTTP_ACKNOWLEDGED, tiers.GRPC_ACKNOWLEDGED)),
    ("transcoder", (tiers.TRANSCODER_READ,)),
    ("redactor", (tiers.REDACTOR_READ,)),
    ("clean", (tiers.REDACTOR_CLEAN,)),
    ("backup", (tiers.BACKUP_WEB, tiers.BACKUP_EVENTS)),
)
_since = click.option("--since", type=click.DateTime(), help="From this accept time on (UTC). [default: the last hour]")
_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group(invoke_without_command=True)
@_since
@_as_json
@click.pass_context
def ledger(ctx: click.Context, since: datetime | None, as_json: bool) -> None:
    """Is every acknowledged event where it must be? The last windows, by tier and verdict.

    A window is ten seconds of accept time of one tenant at one door. Exit code 0: nothing is convicted and nothing unknown. 1:
    something is lost, doubled, corrupt or a phantom. 2: something is not known, or nobody keeps the ledger.
    """
    if ctx.invoked_subcommand is not None:
        return
    objects = _objects(load(Settings))
    now = time.time()
    rows = _rows(objects, _start(since, now), now)
    status = _status(objects)
    if as_json:
        click.echo(orjson.dumps(_said(rows, status, now)))
    else:
        _show(_console(), rows, status, now)
    sys.exit(_code((row.kind for row in rows), blind=status is None or now - status.written_at > SILENT_SECONDS_MAX))


@ledger.command("verify")
@click.option("--from", "start", type=click.DateTime(), required=True, help="Accepted from this time on (UTC).")
@click.option("--to", "end", type=click.DateTime(), required=True, help="Accepted before this time (UTC).")
def verify_command(start: datetime, end: datetime) -> None:
    """Compare backup, exits and dead letters event by event, without any digest.

    Exit code 0: every event of the backup is at every exit once, or in the dead letters. 1: not so. 2: something could not be
    read, or the stretch is too young for its backup to be complete, or there was nothing.
    """
    settings, own = load(Settings), load(LedgerSettings)
    first, last = _floor(start), _floor(end, up=True)
    if last <= first:
        raise click.UsageError("--to must be later than --from")
    console, progress = _console(), Console(stderr=True, highlight=False)
    stores = _stores(settings)
    stores.letters.look(first, time.time())
    with progress.status("reading") as shown:
        found = list(verify(stores, first, last, lambda what, done, of: shown.update(f"{done} of {of} {what}")))
    for verdict in found:
        if verdict.kind is not Class.OK:
            _show_findings(
                console, verdict.findings, f"{_when(verdict.window.start)} {verdict.window.tenant} {verdict.window.door}"
            )
    events = sum(verdict.events for verdict in found)
    counts = Counter(verdict.kind.value for verdict in found)
    console.print(f"{events} events in {len(found)} windows: {_counted(counts) or 'nothing there'}")
    young = last + own.backup_due_seconds > time.time()
    if young:
        console.print(Text("UNKNOWN: the end of this stretch is too young for its backup to be complete.", "yellow"))
    if stores.letters.unreadable:
        console.print(f"{stores.letters.unreadable} dead letters can't be read; what they hold counts as missing.")
    sys.exit(_code((verdict.kind for verdict in found), blind=young or not found))


@ledger.command("missing")
@_since
@_as_json
def missing(since: datetime | None, as_json: bool) -> None:
    """Events that are lost, the hop to blame, and where in the backup their payload is.

    Exit code 0: none is. 1: some are. 2: it is not known of all windows.
    """
    settings, now = load(Settings), time.time()
    objects = _objects(settings)
    rows = _rows(objects, _start(since, now), now)
    lost = [(row, each) for row in rows for each in row.findings if each.kind is Class.LOST]
    streams = {"http": settings.web_stream, "grpc": settings.events_stream}
    wanted = [(row.window, each.key) for row, each in lost if each.key is not None]
    scanned = scan(Backup(objects), streams, {window.start for window, _ in wanted}, wanted=wanted)
    if as_json:
        click.echo(orjson.dumps([_missing(row, each, scanned) for row, each in lost]))
    else:
        _show_missing(_console(), lost, scanned, streams)
    sys.exit(_code((row.kind for row in rows if row.kind in (Class.LOST, Class.UNKNOWN)), blind=False))


def _code(kinds: Iterable[Class], *, blind: bool) -> int:
    seen = set(kinds)
    if seen & set(CONVICTING):
        return EXIT_CONVICTED
    return EXIT_UNKNOWN if blind or Class.UNKNOWN in seen else 0


def _objects(settings: Settings) -> S3Objects:
    return S3Objects(boto3.client("s3", region_name=settings.region), settings.bucket)


def _stores(settings: Settings) -> Stores:
    objects = _objects(settings)
    exits = (LakeExit(Lake(load(EtlSettings).lake(settings), settings.region)), RdsExit(load(RdsSettings).url))
    streams = {"http": settings.web_stream, "grpc": settings.events_stream}
    return Stores(exits, LetterSource(objects), Backup(objects), streams)


def _rows(objects: S3Objects, start: float, now: float) -> list[Judged]:
    verdicts = Verdicts(objects)
    for complaint in verdicts.load(start, now):
        click.echo(f"UNKNOWN {complaint}", err=True)
    rows = [row for row in verdicts.rows.values() if row.window.start >= start]
    return sorted(rows, key=lambda row: (row.window.start, row.window))


def _status(objects: S3Objects) -> Status | None:
    try:
        return read_status(objects)
    except NoSuchObject:
        return None
    except SpillwayError as exc:
        click.echo(f"UNKNOWN {exc}", err=True)
        return None


def _start(since: datetime | None, now: float) -> float:
    return since.replace(tzinfo=UTC).timestamp() if since is not None else now - DEFAULT_MINUTES * 60


def _floor(moment: datetime, *, up: bool = False) -> int:
    seconds = moment.replace(tzinfo=UTC).timestamp()
    return int(-(-seconds // WINDOW_SECONDS) if up else seconds // WINDOW_SECONDS) * WINDOW_SECONDS


def _console() -> Console:
    return Console(width=None if os.isatty(1) else 160, highlight=False)


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _show(console: Console, rows: Sequence[Judged], status: Status | None, now: float) -> None:
    if status is None:
        console.print(
            Text("UNKNOWN: nobody keeps the ledger here (no ledger/status.json). Is the part `ledger` running?", "yellow")
        )
    else:
        _show_windows(console, status)
        old = now - status.written_at
        if old > SILENT_SECONDS_MAX:
            console.print(Text(f"UNKNOWN: the ledger has not spoken for {old:.0f} s; this is what it knew then.", "yellow"))
        judged = (
            f"judged up to {_when(status.judged_to)}, {now - status.judged_to:.0f} s ago"
            if status.judged_to
            else "none judged yet"
        )
        console.print(f"Windows {judged}.")
        for each in status.speakers:
            if not each.ended and now - each.reaches_to > SILENT_SECONDS_MAX:
                console.print(Text(f"{each.worker} has said nothing for {now - each.reaches_to:.0f} s.", "yellow"))
    for row in rows:
        if row.kind not in (Class.OK, Class.LATE):
            where = f"{_when(row.window.start)} {row.window.tenant} {row.window.door}"
            _show_findings(console, row.findings, where, row.beyond, row.how)
    counts = Counter(row.kind.value for row in rows)
    console.print(f"{sum(row.events for row in rows)} events in {len(rows)} judged windows: {_counted(counts) or 'none'}")


def _show_windows(console: Console, status: Status) -> None:
    table = Table(show_edge=False)
    for column in ("accepted from", "tenant", "door", *(name for name, _ in _COLUMNS), "verdict"):
        table.add_column(column, justify="right" if column in dict(_COLUMNS) else "left")
    for each in reversed(status.windows[:WINDOWS_SHOWN_MAX]):
        verdict = Text(each.verdict or "open", _COLOURS.get(each.verdict, "bold red"))
        table.add_row(_when(each.start), each.tenant, each.door, *(_seen(each, names) for _, names in _COLUMNS), verdict)
    console.print(table)


def _seen(each: Progress, names: Sequence[str]) -> str:
    """What this door's own tier of these saw; at the gRPC door an HTTP window's events are those that the transcoder brought."""
    own = {"http": tiers.HTTP_ACKNOWLEDGED, "grpc": tiers.GRPC_ACKNOWLEDGED}.get(each.door)
    backup = {"http": tiers.BACKUP_WEB, "grpc": tiers.BACKUP_EVENTS}.get(each.door)
    name = next((name for name in names if len(names) == 1 or name in (own, backup)), "")
    if name == tiers.TRANSCODER_READ and each.door != "http":
        return ""
    return str(each.tiers.get(name, 0))


def _show_findings(console: Console, findings: Sequence[Finding], where: str, beyond: int = 0, how: str = "") -> None:
    for each in findings[:FINDINGS_SHOWN_MAX]:
        what = f" {each.name}:" if each.key is not None else ""
        line = f"{each.kind.value} {where} at {each.hop}:{what} {each.detail}"
        console.print(Text(line, "red" if each.kind in CONVICTING else "yellow"), soft_wrap=True)
    more = len(findings) - FINDINGS_SHOWN_MAX + beyond if len(findings) > FINDINGS_SHOWN_MAX else beyond
    if more:
        console.print(f"  and {more} more{f', {how}' if how else ''}")


def _show_missing(console: Console, lost: Sequence[tuple[Judged, Finding]], scanned: Scanned, streams: dict[str, str]) -> None:
    if not lost:
        console.print("No event is known to be lost.")
        return
    table = Table(show_edge=False)
    for column in ("event", "tenant", "accepted from", "hop", "missing at", "last seen", "in the backup"):
        table.add_column(column, overflow="fold")
    for row, each in lost[:FINDINGS_MAX]:
        place = scanned.places.get((row.window, each.key)) if each.key is not None else None
        at = f"{place.place.key} offset {place.place.offset}, event {place.index}" if place is not None else "not found"
        cells = (str(each.name), row.window.tenant, _when(row.window.start), each.hop, ", ".join(each.places), each.last_seen, at)
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    for door, starts in _starts_by_door(lost).items():
        console.print(f"To bring them back: {_replay_line(streams[door], min(starts), max(starts))}", soft_wrap=True)


def _starts_by_door(lost: Sequence[tuple[Judged, Finding]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, _ in lost:
        found.setdefault(row.window.door, []).append(row.window.start)
    return found


def _replay_line(stream: str, first: int, last: int) -> str:
    since, until = (datetime.fromtimestamp(at, UTC) for at in (first, last + WINDOW_SECONDS))
    return f"spillway replay --stream {stream} --since {since:%Y-%m-%dT%H:%M:%S} --until {until:%Y-%m-%dT%H:%M:%S}"


def _said(rows: Sequence[Judged], status: Status | None, now: float) -> dict[str, object]:
    return {
        "at": now,
        "written_at": status.written_at if status is not None else None,
        "judged_to": status.judged_to if status is not None else None,
        "windows": [
            {"tenant": row.window.tenant, "door": row.window.door, "start": row.window.start, "verdict": row.kind.value,
             "events": row.events, "findings": [_finding(each) for each in row.findings], "beyond": row.beyond, "how": row.how}
            for row in rows
        ],
        "open": [
            {"tenant": each.tenant, "door": each.door, "start": each.start, "tiers": each.tiers}
            for each in (status.windows if status is not None else ()) if not each.verdict
        ],
    }  # fmt: skip


def _finding(each: Finding) -> dict[str, object]:
    return {
        "class": each.kind.value, "hop": each.hop, "id": each.name.id, "source": each.name.source, "places": each.places,
        "last_seen": each.last_seen, "detail": each.detail,
    }  # fmt: skip


def _missing(row: Judged, each: Finding, scanned: Scanned) -> dict[str, object]:
    place = scanned.places.get((row.window, each.key)) if each.key is not None else None
    said = {"tenant": row.window.tenant, "door": row.window.door, "start": row.window.start, **_finding(each)}
    if place is not None:
        said |= {"backup_key": place.place.key, "backup_offset": place.place.offset, "backup_index": place.index}
    return said


COMMANDS: tuple[click.Command, ...] = (ledger,)
