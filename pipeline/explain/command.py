"""`spillway explain EVENT_ID`: every place is asked itself; what the spans say comes beside it, and may be unknown."""

import os
import time
from datetime import UTC, datetime, timedelta

import boto3
import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.backup.objects import S3Objects
from pipeline.backup.reader import Backup
from pipeline.config import Settings, load
from pipeline.dead_letters.office import Office
from pipeline.etl import kinesis
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings, RdsSettings, RedisSettings
from pipeline.explain.fate import Became
from pipeline.explain.journey import Seen, Sighting, Sources, Wanted, journey
from pipeline.explain.settings import StoreAddress
from pipeline.explain.show import plain, show_fate, show_lines
from pipeline.explain.told import Asked, Told, of_event
from telemetry.store_client import StoreError, TraceStore, Within

EXIT_ABSENT, EXIT_UNKNOWN = 1, 2
# A dead letter's place holds its key, its reason and what was wrong.
WHERE_CHARS_MAX = 1_000
_COLOURS = {Seen.FOUND: "green", Seen.ABSENT: "dim", Seen.UNKNOWN: "yellow"}


@click.command()
@click.argument("event_id")
@click.option("--tenant", help="Whose event, if several tenants use this id.")
@click.option("--source", help="The event's source, if several sources use this id.")
@click.option(
    "--since", type=click.DateTime(), help="Read streams, backup and dead letters from here (UTC), if no exit knows the event."
)
@click.option("--store", help="Address of the trace store, or of a Tempo. [default: SPILLWAY_STORE_URL]")
def explain(event_id: str, tenant: str | None, source: str | None, since: datetime | None, store: str | None) -> None:
    """Say where one event is: each stream, each backup, each exit, or the dead letters; and the time at each hop.

    Exit code 0: found somewhere, or known to have been rejected. 1: looked everywhere, found nowhere. 2: not found, and some
    place could not be read. Spans and log lines are extra: if they can't be had, the answer stands.
    """
    settings = load(Settings)
    wanted = Wanted(event_id, tenant, source, since=since.replace(tzinfo=UTC) if since else None)
    known, sightings = journey(wanted, _sources(settings))
    told, untold = _told(StoreAddress.of(store), known)
    console = Console(width=None if os.isatty(1) else 160, highlight=False)
    code = answer(console, known, sightings, told, untold)
    if code:
        raise SystemExit(code)


def answer(console: Console, known: Wanted, sightings: list[Sighting], told: Told | None, untold: str) -> int:
    """Print what is known, and return the exit code. `untold` says why there is no `told`."""
    console.print(_headline(known), soft_wrap=True)
    console.print(_table(known, sightings))
    _show_told(console, told, untold)
    rejected = _rejected(told)
    console.print(Text(_conclusion(sightings, rejected, untold)), soft_wrap=True)
    return _exit_code(sightings, rejected)


def _exit_code(sightings: list[Sighting], rejected: str) -> int:
    if any(sighting.seen is Seen.FOUND for sighting in sightings):
        return 0
    if _blind(sightings):
        return EXIT_UNKNOWN
    return 0 if rejected else EXIT_ABSENT


def _blind(sightings: list[Sighting]) -> bool:
    """Redis can't be asked by id, so it is never what tells "nowhere" from "not known"."""
    return any(sighting.seen is Seen.UNKNOWN and sighting.place != "redis" for sighting in sightings)


def _told(address: StoreAddress, known: Wanted) -> tuple[Told | None, str]:
    """What the spans say, or why that is not known."""
    if not address.url:
        return None, "no trace store is named (SPILLWAY_STORE_URL, or --store)"
    # To whole seconds, outwards: what began before the accept time belongs to it.
    within = Within(int(known.start.timestamp()), int((known.end + timedelta(seconds=1)).timestamp()))
    try:
        asked = Asked(known.id, known.source or "", known.tenant or "", within)
        return of_event(TraceStore(address.url), asked, time.time()), ""
    except (StoreError, ValueError) as exc:
        return None, str(exc)


