"""Numbers as people read them: `1.2 k ev/s`, `35 ms`, `12 %`. The browser formats by the same rules (charts.js, `format`).

A unit of Grafana becomes a kind, a factor to the base unit and a suffix; what is unknown is a plain number with its name behind.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Kind = Literal["number", "bytes", "seconds", "percent", "money", "time"]
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_IEC = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_LONG = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_SHORT = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
LONG_SECONDS, DAYS_ALONE = 99.95, 10
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
    "objects/s": Unit("number", "/s"),
    "items/s": Unit("number", "/s"),
    "currencyUSD": Unit("money"),
    "dateTimeAsIso": Unit("time"),
    "dateTimeFromNow": Unit("time"),
}


def unit_of(name: str) -> Unit:
    if name.startswith("suffix:"):
        return _UNITS.get(name[7:].strip()) or Unit("number", name[7:].strip())
    return _UNITS.get(name) or Unit("number", name)


def text_of(value: float | None, unit: Unit, decimals: int | None = None) -> str:
    """`decimals` are of a share in percent; what is less than the whole is never rounded up to it."""
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
            return f"{_percent(value * 100, decimals)} %"
        case "money":
            return f"$ {_money(value)}"
        case "time":
            return str(int(value))
        case _:
            return _scaled(value, _SI, "") + ("" if unit.suffix.startswith("/") or not unit.suffix else " ") + unit.suffix


def clock(unix_nano: int) -> str:
    """UTC, to the millisecond."""
    if unix_nano <= 0:
        return ""
    at = datetime.fromtimestamp(unix_nano // 1_000_000 / 1000, UTC)
    return at.strftime("%m-%d %H:%M:%S.") + f"{unix_nano // 1_000_000 % 1000:03d}"


def duration(seconds: float) -> str:
    """`35 ms`, `1.2 s`; from 100 s on in two units: `1 min 40 s`, `3 h 5 min`."""
    size = abs(seconds)
    if size >= LONG_SECONDS:
        return ("-" if seconds < 0 else "") + _long(round(size))
    if size < 1e-9:
        return "0 s"
    for scale, name in _SHORT:
        if size >= scale * 0.9995:
            return f"{_digits(seconds / scale)} {name}"
    return f"{_digits(seconds / 1e-6)} us"


def _long(seconds: int) -> str:
    place = next(index for index, (scale, _) in enumerate(_LONG) if seconds >= scale)
    (scale, name), (smaller, smaller_name) = _LONG[place], _LONG[place + 1]
    whole, rest = divmod(seconds, scale)
    if rest < smaller or (name == "d" and whole >= DAYS_ALONE):
        return f"{whole} {name}"
    return f"{whole} {name} {rest // smaller} {smaller_name}"


def _scaled(value: float, scales: tuple[tuple[float, str], ...], base: str) -> str:
    for scale, name in scales:
        if abs(value) >= scale * 0.9995:
            return f"{_digits(value / scale)} {name}"
    return f"{_digits(value)} {base}".strip()


def _percent(value: float, decimals: int | None) -> str:
    if 99.0 <= value < 100.0:
        places = max(2, decimals or 0)
        return f"{math.floor(value * 10**places) / 10**places:.{places}f}"
    return _digits(value) if decimals is None else f"{value:.{decimals}f}"


def _money(value: float) -> str:
    size = abs(value)
    return f"{value:.0f}" if size >= 1000 else f"{value:.2f}" if size >= 0.1 or size == 0 else _digits(value)


def _digits(value: float) -> str:
    """Three digits that mean something; below a hundredth two."""
    size = abs(value)
    if size < 1e-9:
        return "0"
    if size >= 99.95:
        return f"{value:.0f}"
    places = 1 if size >= 9.995 else 2 if size >= 0.9995 else 3 if size >= 0.01 else 1 - math.floor(math.log10(size))
    return f"{value:.{places}f}".rstrip("0").rstrip(".")
