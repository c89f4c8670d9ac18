"""Streams as things: create, delete, describe, list, retention, encryption, tags.

Rules
- An asynchronous operation answers at once; the stream's status says CREATING, UPDATING or DELETING for the model's
  `settle_ms`. Reads and writes go on while UPDATING.
- Only an ACTIVE stream may be changed: otherwise ResourceInUseException.
- On-demand streams start with four shards and do not scale here; SplitShard and its like refuse them, as on AWS.
Source: the action of the same name, Kinesis Data Streams API Reference.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson

from . import limits
from .core import Core
from .errors import BadRequest, in_use, invalid, limit_exceeded, validation
from .state import Json, Stream

STREAMS_LISTED_DEFAULT = 100
SHARDS_DESCRIBED_DEFAULT = 100


def active(core: Core, request: Json) -> Stream:
    """The stream, which must be ACTIVE to be changed. Raises: AwsError."""
    stream = core.stream(request)
    status = stream.status(core.now_ms())
    if status != "ACTIVE":
        raise in_use(
            f"Stream {stream.name} under account {core.account} not ACTIVE, instead in state {status}",
        )
    return stream


def touch(core: Core, stream: Stream, phase: str = "UPDATING") -> None:
    """Journal a change that takes the model's `settle_ms`."""
    stream.phase, stream.settles_ms = phase, core.now_ms() + core.settle_ms
    stream.status(core.now_ms())
    core.keep(stream)


def open_shards(core: Core) -> int:
    return sum(len(stream.open) for stream in core.streams.values() if not stream.hidden)


