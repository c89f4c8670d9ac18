"""The log: what was written is read back, a torn tail is cut, damage is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator.log import CHUNK, CONTROL, FileLog, LogDamaged


def replayed(folder: Path) -> list[tuple[int, bytes]]:
    log = FileLog(folder)
    found = [(entry.kind, entry.payload) for entry in log.replay()]
    log.close()
    return found


def written(folder: Path, *payloads: bytes) -> FileLog:
    log = FileLog(folder)
    log.roll(b"begin")
    for payload in payloads:
        log.append(CONTROL, payload)
    log.flush()
    return log


def segment(folder: Path) -> Path:
    return max(folder.glob("*.log"))


def test_entries_come_back_in_their_order(tmp_path: Path) -> None:
    written(tmp_path, b"one", b"", b"three").close()
    assert replayed(tmp_path) == [(3, b"begin"), (CONTROL, b"one"), (CONTROL, b""), (CONTROL, b"three")]


def test_an_entry_is_read_by_its_place_before_and_after_its_flush(tmp_path: Path) -> None:
    log = written(tmp_path)
    place = log.append(CHUNK, b"payload")
    assert log.read(*place) == b"payload"
    log.close()


@given(cut=st.integers(min_value=1, max_value=40))
@settings(max_examples=40, deadline=None)
def test_a_torn_tail_costs_the_last_entry_only(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    written(folder, b"kept").close()
    sound = segment(folder).stat().st_size
    log = FileLog(folder)
    list(log.replay())
    log.append(CONTROL, b"x" * 40)
    log.close()
    path = segment(folder)
    path.write_bytes(path.read_bytes()[:-cut])
    assert replayed(folder) == [(3, b"begin"), (CONTROL, b"kept")]
    assert path.stat().st_size == sound


def test_a_zeroed_tail_is_a_torn_one(tmp_path: Path) -> None:
    written(tmp_path, b"kept").close()
    with segment(tmp_path).open("ab") as file:
        file.write(bytes(100))
    assert replayed(tmp_path) == [(3, b"begin"), (CONTROL, b"kept")]


def test_writing_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    written(tmp_path, b"kept", b"torn").close()
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:-2])
    log = FileLog(tmp_path)
    assert [entry.payload for entry in log.replay()] == [b"begin", b"kept"]
    log.append(CONTROL, b"next")
    log.close()
    assert [payload for _, payload in replayed(tmp_path)] == [b"begin", b"kept", b"next"]


def test_damage_before_the_tail_is_not_cut_away(tmp_path: Path) -> None:
    written(tmp_path, b"first", b"second").close()
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[data.index(b"first")] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(LogDamaged, match=r"damaged at byte"):
        replayed(tmp_path)


def test_a_damaged_record_is_told_when_it_is_read(tmp_path: Path) -> None:
    log = written(tmp_path)
    place = log.append(CHUNK, b"payload")
    log.flush()
    path = segment(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(LogDamaged):
        log.read(*place)


def test_old_segments_go_and_the_newest_stays(tmp_path: Path) -> None:
    log = written(tmp_path, b"old")
    log.roll(b"again")
    place = log.append(CHUNK, b"new")
    log.flush()
    assert log.drop_before(place[0]) > 0
    assert log.drop_before(1 << 62) == 0
    assert log.read(*place) == b"new"
    log.close()
    assert replayed(tmp_path) == [(3, b"again"), (CHUNK, b"new")]


def test_a_segment_without_its_checkpoint_is_as_if_never_begun(tmp_path: Path) -> None:
    log = written(tmp_path, b"kept")
    end = sum(path.stat().st_size for path in tmp_path.glob("*.log"))
    log.close()
    (tmp_path / f"{end:020d}.log").touch()
    assert [payload for _, payload in replayed(tmp_path)] == [b"begin", b"kept"]
    assert [payload for _, payload in replayed(tmp_path)] == [b"begin", b"kept"]


def test_one_folder_serves_one_process(tmp_path: Path) -> None:
    log = written(tmp_path)
    with pytest.raises(RuntimeError, match="in use by another emulator"):
        FileLog(tmp_path)
    log.close()
