"""The ledger's arithmetic in C against that in numpy, which is the reference: for whatever comes the same bits, or a refusal."""

import gc
import importlib
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import Corrupt
from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.ledger import native
from pipeline.ledger.identity import CONTENT_BYTES, IDENTITY_BYTES, NAME_WORDS, Column, Elements, NativeColumn, NumpyColumn
from pipeline.ledger.segment import Segment, encode
from pipeline.ledger.table import CELLS, WORDS, Table
from pipeline.ledger.tally import Seen, Slot, Tally
from pipeline.stack.doctor import findings

AT = 1_700_000_003_000_000
ROW_WORDS = 2 + NAME_WORDS
needs_native = pytest.mark.skipif(native.code is None, reason=native.runs)


def test_it_is_built_wherever_there_are_a_compiler_and_the_headers_of_python() -> None:
    """Else everything here would be skipped, and nobody would know."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None or not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        pytest.skip("no compiler, or no Python.h: numpy runs")
    assert importlib.import_module("pipeline.ledger._fold"), "`make setup` builds it"


@pytest.mark.parametrize(("switch", "runs"), [("off", "numpy, by SPILLWAY_LEDGER_NATIVE"), ("on", native.runs)])
def test_the_switch_chooses_numpy(switch: str, runs: str) -> None:
    if switch == "on" and os.environ.get(native.SWITCH, "on") == "off":
        pytest.skip("this run is of numpy")
    say = "from pipeline.ledger import native; print(native.runs, native.code is None)"
    said = subprocess.run(
        [sys.executable, "-c", say], env=os.environ | {native.SWITCH: switch}, capture_output=True, text=True, check=True
    )
    assert f"{runs} {runs != 'native'}" == said.stdout.strip()


@pytest.mark.parametrize("runs", ["native", "numpy: the C part is not built"])
def test_the_doctor_says_which_one_runs(runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "code", object() if runs == "native" else None)
    monkeypatch.setattr(native, "runs", runs)
    monkeypatch.setattr(native, "is_off", False)
    (found,) = (each for each in findings(tmp_path, {}) if each.what == "ledger")
    assert ("ok", runs, runs == "native") == (found.verdict, found.detail, not found.remedy)


# -- events


def folded(column: Column, events: list[bytes]) -> list[list[int]]:
    column.put(events)
    return rows(column.take())


def rows(elements: Elements) -> list[list[int]]:
    return np.column_stack((elements.keys, elements.contents, elements.names)).tolist()


def of_each(column: Column, events: list[bytes]) -> list[list[list[int]] | None]:
    """None: it is no event."""
    said: list[list[list[int]] | None] = []
    for event in events:
        try:
            said.append(folded(column, [event]))
        except DecodeError:
            said.append(None)
    return said


def delimited(tag: int, value: bytes) -> bytes:
    length, out = len(value), bytearray((tag,))
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(out) + bytes((length,)) + value


def made(seed: int, count: int) -> Iterator[bytes]:
    """Events and what looks like them: ids and sources of all lengths, in any order, cut anywhere, zeros at end and edge."""
    of = random.Random(seed)
    for _ in range(count):
        short = of.random() < 0.7
        id, source = (of.randbytes(of.randint(0, 48 if short else 300)).hex().encode()[:300] for _ in range(2))
        if short:
            id, source = id[: of.randint(0, 48)], source[: of.randint(0, 50)]
        data = of.randbytes(of.choice((0, 1, 7, 8, 90, 200, 300, 1000, 1500)))
        fields = [delimited(0x0A, id), delimited(0x12, source), delimited(0x1A, b"1.0"), delimited(0x32, data)]
        if of.random() < 0.2:
            of.shuffle(fields)
        event = bytearray(b"".join(fields[: of.randint(1, 4)] if of.random() < 0.2 else fields))
        if of.random() < 0.1:
            event = event[: of.randint(0, len(event))]
        if of.random() < 0.2:
            event += bytes(of.randint(1, 20))
        if len(event) >= CONTENT_BYTES and of.random() < 0.3:
            event[CONTENT_BYTES - 1] = 0
        if event and of.random() < 0.1:
            event[of.randrange(min(len(event), IDENTITY_BYTES))] = of.randrange(256)
        yield bytes(event)


@needs_native
def test_every_event_comes_to_the_same_whatever_it_looks_like() -> None:
    events = list(made(1, 3000))
    expected, said = of_each(NumpyColumn(1), events), of_each(NativeColumn(1), events)
    assert expected == said
    readable = [event for event, row in zip(events, expected, strict=True) if row is not None]
    assert 2000 < len(readable) < 3000
    # Together, with neighbours of all kinds, in columns that are used again.
    random.Random(2).shuffle(readable)
    ours, theirs = NativeColumn(700), NumpyColumn(700)
    for start, end in pairwise(range(0, len(readable), 500)):
        assert folded(theirs, readable[start:end]) == folded(ours, readable[start:end])


@needs_native
@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.binary(min_size=240, max_size=300)), min_size=1, max_size=6))
def test_random_bytes_come_to_the_same_or_to_the_same_refusal(events: list[bytes]) -> None:
    assert of_each(NumpyColumn(1), events) == of_each(NativeColumn(1), events)


@needs_native
def test_an_event_of_any_length_with_any_id_and_source_comes_to_the_same() -> None:
    of = random.Random(3)
    by_length = [delimited(0x0A, b"id") + delimited(0x12, b"/shop") for _ in range(2001)]
    events = [head + of.randbytes(max(0, length - len(head))) for length, head in enumerate(by_length)]
    events += [
        delimited(0x0A, b"i" * id) + delimited(0x12, b"s" * source)
        for id in range(0, 301, 3)
        for source in (*range(48), 127, 128, 300)
    ]
    events += [
        delimited(0x0A, b"i" * id) + delimited(0x12, b"s" * (IDENTITY_BYTES - 4 - id + more))
        for id in range(93)
        for more in (0, 1)
    ]
    assert folded(NumpyColumn(len(events)), events) == folded(NativeColumn(len(events)), events)


@needs_native
def test_segments_are_the_same_bytes() -> None:
    def segment(column: Column) -> bytes:
        tally, of = Tally(column), random.Random(4)
        for number in range(120):
            ids = [f"{number}-{each}" for each in range(of.randint(1, 60))]
            events = [CloudEvent(id=id, source="/shop", text_data="x" * of.randint(0, 400)).SerializeToString() for id in ids]
            tally.note("read", f"tenant-{number % 5 % 3}", "grpc", AT + number % 2 * 10_000_000, events)
        return encode(Segment("grpc", "grpc-1", "boot", 0, 0.0, 1.0, True, tally.take().digests))

    ours = segment(NativeColumn(500))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "code", None)
        assert segment(NumpyColumn(500)) == ours


# -- batches


def of_batch(column: Column, batch: bytes | memoryview) -> list[list[int]] | str:
    try:
        if not column.put_batch(batch):
            return "no room"
        return rows(column.take()) if column.rows else []
    except (Corrupt, DecodeError) as exc:
        return type(exc).__name__


def varint(value: int, longer: int = 0) -> bytes:
    """With so many bytes more than it takes."""
    out = bytearray()
    while value > 0x7F or longer > 0:
        longer -= value <= 0x7F
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def batches(seed: int, count: int) -> Iterator[bytes]:
    """Encoded batches and what looks like them: with other fields of every wire type anywhere, some damaged."""
    of = random.Random(seed)
    events = list(made(seed, 500))
    for _ in range(count):
        batch, strange = b"", of.random() < 0.3
        for _ in range(of.randint(0, 8)):
            number = of.choice((1, 1, 1, 1, 2, 15, 16, (1 << 29) - 1, of.randrange(1 << 32) if strange else 3))
            wire, longer = of.choice((2, 2, 2, 0, 1, 5, *((3, 4, 6) if strange else ()))), of.choice((0, 0, 0, 1, 3, 4, 8, 9))
            batch += varint(number << 3 | wire, longer if of.random() < 0.1 else 0)
            if wire == 0:
                batch += varint(of.choice((0, 1, 127, 128, 1 << 35, (1 << 64) - 1, (1 << 70) - 1)), longer)
            elif wire in (1, 5):
                batch += of.randbytes(8 if wire == 1 else 4)
            elif wire == 2:
                event = of.choice(events)
                batch += varint(len(event), longer if of.random() < 0.1 else 0) + event
        if of.random() < 0.3 and batch:
            damaged = bytearray(batch[: of.randint(1, len(batch))])
            damaged[of.randrange(len(damaged))] = of.randrange(256)
            batch = bytes(damaged)
        yield batch


@needs_native
def test_a_batch_comes_to_the_same_as_its_events_whatever_else_is_in_it() -> None:
    outcomes = []
    for batch in batches(7, 20_000):
        expected = of_batch(NumpyColumn(3), batch)
        assert expected == of_batch(NativeColumn(3), batch)
        assert expected == of_batch(NativeColumn(3), memoryview(b"x" + batch + b"y")[1:-1])
        outcomes.append(expected if isinstance(expected, str) else "some" if expected else "none")
    assert {"some", "none", "no room", "Corrupt", "DecodeError"} == set(outcomes)
    assert outcomes.count("some") > 2000


@needs_native
def test_a_batch_goes_behind_what_is_there_and_none_of_it_if_it_fails() -> None:
    column, events = NativeColumn(5), [CloudEvent(id=str(number), source="/shop").SerializeToString() for number in range(4)]
    two = b"".join(delimited(0x0A, event) for event in events[:2])
    column.put(events[2:3])
    assert column.put_batch(two)
    assert not column.put_batch(two + two)
    with pytest.raises(DecodeError):
        column.put_batch(delimited(0x0A, events[0]) + delimited(0x0A, b"\xff" * 20))
    with pytest.raises(Corrupt):
        column.put_batch(two[:-1])
    assert column.put_batch(b"")
    assert folded(NumpyColumn(4), [events[2], *events[:2], events[3]]) == folded(column, events[3:])


@pytest.mark.parametrize("ahead", [False, True], ids=["at-once", "ahead"])
@pytest.mark.parametrize("kind", [pytest.param(NativeColumn, marks=needs_native), NumpyColumn])
def test_what_hops_saw_comes_to_the_same_in_batches_of_any_size(
    kind: type[NativeColumn] | type[NumpyColumn], ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some deliveries are more than there is room for.
    monkeypatch.setattr("pipeline.ledger.tally.AHEAD_ROWS_MAX", 150)
    monkeypatch.setattr("pipeline.ledger.tally.COPIED_ROWS_MAX", 50)
    monkeypatch.setattr("pipeline.ledger.tally.WAITING_ROWS_MAX", 200)
    monkeypatch.setattr("pipeline.ledger.tally.LIST_EVENTS_MAX", 120)
    of, seen, apart = random.Random(8), [], Tally(NumpyColumn(1000))
    for number in range(60):
        ids = [f"{number}-{each}" for each in range(of.choice((0, 1, 3, 20, 130)))]
        events = [CloudEvent(id=id, source="/shop", text_data="x" * of.randint(0, 400)).SerializeToString() for id in ids]
        batch = b"".join(delimited(0x0A, event) for event in events) + delimited(0x12, b"tenant")
        seen.append(Seen(f"tenant-{number % 3}", "grpc", AT + number % 2 * 10_000_000, batch))
        apart.note("read", seen[-1].tenant, "grpc", seen[-1].accepted_at_unix_micros, events)
    tally = Tally(kind(100))
    for start in range(0, len(seen), 6):
        if ahead:
            counted = tally.ahead()
            for each in seen[start : start + 6]:
                counted.see("read", each)
            tally.add(counted)
        else:
            tally.note_seen("read", seen[start : start + 6])

    def found(of: Tally) -> dict[Slot, list[list[int]]]:
        return {slot: digest.table().cells.tolist() for slot, digest in of.take().digests.items()}

    assert found(apart) == found(tally)


def test_a_batch_that_can_not_be_counted_is_named_and_nobody_is_held_up() -> None:
    tally = Tally()
    tally.note_seen("read", [Seen("tenant", "grpc", AT, b"\x0a\xff")])
    assert {AT // 10_000_000 * 10} == tally.take().incomplete


def test_a_batch_that_can_not_be_counted_ahead_is_named_when_it_is_added_and_the_others_count() -> None:
    tally = Tally()
    ahead = tally.ahead()
    good = Seen("tenant", "grpc", AT + 20_000_000, delimited(0x0A, CloudEvent(id="a", source="/shop").SerializeToString()))
    for seen in (good, Seen("tenant", "grpc", AT, b"\x0a\xff"), good):
        ahead.see("read", seen)
    tally.add(ahead)
    taken = tally.take()
    assert {AT // 10_000_000 * 10} == taken.incomplete
    assert [2] == [digest.events for digest in taken.digests.values()]


@needs_native
@pytest.mark.parametrize(("events", "columns"), [(3, 1), (150, 2)], ids=["copied", "left where they are"])
def test_what_waits_to_be_added_up_is_bounded_and_its_room_is_used_again(
    events: int, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 rows a delivery two are past 500."""
    monkeypatch.setattr("pipeline.ledger.tally.WAITING_ROWS_MAX", 500)
    made: list[int] = []
    new = NativeColumn.__init__

    def counted(self: NativeColumn, rows: int) -> None:
        made.append(rows)
        new(self, rows)

    tally = Tally()
    monkeypatch.setattr(NativeColumn, "__init__", counted)
    for number in range(100):
        ahead = tally.ahead()
        encoded = [CloudEvent(id=f"{number}-{each}", source="/shop").SerializeToString() for each in range(events)]
        for tier in ("read", "clean"):
            ahead.see(tier, Seen("tenant", "grpc", AT, b"".join(delimited(0x0A, event) for event in encoded)))
        tally.add(ahead)
    assert columns == len(made)
    assert [100 * events] * 2 == [digest.events for digest in tally.take().digests.values()]


