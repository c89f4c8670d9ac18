"""The places that negative checks ask, as they are: doors, dead letters, RDS, lake, Redis, trace store, Prometheus."""

import json
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import grpc
import orjson
import psycopg
import pyarrow.dataset as ds
import redis
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from canary import probes
from canary.checks import Found, Refusal
from canary.looks import ANSWER_MILLIS_MAX, CONNECT_SECONDS_MAX
from canary.send import EVENTS_PATH, GrpcSender, HttpSender, Sent, post
from pipeline.backup.objects import Objects, Stored
from pipeline.dead_letters.letters import PREFIX, decode, events_of, place_of
from pipeline.etl.lake import Lake
from pipeline.etl.lake_query import dataset
from pipeline.etl.redis_exit import state_key
from pipeline.event import data_bytes, event_key
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent, CloudEventBatch
from pipeline.gen.spillway.events.v1.acquisition_pb2 import LeadSubmitted
from pipeline.sdk.transport import PUBLISH_METHOD
from telemetry.store_client import TraceStore
from telemetry.tracing import trace_of

# Where an event that breaks its schema is buried.
LETTERS = f"{PREFIX}transcoder/"
# In one look; among more than this an own letter is found a look later.
LETTERS_READ_MAX = 50
NAMES_MAX = 5_000
LINES_MAX = 200
# Clocks of the bucket and of the canary may differ by this.
SKEW_SECONDS = 5.0
ANSWER_BYTES_MAX = 64 << 20


