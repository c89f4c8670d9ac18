"""What the trace store can do: `python -m telemetry.store.bench`.

Rules
- A store process of its own in a fresh folder. What it is sent is what our hops send, made by `telemetry.tracing`: eleven spans
  an event, a span a batch and hop with 32 links, one event in a hundred failed. The ids and times differ in every request.
- One sender with two requests in flight; only what was answered counts. CPU is the store's alone, without its start.
- Questions are asked over HTTP (JSON, keep-alive), and in this process of the same file, of all that is stored: no time range
  helps. Each row says minimum, median and 99th percentile. The rare attribute has no column, and its span is among the oldest:
  every span is looked at.
- Ends with 1 if a median misses its goal.
"""

import http.client
import json
import random
import statistics
import struct
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import click
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan

from telemetry import log as logs
from telemetry.store.database import Database
from telemetry.store.process import Served
from telemetry.store.query import Queries, Range
from telemetry.store.traceql import parse
from telemetry.tracing import MESSAGING_SYSTEM, Trace, Tracer, Value, trace_of

EVENTS_A_REQUEST = 64
IN_FLIGHT = 2
TENANTS = 20
FAILED_SHARE = 0.01
SAMPLES = 200
SLOW_SAMPLES = 5
GOALS_SECONDS = {"trace by id": 0.020, "error search": 0.200}
# Hop, the hop before it, and what it calls its span.
HOPS = (
    ("sdk", "", "send events"), ("grpc-door", "sdk", "accept events"), ("grpc-door/write", "grpc-door", "send events"),
    ("redactor", "grpc-door", "process events"), ("redactor/write", "redactor", "send events-clean"),
    ("backup", "grpc-door", "backup events"), ("lake", "redactor", "process events-clean"),
    ("lake/stage", "lake", "stage Parquet"), ("lake/commit", "lake", "commit Delta"),
    ("rds", "redactor", "process events-clean"), ("redis", "redactor", "process events-clean"),
)  # fmt: skip
EVERYTHING = Range()


def _spans(chance: random.Random, ids: list[str], began_ns: int) -> list[ReadableSpan]:
    """One batch of events as it passes through all hops."""
    spans: list[ReadableSpan] = []
    traces = [trace_of("/bench", id) for id in ids]
    for number, (hop, parent, name) in enumerate(HOPS):
        part = hop.split("/")[0]
        tracer = Tracer(part, f"{part}-1", spans.append)
        at = began_ns + number * 20_000_000
        batch = (
            None if "/" in hop else tracer.batch(name, hop, at, at + 30_000_000, members=traces, attributes=_of_record(chance))
        )
        for index, trace in enumerate(traces):
            begin = at + index * 1_000
            failed = hop == "lake" and chance.random() < FAILED_SHARE
            tracer.event(
                trace, hop, begin, begin + chance.randrange(100_000, 30_000_000), parent=parent, name=name, batch=batch,
                attributes=_of_event(chance, trace), error="ExitUnavailable: no answer in 5 s" if failed else "",
            )  # fmt: skip
    return spans


def _of_record(chance: random.Random) -> dict[str, Value]:
    return {
        "messaging.system": MESSAGING_SYSTEM,
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "events-clean",
        "messaging.destination.partition.id": f"shardId-{chance.randrange(4):012d}",
        "messaging.aws_kinesis.sequence_number": str(chance.getrandbits(185)).zfill(56),
    }


def _of_event(chance: random.Random, trace: Trace) -> dict[str, Value]:
    return {
        **_of_record(chance),
        "messaging.message.id": trace.id,
        "cloudevents.event_type": "spillway.events.v1.PageViewed",
        "spillway.tenant": f"tenant-{chance.randrange(TENANTS):02d}",
        "spillway.waited_seconds": chance.random(),
    }


