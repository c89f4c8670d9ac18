"""How many records a second one client gets acknowledged: `python -m pipeline.emulator.bench`.

Rules
- One client process, keep-alive, 500 records of 300 bytes a call, some calls in flight; the server in its own process,
  a fresh state folder, limits off (they would be the figure otherwise).
- Only acknowledged records count: FailedRecordCount must be 0 in every answer. Bounded by `--seconds`.
"""

from __future__ import annotations

import asyncio
import base64
import random
import resource
import tempfile
import time
from pathlib import Path

import aiohttp
import click
import orjson
import uvloop

from .process import Served

HEADERS = {
    "x-amz-target": "Kinesis_20131202.PutRecords",
    "content-type": "application/x-amz-json-1.1",
    "authorization": "AWS4-HMAC-SHA256 not-verified",
}


async def _call(session: aiohttp.ClientSession, url: str, operation: str, body: bytes) -> bytes:
    headers = {**HEADERS, "x-amz-target": f"Kinesis_20131202.{operation}"}
    async with session.post(url, data=body, headers=headers) as response:
        answer = await response.read()
        if response.status != 200:
            raise RuntimeError(f"{operation}: {response.status} {answer[:200]!r}")
        return answer


def _bodies(records: int, record_bytes: int, seed: int) -> list[bytes]:
    """A few different requests; the client's own encoding is not what is measured."""
    chance = random.Random(seed)
    bodies = []
    for _ in range(8):
        entries = [
            {
                "Data": base64.b64encode(chance.randbytes(record_bytes)).decode(),
                "PartitionKey": f"subject-{chance.randrange(10_000)}",
            }
            for _ in range(records)
        ]
        bodies.append(orjson.dumps({"StreamName": "bench", "Records": entries}))
    return bodies


async def measure(port: int, seconds: float, in_flight: int, records: int, record_bytes: int) -> tuple[int, float]:
    """Records acknowledged and seconds taken."""
    url = f"http://127.0.0.1:{port}/"
    bodies = _bodies(records, record_bytes, seed=1)
    acknowledged = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:
        await _call(session, url, "CreateStream", b'{"StreamName":"bench","ShardCount":2}')
        start = time.perf_counter()

        async def one(number: int) -> None:
            nonlocal acknowledged
            while time.perf_counter() - start < seconds:
                answer = await _call(session, url, "PutRecords", bodies[number % len(bodies)])
                if not answer.startswith(b'{"FailedRecordCount":0,'):
                    raise RuntimeError(f"not all acknowledged: {answer[:200]!r}")
                acknowledged += records

        await asyncio.gather(*(one(number) for number in range(in_flight)))
        return acknowledged, time.perf_counter() - start


@click.command(help=__doc__)
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(0.5, 60))
@click.option("--in-flight", default=4, show_default=True, type=click.IntRange(1, 64))
@click.option("--records", default=500, show_default=True, type=click.IntRange(1, 500))
@click.option("--record-bytes", default=300, show_default=True, type=click.IntRange(1, 10_000))
@click.option("--fsync", type=click.Choice(["always", "off"]), default="off", show_default=True)
def main(seconds: float, in_flight: int, records: int, record_bytes: int, fsync: str) -> None:
    with tempfile.TemporaryDirectory(prefix="emulator-bench-") as folder:
        server = Served(Path(folder), "--limits", "off", "--settle-ms", "0", "--fsync", fsync)
        server.start()
        try:
            count, took = uvloop.run(measure(server.port, seconds, in_flight, records, record_bytes))
        finally:
            server.stop()
        server_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        client_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    click.echo(
        f"{count / took:,.0f} records/s acknowledged ({count:,} in {took:.1f} s; {records} a call of {record_bytes} "
        f"bytes, {in_flight} in flight, fsync {fsync}); CPU per record: server {server_s / count * 1e6:.1f} us, "
        f"client {client_s / count * 1e6:.1f} us, start included"
    )


if __name__ == "__main__":
    main()
