"""Enhanced fan-out: registered consumers and their subscriptions.

Rules
- One live subscription per consumer and shard. A second call within 5 seconds of a successful one is refused with
  ResourceInUseException, also when the first is broken already; later, the second takes over and the first ends (TRAPS 15).
- A subscription lives 5 minutes, then ends without a word; at a closed shard's end it sends ChildShards, then ends.
- An idle shard sends empty events, each with the continuation number to resume from.
- Each consumer has 2 MB/s of a shard for itself.
Source: SubscribeToShard, SubscribeToShardEvent, RegisterStreamConsumer, Kinesis Data Streams API Reference; the size
of an event and the pace of empty ones are not documented: see limits.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import limits, reading
from .control import active
from .core import Core
from .errors import in_use, invalid, limit_exceeded, not_found
from .limits import ReadMeter
from .state import Consumer, Json, Shard, Stream

RATE_RETRY_MS = 50


def register_consumer(core: Core, request: Json) -> Json:
    stream = active(core, request)
    name = request["ConsumerName"]
    if name in stream.consumers:
        raise in_use(f"Consumer {name} under stream {stream.name} under account {core.account} already exists.")
    if len(stream.consumers) >= limits.CONSUMERS_PER_STREAM_MAX:
        raise limit_exceeded(f"Stream {stream.name} has {limits.CONSUMERS_PER_STREAM_MAX} consumers, the most it may.")
    now_ms = core.now_ms()
    consumer = Consumer(name, f"{stream.arn}/consumer/{name}:{now_ms // 1000}", now_ms)
    stream.consumers[name] = consumer
    core.keep(stream)
    return {"Consumer": {**consumer.describe(), "ConsumerStatus": "CREATING" if core.settle_ms else "ACTIVE"}}


def find_consumer(core: Core, request: Json) -> tuple[Stream, Consumer]:
    """The consumer that an ARN, or a stream's ARN and a name, mean. Raises: AwsError."""
    arn, name = request.get("ConsumerARN"), request.get("ConsumerName")
    if arn is None and (name is None or request.get("StreamARN") is None):
        raise invalid("Either ConsumerARN, or StreamARN and ConsumerName, must be provided.")
    stream = core.stream({"StreamARN": arn or request["StreamARN"]})
    for consumer in stream.consumers.values():
        if (arn is None or consumer.arn == arn) and (name is None or consumer.name == name):
            return stream, consumer
    raise not_found(f"Consumer {arn or name}, account {core.account} not found.")


def deregister_consumer(core: Core, request: Json) -> Json:
    stream, consumer = find_consumer(core, request)
    del stream.consumers[consumer.name]
    core.keep(stream)
    return {}


def describe_consumer(core: Core, request: Json) -> Json:
    stream, consumer = find_consumer(core, request)
    return {"ConsumerDescription": {**consumer.describe(), "StreamARN": stream.arn}}


def list_consumers(core: Core, request: Json) -> Json:
    stream = core.stream(request)
    names = sorted(name for name in stream.consumers if name > request.get("NextToken", ""))
    count = request.get("MaxResults", 100)
    out: Json = {"Consumers": [stream.consumers[name].describe() for name in names[:count]]}
    if len(names) > count:
        out["NextToken"] = names[count - 1]
    return out


@dataclass(slots=True)
class Subscription:
    """One consumer's live view of one shard. `poll` is to be called whenever something may have happened."""

    core: Core
    stream: Stream
    shard: Shard
    consumer_arn: str
    position: int
    started_ms: int
    meter: ReadMeter
    last_event_ms: int = 0
    over: bool = False
    taken_over: bool = False

    @property
    def ends_ms(self) -> int:
        return self.started_ms + limits.SUBSCRIPTION_LIFE_MS

    def due_ms(self) -> int:
        """When to poll again at the latest, even if nothing arrives."""
        if self.position < self.shard.next:
            return self.core.now_ms() + RATE_RETRY_MS
        return min(self.ends_ms, self.last_event_ms + limits.SUBSCRIPTION_HEARTBEAT_MS)

    def poll(self) -> Json | None:
        """The next SubscribeToShardEvent, or None: nothing now, or `over`."""
        now_ms = self.core.now_ms()
        gone = self.core.streams.get(self.stream.name) is not self.stream
        deregistered = all(one.arn != self.consumer_arn for one in self.stream.consumers.values())
        if gone or deregistered or now_ms >= self.ends_ms:
            self.over = True
        if self.over:
            return None
        records: list[Json] = []
        if self.position < self.shard.next and self.meter.open(now_ms):
            count, size = limits.SUBSCRIPTION_EVENT_RECORDS_MAX, limits.SUBSCRIPTION_EVENT_BYTES_MAX
            batch = reading.read(self.core, self.stream, self.shard, self.position, count, size)
            self.meter.took(batch.size_bytes)
            records, self.position = batch.records, batch.position
        at_end = reading.ended(self.shard, self.position)
        if not records and not at_end and now_ms < self.last_event_ms + limits.SUBSCRIPTION_HEARTBEAT_MS:
            return None
        self.last_event_ms = now_ms
        event: Json = {
            "Records": records,
            "ContinuationSequenceNumber": self._continuation(records),
            "MillisBehindLatest": reading.behind_ms(self.shard, self.position, now_ms),
        }
        if at_end:
            event["ChildShards"] = reading.child_shards(self.stream, self.shard)
            del event["ContinuationSequenceNumber"]
            self.over = True
        return event

    def _continuation(self, records: list[Json]) -> str:
        if records:
            return str(records[-1]["SequenceNumber"])
        last = self.position - 1
        arrival_ms = self.shard.last_ms if last else self.shard.born_s * 1000
        return self.shard.number(last, arrival_ms)


@dataclass(slots=True)
class Subscriptions:
    """The live subscriptions, by consumer and shard."""

    core: Core
    live: dict[tuple[str, str], Subscription] = field(default_factory=dict)

    def subscribe(self, request: Json) -> Subscription:
        """Raises: AwsError."""
        stream, consumer = find_consumer(self.core, request)
        shard = self.core.shard(stream, request["ShardId"])
        now_ms = self.core.now_ms()
        key = (consumer.arn, shard.id)
        before = self.live.get(key)
        if before is not None and now_ms < before.started_ms + limits.SUBSCRIPTION_GUARD_MS:
            raise in_use(
                f"Another active subscription exists for this consumer: {self.core.account}:{stream.name}:"
                f"{shard.id}:{consumer.name}"
            )
        start = request["StartingPosition"]
        position = reading.locate(self.core, stream, shard, start["Type"], start.get("SequenceNumber"), start.get("Timestamp"))
        if before is not None and not before.over:
            before.over = before.taken_over = True
        rates = self.core.rates
        meter = ReadMeter(limits.SHARD_READ_BYTES_PER_SECOND * rates.scale, enforced=rates.enforced)
        made = Subscription(self.core, stream, shard, consumer.arn, position, now_ms, meter, now_ms)
        self.live[key] = made
        return made

    def forget_over(self) -> None:
        """Drop what has ended and no longer guards against a second call."""
        now_ms = self.core.now_ms()
        guard = limits.SUBSCRIPTION_GUARD_MS
        self.live = {k: one for k, one in self.live.items() if not one.over or now_ms < one.started_ms + guard}


OPERATIONS = {
    "RegisterStreamConsumer": register_consumer,
    "DeregisterStreamConsumer": deregister_consumer,
    "DescribeStreamConsumer": describe_consumer,
    "ListStreamConsumers": list_consumers,
}
