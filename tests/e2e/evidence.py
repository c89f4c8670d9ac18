"""Where the events of one tenant are, read through the exits' own public faces: by identity (source, id).
Nothing that the pipeline says of itself is used. What does not change is read once.
"""

import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import boto3
import grpc
import psycopg
import pyarrow.parquet as pq

from pipeline.backup.objects import S3Objects
from pipeline.config import Settings, load
from pipeline.dead_letters.letters import PREFIX, place_of
from pipeline.dead_letters.office import Office, batch_of
from pipeline.etl.lake import Lake, data_files
from pipeline.etl.settings import EtlSettings
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from tests.e2e.conftest import Pipeline, wait_until

# (source, id): with the tenant, what an event is known by.
Identity = tuple[str, str]
READS_AT_ONCE = 8
# The doors look at the file of keys once a second.
KEY_SECONDS_MAX = 10.0


@dataclass(frozen=True, slots=True)
class Dead:
    """One dead letter of the tenant."""

    key: str
    stage: str
    reason: str
    detail: str
    batch: StoredBatch

    @property
    def identities(self) -> list[Identity]:
        return [(event.source, event.id) for event in self.batch.events]


@dataclass
class Evidence:
    """One tenant's events, wherever they ended."""

    pipeline: Pipeline
    _lake: Lake | None = None
    _files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _letters: dict[str, Dead | None] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return load(Settings, self.pipeline.env)

    def rds(self) -> Counter[Identity]:
        with psycopg.connect(self.pipeline.env["SPILLWAY_RDS_URL"], connect_timeout=5) as connection:
            rows = connection.execute("SELECT source, event_id FROM event_history WHERE tenant = %s", (self.pipeline.tenant,))
            return Counter((source, id) for source, id in rows)

    def lake(self) -> Counter[Identity]:
        return Counter((row["source"], row["event_id"]) for row in self.lake_rows())

    def lake_rows(self) -> Iterator[dict[str, Any]]:
        """Every column of every row of the current version."""
        if self._lake is None:
            self._lake = Lake(load(EtlSettings, self.pipeline.env).lake(self.settings), self.settings.region)
        if not self._lake.exists():
            return
        filesystem = self._lake.filesystem()
        for file in data_files(self._lake.table()):
            if file.tenant != self.pipeline.tenant:
                continue
            if file.path not in self._files:
                self._files[file.path] = pq.read_table(file.path, filesystem=filesystem, partitioning=None).to_pylist()
            yield from self._files[file.path]

    def letters(self) -> list[Dead]:
        """The tenant's dead letters of every stage, in the order of their keys."""
        objects = S3Objects(boto3.client("s3", region_name=self.settings.region), self.settings.bucket)
        office = Office(objects)
        fresh = [stored.key for stored in objects.list(PREFIX) if stored.key not in self._letters]
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            self._letters.update(zip(fresh, pool.map(lambda key: self._letter(office, key), fresh), strict=True))
        return [found for _, found in sorted(self._letters.items()) if found is not None]

    def _letter(self, office: Office, key: str) -> Dead | None:
        letter, place = office.read(key), place_of(key)
        assert place is not None, f"no letter's key: {key}"
        assert (place.stage, place.reason) == (letter.stage, letter.reason)
        batch = batch_of(letter)
        return Dead(key, letter.stage, letter.reason, letter.detail, batch) if batch.tenant == self.pipeline.tenant else None


def dead_before(exit: str, letters: list[Dead]) -> dict[Identity, set[str]]:
    """Identities that this exit need not hold, with the reasons: their letters are of a hop before it, or of the exit itself."""
    found: dict[Identity, set[str]] = {}
    for letter in letters:
        if letter.stage in ("transcoder", "redactor", f"etl-{exit}"):
            for identity in letter.identities:
                found.setdefault(identity, set()).add(letter.reason)
    return found


def let_in(pipeline: Pipeline) -> Pipeline:
    """Wait until both doors know the key of this test, which was made a moment ago."""
    with grpc.insecure_channel(pipeline.doors.grpc) as channel:
        publish = channel.unary_unary("/spillway.v1.Collector/Publish", None, None)

        def known() -> bool:
            try:
                publish(b"", metadata=(("authorization", f"Bearer {pipeline.key}"),), timeout=5.0)
            except grpc.RpcError as exc:
                return bool(exc.code() is grpc.StatusCode.INVALID_ARGUMENT)
            return False

        wait_until(known, "the gRPC door knows the key", KEY_SECONDS_MAX)
    request = urllib.request.Request(
        f"{pipeline.doors.http}/v1/events", b"", {"authorization": f"Bearer {pipeline.key}", "content-type": "text/plain"}
    )

    def known_too() -> bool:
        try:
            urllib.request.urlopen(request, timeout=5.0)
        except urllib.error.HTTPError as exc:
            return exc.code == 415
        return False

    wait_until(known_too, "the HTTP door knows the key", KEY_SECONDS_MAX)
    return pipeline
