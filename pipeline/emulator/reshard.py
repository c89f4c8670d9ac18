"""Splitting and merging shards.

Rules
- A split or merge closes its parents and opens its children in the same instant: every record before it is in a
  parent, every one after it in a child, and a parent stays readable to its end (TRAPS 14).
- UpdateShardCount is made of splits at the wanted edges and merges between them, so short-lived shards may appear in
  the lineage, as on AWS.
Source: SplitShard, MergeShards, UpdateShardCount, Kinesis Data Streams API Reference.
"""

from __future__ import annotations

from itertools import pairwise

from . import limits
from .control import active, open_shards, touch
from .core import Core
from .errors import invalid, limit_exceeded, validation
from .state import Json, Shard, Stream

DAY_MS = 86_400_000


def _provisioned(core: Core, request: Json) -> Stream:
    stream = active(core, request)
    if stream.mode != "PROVISIONED":
        raise validation("This operation is only supported for streams in provisioned mode.")
    return stream


def _open(core: Core, stream: Stream, shard_id: str) -> Shard:
    shard = core.shard(stream, shard_id)
    if shard.closed_ms is not None:
        raise invalid(
            f"Shard {shard_id} in stream {stream.name} under account {core.account} has already been merged or split, "
            "and thus is not eligible for merging or splitting."
        )
    return shard


def split(core: Core, stream: Stream, shard: Shard, edge: int, now_ms: int) -> tuple[Shard, Shard]:
    shard.closed_ms = max(now_ms, shard.last_ms)
    low = stream.add_shard(shard.start, edge - 1, now_ms, core.rates, (shard.index,))
    high = stream.add_shard(edge, shard.end, now_ms, core.rates, (shard.index,))
    return low, high


def merge(core: Core, stream: Stream, first: Shard, second: Shard, now_ms: int) -> Shard:
    first.closed_ms = max(now_ms, first.last_ms)
    second.closed_ms = max(now_ms, second.last_ms)
    start, end = min(first.start, second.start), max(first.end, second.end)
    return stream.add_shard(start, end, now_ms, core.rates, (first.index, second.index))


def _finish(core: Core, stream: Stream) -> None:
    stream.reroute()
    touch(core, stream)


def split_shard(core: Core, request: Json) -> Json:
    stream = _provisioned(core, request)
    shard = _open(core, stream, request["ShardToSplit"])
    edge = int(request["NewStartingHashKey"])
    if not shard.start + 1 <= edge <= shard.end:
        raise invalid(
            f"NewStartingHashKey {edge} used in SplitShard() on shard {shard.id} in stream {stream.name} under account "
            f"{core.account} is not both greater than one plus the shard's StartingHashKey {shard.start} and less "
            f"than the shard's EndingHashKey {shard.end}."
        )
    if open_shards(core) + 1 > limits.SHARDS_PER_ACCOUNT_MAX:
        raise limit_exceeded(f"This request would exceed the shard limit for the account {core.account}.")
    split(core, stream, shard, edge, core.now_ms())
    _finish(core, stream)
    return {}


def merge_shards(core: Core, request: Json) -> Json:
    stream = _provisioned(core, request)
    first = _open(core, stream, request["ShardToMerge"])
    second = _open(core, stream, request["AdjacentShardToMerge"])
    if first.end + 1 != second.start and second.end + 1 != first.start:
        raise invalid(
            f"Shards {first.id} and {second.id} in stream {stream.name} under account {core.account} are not an "
            "adjacent pair of shards eligible for merging"
        )
    merge(core, stream, first, second, core.now_ms())
    _finish(core, stream)
    return {}


def update_shard_count(core: Core, request: Json) -> Json:
    stream = _provisioned(core, request)
    target, current, now_ms = request["TargetShardCount"], len(stream.open), core.now_ms()
    if target > current * 2:
        raise limit_exceeded(
            f"UpdateShardCount cannot scale up over double your current open shard count. "
            f"Current open shard count: {current} Target shard count: {target}"
        )
    if target * 2 < current:
        raise limit_exceeded(
            f"UpdateShardCount cannot scale down below half your current open shard count. "
            f"Current open shard count: {current} Target shard count: {target}"
        )
    recent = [at for at in stream.reshards_ms if at > now_ms - DAY_MS]
    if len(recent) >= limits.RESHARDS_PER_DAY_MAX or target > limits.SHARDS_PER_STREAM_MAX:
        raise limit_exceeded(f"UpdateShardCount limit of {limits.RESHARDS_PER_DAY_MAX} in 24 hours is reached.")
    if open_shards(core) - current + target > limits.SHARDS_PER_ACCOUNT_MAX:
        raise limit_exceeded(f"This request would exceed the shard limit for the account {core.account}.")
    stream.reshards_ms = [*recent, now_ms]
    _scale(core, stream, target, now_ms)
    _finish(core, stream)
    return {
        "StreamName": stream.name,
        "StreamARN": stream.arn,
        "CurrentShardCount": current,
        "TargetShardCount": target,
    }


def _scale(core: Core, stream: Stream, target: int, now_ms: int) -> None:
    """Reach `target` equal shards: cut at the wanted edges that are missing, then join what lies between them."""
    edges = [limits.HASH_SPACE * at // target for at in range(target + 1)]
    for edge in edges[1:-1]:
        stream.reroute()
        shard = stream.route(edge)
        if shard.start != edge:
            split(core, stream, shard, edge, now_ms)
    stream.reroute()
    for start, end in pairwise(edges):
        pieces = [shard for shard in stream.open if start <= shard.start < end]
        whole = pieces[0]
        for piece in pieces[1:]:
            whole = merge(core, stream, whole, piece, now_ms)


OPERATIONS = {
    "SplitShard": split_shard,
    "MergeShards": merge_shards,
    "UpdateShardCount": update_shard_count,
}
