"""`python -m pipeline.doors.price`: what telemetry costs at the doors, as a ratio, and what each operation of it costs.

Rules. For each door three servers run at once, each a process of its own: instrumented as in the stack (metrics, the tracer with
its usual share, spans shipped to a live backend), bare (`Metrics.off()`, `Tracer.off()`), and bare once more. The first is
compared with the mean of the others, as `pipeline.paired` says, in several generations. A figure is CPU seconds of the server
process a request, what is shipped afterwards with it. One event in two thousand is traced, evenly spread. Since each server is
loaded a third of the time, it ships a third as often as in the stack.

The stream is in memory (the writes are counted, but not sent), so that nothing dilutes the price.
"""

import asyncio
import contextlib
import itertools
import statistics
import sys
import timeit
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from uuid import UUID

import click

from pipeline.doors.bench import SIZES, batch_body, grpc_client, http_client, serve_door
from pipeline.measured import Measured, UnderLoad, processes, serve
from pipeline.paired import GENERATIONS_MIN, Costs, Ratio, ratio
from pipeline.paired import costs as paired_costs
from telemetry import nowhere
from telemetry.metrics import DOOR_EVENTS, DOOR_REQUEST_SECONDS, Metrics
from telemetry.otlp import encode, span_sender
from telemetry.settings import TelemetrySettings
from telemetry.shipping import Shipper
from telemetry.tracing import Keeping, Tracer, trace_of

DOORS = ("grpc", "http")
BARE = ("bare", "bare again")
KINDS = (*BARE, "instrumented")
# What an instrumented door may cost, of a bare one, from this many events a request.
GOAL_RATIO_MAX = 1.03
GOAL_EVENTS_MIN = 100
_KEPT_EVERY = 2000
# Events in the pool that requests are made of; a multiple of every size.
_POOL_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class Price:
    door: str
    events_a_request: int
    # CPU of a bare server for one request.
    bare_micros: float
    # Instrumented to bare, and bare to bare.
    ratio: Ratio
    noise: Ratio


