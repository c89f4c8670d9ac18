"""What `append` returned from is found again, whatever happened in between; nothing else is."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline import frame
from pipeline.sdk.segment import ENTRY_OVERHEAD_BYTES, Entry, Runs
from pipeline.sdk.spool import READ_BYTES, Fsync, Spool, SpoolFailed, SpoolFull, SpoolLocked, SpoolOptions, _held

EVENTS = st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(frame.encode), st.just(b"SPWY"))


class Disk:
    """os.write, or a disk that takes `room` more bytes and then none."""

    def __init__(self) -> None:
        self.room: int | None = None

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room is None:
            return os.write(descriptor, data)
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = os.write(descriptor, data[: self.room])
        self.room -= taken
        return taken


class SpoolMachine(RuleBasedStateMachine):
    """A process that appends, takes, settles and dies, against a model of what it was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.lives = 0
        self.disk = Disk()
        self.options = SpoolOptions(bytes_max=100_000, segment_bytes_max=300, fsync=Fsync.NEVER)
        self.spool = Spool(self.root / "0", self.options, write=self.disk.write)
        self.promised: dict[int, bytes] = {}
        self.settled: set[int] = set()
        # Written whole by a process that died before it could say so: may be sent, need not.
        self.unsaid: set[bytes] = set()
        self.in_flight: list[Entry] = []
        self.last_taken = 0

    @rule(event=EVENTS)
    def append(self, event: bytes) -> None:
        number = self.spool.append(event)
        assert number not in self.promised or number in self.settled
        self.settled.discard(number)
        self.promised[number] = event

    @rule(event=EVENTS, room=st.integers(0, 60))
    def append_to_a_full_disk(self, event: bytes, room: int) -> None:
        self.disk.room = room
        try:
            self.append(event)
        except SpoolFailed:
            pass
        finally:
            self.disk.room = None

    @rule(count=st.integers(1, 20))
    def take(self, count: int) -> None:
        for entry in self.spool.take(count, 1_000_000):
            assert entry.number > self.last_taken, "out of order, or twice"
            self.last_taken = entry.number
            self.check(entry)
            self.in_flight.append(entry)

    def check(self, entry: Entry) -> None:
        known = self.promised.get(entry.number)
        assert known == entry.event or entry.event in self.unsaid
        assert entry.number not in self.settled
        self.promised.setdefault(entry.number, entry.event)

    @rule(data=st.data())
    @precondition(lambda self: self.in_flight)
    def settle(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from([e.number for e in self.in_flight]), unique=True))
        self.spool.settle(some)
        self.settled.update(some)
        self.in_flight = [entry for entry in self.in_flight if entry.number not in some]

    @rule(event=EVENTS, data=st.data())
    def die_within_an_append(self, event: bytes, data: st.DataObject) -> None:
        """Some prefix of the entry, none or all of it, is in the file."""
        segment = self.spool._active
        self.lives += 1
        folder = self.root / str(self.lives)
        shutil.copytree(self.spool.folder, folder)
        if segment is not None:
            number = self.spool._next_number
            written = segment.entry(number, event)
            written = written[: data.draw(st.integers(0, len(written)))]
            with (folder / segment.path.name).open("ab") as file:
                file.write(written)
            if written == segment.entry(number, event):
                self.unsaid.add(event)
                self.settled.discard(number)  # numbers start anew in a spool that was empty
                self.promised.pop(number, None)
        self.spool.close()
        shutil.rmtree(self.spool.folder)
        self.open(folder)

    @rule()
    def close_and_open(self) -> None:
        self.spool.close()
        self.open(self.spool.folder)

    def open(self, folder: Path) -> None:
        self.spool = Spool(folder, self.options, write=self.disk.write)
        self.in_flight, self.last_taken = [], 0
        waiting = {number for number in self.promised if number not in self.settled}
        found: list[Entry] = []
        while entries := self.spool.take(3, 100):
            found += entries
        assert self.spool.pending_count == len(found)
        for entry in found:
            self.check(entry)
        assert waiting <= {entry.number for entry in found}, "promised, and lost"
        self.in_flight = found
        self.last_taken = max((entry.number for entry in found), default=0)

    @invariant()
    def the_count_is_right(self) -> None:
        assert self.spool.pending_count == len(self.promised.keys() - self.settled)

    @invariant()
    def the_disk_holds_what_is_counted(self) -> None:
        files = [path for path in self.spool.folder.iterdir() if path.suffix in (".events", ".settled")]
        assert self.spool.bytes_used == sum(path.stat().st_size for path in files)

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.root)