def test_what_was_counted_ahead_and_not_added_was_not_seen() -> None:
    """A delivery that fails comes again."""
    tally = Tally()
    batch = delimited(0x0A, CloudEvent(id="a", source="/shop").SerializeToString())
    failed, done = tally.ahead(), tally.ahead()
    for ahead in (failed, done):
        ahead.see("read", Seen("tenant", "grpc", AT, batch))
    tally.add(done)
    again = tally.ahead()
    again.see("read", Seen("tenant", "grpc", AT, batch))
    assert [1] == [digest.events for digest in tally.take().digests.values()]


# -- tables


@needs_native
def test_tables_are_the_same_cells_however_the_elements_lie_in_memory() -> None:
    of = np.random.default_rng(5)
    words = of.integers(0, 1 << 64, (5000, ROW_WORDS), dtype=np.uint64)
    words[1000:1100, 0] = words[1000, 0]  # one event many times
    whole = Elements(words[:, 0], words[:, 1], words[:, 2:])
    askew = np.zeros(words.nbytes + 3, np.uint8)[3:].view(np.uint64).reshape(words.shape)
    askew[:] = words
    forms = [
        whole,
        whole.copy(),
        whole.take(slice(None, None, -3)),
        whole.take(of.permutation(5000)),
        whole.take(slice(7, 7)),
        Elements(askew[:, 0], askew[:, 1], np.asfortranarray(askew[:, 2:])),
        Elements.none(),
    ]
    tables = {}
    for kind in (native.code, None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "code", kind)
            tables[kind] = [Table.of(elements) for elements in forms]
            tables[kind][0].add(forms[3])  # onto what is there
    for ours, theirs in zip(*tables.values(), strict=True):
        assert np.array_equal(ours.cells, theirs.cells)
    assert [0, 5000] == [tables[None][4].events, tables[None][1].events]


