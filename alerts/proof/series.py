"""Series as Prometheus gets them: as arrays, in the bytes of its remote-write protocol, and in the words of promtool.

A sample may be stale (`stale`): what a scrape writes for every series of a target that it can't reach any more.
Source: https://prometheus.io/docs/concepts/remote_write_spec/, prompb/types.proto, and the block format of Snappy, of which only
literals are used.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Millis = npt.NDArray[np.int64]

_STALE_BITS = np.uint64(0x7FF0000000000002)
# Milliseconds since 1970 in seven bits a byte: so long from November 2004 to 2109.
_TIME_BYTES = 6
_SAMPLE = np.dtype(
    [
        ("field", "u1"),
        ("length", "u1"),
        ("value_field", "u1"),
        ("value", "<f8"),
        ("time_field", "u1"),
        ("time", "u1", (_TIME_BYTES,)),
    ]
)


@dataclass(frozen=True, slots=True)
class Series:
    # With `__name__`.
    labels: Mapping[str, str]
    times_ms: Millis
    values: Floats

    @property
    def name(self) -> str:
        return self.labels["__name__"]


def is_stale(values: Floats) -> npt.NDArray[np.bool_]:
    bits: npt.NDArray[np.uint64] = np.asarray(values, dtype=np.float64).view(np.uint64)
    return np.equal(bits, _STALE_BITS)


def stale(count: int) -> Floats:
    return np.full(count, _STALE_BITS, dtype=np.uint64).view(np.float64)


# Remote write.


def write_request(series: Iterable[Series]) -> bytes:
    """The body of a POST to /api/v1/write: Snappy over a `WriteRequest`."""
    body = b"".join(_field(1, _time_series(each)) for each in series)
    return _varint(len(body)) + bytes([63 << 2]) + (max(len(body), 1) - 1).to_bytes(4, "little") + body


def _time_series(series: Series) -> bytes:
    labels = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode())) for name, value in sorted(series.labels.items()) if value
    )
    return labels + _samples(series.times_ms, series.values)


def _samples(times_ms: Millis, values: Floats) -> bytes:
    rows = np.empty(len(times_ms), _SAMPLE)
    rows["field"], rows["length"] = 2 << 3 | 2, _SAMPLE.itemsize - 2
    rows["value_field"], rows["time_field"] = 1 << 3 | 1, 2 << 3
    rows["value"].view(np.uint64)[:] = np.ascontiguousarray(values, dtype=np.float64).view(np.uint64)
    for place in range(_TIME_BYTES):
        more = 0x80 if place < _TIME_BYTES - 1 else 0
        rows["time"][:, place] = (times_ms >> (7 * place)) & 0x7F | more
    return rows.tobytes()


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


# promtool.


def input_series(series: Series, begins_ms: int, interval_ms: int) -> dict[str, Any]:
    """For `promtool test rules`: samples on a grid; where the grid has none, none.

    Raises:
        ValueError: a sample is not on the grid.
    """
    places, off = np.divmod(series.times_ms - begins_ms, interval_ms)
    if off.any() or (places < 0).any():
        raise ValueError(f"samples of {series.name} are not on a grid of {interval_ms} ms")
    words, after = [], 0
    for place, value, gone in zip(places.tolist(), series.values.tolist(), is_stale(series.values).tolist(), strict=True):
        if place > after:
            words.append(f"_x{place - after}")
        words.append("stale" if gone else f"{value!r}")
        after = place + 1
    labels = ",".join(f'{name}="{value}"' for name, value in series.labels.items() if name != "__name__")
    return {"series": f"{series.name}{{{labels}}}", "values": " ".join(words)}
