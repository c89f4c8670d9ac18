"""Firehose's API: delivery streams from a Kinesis stream or from direct puts, to S3.

Rules
- A stream with a Kinesis source begins at LATEST of its creation: create it before you write. New shards are read
  from their beginning.
- A direct put lands in a hidden Kinesis stream of one shard and 24 hours; so there is one way to deliver, and an
  acknowledged put survives a SIGKILL like any other record.
- What is not modelled (other destinations, Lambda, format conversion, dynamic partitioning, ZIP, Snappy) is refused by
  name, never accepted and ignored.
Source: Amazon Data Firehose API Reference, the action of the same name; Developer Guide, "Configure Kinesis Data
Streams as source" (LATEST).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import limits, prefix, shapes
from .control import add_stream
from .core import Core
from .delivery import Delivery
from .errors import BadRequest, in_use, invalid, not_found, validation
from .limits import Meter
from .model import seconds, unknown
from .state import Json, Stream

DESTINATION_ID = "destinationId-000000000001"
LISTED_DEFAULT = 10
DEFAULTS: Json = {
    "BufferingHints": {
        "SizeInMBs": limits.BUFFER_MIB_DEFAULT,
        "IntervalInSeconds": limits.BUFFER_SECONDS_DEFAULT,
    },
    "CompressionFormat": "UNCOMPRESSED",
    "EncryptionConfiguration": {"NoEncryptionConfig": "NoEncryption"},
    "S3BackupMode": "Disabled",
}


class Firehose:
    """The model over the same core as Kinesis. `deliveries` are for a runner: see delivery.py."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.deliveries: dict[str, Delivery] = {name: Delivery(core, name) for name in core.deliveries}
        self._gates: dict[str, tuple[Meter, Meter]] = {}
        self._operations: dict[str, Callable[[Json], Json]] = {
            "CreateDeliveryStream": self._create,
            "DescribeDeliveryStream": self._describe,
            "ListDeliveryStreams": self._list,
            "DeleteDeliveryStream": self._delete,
            "UpdateDestination": self._update,
            "PutRecord": self._put_record,
            "PutRecordBatch": self._put_batch,
        }

    def call(self, operation: str, request: Json) -> Json:
        """Raises: AwsError."""
        work = self._operations.get(operation)
        if work is None:
            raise unknown("firehose", operation)
        request = seconds(request)
        shapes.check("firehose", operation, request)
        return work(request)

    def _state(self, request: Json) -> Json:
        name = request["DeliveryStreamName"]
        state = self.core.deliveries.get(name)
        if state is None:
            raise not_found(f"Firehose {name} under account {self.core.account} not found.")
        return state

    def _create(self, request: Json) -> Json:
        name = request["DeliveryStreamName"]
        if name in self.core.deliveries:
            raise in_use(f"Firehose {name} under accountId {self.core.account} already exists")
        config = _config(request)
        kind = request.get("DeliveryStreamType", "DirectPut")
        now_ms = self.core.now_ms()
        source, origin = self._source(name, kind, request)
        state: Json = {
            "name": name,
            "arn": f"arn:aws:firehose:{self.core.region}:{self.core.account}:deliverystream/{name}",
            "type": kind,
            "version": 1,
            "created_ms": now_ms,
            "updated_ms": now_ms,
            "source": source.name,
            "source_number": source.number,
            "origin": origin,
            "config": config,
            "positions": {str(shard.index): shard.next for shard in source.shards},
            "totals": {"records": 0, "bytes": 0, "objects": 0, "object_bytes": 0, "lost": 0},
        }
        self.core.keep_delivery(name, state)
        self.deliveries[name] = Delivery(self.core, name)
        return {"DeliveryStreamARN": state["arn"]}

    def _source(self, name: str, kind: str, request: Json) -> tuple[Stream, Json | None]:
        if kind == "KinesisStreamAsSource":
            origin = request.get("KinesisStreamSourceConfiguration")
            if origin is None:
                raise invalid("KinesisStreamSourceConfiguration is required for KinesisStreamAsSource.")
            return self.core.stream({"StreamARN": origin["KinesisStreamARN"]}), origin
        if kind != "DirectPut" or "KinesisStreamSourceConfiguration" in request:
            raise invalid(f"A source of type {kind} is not modelled here, or does not fit its configuration.")
        hours = limits.DIRECT_PUT_RETENTION_HOURS
        return add_stream(self.core, f"firehose/{name}", 1, hidden=True, retention_hours=hours), None

    def _describe(self, request: Json) -> Json:
        state = self._state(request)
        out: Json = {
            "DeliveryStreamName": state["name"],
            "DeliveryStreamARN": state["arn"],
            "DeliveryStreamStatus": "ACTIVE",
            "DeliveryStreamEncryptionConfiguration": {"Status": "DISABLED"},
            "DeliveryStreamType": state["type"],
            "VersionId": str(state["version"]),
            "CreateTimestamp": state["created_ms"] / 1000,
            "LastUpdateTimestamp": state["updated_ms"] / 1000,
            "Destinations": [
                {"DestinationId": DESTINATION_ID, "ExtendedS3DestinationDescription": state["config"]},
            ],
            "HasMoreDestinations": False,
        }
        if state["origin"]:
            source = {**state["origin"], "DeliveryStartTimestamp": state["created_ms"] / 1000}
            out["Source"] = {"KinesisStreamSourceDescription": source}
        return {"DeliveryStreamDescription": out}

    def _list(self, request: Json) -> Json:
        start, kind = request.get("ExclusiveStartDeliveryStreamName", ""), request.get("DeliveryStreamType")
        states = sorted(self.core.deliveries.items())
        names = [name for name, state in states if name > start and kind in (None, state["type"])]
        count = request.get("Limit", LISTED_DEFAULT)
        return {"DeliveryStreamNames": names[:count], "HasMoreDeliveryStreams": len(names) > count}

    def _delete(self, request: Json) -> Json:
        state = self._state(request)
        hidden = self.core.streams.get(state["source"])
        if hidden is not None and hidden.hidden:
            self.core.drop(hidden)
        self.core.keep_delivery(state["name"], None)
        del self.deliveries[state["name"]]
        return {}

    def _update(self, request: Json) -> Json:
        state = self._state(request)
        if request["CurrentDeliveryStreamVersionId"] != str(state["version"]):
            raise BadRequest("ConcurrentModificationException", f"The version is {state['version']} by now.")
        if request["DestinationId"] != DESTINATION_ID or "ExtendedS3DestinationUpdate" not in request:
            raise invalid(f"Only an ExtendedS3DestinationUpdate of {DESTINATION_ID} is modelled here.")
        config = {**state["config"], **request["ExtendedS3DestinationUpdate"]}
        _check(config)
        state.update(config=config, version=state["version"] + 1, updated_ms=self.core.now_ms())
        self.core.keep_delivery(state["name"], state)
        return {}

    # -- direct puts

    def _put_record(self, request: Json) -> Json:
        result = self._put(self._state(request), [request["Record"]])[0]
        if "ErrorCode" in result:
            raise BadRequest(result["ErrorCode"], result["ErrorMessage"])
        return {**result, "Encrypted": False}

    def _put_batch(self, request: Json) -> Json:
        records = request["Records"]
        if sum(len(record["Data"]) for record in records) > limits.FIREHOSE_BATCH_BYTES_MAX:
            raise invalid("Records size exceeds 4 MB limit")
        results = self._put(self._state(request), records)
        failed = sum("ErrorCode" in result for result in results)
        return {"FailedPutCount": failed, "Encrypted": False, "RequestResponses": results}

    def _put(self, state: Json, records: list[Json]) -> list[Json]:
        if state["type"] != "DirectPut":
            raise BadRequest(
                "InvalidSourceException",
                f"This operation is not permitted on KinesisStreamAsSource delivery stream type: {state['name']}.",
            )
        for number, record in enumerate(records, 1):
            if len(record["Data"]) > limits.FIREHOSE_RECORD_BYTES_MAX:
                raise validation(f"Value at 'records.{number}.member.data' must have length at most 1024000")
        now_ms = self.core.now_ms()
        by_count, by_bytes = self._gate(state["name"])
        results: list[Json] = []
        taken: list[tuple[bytes, bytes]] = []
        for record in records:
            if by_count.has(1, now_ms) and by_bytes.has(len(record["Data"]), now_ms):
                by_count.take(1)
                by_bytes.take(len(record["Data"]))
                taken.append((b"-", record["Data"]))
                results.append({"RecordId": f"{self.core.random.getrandbits(256):064x}"})
            else:
                results.append({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."})
        if taken:
            stream = self.core.named(state["source"])
            self.core.append(stream, stream.shards[0], taken, now_ms)
        return results

    def _gate(self, name: str) -> tuple[Meter, Meter]:
        """Records and bytes a second. Source: PutRecord, API Reference: 5,000 records/s, 5 MB/s."""
        if name not in self._gates:
            rates = self.core.rates
            self._gates[name] = (rates.meter(5000), rates.meter(5 * limits.MIB))
        return self._gates[name]


def _config(request: Json) -> Json:
    wanted = {key for key in request if key.endswith("DestinationConfiguration")}
    if len(wanted) != 1 or not wanted <= {"ExtendedS3DestinationConfiguration", "S3DestinationConfiguration"}:
        raise invalid(f"Exactly one S3 destination must be given; other destinations are not modelled: {wanted}")
    config = {**DEFAULTS, **request[wanted.pop()]}
    _check(config)
    return config


def _check(config: Json) -> None:
    """Raises: AwsError for a destination that AWS refuses, or that is not modelled."""
    hints = config["BufferingHints"]
    if set(hints) != {"SizeInMBs", "IntervalInSeconds"}:
        raise invalid("Both or neither of SizeInMBs and IntervalInSeconds must be specified.")
    if config["CompressionFormat"] not in ("UNCOMPRESSED", "GZIP"):
        raise invalid(f"CompressionFormat {config['CompressionFormat']} is not modelled here.")
    for feature in ("ProcessingConfiguration", "DataFormatConversionConfiguration", "DynamicPartitioningConfiguration"):
        given: Any = config.get(feature) or {}
        if given.get("Enabled", bool(given)):
            raise invalid(f"{feature} is not modelled here.")
    if config["S3BackupMode"] != "Disabled":
        raise invalid("S3BackupMode Enabled is not modelled here.")
    prefix.check(config.get("Prefix", ""), config.get("ErrorOutputPrefix", ""), config.get("CustomTimeZone", ""))
