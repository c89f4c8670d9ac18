"""The ledger over the real path, with one thing broken at a time: each mutant is convicted, with the class, the hop and the ids;
and what only looks odd convicts nobody.

`VICTIM` is the event that it befalls among a hundred.
"""

import gzip
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import pytest

from canary.ledger.judge import Class, Verdict
from pipeline import frame
from pipeline.dead_letters.letters import Letter
from pipeline.event import Record
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.gen.spillway.v1.record_pb2 import StoredBatch
from pipeline.ledger import tiers
from pipeline.streams.sink import NotWritten
from tests.ledger.path import AT_MICROS, Hands, Path, Row, event, rewritten, with_events

EVENTS = 100
VICTIM, OTHER = "e-37", "e-58"
# (class, hop, tenant, id)
Said = tuple[str, str, str, str]

# What becomes of an event: so many of it, or this one in its place.
Change = Callable[[CloudEvent], int | CloudEvent]


# -- hands


def drops(*ids: str) -> Change:
    return lambda each: 0 if each.id in ids else 1


def doubles(*ids: str) -> Change:
    return lambda each: 2 if each.id in ids else 1


def both(first: Change, second: Change) -> Change:
    def change(each: CloudEvent) -> int | CloudEvent:
        done = first(each)
        return second(each) if done == 1 else done

    return change


def changes(id: str, change: Callable[[CloudEvent], None]) -> Change:
    def changed(each: CloudEvent) -> int | CloudEvent:
        if each.id != id:
            return 1
        other = CloudEvent.FromString(each.SerializeToString())
        change(other)
        return other

    return changed


def in_batches(change: Change) -> Callable[[StoredBatch], StoredBatch]:
    def changed(batch: StoredBatch) -> StoredBatch:
        out: list[CloudEvent] = []
        for each in batch.events:
            done = change(each)
            out += [done] if isinstance(done, CloudEvent) else [each] * done
        return with_events(batch, out)

    return changed


def in_records(change: Change) -> Callable[[list[Record]], list[Record]]:
    """The bytes of those that are left alone stay as they are."""

    def changed(raw: bytes) -> list[bytes]:
        done = change(CloudEvent.FromString(raw))
        return [done.SerializeToString()] if isinstance(done, CloudEvent) else [raw] * done

    return lambda records: [new for record in records for new in rewritten(record, changed)]


def swaps_tenant(records: list[Record]) -> list[Record]:
    """Of the record with the victim in it."""
    return [
        new
        for record in records
        for new in (rewritten(record, lambda raw: [raw], tenant="other") if VICTIM.encode() in record.data else [record])
    ]


def skips(records: list[Record]) -> list[Record]:
    """A checkpoint that moves past the record with the victim in it: all of its events are lost, not the victim alone."""
    return [record for record in records if VICTIM.encode() not in record.data]


def without(*ids: str) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row for row in rows if row[4] not in ids]


def twice(*ids: str) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [*rows, *(row for row in rows if row[4] in ids)]


def flips(records: list[Record]) -> list[Record]:
    """One bit of the first record's payload; its frame is broken by that, and found to be."""
    broken = [bytearray(record.data) for record in records[:1]]
    for data in broken:
        data[frame.HEADER_BYTES + 20] ^= 1
    return [*(replace(record, data=bytes(data)) for record, data in zip(records, broken, strict=False)), *records[1:]]


def truncates(each: CloudEvent) -> None:
    each.binary_data = each.binary_data[:-3]


def renames(each: CloudEvent) -> None:
    each.id = "somebody-else"


# -- what is said


async def verdicts(hands: Hands, door: str) -> list[Verdict]:
    path = Path(hands)
    for start in range(0, EVENTS, 20):
        ids = [f"e-{number}" for number in range(start, start + 20)]
        if door == "grpc":
            await path.grpc(*(event(id, subject="s") for id in ids))
        else:
            await path.http(*(event(id, subject="s", json=True) for id in ids))
    await path.flow()
    return path.verdicts()


def said(of: Sequence[Verdict]) -> set[Said]:
    return {
        (finding.kind.value, finding.hop, verdict.window.tenant, finding.name.id or "?")
        for verdict in of
        for finding in verdict.findings
    }


