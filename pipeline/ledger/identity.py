"""Which event: a 64-bit key made of (source, id), the beginning of both as a name, and a checksum of the whole event.

    encoded events ─► their first bytes ─► cut behind the source ─► key · name;  and a checksum of each

Rules
- An encoded CloudEvent begins with its id (field 1) and its source (field 2); these bytes, as they lie there, are its identity.
  One that is encoded otherwise is parsed and encoded anew, so that equal identities give equal keys wherever they are seen.
- The tenant is no part of a key: a digest belongs to one tenant, and an event that changes its tenant keeps its key.
- All of it works on columns. The checksum, too: a sum of products of the first words; bytes beyond them go in by their CRC.
- It is written down twice, and comes to the same: in numpy, which is the reference, and in C, an event at a time (native.py).

The key is a sum of full 64-bit mixes (Pelle Evensen's Moremur, 2019), one for each 8 bytes, mixed once more. Two of n identities
share a key with a probability of n^2 / 2^65: 3e-12 for the 10,000 of a window.
"""

import contextlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent
from pipeline.ledger import native
from pipeline.raw import raw_events

Words = npt.NDArray[np.uint64]

# What of an encoded event is looked at, and how much of that is kept as its name. Multiples of 8.
IDENTITY_BYTES = 96
NAME_BYTES = 48
IDENTITY_WORDS, NAME_WORDS = IDENTITY_BYTES // 8, NAME_BYTES // 8
# What of an event goes into its checksum as words; events are rarely longer.
CONTENT_BYTES = 256
_ID, _SOURCE = 0x0A, 0x12
_SHORT = 0x80
_DIGEST_BYTES = 16
_SHIFTS = np.uint64(27), np.uint64(33)
_MIXERS = np.uint64(0x3C79AC492BA7B653), np.uint64(0x1C69B3F74AC4AE35)
_ROWS = np.where(np.arange(IDENTITY_BYTES) < np.arange(IDENTITY_BYTES + 1)[:, None], 0xFF, 0).astype(np.uint8).view(np.uint64)
# Row k of each lets k bytes pass; how many words it has is its place.
_PASS = [np.ascontiguousarray(_ROWS[:, :words]) for words in range(IDENTITY_WORDS + 1)]


@dataclass(frozen=True, slots=True)
class Elements:
    """Events as a digest sees them: three columns of one length."""

    keys: Words
    # A checksum of the encoded event; 0 where it is not known.
    contents: Words
    # `NAME_WORDS` words a row: the first bytes of the identity.
    names: Words

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: npt.NDArray[np.intp] | slice) -> "Elements":
        return Elements(self.keys[rows], self.contents[rows], self.names[rows])

    def copy(self) -> "Elements":
        return Elements(self.keys.copy(), self.contents.copy(), self.names.copy())

    @staticmethod
    def none() -> "Elements":
        return Elements(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros((0, NAME_WORDS), np.uint64))

    @staticmethod
    def joined(parts: Sequence["Elements"]) -> "Elements":
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return Elements.none()
        return Elements(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.contents for part in parts]),
            np.concatenate([part.names for part in parts]),
        )


def of_encoded(encoded: Sequence[bytes]) -> Elements:
    """Of events as they lie in a request, a record or a backup object."""
    if not encoded:
        return Elements.none()
    column = new_column(len(encoded))
    column.put(encoded)
    return column.take()


class Column(Protocol):
    """Room for what is needed of so many encoded events, used again and again. Not for several threads.

    `put` takes it while whoever brings them has just had them in hand, and lets go of the events: kept as they are, they would
    have to be fetched from memory once more, and would meanwhile take the place of what everybody else needs.
    """

    rows: int

    @property
    def room(self) -> int: ...

    def put(self, encoded: Sequence[bytes]) -> None:
        """At least one of them, and at most `room`. If it fails, none of them is in."""

    def put_batch(self, batch: bytes | memoryview) -> bool:
        """The events of an encoded batch. False: there is no room, and none of them is in.

        Raises: Corrupt: it is no batch. If it fails, none of them is in.
        """

    def take(self) -> Elements:
        """All of them, in order, until something is put in again; the column is empty afterwards, whatever happens."""