# -- what it refuses


@needs_native
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (([b"a"], np.zeros((1, ROW_WORDS), np.uint64)), TypeError),
        ((iter([b"a"]), np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        (({b"a"}, np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        ((b"a", np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        ((["a"], np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        (([bytearray(b"a")], np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        (([None], np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.uint64), 0.0), TypeError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.uint64), 1), ValueError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.uint64), -1), ValueError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.uint64), 1 << 62), ValueError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.uint64), 1 << 80), ValueError),
        (([b"a"] * 3, np.zeros((2, ROW_WORDS), np.uint64), 0), ValueError),
        (([b"a"], np.zeros((1, ROW_WORDS - 1), np.uint64), 0), ValueError),
        (([b"a"], np.zeros(ROW_WORDS, np.uint64), 0), ValueError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.int64), 0), TypeError),
        (([b"a"], np.zeros((1, ROW_WORDS), ">u8"), 0), TypeError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.float64), 0), TypeError),
        (([b"a"], np.zeros((1, ROW_WORDS), np.uint32), 0), TypeError),
        (([b"a"], np.zeros((1, 2 * ROW_WORDS), np.uint64)[:, ::2], 0), ValueError),
        (([b"a"], np.zeros(ROW_WORDS * 8 + 1, np.uint8)[1:].view(np.uint64).reshape(1, ROW_WORDS), 0), ValueError),
        (([b"a"], np.frombuffer(bytes(ROW_WORDS * 8), np.uint64).reshape(1, ROW_WORDS), 0), (BufferError, ValueError)),
        (([b"a"], bytearray(ROW_WORDS * 8), 0), TypeError),
        (([b"a"], None, 0), TypeError),
    ],
)
def test_fold_refuses_what_it_can_not_do(arguments: tuple[object, ...], error: type[Exception]) -> None:
    assert native.code is not None
    with pytest.raises(error):
        native.code.fold(*arguments)


