"""`python -m pipeline.sdk.bench`: what sending costs the sender, with and without a spool, and what telemetry adds to it.

Rules. CPU seconds are this process's own, the background sender's included. "no collector" answers at once inside the process, so
the row is the SDK alone; "gRPC" has a collector in a process of its own that answers ACCEPTED and does nothing else. The ratio
is to "envelope only" of the same run: making the CloudEvent and its bytes, which any client would have to do. These rows are
without telemetry; its price has rules of its own (pipeline/sdk/price.py).
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import click
import grpc

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEventBatch
from pipeline.gen.spillway.events.v1.acquisition_pb2 import PageViewed
from pipeline.gen.spillway.v1.collector_pb2 import PublishResponse
from pipeline.sdk.answers import Accepted, Answer
from pipeline.sdk.client import Client, ClientOptions, SdkTelemetry
from pipeline.sdk.envelope import IdSource, envelope, now_unix_micros
from pipeline.sdk.sender import PublishesEncoded
from pipeline.sdk.spool import Fsync, SpoolOptions
from pipeline.sdk.transport import PUBLISH_METHOD, accept_all

START_SECONDS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    events: int
    # Until the last `send` returned, and until the last acknowledgement.
    send_seconds: float
    wall_seconds: float
    cpu_seconds: float

    @property
    def cpu_micros_an_event(self) -> float:
        return self.cpu_seconds / self.events * 1e6


class Nobody:
    """Answers at once, without a network."""

    def publish_encoded(self, encoded: Sequence[bytes], *, deadline_seconds: float) -> list[Answer]:
        return [Accepted()] * len(encoded)

    def close(self) -> None:
        """Nothing is open."""


def page(number: int) -> PageViewed:
    return PageViewed(
        page_url=f"https://example.com/page/{number}", user_agent="Mozilla/5.0 (X11; Linux x86_64)", dwell_millis=number
    )


def measure(events: int) -> Iterator[Row]:
    yield _timed("envelope only", events, _envelopes, lambda: None)
    yield _client("no collector, memory", events, publisher=Nobody())
    for fsync in (Fsync.NEVER, Fsync.INTERVAL):
        yield _client(f"no collector, spool, fsync {fsync.value}", events, fsync=fsync, publisher=Nobody())
    # A call to the disk for each event: fewer of them.
    yield _client("no collector, spool, fsync always", max(1, events // 50), fsync=Fsync.ALWAYS, publisher=Nobody())
    with collecting() as target:
        yield _client("gRPC, memory", events, target=target)
        yield _client("gRPC, spool, fsync interval", events, fsync=Fsync.INTERVAL, target=target)


@contextmanager
def collecting() -> Iterator[str]:
    """The address of a collector in a process of its own that accepts everything."""
    context = multiprocessing.get_context("spawn")  # gRPC objects do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        if not ours.poll(START_SECONDS_MAX):
            raise click.ClickException("the collector did not start")
        yield f"127.0.0.1:{ours.recv()}"
    finally:
        ours.send("end")
        process.join(START_SECONDS_MAX)


def _envelopes(events: int) -> None:
    ids = IdSource()
    for number in range(events):
        now = now_unix_micros()
        made = envelope(
            id=ids.new(now),
            source="/bench",
            type="spillway.events.v1.PageViewed",
            data=page(number).SerializeToString(),
            time_unix_micros=now,
            subject=f"user-{number % 1000}",
        )
        made.SerializeToString()


def _client(
    what: str, events: int, *, fsync: Fsync | None = None, publisher: PublishesEncoded | None = None, target: str = ""
) -> Row:
    with tempfile.TemporaryDirectory() as scratch:
        options = ClientOptions()
        if fsync is not None:
            options = replace(options, spool=SpoolOptions(fsync=fsync))
        spool = None if fsync is None else Path(scratch) / "spool"
        with Client(
            target, "bench", source="/bench", spool=spool, options=options, publisher=publisher, telemetry=SdkTelemetry()
        ) as client:
            client.send(page(0)).result(START_SECONDS_MAX)  # connected, and everything imported

            def send(count: int) -> None:
                for number in range(count):
                    client.send(page(number), subject=f"user-{number % 1000}")

            return _timed(what, events, send, client.flush)


def _timed(what: str, events: int, send: Callable[[int], None], flush: Callable[[], None]) -> Row:
    wall, cpu = time.perf_counter(), time.process_time()
    send(events)
    sent = time.perf_counter()
    flush()
    return Row(what, events, sent - wall, time.perf_counter() - wall, time.process_time() - cpu)


def _serve(pipe: Connection) -> None:
    def publish(request: CloudEventBatch, context: grpc.ServicerContext) -> PublishResponse:
        return accept_all(request.events)

    handler = grpc.unary_unary_rpc_method_handler(
        publish, request_deserializer=CloudEventBatch.FromString, response_serializer=PublishResponse.SerializeToString
    )
    service, _, method = PUBLISH_METHOD[1:].partition("/")
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    pipe.recv()
    server.stop(grace=None).wait(5)


@click.command()
@click.option("--events", default=30_000, show_default=True, help="Events in each row.")
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(min=5), help="Of each kind of producer.")
@click.option("--strict", is_flag=True, help="Exit with 1 if telemetry costs more than its goal.")
def main(events: int, rounds: int, strict: bool) -> None:
    """Print one row per way of sending, and then one on what telemetry costs there."""
    click.echo(f"{'':42}{'events':>8}{'events/s':>10}{'send us':>9}{'CPU us/event':>14}{'x envelope':>12}")
    base = 0.0
    for row in measure(events):
        base = base or row.cpu_micros_an_event
        click.echo(
            f"{row.what:42}{row.events:>8}{row.events / row.wall_seconds:>10,.0f}{row.send_seconds / row.events * 1e6:>9.1f}"
            f"{row.cpu_micros_an_event:>14.1f}{row.cpu_micros_an_event / base:>12.1f}"
        )
    from pipeline.sdk import price  # it needs this module

    click.echo(f"\n{'':42}{'bare us/event':>14}{'instrumented/bare':>19}{'bare/bare':>11}  goal")
    missed = False
    with collecting() as target:
        for one in price.measure(target, rounds):
            goal = ""
            if one.way.grpc:
                met = one.ratio <= price.GOAL_RATIO_MAX
                missed = missed or not met
                goal = f"<= {price.GOAL_RATIO_MAX} {'met' if met else 'MISSED'}"
            click.echo(f"{one.way.name:42}{one.bare_micros:>14.1f}{one.ratio:>19.3f}{one.noise_ratio:>11.3f}  {goal}")
    if missed and strict:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