def add_stream(core: Core, name: str, count: int, **settings: Any) -> Stream:
    """A new stream of `count` equal shards, journaled."""
    now_ms = core.now_ms()
    stream = Stream(core.next_number, name, core.arn(name), now_ms, **settings)
    core.next_number += 1
    edges = [limits.HASH_SPACE * at // count for at in range(count + 1)]
    for start, end in pairwise(edges):
        stream.add_shard(start, end - 1, now_ms, core.rates)
    stream.reroute()
    touch(core, stream, "CREATING")
    return stream


def create_stream(core: Core, request: Json) -> Json:
    name = request["StreamName"]
    mode = request.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED")
    if request.get("RecordDistributionStrategy") == "AUTO":
        raise invalid("RecordDistributionStrategy AUTO is not modelled here: give every record its partition key.")
    if mode == "ON_DEMAND" and "ShardCount" in request:
        raise validation("ShardCount must not be given for a stream in on-demand mode.")
    if mode == "PROVISIONED" and "ShardCount" not in request:
        raise validation("ShardCount must be given for a stream in provisioned mode.")
    count = limits.ON_DEMAND_SHARDS if mode == "ON_DEMAND" else request["ShardCount"]
    now_ms = core.now_ms()
    if name in core.streams:
        old = core.streams[name]
        if old.phase != "DELETING" or now_ms < old.settles_ms:
            raise in_use(f"Stream {name} under account {core.account} already exists.")
        core.drop(old)
    creating = sum(one.status(now_ms) == "CREATING" for one in core.streams.values())
    if creating >= 5 or open_shards(core) + count > limits.SHARDS_PER_ACCOUNT_MAX:
        raise limit_exceeded(
            f"This request would exceed the shard limit ({limits.SHARDS_PER_ACCOUNT_MAX}) or the five streams that "
            f"may be CREATING at a time for the account {core.account} in {core.region}."
        )
    kib = request.get("MaxRecordSizeInKiB", limits.RECORD_KIB_DEFAULT)
    add_stream(core, name, count, mode=mode, record_kib_max=kib, tags=dict(request.get("Tags", {})))
    return {}


def delete_stream(core: Core, request: Json) -> Json:
    stream = core.stream(request)
    if stream.consumers and not request.get("EnforceConsumerDeletion"):
        raise in_use(f"Stream {stream.name} under account {core.account} has consumers: deregister them first.")
    touch(core, stream, "DELETING")
    if core.settle_ms == 0:
        core.drop(stream)
    return {}


def _summary(core: Core, stream: Stream) -> Json:
    out: Json = {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "StreamStatus": stream.status(core.now_ms()),
        "StreamModeDetails": {"StreamMode": stream.mode},
        "StreamCreationTimestamp": stream.created_ms / 1000,
    }
    return out


def _description(core: Core, stream: Stream) -> Json:
    out = _summary(core, stream)
    out["RetentionPeriodHours"] = stream.retention_hours
    out["EnhancedMonitoring"] = [{"ShardLevelMetrics": []}]
    out["EncryptionType"] = "KMS" if stream.key_id else "NONE"
    if stream.key_id:
        out["KeyId"] = stream.key_id
    return out


def describe_stream(core: Core, request: Json) -> Json:
    stream = core.stream(request)
    creating = stream.status(core.now_ms()) == "CREATING"
    shards = [] if creating else stream.listed(core.now_ms())
    start = request.get("ExclusiveStartShardId")
    if start is not None:
        shards = [shard for shard in shards if shard.id > start]
    count = request.get("Limit", SHARDS_DESCRIBED_DEFAULT)
    out = _description(core, stream)
    out["Shards"] = [shard.describe() for shard in shards[:count]]
    out["HasMoreShards"] = len(shards) > count
    return {"StreamDescription": out}


def describe_stream_summary(core: Core, request: Json) -> Json:
    stream = core.stream(request)
    out = _description(core, stream)
    out["OpenShardCount"] = len(stream.open)
    out["ConsumerCount"] = len(stream.consumers)
    out["MaxRecordSizeInKiB"] = stream.record_kib_max
    return {"StreamDescriptionSummary": out}


def list_streams(core: Core, request: Json) -> Json:
    core.finish_deletions()
    start = request.get("NextToken") or request.get("ExclusiveStartStreamName") or ""
    names = sorted(name for name, stream in core.streams.items() if not stream.hidden and name > start)
    count = request.get("Limit", STREAMS_LISTED_DEFAULT)
    shown = names[:count]
    out: Json = {
        "StreamNames": shown,
        "HasMoreStreams": len(names) > count,
        "StreamSummaries": [_summary(core, core.streams[name]) for name in shown],
    }
    if len(names) > count:
        out["NextToken"] = shown[-1]
    return out


def list_shards(core: Core, request: Json) -> Json:
    now_ms = core.now_ms()
    start, shard_filter = request.get("ExclusiveStartShardId"), request.get("ShardFilter")
    if request.get("NextToken"):
        if request.get("StreamName") or request.get("StreamARN"):
            raise invalid("NextToken and StreamName cannot be provided together.")
        stream, start, shard_filter = _page(core, request["NextToken"], now_ms)
    else:
        stream = core.stream(request)
    if stream.status(now_ms) == "CREATING":
        raise in_use(f"Stream {stream.name} under account {core.account} not ACTIVE, instead in state CREATING")
    shards = _filtered(stream, shard_filter, now_ms)
    shards = [shard for shard in shards if start is None or shard.id > start]
    count = request.get("MaxResults", limits.LIST_SHARDS_DEFAULT)
    out: Json = {"Shards": [shard.describe() for shard in shards[:count]]}
    if len(shards) > count:
        token = [stream.name, shards[count - 1].id, shard_filter, now_ms]
        out["NextToken"] = orjson.dumps(token).hex()
    return out


def _page(core: Core, token: str, now_ms: int) -> tuple[Stream, str, Json | None]:
    try:
        name, start, shard_filter, given_ms = orjson.loads(bytes.fromhex(token))
    except ValueError as exc:
        raise invalid("Invalid NextToken.") from exc
    if now_ms - given_ms > limits.LIST_TOKEN_LIFE_MS:
        raise BadRequest("ExpiredNextTokenException", "The NextToken has expired: it lives 300 seconds.")
    return core.named(name), start, shard_filter


def _filtered(stream: Stream, shard_filter: Json | None, now_ms: int) -> list[Any]:
    """The shards a ShardFilter wants. Source: ShardFilter, API Reference."""
    shards = stream.listed(now_ms)
    kind = shard_filter["Type"] if shard_filter else "FROM_TRIM_HORIZON"
    given = shard_filter or {}
    horizon = stream.horizon_ms(now_ms)
    if kind == "AFTER_SHARD_ID":
        if "ShardId" not in given:
            raise invalid("ShardId must be given with ShardFilter type AFTER_SHARD_ID.")
        return [shard for shard in shards if shard.id > given["ShardId"]]
    if kind == "AT_LATEST":
        return [shard for shard in shards if shard.closed_ms is None]
    if kind in ("AT_TIMESTAMP", "FROM_TIMESTAMP"):
        if "Timestamp" not in given:
            raise invalid(f"Timestamp must be given with ShardFilter type {kind}.")
        at_ms = max(int(given["Timestamp"] * 1000), horizon)
    else:
        at_ms = max(horizon, stream.created_ms)
    alive = [shard for shard in shards if shard.closed_ms is None or shard.closed_ms >= at_ms]
    if kind in ("AT_TIMESTAMP", "AT_TRIM_HORIZON"):
        return [shard for shard in alive if shard.born_ms <= at_ms]
    return alive


def _retention(core: Core, request: Json, *, up: bool) -> Json:
    stream = active(core, request)
    hours, current = request["RetentionPeriodHours"], stream.retention_hours
    if hours < limits.RETENTION_HOURS_DEFAULT:
        raise invalid(f"Minimum allowed retention period is 24 hours. Requested retention period ({hours} hours) is too short.")
    if hours > limits.RETENTION_HOURS_MAX:
        raise invalid(f"Maximum allowed retention period is 8760 hours. Requested retention period ({hours} hours) is too long.")
    if (hours < current) if up else (hours > current):
        word = "less" if up else "greater"
        raise invalid(
            f"Requested retention period ({hours} hours) for stream {stream.name} can not be {word} than existing "
            f"retention period ({current} hours)."
        )
    stream.trim(core.now_ms())
    stream.retention_hours = hours
    touch(core, stream)
    return {}


def increase_retention(core: Core, request: Json) -> Json:
    return _retention(core, request, up=True)


def decrease_retention(core: Core, request: Json) -> Json:
    return _retention(core, request, up=False)


def start_encryption(core: Core, request: Json) -> Json:
    stream = active(core, request)
    stream.key_id = request["KeyId"]
    touch(core, stream)
    return {}


def stop_encryption(core: Core, request: Json) -> Json:
    stream = active(core, request)
    stream.key_id = None
    touch(core, stream)
    return {}


def update_max_record_size(core: Core, request: Json) -> Json:
    stream = active(core, request)
    stream.record_kib_max = request["MaxRecordSizeInKiB"]
    for shard in stream.shards:
        burst = stream.record_kib_max * 1024
        shard.gates.write_bytes = core.rates.meter(limits.SHARD_WRITE_BYTES_PER_SECOND, burst)
    touch(core, stream)
    return {}


def update_stream_mode(core: Core, request: Json) -> Json:
    stream = active(core, request)
    stream.mode = request["StreamModeDetails"]["StreamMode"]
    touch(core, stream)
    return {}


def add_tags(core: Core, request: Json) -> Json:
    stream = core.stream(request)
    stream.tags.update(request["Tags"])
    core.keep(stream)
    return {}


def remove_tags(core: Core, request: Json) -> Json:
    stream = core.stream(request)
    for key in request["TagKeys"]:
        stream.tags.pop(key, None)
    core.keep(stream)
    return {}


def list_tags(core: Core, request: Json) -> Json:
    start = request.get("ExclusiveStartTagKey", "")
    tags = sorted(item for item in core.stream(request).tags.items() if item[0] > start)
    count = request.get("Limit", 50)
    shown = [{"Key": key, "Value": value} for key, value in tags[:count]]
    return {"Tags": shown, "HasMoreTags": len(tags) > count}


def describe_limits(core: Core, request: Json) -> Json:
    return {
        "ShardLimit": limits.SHARDS_PER_ACCOUNT_MAX,
        "OpenShardCount": open_shards(core),
        "OnDemandStreamCount": sum(one.mode == "ON_DEMAND" for one in core.streams.values()),
        "OnDemandStreamCountLimit": 50,
    }


OPERATIONS = {
    "CreateStream": create_stream,
    "DeleteStream": delete_stream,
    "DescribeStream": describe_stream,
    "DescribeStreamSummary": describe_stream_summary,
    "ListStreams": list_streams,
    "ListShards": list_shards,
    "IncreaseStreamRetentionPeriod": increase_retention,
    "DecreaseStreamRetentionPeriod": decrease_retention,
    "StartStreamEncryption": start_encryption,
    "StopStreamEncryption": stop_encryption,
    "UpdateMaxRecordSize": update_max_record_size,
    "UpdateStreamMode": update_stream_mode,
    "AddTagsToStream": add_tags,
    "RemoveTagsFromStream": remove_tags,
    "ListTagsForStream": list_tags,
    "DescribeLimits": describe_limits,
}