@needs_native
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"", np.zeros((1, ROW_WORDS), np.uint64)), TypeError),
        (("", np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        (([b""], np.zeros((1, ROW_WORDS), np.uint64), 0), TypeError),
        ((memoryview(b"abcd")[::2], np.zeros((1, ROW_WORDS), np.uint64), 0), BufferError),
        ((b"", np.zeros((1, ROW_WORDS), np.uint64), 0.0), TypeError),
        ((b"", np.zeros((1, ROW_WORDS), np.uint64), 2), ValueError),
        ((b"", np.zeros((1, ROW_WORDS), np.uint64), -1), ValueError),
        ((b"", np.zeros((1, ROW_WORDS + 1), np.uint64), 0), ValueError),
        ((b"", np.frombuffer(bytes(ROW_WORDS * 8), np.uint64).reshape(1, ROW_WORDS), 0), (BufferError, ValueError)),
    ],
)
def test_fold_batch_refuses_what_it_can_not_do(arguments: tuple[object, ...], error: type[Exception]) -> None:
    assert native.code is not None
    with pytest.raises(error):
        native.code.fold_batch(*arguments)


@needs_native
def test_a_batch_without_room_writes_nothing_and_nothing_is_kept() -> None:
    assert native.code is not None
    rows, batch = np.full((3, ROW_WORDS), 7, np.uint64), delimited(0x0A, b"\x12\x00") * 2
    before = sys.getrefcount(batch), sys.getrefcount(rows)
    for _ in range(100):
        assert (2, []) == native.code.fold_batch(batch, rows, 2)
        assert (-1, []) == native.code.fold_batch(batch + b"\x0b", rows, 0)
    assert (rows == 7).all()
    for _ in range(100):
        assert (2, [(0, b"\x12\x00"), (1, b"\x12\x00")]) == native.code.fold_batch(batch, rows, 1)
    gc.collect()
    assert before == (sys.getrefcount(batch), sys.getrefcount(rows))
    assert (rows[0] == 7).all()


