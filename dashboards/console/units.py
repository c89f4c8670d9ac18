"""Numbers as people read them: `1.2 k ev/s`, `35 ms`, `12 %`. The browser formats axes by the same rules (console.js, `format`).

A unit of Grafana becomes a kind, a factor to the base unit and a suffix; what is unknown is a plain number with its name behind.
"""

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "bytes", "seconds", "percent", "money", "time"]
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_IEC = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_LONG = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))
_SHORT = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
NO_DATA = "no data"


@dataclass(frozen=True, slots=True)
class Unit:
    kind: Kind = "number"
    suffix: str = ""
    # A value times this is in the base unit: seconds, bytes, shares of one.
    factor: float = 1.0

    def as_json(self) -> dict[str, object]:
        return {"kind": self.kind, "suffix": self.suffix, "factor": self.factor}


_UNITS: dict[str, Unit] = {
    "": Unit(),
    "none": Unit(),
    "short": Unit(),
    "locale": Unit(),
    "s": Unit("seconds"),
    "dtdurations": Unit("seconds"),
    "seconds": Unit("seconds"),
    "ms": Unit("seconds", factor=1e-3),
    "m": Unit("seconds", factor=60.0),
    "h": Unit("seconds", factor=3600.0),
    "d": Unit("seconds", factor=86400.0),
    "bytes": Unit("bytes"),
    "decbytes": Unit("bytes"),
    "Bps": Unit("bytes", "/s"),
    "binBps": Unit("bytes", "/s"),
    "percent": Unit("percent", factor=0.01),
    "percentunit": Unit("percent"),
    "ratio": Unit("percent"),
    "reqps": Unit("number", "req/s"),
    "rps": Unit("number", "req/s"),
    "ops": Unit("number", "ops/s"),
    "cps": Unit("number", "/s"),
    "eps": Unit("number", "ev/s"),
    "wps": Unit("number", "writes/s"),
    "events/s": Unit("number", "ev/s"),
    "records/s": Unit("number", "rec/s"),
    "objects/s": Unit("number", "obj/s"),
    "items/s": Unit("number", "items/s"),
    "currencyUSD": Unit("money"),
    "dateTimeAsIso": Unit("time"),
    "dateTimeFromNow": Unit("time"),
}


def unit_of(name: str) -> Unit:
    if name.startswith("suffix:"):
        return _UNITS.get(name[7:].strip()) or Unit("number", name[7:].strip())
    return _UNITS.get(name) or Unit("number", name)


def text_of(value: float | None, unit: Unit) -> str:
    if value is None or math.isnan(value):
        return NO_DATA
    if math.isinf(value):
        return "never" if unit.kind == "seconds" else "unbounded"
    value *= unit.factor
    match unit.kind:
        case "seconds":
            return duration(value)
        case "bytes":
            return _scaled(value, _IEC, "B") + unit.suffix
        case "percent":
            return f"{_digits(value * 100)} %"
        case "money":
            return f"$ {_digits(value)}"
        case "time":
            return str(int(value))
        case _:
            return " ".join(part for part in (_scaled(value, _SI, ""), unit.suffix) if part)


def duration(seconds: float) -> str:
    """Three digits at most: `35 ms`, `1.2 s`, `3.5 min`."""
    size = abs(seconds)
    if size == 0:
        return "0 s"
    scales = _LONG if size >= 90 else _SHORT
    for scale, name in scales:
        if size >= scale * 0.9995:
            return f"{_digits(seconds / scale)} {name}"
    name, scale = ("min", 60.0) if size >= 90 else ("us", 1e-6)
    return f"{_digits(seconds / scale)} {name}"


def _scaled(value: float, scales: tuple[tuple[float, str], ...], base: str) -> str:
    for scale, name in scales:
        if abs(value) >= scale * 0.9995:
            return f"{_digits(value / scale)} {name}"
    return f"{_digits(value)} {base}".strip()


def _digits(value: float) -> str:
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 99.95:
        return f"{value:.0f}"
    if size < 0.001:
        return f"{value:.1e}"
    places = 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:.{places}f}".rstrip("0").rstrip(".")
