"""Damage to bytes, drawn by Hypothesis: what a broken client, proxy or disk makes of a good request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hypothesis import strategies as st

Kind = Literal["flip", "set", "delete", "insert", "double", "cut", "splice"]
EDITS_MAX = 2
SPAN_BYTES_MAX = 48
# Bytes that mean something to one of the parsers on the way.
_MARKS = ('"', "{", "}", "[", "]", ",", ":", "\\", "\\u0000", "\\ud800", " ", "\n", "\u202e\ufeff", "\U0001f4a5")
_WORDS = ("null", "true", "-", "0", "1e999", "NaN", "9" * 25, '"id":"x",', '"data":{},', "ann@example.com", "%00", "'; --")
_RAW = ("00", "ff", "c3", "efbbbf", "089601", "0a02", "12ff7f", "ffffffff0f", "f80701")
FRAGMENTS = (*(text.encode() for text in _MARKS + _WORDS), *map(bytes.fromhex, _RAW))


@dataclass(frozen=True, slots=True)
class Edit:
    """One damage. `at` and `span` are taken modulo what there is; `word` chooses a fragment, a bit or a byte."""

    kind: Kind
    at: int
    span: int
    word: int

    def on(self, body: bytes, other: bytes) -> bytes:
        at = self.at % (len(body) + 1)
        end = min(len(body), at + 1 + self.span % SPAN_BYTES_MAX)
        match self.kind:
            case "flip" if at < len(body):
                return body[:at] + bytes([body[at] ^ 1 << self.word % 8]) + body[at + 1 :]
            case "set" if at < len(body):
                return body[:at] + bytes([self.word % 256]) + body[at + 1 :]
            case "delete":
                return body[:at] + body[end:]
            case "insert":
                return body[:at] + FRAGMENTS[self.word % len(FRAGMENTS)] + body[at:]
            case "double":
                return body[:end] + body[at:]
            case "cut":
                return body[:at]
            case "splice":
                start = self.word * 7 % (len(other) + 1)
                return body[:at] + other[start : start + end - at] + body[end:]
        return body + b"\0"


Edits = tuple[Edit, ...]
# Small damage is likelier to get through the first parser.
_KINDS: tuple[Kind, ...] = ("flip", "flip", "set", "set", "flip", "delete", "insert", "double", "cut", "splice")


def edits() -> st.SearchStrategy[Edits]:
    one = st.builds(Edit, st.sampled_from(_KINDS), st.integers(0, 65_535), st.integers(0, 255), st.integers(0, 255))
    return st.lists(one, min_size=1, max_size=EDITS_MAX).map(tuple)


def damaged(body: bytes, changes: Edits, other: bytes) -> bytes:
    for change in changes:
        body = change.on(body, other)
    return body


def many(count: int) -> st.SearchStrategy[Sequence[Edits]]:
    return st.lists(edits(), min_size=count, max_size=count)
