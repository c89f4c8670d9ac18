"""`spillway explain EVENT_ID`."""

import os
from datetime import UTC, datetime

import boto3
import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.backup.objects import S3Objects
from pipeline.backup.reader import Backup
from pipeline.config import Settings, load
from pipeline.dead_letters.office import Office
from pipeline.etl import kinesis
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings, RdsSettings, RedisSettings
from pipeline.explain.journey import Seen, Sighting, Sources, Wanted, journey

EXIT_ABSENT, EXIT_UNKNOWN = 1, 2
_COLOURS = {Seen.FOUND: "green", Seen.ABSENT: "dim", Seen.UNKNOWN: "yellow"}


@click.command()
@click.argument("event_id")
@click.option("--tenant", help="Whose event, if several tenants use this id.")
@click.option("--source", help="The event's source, if several sources use this id.")
@click.option(
    "--since", type=click.DateTime(), help="Read streams, backup and dead letters from here (UTC), if no exit knows the event."
)
def explain(event_id: str, tenant: str | None, source: str | None, since: datetime | None) -> None:
    """Say where one event is: each stream, each backup, each exit, or the dead letters.

    Exit code 0: found somewhere. 1: looked everywhere, found nowhere. 2: not found, and some place could not be read.
    """
    settings = load(Settings)
    wanted = Wanted(event_id, tenant, source, since=since.replace(tzinfo=UTC) if since else None)
    known, sightings = journey(wanted, _sources(settings))
    console = Console(width=None if os.isatty(1) else 160)
    console.print(_headline(known), highlight=False)
    console.print(_table(known, sightings))
    console.print(_conclusion(sightings), highlight=False)
    if not any(sighting.seen is Seen.FOUND for sighting in sightings):
        # Redis can't be asked by id, so it is never what tells "nowhere" from "not known".
        blind = any(sighting.seen is Seen.UNKNOWN and sighting.place != "redis" for sighting in sightings)
        raise SystemExit(EXIT_UNKNOWN if blind else EXIT_ABSENT)


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


def _headline(known: Wanted) -> str:
    parts = [f"[bold]{escape(known.id)}[/]"]
    parts += [
        f"{name} {value}" for name, value in (("tenant", known.tenant), ("source", known.source), ("of", known.type)) if value
    ]
    if known.accepted_at:
        parts.append(f"accepted {known.accepted_at:%Y-%m-%d %H:%M:%S.%f} UTC at the {known.door or '?'} door")
    return ", ".join(parts)


def _table(known: Wanted, sightings: list[Sighting]) -> Table:
    table = Table(show_edge=False)
    for column in ("place", "", "after accept", "where"):
        table.add_column(column, overflow="fold")
    for sighting in sightings:
        if sighting.place.startswith("web") and known.door == "grpc":
            continue  # it never went that way
        after = f"+{(sighting.at - known.accepted_at).total_seconds():.2f} s" if sighting.at and known.accepted_at else ""
        table.add_row(sighting.place, f"[{_COLOURS[sighting.seen]}]{sighting.seen.value}[/]", after, escape(sighting.detail))
    return table


def _conclusion(sightings: list[Sighting]) -> str:
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
    return "Found nowhere. Was it acknowledged? If long ago, say from when with --since."


COMMANDS: tuple[click.Command, ...] = (explain,)
