"""From records as they were read to the batches in them, as the workers need it. Pure."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from pipeline import frame
from pipeline.errors import Corrupt, SpillwayError
from pipeline.event import StoredRecord
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch


def open_batch(record: StoredRecord) -> StoredBatch:
    """Raises: Corrupt: the record is not one whole frame with one whole batch in it."""
    return open_payload(frame.decode(record.data))


def open_payload(payload: bytes) -> StoredBatch:
    """The batch that is a whole frame's payload. Raises: Corrupt."""
    try:
        batch = StoredBatch.FromString(payload)
    except DecodeError as exc:
        raise Corrupt("the frame is whole but holds no batch") from exc
    if not batch.tenant or not batch.events:
        raise Corrupt("the batch names no tenant or holds no event")
    return batch


def first_failure(outcomes: Iterable[object]) -> BaseException | None:
    """What to raise for work done side by side: an outage is told before a fault of the records."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    return min(failures, key=lambda exc: not isinstance(exc, SpillwayError | OSError), default=None)