def new_column(rows: int | None = None) -> Column:
    """Of the size that suits it, unless told."""
    if native.code is not None:
        return NativeColumn(rows or NativeColumn.ROWS)
    return NumpyColumn(rows or NumpyColumn.ROWS)


def _put_parsed(column: Column, batch: bytes | memoryview) -> bool:
    encoded = raw_events(bytes(batch))
    if len(encoded) > column.room:
        return False
    if encoded:
        column.put(encoded)
    return True


class NativeColumn:
    """Has a row of eight words of each event: its element."""

    # So many stay in a core's cache until they are taken.
    ROWS = 1_000

    def __init__(self, rows: int) -> None:
        if native.code is None:
            raise ValueError(f"there is no native part: {native.runs}")
        self._fold, self._fold_batch = native.code.fold, native.code.fold_batch
        self._elements = np.zeros((rows, 2 + NAME_WORDS), np.uint64)
        self.rows = 0

    @property
    def room(self) -> int:
        return len(self._elements) - self.rows

    def put(self, encoded: Sequence[bytes]) -> None:
        odd = self._fold(encoded, self._elements, self.rows)
        self._put(len(encoded), [(position, encoded[position]) for position in odd])

    def put_batch(self, batch: bytes | memoryview) -> bool:
        events, odd = self._fold_batch(batch, self._elements, self.rows)
        if events < 0:
            return _put_parsed(self, batch)
        if events > self.room:
            return False
        self._put(events, odd)
        return True

    def taken_rows(self) -> Words:
        """All of them, in order, until something is put in again; the column is empty afterwards."""
        taken = self._elements[: self.rows]
        self.rows = 0
        return taken

    def _put(self, events: int, odd: Sequence[tuple[int, bytes]]) -> None:
        """They are in their rows; the odd ones lack their key and name."""
        if odd:
            found = _of_identities([_identity_of_odd(encoded) for _, encoded in odd])
            places = [self.rows + position for position, _ in odd]
            self._elements[places, 0] = found.keys
            self._elements[places, 2:] = found.names
        self.rows += events

    def take(self) -> Elements:
        return elements_of(self.taken_rows())


def elements_of(rows: Words) -> Elements:
    """As a native column has them."""
    return Elements(rows[:, 0], rows[:, 1], rows[:, 2:])