@dataclass
class RealPlaces:
    grpc: GrpcSender
    http: HttpSender
    grpc_target: str
    http_url: str
    objects: Objects
    # Made anew in the thread that uses it.
    lake: Callable[[], Lake]
    rds_url: str
    redis_url: str
    # Empty: there is none, and its places are left out.
    store_url: str = ""
    prometheus_url: str = ""
    _lake: Lake | None = None
    _letters_read: set[str] = field(default_factory=set)

    @property
    def wanted(self) -> tuple[str, ...]:
        return ("lake", "rds", "redis", *(["spans"] if self.store_url else []))

    # -- doors

    def by_grpc(self, events: Sequence[CloudEvent]) -> list[Sent]:
        return self.grpc.send_events(events)

    def by_http(self, events: Sequence[Mapping[str, Any]]) -> list[Sent]:
        return self.http.send_events(events)

    def refused_by_grpc(self, key: str, event: CloudEvent, tenant: str) -> Refusal:
        """Plain gRPC: the SDK would not send such metadata."""
        metadata = (("authorization", f"Bearer {key}"), *((("spillway-tenant", tenant),) if tenant else ()))
        with closing(grpc.insecure_channel(self.grpc_target)) as channel:
            call = channel.unary_unary(PUBLISH_METHOD, CloudEventBatch.SerializeToString, None)
            try:
                call(CloudEventBatch(events=[event]), timeout=ANSWER_MILLIS_MAX / 1_000, metadata=metadata)
            except grpc.RpcError as exc:
                if exc.code() not in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                    raise
                return Refusal(_reason_of(exc), {"detail": str(exc.details())})
        return Refusal("", {})

    def refused_by_http(self, key: str, event: Mapping[str, Any], tenant: str) -> Refusal:
        headers = {"spillway-tenant": tenant} if tenant else {}
        status, body = post(self.http_url, key, orjson.dumps([event]), ANSWER_MILLIS_MAX / 1_000, **headers)
        said = body if isinstance(body, Mapping) else {}
        if status not in (401, 403):
            if "events" in said:
                return Refusal("", said)
            raise ConnectionError(f"HTTP {status} from {EVENTS_PATH}")
        return Refusal(str(said.get("reason", "no reason")), said)

    # -- RDS and dead letters

    def rows(self, keys: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        with self._rds() as connection:
            query = "SELECT event_key, to_jsonb(event_history) FROM event_history WHERE event_key = ANY(%s)"
            return {bytes(key): row for key, row in connection.execute(query, (list(keys),))}

    def _rds(self) -> "psycopg.Connection[Any]":
        options = f"-c statement_timeout={ANSWER_MILLIS_MAX} -c timezone=UTC"
        return psycopg.connect(self.rds_url, connect_timeout=CONNECT_SECONDS_MAX, options=options)

    def letter(self, id: str, since: float) -> Found | None:
        for stored in self._fresh_letters(since):
            letter = decode(self.objects.get(stored.key))
            self._letters_read.add(stored.key)
            for event in events_of(letter):
                if event.id == id:
                    return Found(stored.key, letter.stage, letter.reason, data_bytes(event))
        return None

    def _fresh_letters(self, since: float) -> list[Stored]:
        fresh = [
            stored
            for stored in self.objects.list(LETTERS)
            if stored.modified_at.timestamp() >= since - SKEW_SECONDS
            and stored.key not in self._letters_read
            and place_of(stored.key)
        ]
        return sorted(fresh, key=lambda stored: stored.modified_at)[:LETTERS_READ_MAX]

    def remove_letter(self, key: str) -> None:
        self.objects.delete(key)
        self._letters_read.clear()

    # -- where personal data must not be

    def everywhere(self, source: str, ids: Sequence[str], subjects: Sequence[str], since: float) -> dict[str, bytes]:
        asked: dict[str, Callable[[], bytes | None]] = {
            "lake": lambda: self._in_lake(source, ids, since),
            "rds": lambda: self._in_rds(source, ids),
            "redis": lambda: self._in_redis(subjects),
            "names of dead letters": self._names_of_letters,
        }
        if self.store_url:
            asked |= {"spans": lambda: self._spans(source, ids), "log lines": lambda: self._lines(ids)}
        if self.prometheus_url:
            asked["metric labels"] = lambda: self._labels(since)
        found = {name: ask() for name, ask in asked.items()}
        return {name: content for name, content in found.items() if content is not None}

    def _in_lake(self, source: str, ids: Sequence[str], since: float) -> bytes | None:
        self._lake = self._lake or self.lake()
        kept = (ds.field("tenant") == probes.TENANT) & (ds.field("type") == LeadSubmitted.DESCRIPTOR.full_name)
        recent = ds.field("event_time") >= datetime.fromtimestamp(since - SKEW_SECONDS, UTC)
        rows = dataset(self._lake).to_table(filter=kept & recent & ds.field("event_id").isin(list(ids))).to_pylist()
        return repr(rows).encode() if {row["event_id"] for row in rows if row["source"] == source} == set(ids) else None

    def _in_rds(self, source: str, ids: Sequence[str]) -> bytes | None:
        rows = self.rows([event_key(probes.TENANT, source, id) for id in ids])
        if len(rows) < len(ids):
            return None
        said = [json.dumps(row) for row in rows.values()]
        with self._rds() as connection:
            for row in rows.values():
                asked = (row["tenant"], row["entity"], row["subject"])
                query = "SELECT to_jsonb(a)::text FROM subject_attribute a WHERE tenant = %s AND entity = %s AND subject = %s"
                said += [text for (text,) in connection.execute(query, asked)]
        return "\n".join(said).encode()

    def _in_redis(self, subjects: Sequence[str]) -> bytes | None:
        seconds = ANSWER_MILLIS_MAX / 1_000
        client = redis.Redis.from_url(self.redis_url, socket_timeout=seconds, socket_connect_timeout=CONNECT_SECONDS_MAX)
        with closing(client):
            states: list[Any] = [client.hgetall(state_key(probes.TENANT, probes.ENTITY, subject)) for subject in subjects]
        return b"\n".join(part for state in states for pair in state.items() for part in pair) if all(states) else None

    def _names_of_letters(self) -> bytes | None:
        """Names hold a place and two words; in a flood of letters only so many are read, of the newest days none is left out
        since the canary's own are taken away again."""
        return "\n".join(stored.key for stored in islice(self.objects.list(PREFIX), NAMES_MAX)).encode()

    def _spans(self, source: str, ids: Sequence[str]) -> bytes | None:
        store = TraceStore(self.store_url)
        found = [store.trace(trace_of(source, id).hex_id) for id in ids]
        return repr(found).encode() if all(found) else None

    def _lines(self, ids: Sequence[str]) -> bytes | None:
        store = TraceStore(self.store_url)
        found = [store.lines(event_id=id, limit=LINES_MAX) for id in ids] + [store.lines(limit=LINES_MAX)]
        return repr(found).encode()

    def _labels(self, since: float) -> bytes | None:
        asked = urlencode([("match[]", '{__name__=~"spillway_.+"}'), ("start", f"{since - 60:.0f}")])
        url = f"{self.prometheus_url.rstrip('/')}/api/v1/series?{asked}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=ANSWER_MILLIS_MAX / 1_000) as answer:
            return bytes(answer.read(ANSWER_BYTES_MAX))


def _reason_of(exc: Any) -> str:
    """The reason word in the ErrorInfo of a refused call."""
    for name, value in exc.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            try:
                details = status_pb2.Status.FromString(value).details
            except DecodeError:
                break
            for detail in details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return str(info.reason).lower()
    return {"UNAUTHENTICATED": "unauthenticated", "PERMISSION_DENIED": "forbidden"}[exc.code().name]