class Requests:
    """Endless requests at 1 us a span: one is encoded, its ids and times are replaced where they lie.

    The encoder takes 40 us a span, and would be what is measured.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._began_ns = time.time_ns()
        ids = [str(uuid.UUID(int=self._chance.getrandbits(128))) for _ in range(EVENTS_A_REQUEST)]
        spans = _spans(self._chance, ids, self._began_ns)
        self.spans = len(spans)
        self._encoded = encode_spans(spans).SerializeToString()
        contexts = [span.context for span in spans if span.context is not None]
        trace_ids = {context.trace_id.to_bytes(16, "big") for context in contexts}
        span_ids = {context.span_id.to_bytes(8, "big") for context in contexts}
        times = {at for span in spans for at in (span.start_time, span.end_time) if at is not None}
        self._events = [(id, self._places(id.encode()), trace_of("/bench", id).trace_id.to_bytes(16, "big")) for id in ids]
        self._trace_places = [(id, self._places(id)) for id in sorted(trace_ids)]
        self._span_places = [self._places(id) for id in sorted(span_ids)]
        self._time_places = [(at, self._places(struct.pack("<Q", at))) for at in sorted(times)]

    def _places(self, token: bytes) -> list[int]:
        found, at = [], self._encoded.find(token)
        while at >= 0:
            found.append(at)
            at = self._encoded.find(token, at + len(token))
        return found

    def __iter__(self) -> Iterator[tuple[bytes, list[tuple[str, str]]]]:
        """A request, and (event id, trace id) of its events. Each batch begins a millisecond after the one before."""
        for number in range(1 << 62):
            out = bytearray(self._encoded)
            traces = {}
            for old, places in self._trace_places:
                traces[old] = _put(out, places, self._chance.randbytes(16))
            for places in self._span_places:
                _put(out, places, self._chance.randbytes(8))
            for at, places in self._time_places:
                _put(out, places, struct.pack("<Q", at + number * 1_000_000))
            events = []
            for _, places, trace_id in self._events:
                id = str(uuid.UUID(int=self._chance.getrandbits(128)))
                _put(out, places, id.encode())
                events.append((id, traces[trace_id].hex()))
            yield bytes(out), events


def _put(out: bytearray, places: list[int], value: bytes) -> bytes:
    size = len(value)
    for at in places:
        out[at : at + size] = value
    return value


@dataclass(frozen=True, slots=True)
class Inserted:
    spans: int
    sent_bytes: int
    seconds: float
    cpu_seconds: float
    # (event id, trace id)
    events: list[tuple[str, str]]


class Api:
    """A keep-alive client of one thread."""

    def __init__(self, store: Served) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", store.ports["http_port"], timeout=60)

    def post(self, body: bytes) -> None:
        self._connection.request("POST", "/v1/traces", body, {"content-type": "application/x-protobuf"})
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 200 or said:
            raise RuntimeError(f"not all was taken: {answer.status} {said[:200]!r}")

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {said[:200]!r}")
        return said


def insert(store: Served, spans: int) -> Inserted:
    requests = Requests(seed=1)
    events: list[tuple[str, str]] = []
    sent = sent_bytes = 0
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        clients = [Api(store) for _ in range(IN_FLIGHT)]
        cpu, began = store.cpu_seconds(), time.perf_counter()
        for number, (body, of_request) in enumerate(requests):
            if sent >= spans:
                break
            if len(pending) == IN_FLIGHT:
                pending.pop(0).result()
            pending.append(pool.submit(clients[number % IN_FLIGHT].post, body))
            sent, sent_bytes = sent + requests.spans, sent_bytes + len(body)
            events.extend(of_request)
        for future in pending:
            future.result()
        seconds, cpu = time.perf_counter() - began, store.cpu_seconds() - cpu
    return Inserted(sent, sent_bytes, seconds, cpu, events)


def search(query: str) -> str:
    return f"/api/search?{urlencode({'q': query})}"


RARE = "span.messaging.message.id"


def of_api(api: Api, events: list[tuple[str, str]]) -> dict[str, tuple[int, Callable[[int], object]]]:
    """Each question as a function of the number of its sample."""

    def found(path: str) -> object:
        traces = json.loads(api.get(path))["traces"]
        if not traces:
            raise RuntimeError(f"nothing found: {path}")
        return traces

    return {
        "trace by id": (SAMPLES, lambda number: api.get(f"/api/traces/{events[number][1]}")),
        "error search": (SAMPLES, lambda _: found(search("{ status = error }"))),
        "attribute search": (
            SAMPLES,
            lambda number: found(search(f'{{ span.spillway.tenant = "tenant-{number % TENANTS:02d}" }}')),
        ),
        "event id search": (SAMPLES, lambda number: found(search(f'{{ span.cloudevents.event_id = "{events[number][0]}" }}'))),
        "event id look-up": (SAMPLES, lambda number: found(f"/api/events/{quote(events[number][0])}")),
        "rare attribute": (SLOW_SAMPLES, lambda number: found(search(f'{{ {RARE} = "{events[-1 - number][0]}" }}'))),
    }


def in_process(queries: Queries, events: list[tuple[str, str]]) -> dict[str, tuple[int, Callable[[int], object]]]:
    def find(query: str) -> object:
        return queries.search(parse(query), EVERYTHING, 20)

    return {
        "trace by id": (SAMPLES, lambda number: queries.trace(bytes.fromhex(events[number][1]))),
        "error search": (SAMPLES, lambda _: find("{ status = error }")),
        "attribute search": (SAMPLES, lambda number: find(f'{{ span.spillway.tenant = "tenant-{number % TENANTS:02d}" }}')),
        "event id search": (SAMPLES, lambda number: find(f'{{ span.cloudevents.event_id = "{events[number][0]}" }}')),
        "event id look-up": (SAMPLES, lambda number: queries.traces_of_event(events[number][0])),
        "rare attribute": (SLOW_SAMPLES, lambda number: find(f'{{ {RARE} = "{events[-1 - number][0]}" }}')),
    }


def _measure(where: str, questions: dict[str, tuple[int, Callable[[int], object]]]) -> list[str]:
    """Prints a row for each; returns which miss their goal."""
    missed = []
    for name, (samples, question) in questions.items():
        question(samples)  # what is read for the first time comes from the disk
        seconds = []
        for number in range(samples):
            began = time.perf_counter()
            question(number)
            seconds.append(time.perf_counter() - began)
        goal = GOALS_SECONDS.get(name)
        median = statistics.median(seconds)
        verdict = "" if goal is None else f"   goal {goal * 1e3:.0f} ms: {'met' if median < goal else 'MISSED'}"
        figures = [min(seconds), median, sorted(seconds)[int(0.99 * (samples - 1))]]
        click.echo(f"{name:<18}{where:<12}" + "".join(f"{one * 1e3:10.2f} ms" for one in figures) + verdict)
        if goal is not None and median >= goal:
            missed.append(f"{name} ({where})")
    return missed


@click.command(help=__doc__)
@click.option("--spans", default=1_000_000, show_default=True, type=click.IntRange(10_000, 20_000_000))
def main(spans: int) -> None:
    with tempfile.TemporaryDirectory(prefix="store-bench-") as folder:
        path = Path(folder) / "store"
        store = Served(path, "--bytes-max", "64GiB")
        store.start()
        try:
            done = insert(store, spans)
            disk_bytes = sum(file.stat().st_size for file in path.iterdir())
            click.echo(
                f"{done.spans / done.seconds:,.0f} spans/s taken ({done.spans:,} in {done.seconds:.1f} s, {IN_FLIGHT} requests "
                f"in flight); per span: {done.sent_bytes / done.spans:.0f} bytes sent, {disk_bytes / done.spans:.0f} on disk, "
                f"{done.cpu_seconds / done.spans * 1e6:.1f} us of CPU; memory at most {store.memory_bytes_max() >> 20} MiB"
            )
            events = random.Random(2).sample(done.events[SLOW_SAMPLES:], SAMPLES + 1) + done.events[:SLOW_SAMPLES]
            click.echo(f"{'':<30}{'minimum':>13}{'median':>13}{'99 %':>13}")
            missed = _measure("over HTTP", of_api(Api(store), events))
        finally:
            store.stop()
        database = Database(path, logs.configure("bench"))
        try:
            missed += _measure("in process", in_process(Queries(database, 60.0), events))
        finally:
            database.close()
    if missed:
        raise click.ClickException(f"goals missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
