"""`python -m pipeline.doors.bench`: events a second and a core of each door, beside the same server doing nothing.

Rules. Server and load generator are two processes; the CPU seconds are the server's own (user + system), and events per CPU
second is the figure: wall time on a shared machine is only beside it. The stream is in memory, so the rows cost the door:
receive, authenticate, check, frame, answer. The no-op server is the same gRPC or HTTP server answering a constant, measured in
turn with the door in the same run, so that the ratio holds even where the absolute figures do not.
"""

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import click
import orjson

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.events.v1.flight_pb2 import FlightDeparted
from pipeline.ledger.tally import Tally
from pipeline.measured import Measured, processes, serve
from telemetry.metrics import Metrics
from telemetry.tracing import Tracer

SIZES = (1, 10, 100, 500)
SERVERS = ("grpc no-op", "grpc", "http no-op", "http")
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Row:
    server: str
    events_a_request: int
    requests: int
    wall_seconds: float
    cpu_seconds: float

    @property
    def events_a_cpu_second(self) -> float:
        return self.requests * self.events_a_request / max(self.cpu_seconds, 1e-9)


def measure(seconds: float = 2.0) -> Iterator[Row]:
    with processes({server: partial(_serve, server) for server in SERVERS}) as servers:
        for size in SIZES:
            for server, measured in servers.items():
                requests, wall, cpu = asyncio.run(_measure(server, measured, size, seconds))
                yield Row(server, size, requests, wall, cpu)


# -- the server process


def _serve(server: str, pipe: Connection) -> None:
    serve(pipe, partial(_start, server))


async def _start(server: str, folder: Path) -> tuple[int, str]:
    return await (_noop(server) if server.endswith("no-op") else serve_door(server, folder, Metrics()))


async def _noop(server: str) -> tuple[int, str]:
    import grpc
    from grpc import aio

    from pipeline.doors.grpc_door import SERVICE

    if server.startswith("grpc"):

        async def publish(_: bytes, __: object) -> bytes:
            return b""

        grpc_server = aio.server(options=[("grpc.max_receive_message_length", 8 * 1024 * 1024)])
        methods = {"Publish": grpc.unary_unary_rpc_method_handler(publish)}
        grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        await grpc_server.start()
        _kept.append(grpc_server)
        return port, ""
    return await _noop_http(), ""


async def _noop_http() -> int:
    import uvicorn

    from pipeline.doors.http_door import Receive, Scope, Send, listen
    from telemetry.serving import QuietServer

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 207, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
    )
    noop = QuietServer(config)
    _kept.append(asyncio.create_task(noop.serve(sockets=[listener])))
    await noop.is_up.wait()
    return int(listener.getsockname()[1])


async def serve_door(
    server: str,
    folder: Path,
    metrics: Metrics,
    tracer: Tracer | None = None,
    *,
    tally: Tally | None = None,
    kinesis: bool = False,
) -> tuple[int, str]:
    """Start the door `grpc` or `http` here; its port and a key.

    What is written is confirmed, counted and forgotten; or sent to `kinesis`, wherever the environment says that is.
    """
    import structlog

    from pipeline.doors.accept import Acceptance
    from pipeline.doors.collect import Collector, InFlight
    from pipeline.doors.grpc_door import GrpcDoor
    from pipeline.doors.http_door import HttpDoor
    from pipeline.doors.keys import KeyStore, add_key
    from pipeline.doors.run import wall_micros
    from pipeline.doors.settings import GrpcSettings, HttpSettings
    from pipeline.event import Record
    from pipeline.garbage import spare_what_stays
    from pipeline.schema.registry import Registry
    from pipeline.streams.aws import BotocoreAccess
    from pipeline.streams.batching import Lanes
    from pipeline.streams.group_commit import GroupCommit
    from pipeline.streams.put_records import PutRecords
    from pipeline.streams.retry import RetryBudget
    from pipeline.streams.sink import Outcome, Written

    class Forgetting(PutRecords):
        """The Kinesis writes with their metrics and without their calls. It keeps nothing, so that a long run stays small."""

        async def _call(self, chunk: Sequence[Record], left_seconds: float) -> list[Outcome]:
            return [Written("shardId-000000000000", "1")] * len(chunk)

    key = add_key(folder / "keys", "bench", "producer")
    writes = PutRecords if kinesis else Forgetting
    sink = writes("events", BotocoreAccess("kinesis", "us-east-1"), metrics, clock=time.monotonic)
    lanes = Lanes(slices=16, worker="bench", budget=RetryBudget(time.monotonic), random=Random(1))
    commit = GroupCommit(sink, lanes, clock=time.monotonic, clock_micros=wall_micros)
    collector = Collector(
        door=server,
        acceptance=Acceptance(Registry.load().types, 16, tracer=tracer or Tracer.off()),
        keys=KeyStore(folder / "keys", clock=time.monotonic, log=structlog.get_logger(), metrics=metrics, door=server),
        commit=commit,
        in_flight=InFlight(64 * 1024 * 1024, 64 * 1024 * 1024),
        clock_micros=wall_micros,
        write_seconds=10,
        metrics=metrics,
        tally=tally,
    )
    door = GrpcDoor(collector, GrpcSettings(port=0)) if server == "grpc" else HttpDoor(collector, HttpSettings(port=0))
    spare_what_stays()
    await door.start()
    _kept.append(door)
    return door.port, key


