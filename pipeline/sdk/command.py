"""`spillway send`: events from the command line, through the SDK and the gRPC door."""

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO

import click

from pipeline.config import Settings, load
from pipeline.errors import DeadlineExceeded, InvalidEvent, SpillwayError
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.schema.registry import Registry
from pipeline.sdk.client import Client, Delivery, Semantics

# Answers are printed in the order of the events; so many may be under way.
UNDER_WAY_MAX = 2_000
_FIELDS = (
    "type",
    "data",
    "subject",
    "id",
    "source",
    "time",
    "partitionkey",
    "traceparent",
    "canary",
    "specversion",
    "datacontenttype",
)


@dataclass(frozen=True, slots=True)
class _Given:
    """What the options say of every event whose line does not say it."""

    type: str
    source: str
    canary: str
    traceparent: str


def _types() -> Registry:
    return Registry.load(load(Settings).proto_dir)


@click.command("send")
@click.option("--type", "type_name", default="", help="Full name of the event type, such as spillway.events.v1.PageViewed.")
@click.option("--subject", default="", help="What the event is about; the events of one subject stay together.")
@click.option("--data", default="", help="The event's fields as a JSON object.")
@click.option("--id", "event_id", default="", help="An id of your own, if you may send this again. [default: a new one]")
@click.option("--source", default="/spillway/send", show_default=True, help="Who emits it; id and source are its identity.")
@click.option("--canary", default="", help="Mark it as sent to be looked for, under this name; such an event is always traced.")
@click.option("--traceparent", default="", help="The W3C trace context that it belongs to. [default: a trace of its own]")
@click.option(
    "--file", "lines", type=click.File("r"), help="JSON lines instead: one object a line, as below. `-` is standard input."
)
@click.option("--target", envvar="SPILLWAY_COLLECTOR", default="127.0.0.1:50051", show_default=True, show_envvar=True)
@click.option("--key", envvar=["SPILLWAY_KEY", "SPILLWAY_DEMO_KEY"], show_envvar=True, help="The API key; it names the tenant.")
@click.option(
    "--semantics", type=click.Choice([s.value for s in Semantics]), default=Semantics.EFFECTIVELY_ONCE.value, show_default=True
)
@click.option(
    "--wait", "wait_seconds", type=click.FloatRange(min=0.1), default=30.0, show_default=True, help="Seconds for the answers."
)
def send(
    type_name: str,
    subject: str,
    data: str,
    event_id: str,
    source: str,
    canary: str,
    traceparent: str,
    lines: TextIO | None,
    target: str,
    key: str | None,
    semantics: str,
    wait_seconds: float,
) -> None:
    """Send one event, or many as JSON lines; prints each one's id and what became of it.

    \b
    One event:
      . .spillway/env        # address and key of the stack on this machine
      spillway send --type spillway.events.v1.PageViewed --subject user-1 \\
                    --data '{"pageUrl": "https://example.com/"}'

    \b
    Many, a line each: {"type": ..., "subject": ..., "data": {...}, "id": ..., "time": "2026-01-31T12:00:00Z"}
      (also source, partitionkey, traceparent, canary; what a line lacks, an option may give)
      spillway send --file events.jsonl
      producer | spillway send --type spillway.events.v1.PageViewed --file -

    Columns are divided by tabs: id, accepted | rejected | not sent | unanswered, reason, message. Ends with 0 if all events were
    accepted, 1 if any was not. Without a key: `spillway keys add --tenant NAME` makes one.
    """
    if not key:
        raise click.UsageError(
            "no API key: give --key; `. .spillway/env` sets that of the local stack; `spillway keys add --tenant NAME` makes one"
        )
    if (lines is None) == (not data):
        raise click.UsageError("give either --data (one event) or --file (JSON lines; `-` for standard input)")
    wanted = lines if lines is not None else [json.dumps({"id": event_id, "subject": subject, "data": _object(data)})]
    client = Client(target, key, source=source, semantics=Semantics(semantics), on_rejected=_told_below, registry=_types)
    given = _Given(type_name, source, canary, traceparent)
    all_accepted = True
    try:
        for text, accepted in _answers(_submitted(client, wanted, given), wait_seconds):
            click.echo(text)
            all_accepted &= accepted
    finally:
        _close(client)
    sys.exit(0 if all_accepted else 1)


def _told_below(event: CloudEvent, error: SpillwayError) -> None:
    """Each event's fate is printed anyway."""


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise click.UsageError(f"--data is not JSON: {exc}") from exc


def _submitted(client: Client, lines: Iterable[str], given: _Given) -> Iterator[Delivery | str]:
    """For each line its delivery, or what is wrong with it."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _submit(client, json.loads(line), given)
        except InvalidEvent as exc:
            yield f"line {number}\tnot sent\t{exc.reason}\t{exc}"
        except ValueError as exc:
            yield f"line {number}\tnot sent\tbad_json\t{exc}"


def _submit(client: Client, line: Any, given: _Given) -> Delivery:
    if not isinstance(line, Mapping):
        raise InvalidEvent("bad_json", "a line holds one JSON object")
    unknown = sorted(set(line) - set(_FIELDS))
    if unknown:
        raise InvalidEvent("unknown_field", f"{unknown[0]!r} is none of: {', '.join(_FIELDS)}")
    name = line.get("type") or given.type
    if not name:
        raise InvalidEvent("unknown_type", "the line has no `type`, and --type names none")
    time = line.get("time")
    return client.send(
        name,
        line.get("data") or {},
        subject=line.get("subject") or "",
        id=line.get("id") or "",
        source=line.get("source") or given.source,
        time=datetime.fromisoformat(time) if time else None,
        partition_key=line.get("partitionkey") or "",
        traceparent=line.get("traceparent") or given.traceparent,
        canary=line.get("canary") or given.canary,
    )


def _answers(submitted: Iterator[Delivery | str], wait_seconds: float) -> Iterator[tuple[str, bool]]:
    """Each event's line of output and whether it was accepted, in the order of the events."""
    under_way: deque[Delivery | str] = deque()
    for one in submitted:
        under_way.append(one)
        while under_way and (len(under_way) > UNDER_WAY_MAX or _known(under_way[0])):
            yield _answer(under_way.popleft(), wait_seconds)
    while under_way:
        yield _answer(under_way.popleft(), wait_seconds)


def _known(one: Delivery | str) -> bool:
    return isinstance(one, str) or one.done()


def _answer(one: Delivery | str, wait_seconds: float) -> tuple[str, bool]:
    if isinstance(one, str):
        return one, False
    try:
        accepted = one.result(wait_seconds)
        return f"{one.id}\t{'accepted' if accepted.durable else 'queued'}", True
    except InvalidEvent as exc:
        return f"{one.id}\trejected\t{exc.reason}\t{exc}", False
    except SpillwayError as exc:
        return f"{one.id}\tunanswered\t{type(exc).__name__}\t{exc}", False


def _close(client: Client) -> None:
    try:
        client.close(0.0)
    except DeadlineExceeded as exc:
        click.echo(str(exc), err=True)


COMMANDS: tuple[click.Command, ...] = (send,)
