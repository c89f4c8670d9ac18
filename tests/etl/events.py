"""Making records as the clean stream holds them."""

from collections.abc import Sequence

from pipeline import frame
from pipeline.etl.decode import Decoded, Event, decode
from pipeline.event import CloudEvent, StoredRecord, stored_batch
from pipeline.gen.spillway.events.v1.acquisition_pb2 import ProfileChanged
from pipeline.gen.spillway.events.v1.flight_pb2 import FlightArrived
from pipeline.schema.registry import Registry

REGISTRY = Registry.load()
DAY_SECONDS = 86_400
JAN_2013 = 1_356_998_400


def arrived(id: str, *, at: float = JAN_2013, plane: str = "N1", to: str = "ORD", source: str = "/test") -> CloudEvent:
    message = FlightArrived(carrier="UA", flight=1, tail_number=plane, origin="EWR", destination=to)
    message.arrived_at.FromMicroseconds(int(at * 1_000_000))
    return cloud_event(id, FlightArrived.DESCRIPTOR.full_name, message.SerializeToString(), at=at, subject=plane, source=source)


def moved(id: str, *, at: float, who: str = "10001", city: str = "", country: str = "") -> CloudEvent:
    data = ProfileChanged(city=city, country=country).SerializeToString()
    return cloud_event(id, ProfileChanged.DESCRIPTOR.full_name, data, at=at, subject=who)


def cloud_event(id: str, type: str, data: bytes, *, at: float, subject: str = "", source: str = "/test") -> CloudEvent:
    event = CloudEvent(id=id, source=source, spec_version="1.0", type=type, binary_data=data)
    event.attributes["time"].ce_timestamp.FromMicroseconds(int(at * 1_000_000))
    event.attributes["subject"].ce_string = subject
    return event


def record(*events: CloudEvent, number: int = 1, tenant: str = "acme", shard: str = "shardId-000000000000") -> StoredRecord:
    batch = stored_batch(
        events, tenant=tenant, accepted_at_unix_micros=JAN_2013 * 1_000_000, door="grpc", worker="w", slice=0, slices=16
    )
    return raw_record(frame.encode(batch.SerializeToString()), number=number, shard=shard)


def raw_record(data: bytes, *, number: int = 1, shard: str = "shardId-000000000000") -> StoredRecord:
    return StoredRecord("events-clean", shard, str(number), data, JAN_2013 * 1_000_000)


def decoded(*events: CloudEvent, tenant: str = "acme") -> Decoded:
    return decode([record(*events, tenant=tenant)], REGISTRY.find)


def read(*events: CloudEvent, tenant: str = "acme") -> Sequence[Event]:
    return decoded(*events, tenant=tenant).events