class NumpyColumn:
    """Has the first bytes of each event; the arithmetic is done for all of them when they are taken."""

    # Some two milliseconds' work. With fewer at once, calls of numpy cost more than what they do.
    ROWS = 8_000

    def __init__(self, rows: int) -> None:
        self._raw = np.zeros((rows, CONTENT_BYTES), np.uint8)
        self._values = self._raw.view(f"S{CONTENT_BYTES}").reshape(rows)
        self._words = self._raw.view(np.uint64)
        self._starts = np.arange(rows, dtype=np.intp) * CONTENT_BYTES
        # Written over each time: new memory for it would cost more than what is done there.
        self._places = np.empty((2, rows), np.intp)
        self._octets = np.empty((2, rows), np.uint8)
        self._identities, *self._spare = (np.empty(rows * IDENTITY_WORDS, np.uint64) for _ in range(3))
        # By first row, those that came with one which is longer than a row.
        self._whole: dict[int, Sequence[bytes]] = {}
        self.rows = 0

    @property
    def room(self) -> int:
        return len(self._raw) - self.rows

    def put(self, encoded: Sequence[bytes]) -> None:
        start, end = self.rows, self.rows + len(encoded)
        self._values[start:end] = encoded
        if max(map(len, encoded)) > CONTENT_BYTES:
            self._whole[start] = encoded
        self.rows = end

    def put_batch(self, batch: bytes | memoryview) -> bool:
        return _put_parsed(self, batch)

    def take(self) -> Elements:
        rows, whole = self.rows, self._whole
        self.rows, self._whole = 0, {}
        raw, words = self._raw[:rows], self._words[:rows]
        contents = np.einsum("ij,j->i", words, _FACTORS)
        for start, encoded in whole.items():
            for row, one in enumerate(encoded, start):
                if len(one) > CONTENT_BYTES:
                    contents[row] += np.uint64(zlib.crc32(one[CONTENT_BYTES:]))
        ends, odd = self._ends(raw)
        used = max(NAME_WORDS, -(-int(ends.max(initial=0)) // 8))
        identities = self._identities[: rows * used].reshape(rows, used)
        _PASS[used].take(ends, axis=0, out=identities, mode="clip")
        identities &= words[:, :used]
        for row in odd:
            identities[row] = _column([_identity_of_odd(_brought(raw[row], row, whole))], IDENTITY_BYTES).view(np.uint64)
        return _elements(identities, contents, self._spare)

    def _ends(self, raw: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.intp], list[int]]:
        """Where each identity ends, and the rows that do not begin as they should or are longer than `IDENTITY_BYTES`."""
        rows, flat = len(raw), self._raw.reshape(-1)
        (ends, here), (tags, source_bytes) = self._places[:, :rows], self._octets[:, :rows]
        np.add(raw[:, 1], 2, out=ends)  # so far that of the id
        np.minimum(ends, IDENTITY_BYTES - 2, out=here)
        here += self._starts[:rows]
        flat.take(here, out=tags, mode="clip")
        here += 1
        flat.take(here, out=source_bytes, mode="clip")
        ends += source_bytes
        ends += 2
        # Lengths of several bytes, too, end beyond the column; or, by the sum's overflow, at 0 or 1, where no source begins.
        if ends.max() <= IDENTITY_BYTES and (tags == _SOURCE).all() and (raw[:, 0] == _ID).all():
            return ends, []
        odd = np.flatnonzero((ends > IDENTITY_BYTES) | (tags != _SOURCE) | (raw[:, 0] != _ID))
        ends[odd] = IDENTITY_BYTES
        return ends, odd.tolist()


def of_names(names: Iterable[tuple[str, str]]) -> Elements:
    """Of (source, id) pairs, as an exit holds them. Their content is not known."""
    return _of_identities([canonical(source, id) for source, id in names])


def _of_identities(identities: Sequence[bytes]) -> Elements:
    if not identities:
        return Elements.none()
    rows = _column(identities, IDENTITY_BYTES).view(np.uint64)
    used = max(NAME_WORDS, int(np.flatnonzero(rows.any(axis=0)).max(initial=-1)) + 1)
    return _elements(rows[:, :used], np.zeros(len(rows), np.uint64), [np.empty(rows.size, np.uint64) for _ in range(2)])


def canonical(source: str, id: str) -> bytes:
    """The identity as an encoded event begins; one that is longer than `IDENTITY_BYTES` ends in a digest of itself."""
    whole = b"".join((bytes((_ID,)), _delimited(id.encode()), bytes((_SOURCE,)), _delimited(source.encode())))
    if len(whole) <= IDENTITY_BYTES:
        return whole
    return whole[: IDENTITY_BYTES - _DIGEST_BYTES] + blake2b(whole, digest_size=_DIGEST_BYTES).digest()


@dataclass(frozen=True, slots=True)
class Name:
    """What a digest can say of an event. None, or not `whole`: there was no room for all of it."""

    id: str | None
    source: str | None
    id_is_whole: bool = True
    source_is_whole: bool = True

    def __str__(self) -> str:
        if self.id is None:
            return "(an id that can't be read)"
        of_source = f" of {self.source}{'' if self.source_is_whole else '…'}" if self.source else ""
        return (self.id if self.id_is_whole else self.id + "…") + of_source


def name_of(words: Words) -> Name:
    """Read a row of `names` again."""
    raw = words.tobytes()
    id, position, whole = _field(raw, 0, _ID)
    if id is None or not whole:
        return Name(id, None, False, False)
    source, _, source_is_whole = _field(raw, position, _SOURCE)
    return Name(id, source, True, source_is_whole)


def mix(words: Words) -> Words:
    """A bijection of 64 bits that changes half of them for each one that changes."""
    mixed = words.copy()
    _mix_in_place(mixed, np.empty_like(mixed))
    return mixed


def _mix_in_place(words: Words, spare: Words) -> None:
    """`spare`: of the same shape, to be written over."""
    for shift, factor in zip(_SHIFTS, _MIXERS, strict=True):
        np.right_shift(words, shift, out=spare)
        words ^= spare
        words *= factor
    np.right_shift(words, _SHIFTS[0], out=spare)
    words ^= spare


# Odd, and the same everywhere: what each word weighs in the checksum.
_FACTORS = mix(np.arange(1, CONTENT_BYTES // 8 + 1, dtype=np.uint64)) | np.uint64(1)
# What the word at each place is mixed with; and what those from a place on come to if they are zero.
_SALTS = mix(np.arange(1, IDENTITY_BYTES // 8 + 1, dtype=np.uint64) << np.uint64(32))
_ONES = np.ones(IDENTITY_WORDS, np.uint64)
_REST = np.array([mix(_SALTS[place:]).sum(dtype=np.uint64) for place in range(len(_SALTS) + 1)], np.uint64)


def _elements(identities: Words, contents: Words, spare: Sequence[Words]) -> Elements:
    """`identities` may lack words at the end that nobody here has: those come to a sum that is known."""
    rows, used = identities.shape
    words, free = (each[: rows * used].reshape(rows, used) for each in spare)
    np.bitwise_xor(identities, _SALTS[:used], out=words)
    _mix_in_place(words, free)
    keys = words @ _ONES[:used]
    keys += _REST[used]
    _mix_in_place(keys, spare[0][:rows])
    return Elements(keys, contents, identities[:, :NAME_WORDS])


def _identity_of_odd(encoded: bytes) -> bytes:
    """Of one that does not begin as it should: it is parsed, and its beginning encoded anew.

    Raises: DecodeError: it is no event.
    """
    event = _event(encoded)
    return canonical(event.source, event.id)


def _brought(row: npt.NDArray[np.uint8], number: int, whole: Mapping[int, Sequence[bytes]]) -> bytes:
    """The event in this row, if it came with one that is longer than a row; else with zeros behind it."""
    for start, encoded in whole.items():
        if start <= number < start + len(encoded):
            return encoded[number - start]
    return row.tobytes()


def _event(encoded: bytes) -> CloudEvent:
    """Behind what is no longer than a row there may be zeros that are not its own; it is read alike with and without them.

    As many are its own as it takes to be whole, since no field begins with a zero.

    Raises: DecodeError: it is no event.
    """
    if len(encoded) <= CONTENT_BYTES:
        raw = encoded.ljust(CONTENT_BYTES, b"\0")
        for end in range(len(raw.rstrip(b"\0")), len(raw)):
            with contextlib.suppress(DecodeError):
                return CloudEvent.FromString(raw[:end])
        encoded = raw
    return CloudEvent.FromString(encoded)


def _column(values: Sequence[bytes], width: int) -> npt.NDArray[np.uint8]:
    """Their first so many bytes, a row each, filled up with zeros."""
    return np.array(values, f"S{width}").view(np.uint8).reshape(len(values), width)


def _delimited(raw: bytes) -> bytes:
    length, out = len(raw), bytearray()
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)
    return bytes(out) + raw


def _field(raw: bytes, position: int, tag: int) -> tuple[str | None, int, bool]:
    """The text at `position`, where it ends, and whether all of it is there."""
    if position >= len(raw) - 1 or raw[position] != tag:
        return None, position, False
    length, shift, position = 0, 0, position + 1
    while position < len(raw):
        length |= (raw[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if raw[position - 1] < _SHORT:
            break
    text = raw[position : position + length]
    return text.decode(errors="ignore"), position + length, len(text) == length