# Servers of this process: asyncio keeps no strong reference to them.
_kept: list[Any] = []


# -- the load


async def _measure(server: str, measured: Measured, size: int, seconds: float) -> tuple[int, float, float]:
    bodies = itertools.repeat(batch_body(server.split()[0], [f"{os.getpid()}-{number}" for number in range(size)]))
    client = grpc_client if server.startswith("grpc") else http_client
    send, close = await client(measured.said, bodies, size)
    await asyncio.gather(*(send() for _ in range(_CONNECTIONS)))  # warm

    count, began, spent = 0, time.perf_counter(), measured.cpu()
    ends = began + seconds

    async def loop() -> None:
        nonlocal count
        while time.perf_counter() < ends:
            await send()
            count += 1

    await asyncio.gather(*(loop() for _ in range(_CONNECTIONS)))
    wall, spent = time.perf_counter() - began, measured.cpu() - spent
    await close()
    return count, wall, spent


# Port and key of a door.
Address = tuple[int, str]
Client = tuple[Callable[[], Awaitable[None]], Callable[..., Awaitable[None]]]


async def grpc_client(address: Address, bodies: Iterator[bytes], size: int) -> Client:
    """Sends the next of the bodies, of `size` events each."""
    from grpc import aio

    from pipeline.doors.grpc_door import SERVICE

    port, key = address
    channel = aio.insecure_channel(f"127.0.0.1:{port}")
    call: Any = channel.unary_unary(f"/{SERVICE}/Publish", None, None)
    metadata = (("authorization", f"Bearer {key}"),)

    async def send() -> None:
        answer = await call(next(bodies), metadata=metadata, timeout=20)
        if answer and answer != b"\n" + _varint(size) + b"\x01" * size:
            raise click.ClickException("an event was not accepted")

    return send, channel.close


async def http_client(address: Address, bodies: Iterator[bytes], size: int) -> Client:
    """Sends the next of the bodies, of `size` events each."""
    import aiohttp

    port, key = address
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=_CONNECTIONS))
    headers = {"authorization": f"Bearer {key}", "content-type": "application/cloudevents-batch+json"}

    async def send() -> None:
        async with session.post(f"http://127.0.0.1:{port}/v1/events", data=next(bodies), headers=headers) as response:
            answer = await response.read()
            if response.status != 207 or (answer != b"{}" and not answer.startswith(b'{"accepted":%d,' % size)):
                raise click.ClickException("an event was not accepted")

    return send, session.close


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 0x7F | 0x80, value >> 7])


def batch_body(door: str, ids: Sequence[str]) -> bytes:
    """A request with an event of each of these ids."""
    if door == "grpc":
        return CloudEventBatch(events=[_event(number, id) for number, id in enumerate(ids)]).SerializeToString()
    return orjson.dumps([_json_event(number, id) for number, id in enumerate(ids)])


def _event(number: int, id: str) -> CloudEvent:
    flight = FlightDeparted(carrier="UA", flight=1545, tail_number=f"N{number}", origin="EWR", destination="IAH", delay_minutes=2)
    flight.departed_at.FromSeconds(1_357_034_220)
    event = CloudEvent(
        id=id,
        source="/bench",
        spec_version="1.0",
        type="spillway.events.v1.FlightDeparted",
        binary_data=flight.SerializeToString(),
    )
    event.attributes["time"].ce_timestamp.FromSeconds(1_357_034_220)
    event.attributes["subject"].ce_string = f"N{number}"
    event.attributes["datacontenttype"].ce_string = "application/protobuf"
    return event


def _json_event(number: int, id: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "/bench",
        "type": "spillway.events.v1.FlightDeparted",
        "time": "2013-01-01T09:57:00Z",
        "subject": f"N{number}",
        "data": {
            "carrier": "UA",
            "flight": 1545,
            "tailNumber": f"N{number}",
            "origin": "EWR",
            "destination": "IAH",
            "departedAt": "2013-01-01T09:57:00Z",
            "delayMinutes": 2,
        },
    }


@click.command()
@click.option("--seconds", default=2.0, show_default=True, help="Of load for each row.")
def command(seconds: float) -> None:
    """Rows: server, events a request, requests/s, events/s, CPU seconds, events a CPU second, share of the no-op."""
    click.echo(
        f"{'server':<11}{'events':>7}{'req/s':>9}{'events/s':>10}{'wall s':>8}{'cpu s':>7}{'events/cpu s':>14}{'of no-op':>10}"
    )
    ceiling: dict[tuple[str, int], float] = {}
    for row in measure(seconds):
        kind = row.server.split()[0]
        if row.server.endswith("no-op"):
            ceiling[kind, row.events_a_request] = row.events_a_cpu_second
        share = row.events_a_cpu_second / ceiling[kind, row.events_a_request]
        per_second = row.requests / row.wall_seconds
        click.echo(
            f"{row.server:<11}{row.events_a_request:>7}{per_second:>9.0f}{per_second * row.events_a_request:>10.0f}"
            f"{row.wall_seconds:>8.2f}{row.cpu_seconds:>7.2f}{row.events_a_cpu_second:>14.0f}{share:>10.2f}"
        )


if __name__ == "__main__":
    command()
