"""`spillway backup ls|verify|cat` and `spillway replay`."""

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import boto3
import click
from google.protobuf.json_format import MessageToDict

from pipeline.backup.objects import S3Objects
from pipeline.backup.reader import Backup, Damaged, Found, Range
from pipeline.backup.replay import Replayed, replay
from pipeline.config import Settings, load
from pipeline.errors import SpillwayError
from pipeline.streams.kinesis_writer import KinesisWriter
from telemetry.metrics import Metrics

EXIT_DAMAGED = 1

_stream = click.option("--stream", default="events", show_default=True, help="Whose backup: events or web-events.")
_since = click.option("--since", type=click.DateTime(), help="Arrived from this time on (UTC).")
_until = click.option("--until", type=click.DateTime(), help="Arrived before this time (UTC).")


def _range(since: datetime | None, until: datetime | None) -> Range:
    start, end = (moment.replace(tzinfo=UTC) if moment else None for moment in (since, until))
    return Range(start, end)


def _backup(settings: Settings) -> Backup:
    return Backup(S3Objects(boto3.client("s3", region_name=settings.region), settings.bucket))


@click.group()
def backup() -> None:
    """The backup that Firehose keeps of the streams."""


@backup.command("ls")
@_stream
@_since
@_until
def list_objects(stream: str, since: datetime | None, until: datetime | None) -> None:
    """Objects, their size and their number."""
    count = total_bytes = 0
    for stored in _backup(load(Settings)).objects(stream, _range(since, until)):
        click.echo(f"{stored.size_bytes:>12}  {stored.key}")
        count, total_bytes = count + 1, total_bytes + stored.size_bytes
    click.echo(f"{count} objects, {total_bytes} bytes")


@backup.command()
@_stream
@_since
@_until
def verify(stream: str, since: datetime | None, until: datetime | None) -> None:
    """Read everything and say where damage is. Exit code 1 if there is any, or if there was nothing to read."""
    source = _backup(load(Settings))
    objects = records = events = damages = 0
    for stored in source.objects(stream, _range(since, until)):
        objects += 1
        for part in source.read(stored.key):
            if isinstance(part, Found):
                records, events = records + 1, events + len(part.batch.events)
            else:
                damages += 1
                click.echo(_damage_line(part))
    click.echo(f"{objects} objects, {records} records, {events} events, {damages} damaged ranges")
    if damages or not objects:
        sys.exit(EXIT_DAMAGED)


@backup.command()
@click.argument("key")
@click.option("--payload", is_flag=True, help="Show the events themselves: they hold personal data.")
def cat(key: str, payload: bool) -> None:
    """What is in one object: a line per batch, and one per damaged range."""
    for part in _backup(load(Settings)).read(key):
        if isinstance(part, Damaged):
            click.echo(_damage_line(part))
            continue
        batch = part.batch
        accepted = datetime.fromtimestamp(batch.accepted_at_unix_micros / 1e6, UTC).isoformat()
        click.echo(
            f"{part.place.offset:>10}  {batch.tenant}  slice {batch.slice}/{batch.slices}  {accepted}  {len(batch.events)} events"
        )
        if payload:
            for event in batch.events:
                click.echo(f"            {MessageToDict(event)}")


@click.command("replay")
@_stream
@_since
@_until
@click.option("--into", help="The stream to write to; by default the one it came from.")
def replay_command(stream: str, since: datetime | None, until: datetime | None, into: str | None) -> None:
    """Write the backup into its stream again, with the same ids, tenants and accept times."""
    settings = load(Settings)
    started = time.monotonic()
    parts = _backup(settings).batches(stream, _range(since, until))
    try:
        done = asyncio.run(_replay(parts, into or stream, settings.region))
    except SpillwayError as exc:
        raise click.ClickException(str(exc)) from exc
    for damage in done.damaged:
        click.echo(_damage_line(damage))
    what = f"{done.records} records, {done.events} events into {into or stream} in {time.monotonic() - started:.1f} s"
    click.echo(f"{what}; {len(done.damaged)} damaged ranges")
    if done.damaged:
        sys.exit(EXIT_DAMAGED)


async def _replay(parts: Iterator[Found | Damaged], stream: str, region: str) -> Replayed:
    writer = KinesisWriter.to(stream, region, Metrics())
    try:
        return await replay(parts, writer)
    finally:
        await writer.close()


def _damage_line(damage: Damaged) -> str:
    what = "compressed bytes" if damage.compressed else "bytes"
    return f"DAMAGED {damage.key}: {what} {damage.start} to {damage.end}: {damage.reason}"


COMMANDS: tuple[click.Command, ...] = (backup, replay_command)