def lost(hop: str, *ids: str, tenant: str = "acme") -> set[Said]:
    return {("LOST", hop, tenant, id) for id in ids or (VICTIM,)}


def phantom(hop: str, *ids: str, tenant: str = "acme") -> set[Said]:
    return {("PHANTOM", hop, tenant, id) for id in ids or (VICTIM,)}


def doubled(hop: str, *ids: str) -> set[Said]:
    return {("DOUBLED", hop, "acme", id) for id in ids or (VICTIM,)}


def corrupt(hop: str) -> set[Said]:
    return {("CORRUPT", hop, "acme", VICTIM)}


# With one subject all events of a request are in one record: the victim's neighbours in it share its fate.
NEIGHBOURS = [f"e-{number}" for number in range(20, 40)]
EVERYONE = [f"e-{number}" for number in range(EVENTS)]

GRPC_MUTANTS: dict[str, tuple[Hands, set[Said]]] = {
    "the door acknowledges before the write": (Hands(events=in_records(drops(VICTIM))), lost("grpc-door")),
    "the door loses one and writes another twice": (
        Hands(events=in_records(both(drops(VICTIM), doubles(OTHER)))), lost("grpc-door")),
    "the door swaps tenants": (
        Hands(events=swaps_tenant),
        lost("grpc-door", *NEIGHBOURS) | phantom("grpc-door", *NEIGHBOURS, tenant="other"),
    ),
    "somebody writes to the stream past the doors": (
        Hands(events=in_records(changes(VICTIM, renames))), lost("grpc-door") | phantom("grpc-door", "somebody-else")),
    "the redactor's checkpoint skips a record": (Hands(to_redactor=skips), lost("redactor", *NEIGHBOURS)),
    "the redactor is given an event less": (Hands(to_redactor=in_records(drops(VICTIM))), lost("redactor")),
    "the redactor is given other bytes": (Hands(to_redactor=in_records(changes(VICTIM, truncates))), corrupt("redactor")),
    "the redactor drops one": (Hands(redacts=in_batches(drops(VICTIM))), lost("redactor")),
    "the redactor doubles one": (Hands(redacts=in_batches(doubles(VICTIM))), doubled("redactor")),
    "the redactor drops one and doubles another": (
        Hands(redacts=in_batches(both(drops(VICTIM), doubles(OTHER)))), lost("redactor") | doubled("redactor", OTHER)),
    "the redactor gives an event another id": (
        Hands(redacts=in_batches(changes(VICTIM, renames))), lost("redactor") | phantom("redactor", "somebody-else")),
    "the clean stream confirms what it does not store": (Hands(clean=in_records(drops(VICTIM))), lost("events-clean")),
    "the clean stream loses one and doubles another": (
        Hands(clean=in_records(both(drops(VICTIM), doubles(OTHER)))), lost("events-clean")),
    "the ETL's offset skips a record": (Hands(to_etl=skips), lost("events-clean", *NEIGHBOURS)),
    "the lake lacks one": (Hands(lake=without(VICTIM)), lost("lake")),
    "RDS lacks one": (Hands(rds=without(VICTIM)), lost("rds")),
    "the lake has one twice": (Hands(lake=twice(VICTIM)), doubled("lake")),
    "RDS has one twice": (Hands(rds=twice(VICTIM)), doubled("rds")),
    "the lake lacks one and has another twice": (
        Hands(lake=lambda rows: twice(OTHER)(without(VICTIM)(rows))), lost("lake") | doubled("lake", OTHER)),
    "the lake has one that nobody sent": (
        Hands(lake=lambda rows: [*rows, (*rows[0][:4], "nobody")]), phantom("lake", "nobody")),
    "the lake has one under another tenant": (
        Hands(lake=lambda rows: [("other", *row[1:]) if row[4] == VICTIM else row for row in rows]),
        lost("lake") | phantom("lake", tenant="other")),
    "Firehose leaves one out": (Hands(to_backup=in_records(drops(VICTIM))), lost("backup")),
    "Firehose leaves one out and repeats another": (
        Hands(to_backup=in_records(both(drops(VICTIM), doubles(OTHER)))), lost("backup")),
    "a backup object is damaged": (Hands(to_backup=flips), lost("backup", *EVERYONE[:20])),
    "a field is cut in the backup": (Hands(to_backup=in_records(changes(VICTIM, truncates))), corrupt("backup")),
}  # fmt: skip