TestAnyDeathLosesNothingPromisedAndInventsNothing = SpoolMachine.TestCase
TestAnyDeathLosesNothingPromisedAndInventsNothing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def all_events(folder: Path) -> list[bytes]:
    with Spool(folder) as spool:
        return [entry.event for entry in spool.take(1000, 1_000_000)]


def test_what_is_unsettled_at_the_end_is_there_at_the_beginning(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for event in (b"a", b"b", b"c"):
            spool.append(event)
        spool.settle([spool.take(1, 100)[0].number])
    assert [b"b", b"c"] == all_events(tmp_path)


def test_an_event_is_held_until_it_is_settled_not_until_it_is_taken(tmp_path: Path) -> None:
    """TRAPS 6."""
    with Spool(tmp_path) as spool:
        spool.append(b"a")
        assert [b"a"] == [entry.event for entry in spool.take(10, 100)]
    assert [b"a"] == all_events(tmp_path)


def test_damage_in_the_middle_costs_the_events_that_it_hit_and_is_kept_for_salvage(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for event in (b"first", b"second", b"third"):
            spool.append(event)
    segment = next(tmp_path.glob("*.events"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"second")] ^= 1
    segment.write_bytes(data)
    with Spool(tmp_path) as spool:
        assert 1 == spool.damaged_segments
        entries = spool.take(10, 1000)
        assert [b"first", b"third"] == [entry.event for entry in entries]
        spool.settle([entry.number for entry in entries])
    assert [bytes(data)] == [path.read_bytes() for path in tmp_path.glob("*.damaged")]


def test_a_full_disk_is_a_clear_error_and_the_spool_stays_intact(tmp_path: Path) -> None:
    disk = Disk()
    with Spool(tmp_path, write=disk.write) as spool:
        spool.append(b"before")
        disk.room = 5
        with pytest.raises(SpoolFailed, match="No space left on device"):
            spool.append(b"while")
        disk.room = None
        spool.append(b"after")
    assert [b"before", b"after"] == all_events(tmp_path)


def test_past_its_bound_the_spool_takes_nothing_until_events_are_settled(tmp_path: Path) -> None:
    with Spool(tmp_path, SpoolOptions(bytes_max=2000)) as spool:
        for _ in range(2000 // (100 + ENTRY_OVERHEAD_BYTES)):
            spool.append(b"x" * 100)
        with pytest.raises(SpoolFull):
            spool.append(b"x" * 100)
        assert spool.bytes_used <= 2000
        spool.settle([entry.number for entry in spool.take(100, 100_000)])
        spool.append(b"x" * 100)


def test_events_larger_than_one_read_of_the_disk_come_whole(tmp_path: Path) -> None:
    events = [
        bytes([index]) * size for index, size in enumerate((5_000, READ_BYTES + 10, 5_000, 3 * READ_BYTES, 7, 200_000, 200_000))
    ]
    with Spool(tmp_path) as spool:
        for event in events:
            spool.append(event)
    taken: list[bytes] = []
    with Spool(tmp_path) as spool:
        while entries := spool.take(2, 300_000):
            taken += [entry.event for entry in entries]
    assert events == taken


def test_two_users_of_one_folder_are_prevented(tmp_path: Path) -> None:
    with Spool(tmp_path), pytest.raises(SpoolLocked):
        Spool(tmp_path)
    with Spool(tmp_path):
        pass


def test_a_forked_child_does_not_keep_the_folder_locked(tmp_path: Path) -> None:
    """The lock is let go when the parent dies, though its descriptor was inherited."""
    spool = Spool(tmp_path)
    ready, say_ready = os.pipe()
    end, say_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(say_ready, b"x")
        os.close(say_end)
        os.read(end, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        _held.discard(spool._lock)
        os.close(spool._lock)  # as the kernel does at death
        spool._lock = -1
        with Spool(tmp_path):
            pass
    finally:
        for descriptor in (say_end, end, ready, say_ready):
            os.close(descriptor)
        os.waitpid(child, 0)


def test_always_forces_every_event_to_disk_before_it_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with Spool(tmp_path, SpoolOptions(fsync=Fsync.ALWAYS)) as spool:
        for _ in range(3):
            spool.append(b"x")
            count = len(synced)
        assert 3 == count


def test_runs_are_a_set() -> None:
    runs = Runs()
    for first, last in ((5, 6), (1, 2), (8, 9), (7, 7), (2, 5)):
        runs.add(first, last)
    assert ([1], [9]) == (runs.firsts, runs.lasts)
    assert [False, True, True, False] == [number in runs for number in (0, 1, 9, 10)]