@needs_native
@pytest.mark.parametrize(
    ("cells", "keys", "contents", "names", "error"),
    [
        ((CELLS - 1, WORDS), 2, 2, (2, NAME_WORDS), ValueError),
        ((CELLS, WORDS + 1), 2, 2, (2, NAME_WORDS), ValueError),
        ((CELLS, WORDS), 2, 3, (2, NAME_WORDS), ValueError),
        ((CELLS, WORDS), 2, 2, (1, NAME_WORDS), ValueError),
        ((CELLS, WORDS), 2, 2, (2, NAME_WORDS - 1), ValueError),
        ((CELLS, WORDS), (2, 1), 2, (2, NAME_WORDS), ValueError),
        ((CELLS, WORDS), (), 2, (2, NAME_WORDS), ValueError),
    ],
)
def test_add_refuses_what_does_not_fit_and_leaves_the_cells_alone(
    cells: tuple[int, ...], keys: object, contents: object, names: object, error: type[Exception]
) -> None:
    assert native.code is not None
    given = [np.ones(shape, np.uint64) for shape in (cells, keys, contents, names)]
    with pytest.raises(error):
        native.code.add(*given)
    assert (given[0] == 1).all()
    with pytest.raises(TypeError):
        native.code.add(given[0].astype(np.int64), *given[1:])
    with pytest.raises(TypeError):
        native.code.add(*given[:3])


@needs_native
def test_nothing_but_its_rows_is_written_and_nothing_is_kept() -> None:
    assert native.code is not None
    rows = np.full((6, ROW_WORDS), 7, np.uint64)
    event = CloudEvent(id="a", source="/shop").SerializeToString()
    events = [event, b"\x12\x00", b""]
    before = sys.getrefcount(event), sys.getrefcount(rows)
    for _ in range(100):
        assert [1, 2] == native.code.fold(events, rows, 2)
        with pytest.raises(TypeError):
            native.code.fold((event, None), rows, 2)
    gc.collect()
    assert before == (sys.getrefcount(event), sys.getrefcount(rows))
    assert (rows[[0, 1, 5]] == 7).all()
    assert [] == native.code.fold((), rows, 6)
