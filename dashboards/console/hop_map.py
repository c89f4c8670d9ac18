"""The hops of the path with their four signals: what they say now, how that is judged, and where each stands on the map.

    read ──► Map (every reading of every hop) ──► verdict (one sentence, then who is to blame, worst first)

Rules. No data is never green: a hop with a signal that does not report is grey, unless another signal of it is over its limit. A
process whose scrapes all fail is not reporting, whatever its last values were.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dashboards.console.sources import Prometheus, Refused
from dashboards.console.units import NO_DATA, text_of, unit_of
from telemetry.hops import HOPS, Hop, Signal

State = Literal["ok", "near", "bad", "nodata"]
WORDS: Mapping[State, str] = {"ok": "ok", "near": "near its limit", "bad": "over its limit", "nodata": NO_DATA}
SHORT = {"traffic": "traffic", "errors": "errors", "latency": "p99", "saturation": "full"}
NEAR_SHARE = 0.75
WINDOW = "1m"
UP = "sum by (process, worker) (up)"


@dataclass(frozen=True, slots=True)
class Reading:
    """One signal now."""

    key: str
    signal: Signal
    value: float | None

    @property
    def state(self) -> State:
        return state_of(self.value, self.signal.limit)

    @property
    def text(self) -> str:
        return text_of(self.value, unit_of(self.signal.unit))

    @property
    def label(self) -> str:
        """Saturation in seconds is lag, not a share."""
        return "behind" if self.key == "saturation" and self.signal.unit == "seconds" else SHORT[self.key]

    @property
    def limit_text(self) -> str:
        return "" if self.signal.limit is None else text_of(self.signal.limit, unit_of(self.signal.unit))


@dataclass(frozen=True, slots=True)
class HopNow:
    hop: Hop
    readings: tuple[Reading, ...]
    # Its processes are known to Prometheus, and none of them answers.
    down: bool = False

    @property
    def state(self) -> State:
        states = {each.state for each in self.readings}
        if self.down or states == {"nodata"}:
            return "nodata"
        return next(state for state in ("bad", "nodata", "near", "ok") if state in states)

    @property
    def words(self) -> str:
        if self.down:
            return f"{NO_DATA}: not answering"
        return WORDS[self.state]


@dataclass(frozen=True, slots=True)
class Blame:
    """What is wrong with one hop, in words."""

    hop: Hop
    state: State
    text: str


@dataclass(frozen=True, slots=True)
class Map:
    hops: tuple[HopNow, ...]
    # (process, worker) that does not answer a scrape.
    silent: tuple[str, ...] = ()
    targets: int = 0
    # Whether Prometheus said anything.
    known: bool = True

    def as_json(self) -> dict[str, object]:
        return {
            "error": "",
            "hops": [
                {
                    "name": each.hop.name,
                    "state": each.state,
                    "words": each.words,
                    "signals": {
                        reading.key: {"text": reading.text, "state": reading.state} for reading in each.readings
                    },
                }
                for each in self.hops
            ],
            "targets": targets_text(self),
            "targets_state": targets_state(self),
            "verdict": {
                "state": verdict_state(self),
                "text": verdict(self),
                "blames": [{"hop": each.hop.name, "title": each.hop.title, "state": each.state, "text": each.text}
                           for each in blames(self)],
            },
        }  # fmt: skip


def state_of(value: float | None, limit: float | None) -> State:
    if value is None or math.isnan(value):
        return "nodata"
    if limit is None:
        return "ok"
    return "bad" if value >= limit else "near" if value >= limit * NEAR_SHARE else "ok"


def verdict(now: Map) -> str:
    """One sentence."""
    count = Counter(each.state for each in now.hops)
    if count["nodata"] == len(now.hops):
        return "Nothing is known of any hop"
    said = []
    if count["bad"]:
        said.append(f"{count['bad']} of {len(now.hops)} hops over a limit")
    if count["nodata"]:
        said.append(f"{count['nodata']} not known")
    if count["near"]:
        said.append(f"{count['near']} near a limit")
    return ", ".join(said) or f"All {len(now.hops)} hops are within their limits"


def verdict_state(now: Map) -> State:
    states = {each.state for each in now.hops}
    return next((state for state in ("bad", "nodata", "near") if state in states), "ok")


def blames(now: Map) -> list[Blame]:
    """Worst first, then in the order of the path. None if nothing is known at all: that is said once."""
    if verdict(now) == verdict(unknown()):
        return []
    found = [Blame(each.hop, each.state, _blame(each)) for each in now.hops if each.state != "ok"]
    order: tuple[State, ...] = ("bad", "nodata", "near")
    return sorted(found, key=lambda blame: order.index(blame.state))


def _blame(now: HopNow) -> str:
    if now.down:
        return "none of its processes answers"
    silent = [each for each in now.readings if each.state == "nodata"]
    if now.state == "nodata":
        return "reports nothing" if len(silent) == len(now.readings) else f"no data of {', '.join(e.label for e in silent)}"
    said = [each for each in now.readings if each.state == now.state]
    return "; ".join(
        f"{each.signal.title[0].lower()}{each.signal.title[1:]} {each.text}, limit {each.limit_text}" for each in said
    )


def targets_state(now: Map) -> State:
    return "bad" if now.silent else "ok" if now.targets else "nodata"


def targets_text(now: Map) -> str:
    if not now.known:
        return "which processes answer is not known"
    if not now.targets:
        return "Prometheus scrapes no process"
    if not now.silent:
        return f"all {now.targets} processes answer"
    return f"{len(now.silent)} of {now.targets} processes do not answer: {', '.join(now.silent)}"


def unknown() -> Map:
    """What is known without Prometheus: nothing."""
    hops = (HopNow(hop, tuple(Reading(key, signal, None) for key, signal in hop.signals.items())) for hop in HOPS)
    return Map(tuple(hops), known=False)


async def read(prometheus: Prometheus, expected: Sequence[str] = ()) -> Map:
    """Ask for every signal of every hop. `expected` are workers that should be scraped.

    Raises:
        Unanswered: Prometheus is away.
    """
    asked = [prometheus.now(UP), *(_value(prometheus, signal) for hop in HOPS for signal in hop.signals.values())]
    ups, *values = await asyncio.gather(*asked)
    assert isinstance(ups, list)
    answering: dict[str, list[bool]] = {}
    silent, seen = [], set()
    for each in ups:
        worker = each.labels.get("worker") or each.labels.get("process") or "?"
        seen.add(worker)
        answering.setdefault(each.labels.get("process", ""), []).append(each.last > 0)
        if each.last <= 0:
            silent.append(worker)
    missing = sorted(set(expected) - seen)
    found = iter(values)
    hops = tuple(
        HopNow(
            hop,
            tuple(Reading(key, signal, _number(next(found))) for key, signal in hop.signals.items()),
            down=bool(answering.get(hop.process)) and not any(answering[hop.process]),
        )
        for hop in HOPS
    )
    return Map(hops, (*sorted(silent), *missing), len(ups) + len(missing))


def _number(value: object) -> float | None:
    return value if isinstance(value, float) else None


async def _value(prometheus: Prometheus, signal: Signal) -> float | None:
    try:
        found = await prometheus.now(signal.at(WINDOW))
    except Refused:
        return None
    return found[0].last if found and not math.isnan(found[0].last) else None


@dataclass(frozen=True, slots=True)
class Place:
    """Column and row of a box, from 0."""

    column: int
    row: int


def places(hops: Sequence[Hop] = HOPS) -> dict[str, Place]:
    """Each hop in a column after those it takes from; beside its first predecessor where that row is free."""
    by_name = {hop.name: hop for hop in hops}

    def depth(name: str) -> int:
        return 1 + max((depth(before) for before in by_name[name].after if before in by_name), default=-1)

    last = max(depth(hop.name) for hop in hops)
    placed: dict[str, Place] = {}
    for hop in sorted(hops, key=lambda each: depth(each.name)):
        column = depth(hop.name)
        taken = {place.row for place in placed.values() if place.column == column}
        before = [placed[name].row for name in hop.after if name in placed]
        wanted = 0 if column == last else min(before, default=0)
        placed[hop.name] = Place(column, next(row for row in range(wanted, wanted + len(hops)) if row not in taken))
    return placed


def arrows(hops: Sequence[Hop] = HOPS) -> list[tuple[str, str]]:
    known = {hop.name for hop in hops}
    return [(before, hop.name) for hop in hops for before in hop.after if before in known]
