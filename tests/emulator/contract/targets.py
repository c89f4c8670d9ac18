"""What the contract is held against: one object per service, with its own way to let time pass.

Rules
- `model` and `served` are ours and always run. `ministack` and `kinesis-local` are second opinions, found in a cache
  folder (SPILLWAY_CONTRACT_CACHE, default ~/.cache/spillway-contract; README.md says how to fill it).
- `aws` costs money: it wants SPILLWAY_AWS_BUDGET_OK=1, makes streams of at most 2 shards under a name of its own, and
  deletes every one of them, also after a failure.
"""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from pipeline.emulator.inprocess import World
from pipeline.emulator.process import Served

ALL = ("model", "served", "ministack", "kinesis-local", "aws")
OURS = ("model", "served")
ACTIVE_SECONDS_MAX = 120.0
START_SECONDS_MAX = 30.0
SHARDS_MAX = 2
READ_PACE_SECONDS = 0.25


class Target:
    """A Kinesis to be judged: a boto3 client, `wait` to let time pass, and the streams it has made."""

    def __init__(self, name: str, kinesis: Any, wait: Callable[[float], None], close: Callable[[], None]) -> None:
        self.name = name
        self.kinesis = kinesis
        self.wait = wait
        self._close = close
        self._streams: list[str] = []

    def stream(self, shards: int) -> str:
        """A fresh ACTIVE stream."""
        if shards > SHARDS_MAX:
            raise ValueError(f"the contract makes streams of at most {SHARDS_MAX} shards")
        name = f"contract-{uuid.uuid4().hex[:12]}"
        self._streams.append(name)
        self.kinesis.create_stream(StreamName=name, ShardCount=shards)
        self.settle(name)
        return name

    def settle(self, name: str) -> None:
        """Let time pass until the stream is ACTIVE."""
        deadline_s = time.monotonic() + ACTIVE_SECONDS_MAX
        while self.summary(name)["StreamStatus"] != "ACTIVE":
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"{name} did not become ACTIVE")
            self.wait(0.1 if self.name != "aws" else 2.0)

    def summary(self, name: str) -> dict[str, Any]:
        found = self.kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        return dict(found)

    def shards(self, name: str) -> list[dict[str, Any]]:
        return list(self.kinesis.list_shards(StreamName=name)["Shards"])

    def iterator(self, name: str, shard_id: str, kind: str = "TRIM_HORIZON", **more: Any) -> str:
        answer = self.kinesis.get_shard_iterator(StreamName=name, ShardId=shard_id, ShardIteratorType=kind, **more)
        return str(answer["ShardIterator"])

    def read(
        self, name: str, shard_id: str, kind: str = "TRIM_HORIZON", wanted: int | None = None, **more: Any
    ) -> list[dict[str, Any]]:
        """Records until `wanted` are there, or the shard ends, or it has twice said that nothing is behind."""
        iterator: str | None = self.iterator(name, shard_id, kind, **more)
        records: list[dict[str, Any]] = []
        at_tip = 0
        for _ in range(40):
            answer = self.kinesis.get_records(ShardIterator=iterator)
            records += answer["Records"]
            iterator = answer.get("NextShardIterator")
            at_tip += answer["MillisBehindLatest"] == 0
            if iterator is None or at_tip == 2 or (wanted is not None and len(records) >= wanted):
                break
            self.wait(READ_PACE_SECONDS)
        return records

    def cleanup(self) -> None:
        for name in self._streams:
            try:
                self.kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ResourceNotFoundException":
                    raise
        self._streams.clear()

    def close(self) -> None:
        self.cleanup()
        self._close()


def open_target(name: str, folder: Path) -> Target:
    """Start or reach a target. Raises: FileNotFoundError, PermissionError with the remedy."""
    return {
        "model": _model,
        "served": _served,
        "ministack": _ministack,
        "kinesis-local": _kinesis_local,
        "aws": _aws,
    }[name](folder)


def _client(url: str | None) -> Any:
    make: Any = boto3.client
    config = Config(retries={"total_max_attempts": 1}, read_timeout=20)
    if url is None:
        return make("kinesis", config=config)
    keys = {"aws_access_key_id": "contract", "aws_secret_access_key": "contract", "region_name": "us-east-1"}
    return make("kinesis", endpoint_url=url, config=config, **keys)


def _model(folder: Path) -> Target:
    now = [1_800_000_000.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    world = World.of(lambda: now[0], random.Random(11), settle_ms=200)
    return Target("model", world.client("kinesis"), wait, lambda: None)


def _served(folder: Path) -> Target:
    server = Served(folder)
    server.start()
    return Target("served", _client(server.url), time.sleep, lambda: [server.stop(), None][1])


def _cache() -> Path:
    return Path(os.environ.get("SPILLWAY_CONTRACT_CACHE", Path.home() / ".cache" / "spillway-contract"))


def _spawn(name: str, command: list[str], settings: dict[str, str], port: int, folder: Path) -> Target:
    if not Path(command[0]).exists() and "/" in command[0]:
        raise FileNotFoundError(f"{command[0]} is missing: see the README on how to install {name}")
    with (folder / f"{name}.log").open("ab") as out:
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=out, stderr=out, cwd=folder)

    def close() -> None:
        process.kill()
        process.wait(10)

    deadline_s = time.monotonic() + START_SECONDS_MAX
    while socket.socket().connect_ex(("127.0.0.1", port)):
        if process.poll() is not None or time.monotonic() > deadline_s:
            close()
            raise RuntimeError(f"{name} did not start: see {folder}")
        time.sleep(0.1)
    return Target(name, _client(f"http://127.0.0.1:{port}"), time.sleep, close)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ministack(folder: Path) -> Target:
    port = _free_port()
    settings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(port)}
    return _spawn("ministack", [str(_cache() / "ministack/bin/ministack")], settings, port, folder)


def _kinesis_local(folder: Path) -> Target:
    port, tls_port = _free_port(), _free_port()
    package = _cache() / "kinesis-local/node_modules"
    settings = {
        "KINESIS_MOCK_PLAIN_PORT": str(port),
        "KINESIS_MOCK_TLS_PORT": str(tls_port),
        "KINESIS_MOCK_CERT_PATH": str(package / "kinesis-local/server.json"),
        "NODE_OPTIONS": f"--require={Path(__file__).with_name('loopback.cjs')}",
    }
    program = package / ".bin/kinesis-local"
    return _spawn("kinesis-local", [str(program)], settings, port, folder)


def _aws(folder: Path) -> Target:
    if os.environ.get("SPILLWAY_AWS_BUDGET_OK") != "1":
        raise PermissionError("the aws target costs money: set SPILLWAY_AWS_BUDGET_OK=1 to agree")
    if any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KINESIS")):
        raise PermissionError("the aws target must reach AWS: unset AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_KINESIS")
    return Target("aws", _client(None), time.sleep, lambda: None)