HTTP_MUTANTS: dict[str, tuple[Hands, set[Said]]] = {
    "the HTTP door acknowledges before the write": (Hands(web=in_records(drops(VICTIM))), lost("http-door")),
    "the transcoder's checkpoint skips a record": (Hands(to_transcoder=skips), lost("transcoder", *NEIGHBOURS)),
    "the transcoder drops one": (
        Hands(publishes=lambda events: [each for each in events if each.id != VICTIM]), lost("transcoder")),
    "the transcoder drops one and sends another twice": (
        Hands(publishes=lambda events: [copy for each in events for copy in [each] * {VICTIM: 0, OTHER: 2}.get(each.id, 1)]),
        lost("transcoder")),
    "the transcoder acts for the wrong tenant": (
        Hands(behalf=lambda on_behalf: replace(on_behalf, tenant="other")),
        lost("transcoder", *EVERYONE) | phantom("transcoder", *EVERYONE, tenant="other")),
    "the transcoder is given other bytes": (
        Hands(to_transcoder=in_records(changes(VICTIM, lambda each: setattr(each, "text_data", '{"city": "Toront"}')))),
        corrupt("transcoder")),
    "the gRPC door drops what the transcoder sent": (Hands(events=in_records(drops(VICTIM))), lost("grpc-door")),
}  # fmt: skip


@pytest.mark.parametrize("name", GRPC_MUTANTS)
async def test_a_mutant_is_convicted_with_its_class_its_hop_and_its_ids(name: str) -> None:
    hands, expected = GRPC_MUTANTS[name]
    assert expected == said(await verdicts(hands, "grpc"))


@pytest.mark.parametrize("name", HTTP_MUTANTS)
async def test_and_so_is_one_on_the_way_from_the_http_door(name: str) -> None:
    hands, expected = HTTP_MUTANTS[name]
    assert expected == said(await verdicts(hands, "http"))


@pytest.mark.parametrize("door", ["grpc", "http"])
async def test_an_honest_path_convicts_nobody(door: str) -> None:
    assert [(Class.OK, EVENTS)] == [(verdict.kind, verdict.events) for verdict in await verdicts(Hands(), door)]


@pytest.mark.parametrize("stage", ["redactor", "transcoder"])
async def test_a_refusal_whose_letter_is_not_written_is_a_loss(stage: str) -> None:
    def swallows(letters: Sequence[Letter]) -> Sequence[Letter]:
        return [letter for letter in letters if letter.stage != stage]

    path = Path(Hands(letters=swallows))
    bad = event(VICTIM, json=True)
    if stage == "transcoder":
        bad.text_data = '{"city": 7}'
        await path.http(bad, event("good", json=True))
    else:
        path.hands.redacts = lambda batch: batch
        await path.grpc(event("good"))
        await path.grpc(event(VICTIM))
        refused = in_records(changes(VICTIM, lambda each: setattr(each, "type", "no.such.Type")))
        path.hands.to_redactor = refused
    await path.flow()
    assert lost(stage) <= said(path.verdicts())


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        (tiers.GRPC_ACKNOWLEDGED, phantom("lake", "a") | phantom("redactor", "a") | phantom("grpc-door", "a")),
        (tiers.BACKUP_EVENTS, lost("backup", "a")),
        (tiers.REDACTOR_READ, doubled("redactor", "a")),
    ],
)
async def test_a_tier_that_falls_silent_unnoticed_is_never_read_as_fine(tier: str, expected: set[Said]) -> None:
    path = Path(Hands(deaf=frozenset((tier,))))
    await path.grpc(event("a"))
    await path.flow()
    found = said(path.verdicts())
    assert found
    assert found <= expected


# -- what only looks odd


async def healthy_reordered(path: Path) -> None:
    await _both(path)
    Random(1).shuffle(path.web.records)
    Random(2).shuffle(path.events.records)


async def healthy_sent_twice(path: Path) -> None:
    await path.grpc(event("a"))
    await path.grpc(event("a"))


async def healthy_twice_in_one_request(path: Path) -> None:
    await path.grpc(event("a"), event("a"))