def _show_told(console: Console, told: Told | None, untold: str) -> None:
    if told is None:
        console.print(Text(f"Times at each hop: UNKNOWN, {plain(untold)}", "yellow"), soft_wrap=True)
        return
    for fate in told.fates:
        show_fate(console, fate, told.last_signs)
        console.print(f"`spillway trace {fate.trace_id}` shows all of this trace.")
    if not told.fates:
        console.print(
            "Times at each hop: no spans, since this event was not to be traced, or they are older than the store keeps."
        )
    if told.lines or told.lines_unknown:
        show_lines(console, told)
    console.print()


def _rejected(told: Told | None) -> str:
    """Why a door rejected the event, as far as spans and lines say so; "" if they do not."""
    if told is None:
        return ""
    for fate in told.fates:
        if fate.became is Became.REJECTED:
            return f"{fate.at}: {fate.why or 'no reason is given'}"
    line = told.rejected_line
    return f"{line.part}: {line.fields.get('reason') or 'no reason is given'}" if line and not told.fates else ""


def _sources(settings: Settings) -> Sources:
    objects = S3Objects(boto3.client("s3", region_name=settings.region), settings.bucket)
    return Sources(
        rds_url=load(RdsSettings).url,
        redis_url=load(RedisSettings).url,
        lake=Lake(load(EtlSettings).lake(settings), settings.region),
        backup=Backup(objects),
        dead_letters=Office(objects),
        kinesis=kinesis.client(settings.region),
        web_stream=settings.web_stream,
        events_stream=settings.events_stream,
        clean_stream=settings.clean_stream,
    )


def _headline(known: Wanted) -> Text:
    parts = [("tenant", known.tenant), ("source", known.source), ("of", known.type)]
    said = "".join(f", {name} {plain(value)}" for name, value in parts if value)
    if known.accepted_at:
        said += f", accepted {known.accepted_at:%Y-%m-%d %H:%M:%S.%f} UTC at the {plain(known.door or '?')} door"
    return Text.assemble((plain(known.id), "bold"), said)


def _table(known: Wanted, sightings: list[Sighting]) -> Table:
    table = Table(show_edge=False)
    for column in ("place", "", "after accept", "where"):
        table.add_column(column, overflow="fold")
    for sighting in sightings:
        if sighting.place.startswith("web") and known.door == "grpc":
            continue  # it never went that way
        after = f"+{(sighting.at - known.accepted_at).total_seconds():.2f} s" if sighting.at and known.accepted_at else ""
        seen = Text(sighting.seen.value, _COLOURS[sighting.seen])
        table.add_row(sighting.place, seen, after, Text(plain(sighting.detail, WHERE_CHARS_MAX)))
    return table


def _conclusion(sightings: list[Sighting], rejected: str, untold: str) -> str:
    found = {sighting.place for sighting in sightings if sighting.seen is Seen.FOUND}
    if {"lake", "rds"} <= found:
        return "Delivered."
    if "dead letters" in found:
        return "Dead-lettered: mend the cause, then `spillway dlq redrive`."
    for place, waits_for in (("events-clean", "the ETL"), ("events", "the redactor"), ("web-events", "the transcoder")):
        if place in found:
            return f"It is in {place} and waits for {waits_for}: see `spillway status` and that process's log."
    if found:
        return "It is past the streams; see the rows above."
    if rejected:
        rest = (
            "Whether it was accepted later is not known: not every place could be read."
            if _blind(sightings)
            else "It was never acknowledged, so no place has it: mend it at its producer."
        )
        return f"Rejected at {plain(rejected)}. {rest}"
    also = " Whether a door rejected it is not known without the trace store." if untold else ""
    return f"Found nowhere. Was it acknowledged? If long ago, say from when with --since.{also}"


COMMANDS: tuple[click.Command, ...] = (explain,)
