"""`spillway dlq list|show|count|redrive`. Payloads are shown only when asked for: they hold personal data."""

import sys
from datetime import UTC, datetime
from itertools import islice

import boto3
import click
from google.protobuf.json_format import MessageToDict

from pipeline.backup.objects import S3Objects
from pipeline.config import Settings, load
from pipeline.dead_letters.letters import events_of
from pipeline.dead_letters.office import Office
from pipeline.errors import SpillwayError
from pipeline.schema.registry import Registry
from pipeline.sdk.publisher import Publisher

LISTED_MAX = 1000
PUBLISH_SECONDS_MAX = 30.0
EXIT_REFUSED = 1

_stage = click.option("--stage", help="transcoder, redactor, etl-lake, ...")
_reason = click.option("--reason", help="A reason word, such as unknown_type, corrupt, poison or conflict.")


def _office(settings: Settings) -> Office:
    return Office(S3Objects(boto3.client("s3", region_name=settings.region), settings.bucket))


@click.group()
def dlq() -> None:
    """Dead letters: events that could not go on, whole, with the reason."""


@dlq.command("list")
@_stage
@_reason
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, LISTED_MAX))
def list_letters(stage: str | None, reason: str | None, limit: int) -> None:
    """Keys of letters, with their size."""
    for listed in islice(_office(load(Settings)).letters(stage, reason), limit):
        click.echo(
            f"{listed.place.day}  {listed.place.stage:<12} {listed.place.reason:<20} {listed.size_bytes:>10}  {listed.key}"
        )


@dlq.command()
def count() -> None:
    """How many letters there are, by stage and reason."""
    counts = _office(load(Settings)).counts()
    for (stage, reason), letters in sorted(counts.items()):
        click.echo(f"{letters:>10}  {stage}  {reason}")
    click.echo(f"{sum(counts.values()):>10}  in all")


@dlq.command()
@click.argument("key")
@click.option("--payload", is_flag=True, help="Show the events themselves: they hold personal data.")
def show(key: str, payload: bool) -> None:
    """What one letter says."""
    try:
        letter = _office(load(Settings)).read(key)
    except SpillwayError as exc:
        raise click.ClickException(f"{key}: {exc}") from exc
    events = events_of(letter)
    rows = {
        "stage": letter.stage,
        "reason": letter.reason,
        "detail": letter.detail,
        "read at": f"{letter.stream} {letter.shard_id} {letter.sequence_number}, event {letter.index}",
        "dead since": datetime.fromtimestamp(letter.dead_at_unix_micros / 1e6, UTC).isoformat(timespec="seconds"),
        "tenant": letter.event.tenant,
        "types": ", ".join(sorted({event.type for event in events})),
        "original": f"{len(events)} events" if events else f"{len(letter.record)} bytes that can't be read",
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name:<11} {value}")
    if payload:
        for event in events:
            click.echo(MessageToDict(event))
        if not events:
            click.echo(letter.record)


@dlq.command()
@_stage
@_reason
@click.option("--key", "one", help="Only this letter.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, LISTED_MAX))
@click.option("--collector", envvar="SPILLWAY_COLLECTOR", default="127.0.0.1:50051", show_default=True)
@click.option("--service-key", envvar="SPILLWAY_TRANSCODER_KEY", required=True, help="An API key with the role service.")
def redrive(stage: str | None, reason: str | None, one: str | None, limit: int, collector: str, service_key: str) -> None:
    """Send letters through the gRPC door again, with the same ids; what is acknowledged is deleted here."""
    settings = load(Settings)
    office = _office(settings)
    types = Registry.load(settings.proto_dir)
    keys = [one] if one else [listed.key for listed in islice(office.letters(stage, reason), limit)]
    refused = 0
    with Publisher(collector, service_key) as publisher:
        for key in keys:
            try:
                done = office.redrive(
                    key, types, lambda events, by: publisher.publish(events, on_behalf=by, deadline_seconds=PUBLISH_SECONDS_MAX)
                )
            except SpillwayError as exc:
                raise click.ClickException(f"{key}: {exc}") from exc
            refused += bool(done.refusal)
            click.echo(f"{'refused' if done.refusal else 'redriven':<9} {done.events:>6} events  {key}  {done.refusal}".rstrip())
    click.echo(f"{len(keys) - refused} redriven, {refused} still here")
    if refused:
        sys.exit(EXIT_REFUSED)


COMMANDS: tuple[click.Command, ...] = (dlq,)
