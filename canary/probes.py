"""What a probe is: one event that is sent to be looked for, and what each exit must hold of it. Pure.

Rules. Everything about a probe follows from its lane, its number and when it was sent; so after a restart it is known again, to
the last field. Its source is of one canary's state: who lost its state takes a new one, and never sees its own past as phantoms.
A field is compared as text under its path (`lines.0.sku`), whichever way an exit writes it down.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from canary.lanes import Door, letters, number, subjects
from pipeline.etl.plain import plain, rfc3339
from pipeline.event import CANARY_TENANT, event_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.events.v1.acquisition_pb2 import OrderLine, OrderPlaced
from pipeline.sdk.envelope import envelope
from telemetry.tracing import trace_of

TENANT = CANARY_TENANT
MARK = "probe"
ENTITY = "customer"
TYPE = OrderPlaced.DESCRIPTOR.full_name
STRUCT = "spillway_events_v1_order_placed"
# More than the rounds for which a probe may be waited for: a subject is free again before its turn comes.
RING_SUBJECTS = 256
# In two scripts, with what a wrong encoding breaks first.
_WORDS = ("crème brûlée", "жёлтый лист", 'quote " and \\ slash', "tab\tand line\nend", "")
Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Probe:
    """One event of a lane. Times are seconds since 1970 by the canary's clock."""

    source: str
    number: int
    door: Door
    slice: int
    sent_at: float
    # The round that it was sent in.
    turn: int
    # The ring of subjects that it takes its own from: two canaries at once need two, since a subject has one state.
    ring: str = "probe"
    slices: int = 16

    @property
    def id(self) -> str:
        return f"canary-{self.source.rpartition('/')[2]}-{letters(self.number)}"

    @property
    def subject(self) -> str:
        return self.ring_subjects[self.turn % RING_SUBJECTS]

    @property
    def ring_subjects(self) -> tuple[str, ...]:
        return subjects(self.slice, self.slices, RING_SUBJECTS, f"{self.ring}-{self.door}")

    @property
    def time_micros(self) -> int:
        return int(self.sent_at * 1e6)

    @property
    def key(self) -> bytes:
        return event_key(TENANT, self.source, self.id)

    @property
    def trace_id(self) -> str:
        return trace_of(self.source, self.id).hex_id


def number_of(id: str, source: str) -> int | None:
    """The number that this id has under this source; None: no probe of it is called so."""
    start = f"canary-{source.rpartition('/')[2]}-"
    return number(id.removeprefix(start)) if id.startswith(start) else None


def payload(probe: Probe) -> OrderPlaced:
    """A kind of every field: text, numbers, messages in a list, a moment."""
    chance = hashlib.blake2b(probe.id.encode(), digest_size=8).digest()
    value = int.from_bytes(chance, "big")
    lines = [
        OrderLine(
            sku=f"{letters(value % 65_536)} {_WORDS[(value + at) % len(_WORDS)]}", quantity=at + 1, unit_price_minor=100 + at
        )
        for at in range(1 + value % 3)
    ]
    promised = Timestamp(seconds=int(probe.sent_at) + 86_400, nanos=(value % 1_000_000) * 1_000)
    return OrderPlaced(order_id=probe.id, currency="EUR", total_minor=value % 10**9, lines=lines, promised_for=promised)


def protobuf(probe: Probe) -> CloudEvent:
    return envelope(
        id=probe.id,
        source=probe.source,
        type=TYPE,
        data=payload(probe).SerializeToString(deterministic=True),
        time_unix_micros=probe.time_micros,
        subject=probe.subject,
        canary=MARK,
    )


def json_event(probe: Probe) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": probe.id,
        "source": probe.source,
        "type": TYPE,
        "subject": probe.subject,
        "time": rfc3339(probe.time_micros),
        "canary": MARK,
        "data": _json_data(probe),
    }


def _json_data(probe: Probe) -> dict[str, Any]:
    return {name: value for name, value in plain(payload(probe)).items() if value != ""}


# -- what must be there


def envelope_fields(probe: Probe) -> Fields:
    return {
        "tenant": TENANT,
        "source": probe.source,
        "type": TYPE,
        "subject": probe.subject,
        "event_time": rfc3339(probe.time_micros),
        "door": probe.door,
    }


def expected(probe: Probe) -> Fields:
    """Of an exit that holds the whole event as Protobuf has it: the lake, RDS, the backup of `events`."""
    return {**envelope_fields(probe), **flat(plain(payload(probe)), "data.")}


def expected_as_sent(probe: Probe) -> Fields:
    """Of the backup of `web-events`: the JSON as it was sent."""
    return {**envelope_fields(probe), **flat(_json_data(probe), "data.")}


def expected_state(probe: Probe) -> Fields:
    """Of the current state: what the event says of its subject."""
    return {"stage": "customer", "last_order_id": probe.id}


def flat(value: Any, prefix: str = "") -> Fields:
    """Nested values as text under their paths. What is absent is left out."""
    if isinstance(value, Mapping):
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple):
        pairs = [(str(place), inner) for place, inner in enumerate(value)]
    else:
        return {} if value is None else {prefix.removesuffix("."): text(value)}
    found: Fields = {}
    for name, inner in pairs:
        found.update(flat(inner, f"{prefix}{name}."))
    return found


def text(value: Any) -> str:
    match value:
        case str():
            return value
        case datetime():
            return rfc3339((value.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))
        case bytes():
            return value.hex()
        case Decimal() | date():
            return str(value)
        case _:
            return orjson.dumps(value).decode()
