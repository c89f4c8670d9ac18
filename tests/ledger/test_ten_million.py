"""One event among ten million, through the digests of ten processes and of three."""

from collections.abc import Iterator

import pytest

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.ledger.identity import name_of
from pipeline.ledger.segment import Segment, decode, encode
from pipeline.ledger.table import Table
from pipeline.ledger.tally import Digest, Slot, Tally

EVENTS, AT_ONCE = 10_000_000, 100_000
AT = 1_700_000_003_000_000
LOST = "0007654321"


def crowd() -> Iterator[list[bytes]]:
    """Encoded as a client would; only the id differs, so that ten million are made in a minute."""
    whole = CloudEvent(id="#" * 10, source="/shop", spec_version="1.0", type="x", text_data="as sent").SerializeToString()
    head, tail = whole.split(b"#" * 10)
    for start in range(0, EVENTS, AT_ONCE):
        yield [b"%b%010d%b" % (head, number, tail) for number in range(start, start + AT_ONCE)]


def shipped(tallies: list[Tally]) -> Table:
    """What several processes saw, as it is added up on the other side: bytes in between."""
    whole = Digest()
    for number, tally in enumerate(tallies):
        segment = Segment("p", f"p-{number}", "boot", 0, 0.0, 1.0, True, tally.take().digests)
        for digest in decode(encode(segment)).digests.values():
            whole.merge(digest)
    return whole.table()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_single_acknowledged_event_of_ten_million_that_is_lost_is_named() -> None:
    doors, readers = [Tally() for _ in range(10)], [Tally() for _ in range(3)]
    slot = Slot("t", "acme", "grpc", 1_700_000_000)
    for number, events in enumerate(crowd()):
        doors[number % 10].note(slot.tier, slot.tenant, slot.door, AT, events)
        kept = [event for event in events if LOST.encode() not in event]
        readers[number % 3].note(slot.tier, slot.tenant, slot.door, AT, kept)
    acknowledged, read = shipped(doors), shipped(readers)
    assert (EVENTS, EVENTS - 1) == (acknowledged.events, read.events)
    difference = (acknowledged - read).decode()
    assert difference.complete
    assert [(LOST, 1)] == [(name_of(entry.name).id, entry.times) for entry in difference.entries if entry.name is not None]
