"""What the schema engine costs an event, beside its oracles, in one run.

`python -m pipeline.schema.bench`: CPU microseconds an event, the best of five rounds; the ratios hold on another machine, the
times don't. The oracles: `FromString` alone (so a ratio below 1 is what the look for unknown fields costs), protovalidate,
json_format.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import protovalidate
from google.protobuf import json_format

from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.redaction.keys import MemoryKeys
from pipeline.redaction.redact import Redactor
from pipeline.schema.registry import Registry

_ROUNDS, _ROUND_SECONDS = 5, 0.15
SAMPLES = {
    "spillway.events.v1.FlightDeparted": '{"carrier":"UA","flight":1545,"tailNumber":"N14228","origin":"EWR","destination":"IAH",'
    '"departedAt":"2013-01-01T10:17:00Z","delayMinutes":2}',
    "spillway.events.v1.LeadSubmitted": '{"channel":"LEAD_CHANNEL_FORM","fullName":"Ann Bee","email":"ann@example.com",'
    '"phone":"+1 514 555 1234","message":"Please call me about the new shoes","campaign":"spring","interests":["shoes","hats"]}',
    "spillway.events.v1.PageViewed": '{"pageUrl":"https://shop.example/products/shoes?page=2","referrer":"https://search.example/",'
    '"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",'
    '"ipAddress":"203.0.113.9","dwellMillis":5300}',
}


@dataclass(frozen=True, slots=True)
class Row:
    event_type: str
    work: str
    ours_cpu_micros: float
    # Of the oracle that does the same; None where there is none.
    oracle_cpu_micros: float | None


def cpu_micros(work: Callable[[], object]) -> float:
    """CPU time of one call, the best round."""
    best = float("inf")
    for _ in range(_ROUNDS):
        calls, started = 0, time.process_time()
        while (spent := time.process_time() - started) < _ROUND_SECONDS:
            for _ in range(200):
                work()
            calls += 200
        best = min(best, spent / calls * 1e6)
    return best


def rows() -> list[Row]:
    registry = Registry.load()
    redactor = Redactor(registry, MemoryKeys())
    found: list[Row] = []
    for name, text in SAMPLES.items():
        found += _rows_of(registry, redactor, name, text)
    return found


def _rows_of(registry: Registry, redactor: Redactor, name: str, text: str) -> list[Row]:
    kind = registry.find(name)
    message = kind.from_json(text)
    data = message.SerializeToString(deterministic=True)
    batch = StoredBatch(tenant="bench")
    for index in range(100):
        event = batch.events.add(id=str(index), source="/bench", spec_version="1.0", type=name, binary_data=data)
        event.attributes["subject"].ce_string = "10001"
        event.attributes["time"].ce_timestamp.seconds = 1357035420
    return [
        Row(name, "parse", cpu_micros(lambda: kind.parse(data)), cpu_micros(lambda: kind.message_class.FromString(data))),
        Row(name, "check", cpu_micros(lambda: kind.violations(message)), cpu_micros(lambda: protovalidate.validate(message))),
        Row(
            name,
            "from_json",
            cpu_micros(lambda: kind.from_json(text)),
            cpu_micros(lambda: json_format.Parse(text, kind.message_class())),
        ),
        Row(name, "redact (batch of 100)", cpu_micros(lambda: redactor.redact(batch)) / 100, None),
    ]


if __name__ == "__main__":
    print(f"{'event type':38}{'work':24}{'ours us':>9}{'oracle us':>11}{'ratio':>7}")
    for row in rows():
        ours, oracle = row.ours_cpu_micros, row.oracle_cpu_micros
        beside = "" if oracle is None else f"{oracle:11.2f}{oracle / ours:7.1f}"
        print(f"{row.event_type:38}{row.work:24}{ours:9.2f}{beside}")
