"""Which event: a 64-bit key made of (source, id), the beginning of both as a name, and a checksum of the whole event.

    encoded events ─► a matrix of their first bytes ─► cut behind the source ─► key · name;  and a checksum of each

Rules
- An encoded CloudEvent begins with its id (field 1) and its source (field 2); these bytes, as they lie there, are its identity.
  One that is encoded otherwise is parsed and encoded anew, so that equal identities give equal keys wherever they are seen.
- The tenant is no part of a key: a digest belongs to one tenant, and an event that changes its tenant keeps its key.
- All of it works on columns. The checksum, too: a sum of products of the first words; bytes beyond them go in by their CRC.

The key is a sum of full 64-bit mixes (Pelle Evensen's Moremur, 2019), one for each 8 bytes, mixed once more. Two of n identities
share a key with a probability of n^2 / 2^65: 3e-12 for the 10,000 of a window.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from pipeline.gen.cloudevents.v1.cloudevents_pb2 import CloudEvent

Words = npt.NDArray[np.uint64]

# What of an encoded event is looked at, and how much of that is kept as its name. Multiples of 8.
IDENTITY_BYTES = 96
NAME_BYTES = 48
NAME_WORDS = NAME_BYTES // 8
# What of an event goes into its checksum as words; events are rarely longer.
CONTENT_BYTES = 256
_ID, _SOURCE = 0x0A, 0x12
_SHORT = 0x80
_DIGEST_BYTES = 16
_SHIFTS = np.uint64(27), np.uint64(33)
_FIRST, _SECOND = np.uint64(0x3C79AC492BA7B653), np.uint64(0x1C69B3F74AC4AE35)
# Row k lets k bytes pass.
_PASS = np.where(np.arange(IDENTITY_BYTES) < np.arange(IDENTITY_BYTES + 1)[:, None], 0xFF, 0).astype(np.uint8).view(np.uint64)


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
    raw = _column(encoded, CONTENT_BYTES)
    contents = raw.view(np.uint64) @ _FACTORS
    for row in np.flatnonzero(raw[:, -1]).tolist():
        contents[row] += np.uint64(zlib.crc32(encoded[row][CONTENT_BYTES:]))
    ends, odd = _ends(raw)
    identities = raw[:, :IDENTITY_BYTES].view(np.uint64) & _PASS[ends]
    for row in odd:
        event = CloudEvent.FromString(encoded[row])
        identities[row] = _column([canonical(event.source, event.id)], IDENTITY_BYTES).view(np.uint64)
    return _elements(identities, contents)


def of_names(names: Iterable[tuple[str, str]]) -> Elements:
    """Of (source, id) pairs, as an exit holds them. Their content is not known."""
    identities = [canonical(source, id) for source, id in names]
    if not identities:
        return Elements.none()
    return _elements(_column(identities, IDENTITY_BYTES).view(np.uint64), np.zeros(len(identities), np.uint64))


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
    _mix_in_place(mixed)
    return mixed


def _mix_in_place(words: Words) -> None:
    words ^= words >> _SHIFTS[0]
    words *= _FIRST
    words ^= words >> _SHIFTS[1]
    words *= _SECOND
    words ^= words >> _SHIFTS[0]


# Odd, and the same everywhere: what each word weighs in the checksum.
_FACTORS = mix(np.arange(1, CONTENT_BYTES // 8 + 1, dtype=np.uint64)) | np.uint64(1)
# What the word at each place is mixed with; and what those from a place on come to if they are zero.
_SALTS = mix(np.arange(1, IDENTITY_BYTES // 8 + 1, dtype=np.uint64) << np.uint64(32))
_REST = np.array([mix(_SALTS[place:]).sum(dtype=np.uint64) for place in range(len(_SALTS) + 1)], np.uint64)


def _elements(identities: Words, contents: Words) -> Elements:
    # Words that nobody here has come to a sum that is known.
    used = max(NAME_WORDS, int(np.flatnonzero(identities.any(axis=0)).max(initial=-1)) + 1)
    words = identities[:, :used] ^ _SALTS[:used]
    _mix_in_place(words)
    keys = words.sum(axis=1, dtype=np.uint64) + _REST[used]
    _mix_in_place(keys)
    return Elements(keys, contents, identities[:, :NAME_WORDS])


def _ends(identities: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Where each identity ends, and the rows that do not begin as they should or are longer than the column."""
    rows = np.arange(len(identities))
    at = identities[:, 1].astype(np.intp) + 2
    fits = np.minimum(at, IDENTITY_BYTES - 2)
    source_bytes = identities[rows, fits + 1].astype(np.intp)
    ends = at + 2 + source_bytes
    plain = (
        (identities[:, 0] == _ID)
        & (identities[:, 1] < _SHORT)
        & (identities[rows, fits] == _SOURCE)
        & (source_bytes < _SHORT)
        & (ends <= IDENTITY_BYTES)
    )
    return np.where(plain, ends, IDENTITY_BYTES), np.flatnonzero(~plain)


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