async def healthy_sent_in_at_both_doors(path: Path) -> None:
    await path.grpc(event("a"), tenant="acme")
    await path.http(event("a", json=True), tenant="other")


async def healthy_record_delivered_twice(path: Path) -> None:
    await _both(path)
    await path.redact(path.events.records[:1])


async def healthy_web_record_delivered_twice(path: Path) -> None:
    await _both(path)
    await path.transcode(path.web.records)


async def healthy_worker_restarted(path: Path) -> None:
    await _both(path)
    await path.redact(path.events.records)


async def healthy_throttled(path: Path) -> None:
    path.events.refuse = {f"acme/{slice}": NotWritten("throttled", throttled=True) for slice in range(4)}
    assert [4] == await path.grpc(event("a"))
    path.events.refuse = {}
    assert [1] == await path.grpc(event("a"))


async def healthy_refused_for_good(path: Path) -> None:
    path.events.refuse = {f"acme/{slice}": NotWritten("away") for slice in range(4)}
    assert [4] == await path.grpc(event("a"))
    path.events.refuse = {}
    await path.grpc(event("b"))


async def healthy_rejected_at_the_door(path: Path) -> None:
    bad = event("bad")
    bad.type = "no.such.Type"
    assert [1, 3] == await path.grpc(event("a"), bad)


async def healthy_dead_at_the_transcoder(path: Path) -> None:
    bad = event("bad", json=True)
    bad.text_data = '{"city": 7}'
    await path.http(event("a", json=True), bad)


async def healthy_fire_and_forget(path: Path) -> None:
    await path.grpc(event("a"), guaranteed=False)
    await path.grpc(event("b"))


async def healthy_idle(path: Path) -> None:
    pass


async def healthy_late_batch(path: Path) -> None:
    await path.grpc(event("a"))
    path.at_micros += 600_000_000
    await path.grpc(event("b"))


async def healthy_across_windows(path: Path) -> None:
    for seconds in range(25):
        path.at_micros = AT_MICROS + seconds * 1_000_000
        await path.grpc(event(f"e{seconds}"))
        await path.http(event(f"h{seconds}", json=True))


async def healthy_same_id_of_two_sources(path: Path) -> None:
    await path.grpc(event("a", source="/shop"), event("a", source="/app"))


async def healthy_same_id_of_two_tenants(path: Path) -> None:
    await path.grpc(event("a"), tenant="acme")
    await path.grpc(event("a"), tenant="other")


async def healthy_long_and_odd_names(path: Path) -> None:
    await path.grpc(event("i" * 250, source="/" + "s" * 900), event("Gänsefüßchen „“ 📦"), event("x" * 94), event("y" * 127))
    await path.http(event("z" * 200, json=True, source="/söurce"))


async def healthy_played_again(path: Path) -> None:
    await path.grpc(event("a"), event("b"))
    await path.grpc(event("a"), event("b"), at=AT_MICROS)


async def healthy_written_twice_by_firehose(path: Path) -> None:
    await _both(path)
    path.hands.to_backup = lambda records: [*records, *records]


async def healthy_compressed_backup(path: Path) -> None:
    await _both(path)
    path.hands.to_backup = lambda records: (
        [Record(gzip.compress(b"".join(one.data for one in records)), "", "")] if records else []
    )


async def healthy_clean_written_twice(path: Path) -> None:
    await _both(path)
    path.hands.to_etl = lambda records: [*records, *records]


async def healthy_crowd(path: Path) -> None:
    for start in range(0, 2000, 500):
        await path.grpc(*(event(f"e-{number}") for number in range(start, start + 500)))


async def _both(path: Path) -> None:
    await path.grpc(*(event(f"g{number}") for number in range(20)))
    await path.http(*(event(f"h{number}", json=True) for number in range(20)))


HEALTHY = {name.removeprefix("healthy_"): act for name, act in globals().items() if name.startswith("healthy_")}


@pytest.mark.parametrize("name", HEALTHY)
async def test_what_only_looks_odd_convicts_nobody(name: str) -> None:
    path = Path()
    await HEALTHY[name](path)
    await path.flow()
    assert set() == said(path.verdicts())


def test_there_are_enough_of_both_kinds() -> None:
    assert 25 <= len(GRPC_MUTANTS) + len(HTTP_MUTANTS)
    assert 20 <= len(HEALTHY)
