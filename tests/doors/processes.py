"""Door processes and the emulator, for tests that send signals."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import orjson
from botocore.config import Config

from pipeline import frame
from pipeline.doors.keys import add_key
from pipeline.emulator.process import Served
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch

WAIT_SECONDS_MAX = 20.0
STREAMS = {"grpc": "events", "http": "web-events"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Running:
    """One door, its stream and its keys, in a folder of the test's."""

    name: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    emulator_options: tuple[str, ...] = ("--limits", "off")

    def __post_init__(self) -> None:
        self.port, self.health_port = free_port(), free_port()
        self.keys_file = self.folder / "keys.jsonl"
        self.key = add_key(self.keys_file, "acme", "producer")
        self.emulator = Served(self.folder / "emulator", *self.emulator_options)
        self.emulator.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.folder / "door.log"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def start_stream(self, shards: int = 2) -> None:
        self.emulator.start()
        self.client().create_stream(StreamName=STREAMS[self.name], ShardCount=shards)
        self.client().get_waiter("stream_exists").wait(
            StreamName=STREAMS[self.name], WaiterConfig={"Delay": 1, "MaxAttempts": 10}
        )

    def start_door(self) -> None:
        env = {
            **os.environ,
            "AWS_ENDPOINT_URL_KINESIS": f"http://127.0.0.1:{self.emulator.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "SPILLWAY_KEYS_FILE": str(self.keys_file),
            "SPILLWAY_HEALTH_PORT": str(self.health_port),
            f"SPILLWAY_{self.name.upper()}_PORT": str(self.port),
            **self.settings,
        }
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "pipeline.doors", self.name], env=env, stdout=out, stderr=out)
        wait_for(lambda: self.ready() == 200, f"the door is not ready: {self.log.read_text()}")

    def ready(self) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=2) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code
        except OSError:
            return 0

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/metrics", timeout=2) as answer:
            return str(answer.read().decode())

    def fault(self, **wanted: object) -> None:
        request = urllib.request.Request(f"{self.emulator.url}/_model/faults", data=orjson.dumps(wanted), method="POST")
        urllib.request.urlopen(request, timeout=5).close()

    def heal(self) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.emulator.url}/_model/faults", method="DELETE"), timeout=5).close()

    def signal(self, number: signal.Signals) -> int:
        """Send it and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS_MAX + 10)

    def workers(self) -> list[int]:
        """Ids of the processes that this one has started."""
        assert self.process is not None
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(WAIT_SECONDS_MAX)
        self.emulator.kill()

    def client(self) -> Any:
        return boto3.client(
            "kinesis",
            region_name="us-east-1",
            endpoint_url=self.emulator.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"max_attempts": 10}),
        )

    def stored(self) -> Counter[str]:
        """How often each event id is in the stream, every record checked whole."""
        client, stream = self.client(), STREAMS[self.name]
        found: Counter[str] = Counter()
        for shard in client.list_shards(StreamName=stream)["Shards"]:
            iterator = client.get_shard_iterator(StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
                "ShardIterator"
            ]
            while iterator:
                page = client.get_records(ShardIterator=iterator, Limit=10_000)
                for record in page["Records"]:
                    found.update(event.id for event in StoredBatch.FromString(frame.decode(record["Data"])).events)
                iterator = page.get("NextShardIterator")
                if not page["Records"] and page["MillisBehindLatest"] == 0:
                    break
        return found


def wait_for(condition: Any, complaint: str) -> None:
    ends = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert time.monotonic() < ends, complaint
        time.sleep(0.05)