def event_ids(count: int, keeping: Keeping, random: Random) -> list[str]:
    """Ids of which every two thousandth is traced by chance, and no other."""
    ids: list[str] = []
    while len(ids) < count:
        id = str(UUID(int=random.getrandbits(128)))
        if (keeping.trace("/bench", id) is not None) == (len(ids) % _KEPT_EVERY == _KEPT_EVERY // 2):
            ids.append(id)
    return ids


def measure(
    generations: int, rounds: int, seconds: float, doors: Sequence[str] = DOORS, of_sizes: Sequence[int] = SIZES
) -> Iterator[Price]:
    """Each door and size, when its last generation is over. Sizes without a goal are measured in the first few alone."""
    pool = event_ids(_POOL_EVENTS, Keeping(), Random(1))
    found: dict[tuple[str, int], list[Costs]] = {}
    with click.progressbar(length=generations * len(doors), label="generations of servers", file=sys.stderr) as bar:
        for number in range(generations):
            sizes = [size for size in of_sizes if size >= GOAL_EVENTS_MIN or number < GENERATIONS_MIN]
            for door in doors:
                with _servers(door) as servers:
                    for size in sizes:
                        bodies = [batch_body(door, pool[at : at + size]) for at in range(0, len(pool), size)]
                        costs = asyncio.run(_costs(door, size, bodies, servers, rounds, seconds, Random(number)))
                        found.setdefault((door, size), []).append(costs)
                bar.update(1)
    for door, size in itertools.product(doors, of_sizes):
        own = found[door, size]
        bare = statistics.median(costs["bare"] for costs in own)
        yield Price(door, size, bare * 1e6, ratio(own, "instrumented", *BARE), ratio(own, "bare again", "bare"))


@contextlib.contextmanager
def _servers(door: str) -> Iterator[dict[str, Measured]]:
    """One generation of a door's, by kind."""
    with processes({"backend": nowhere.serve}) as backend:
        endpoint = f"http://127.0.0.1:{backend['backend'].said}"
        with processes({kind: partial(_serve, door, kind, endpoint) for kind in KINDS}) as servers:
            yield servers


async def _costs(
    door: str,
    size: int,
    bodies: Sequence[bytes],
    servers: Mapping[str, Measured],
    rounds: int,
    seconds: float,
    random: Random,
) -> Costs:
    client = grpc_client if door == "grpc" else http_client
    clients = {kind: await client(server.said, itertools.cycle(bodies), size) for kind, server in servers.items()}
    loaded = {kind: UnderLoad(servers[kind], send, seconds) for kind, (send, _) in clients.items()}
    costs = await paired_costs(loaded, rounds, random)
    for _, close in clients.values():
        await close()
    return costs


# -- the processes


def _serve(door: str, kind: str, endpoint: str, pipe: Connection) -> None:
    serve(pipe, partial(_start, door, kind, endpoint))


async def _start(door: str, kind: str, endpoint: str, folder: Path) -> tuple[int, str]:
    metrics, tracer = Metrics.off(), Tracer.off()
    if kind == "instrumented":
        metrics = Metrics()
        settings = TelemetrySettings()
        spans = Shipper("spans", span_sender(endpoint, 3.0), metrics, ship_seconds=settings.ship_seconds * len(KINDS))
        tracer = Tracer(f"{door}-door", "bench", spans.put, settings, later=spans.later)
    return await serve_door(door, folder, metrics, tracer)


# -- operations


def operations() -> Iterator[tuple[str, float]]:
    """(what, microseconds)."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import ReadableSpan

    from telemetry.personal_data import mask

    shipped: list[ReadableSpan] = []
    tracer = Tracer("grpc-door", "bench", shipped.append, scrub=mask)
    keeping = Keeping()
    plain, lucky = event_ids(_KEPT_EVERY, keeping, Random(1))[_KEPT_EVERY // 2 - 1 : _KEPT_EVERY // 2 + 1]
    sampled = trace_of("/bench", plain).traceparent("sdk")
    members = [trace_of("/bench", f"{plain}-{number}") for number in range(20)]
    below = int(keeping.trace_share * (1 << 32))
    metrics = Metrics()
    counter = metrics.counter(DOOR_EVENTS, door="grpc", status="accepted")
    seconds = metrics.histogram(DOOR_REQUEST_SECONDS, door="grpc")
    attributes = {"spillway.tenant": "acme", "messaging.message.id": plain, "cloudevents.event_type": "spillway.events.v1.X"}
    exemplar = {"trace_id": members[0].hex_id}
    trace = members[0]
    yield "keep decision as the doors do it, not kept", _micros(lambda: zlib.crc32(plain.encode()) < below)
    yield "keep decision, not kept", _micros(lambda: tracer.trace("/bench", plain))
    yield "keep decision, kept by its id", _micros(lambda: tracer.trace("/bench", lucky))
    yield "keep decision, kept by its context", _micros(lambda: tracer.trace("/bench", plain, sampled))
    yield "event span, built and queued", _micros(lambda: tracer.event(trace, "grpc-door", 1, 2, attributes=attributes))
    yield "batch span with 20 links, built and queued", _micros(lambda: tracer.batch("a", "grpc-door", 1, 2, members=members))
    spans = shipped[:100]
    yield "event span, encoded to be sent", _micros(lambda: encode(spans).SerializeToString(), 20) / len(spans)
    yield "the same by OpenTelemetry's exporter", _micros(lambda: encode_spans(spans).SerializeToString(), 20) / len(spans)
    yield "Counter.inc", _micros(counter.inc)
    yield "Histogram.observe", _micros(lambda: seconds.observe(0.01))
    yield "Histogram.observe with exemplar", _micros(lambda: seconds.observe(0.01, exemplar))


def _micros(operation: Callable[[], object], times: int = 5_000) -> float:
    """The best of seven: what it costs when nobody disturbs."""
    return min(timeit.repeat(operation, number=times, repeat=7)) / times * 1e6


@click.command()
@click.option("--generations", default=12, show_default=True, type=click.IntRange(min=GENERATIONS_MIN), help="Fresh servers.")
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(min=5), help="In each generation.")
@click.option("--seconds", default=0.08, show_default=True, help="Of load on each server in each round.")
@click.option("--door", "doors", multiple=True, type=click.Choice(DOORS), help="Only this one; may be repeated.")
@click.option("--events", multiple=True, type=click.Choice([str(size) for size in SIZES]), help="Only requests of so many.")
@click.option("--strict", is_flag=True, help="Exit with 1 if the goal is missed.")
def command(generations: int, rounds: int, seconds: float, doors: tuple[str, ...], events: tuple[str, ...], strict: bool) -> None:
    """Ratio of CPU with and without telemetry, and the price of each operation."""
    missed = False
    prices = list(measure(generations, rounds, seconds, doors or DOORS, [int(size) for size in events] or SIZES))
    click.echo(f"{'door':<6}{'events':>7}{'bare us/request':>17}  {'instrumented/bare':<21}  {'bare/bare':<21}  goal")
    for price in prices:
        goal = ""
        if price.events_a_request >= GOAL_EVENTS_MIN:
            missed = missed or not price.ratio.met(GOAL_RATIO_MAX)
            goal = price.ratio.verdict(GOAL_RATIO_MAX)
        click.echo(f"{price.door:<6}{price.events_a_request:>7}{price.bare_micros:>17.0f}  {price.ratio}  {price.noise}  {goal}")
    click.echo(f"\n{'operation':<48}{'us':>8}")
    for name, micros in operations():
        click.echo(f"{name:<48}{micros:>8.2f}")
    if missed and strict:
        sys.exit(1)


if __name__ == "__main__":
    command()
