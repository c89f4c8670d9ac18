"""What scrapes find: targets, and the counters, gauges and histograms that they expose.

- A counter is what its pace adds up to since its process began; a process that begins anew counts from 0.
- A scrape that fails leaves `up` at 0 and ends every series of its target, as Prometheus does.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from prometheus_client import utils

from alerts.proof.series import Floats, Millis, Series, stale
from alerts.proof.spans import Spans, within
from alerts.proof.story import Story
from telemetry.metrics import Metric


@dataclass
class Target:
    """A process with a health port: when it was looked at, and what was found."""

    process: str
    worker: str
    labels: dict[str, str]
    scrapes: Floats
    # When it does not live.
    dead: Spans
    # Scrapes that reach it, when each of its lives began, as seen from them, and the first scrapes that do not.
    ok: Floats = field(init=False)
    life: Floats = field(init=False)
    _lost: Floats = field(init=False)
    missed: Spans = field(default_factory=list)

    def __post_init__(self) -> None:
        reached = ~within(self.scrapes, self.dead) & ~within(self.scrapes, self.missed)
        self.up = reached.astype(float)
        self.ok = self.scrapes[reached]
        self._lost = self.scrapes[1:][reached[:-1] & ~reached[1:]]
        ends = np.array([end for _, end in self.dead] or [-np.inf])
        self.life = np.maximum.accumulate(np.append(-np.inf, np.sort(ends)))[
            np.searchsorted(np.sort(ends), self.ok, side="right")
        ]

    def found(self, labels: Mapping[str, str], values: Floats, epoch_ms: int) -> Series:
        """`values` are those at the scrapes that reach it."""
        places = np.searchsorted(self.ok, self._lost)
        times = np.insert(self.ok, places, self._lost)
        return Series({**labels, **self.labels}, _to_ms(times, epoch_ms), np.insert(values, places, stale(len(places))))


class Exposition:
    """Series of a story's targets; `wanted`: names, as rules read them, or None for all."""

    def __init__(self, story: Story, wanted: Collection[str] | None = None) -> None:
        self._wanted, self._edges, self._width, self._epoch_ms = wanted, story.edges, np.diff(story.edges), story.epoch_ms
        self._hidden = {fault.where: fault.span for fault in story.faults if fault.kind == "absent"}

    def up(self, target: Target) -> Iterator[Series]:
        if self._wants("up"):
            yield Series({"__name__": "up", **target.labels}, _to_ms(target.scrapes, self._epoch_ms), target.up)

    def counter(self, target: Target, metric: Metric, labels: Mapping[str, str], pace: Floats | float) -> Iterator[Series]:
        """`pace`: a second, in each bin."""
        if self._wants(metric.name):
            yield self._counted(target, metric.name, labels, self._cumulative(pace))

    def _cumulative(self, pace: Floats | float) -> Floats:
        return np.append(0.0, np.cumsum(pace * self._width))

    def _counted(self, target: Target, name: str, labels: Mapping[str, str], cumulative: Floats) -> Series:
        at, began = (np.interp(times, self._edges, cumulative) for times in (target.ok, target.life))
        return target.found({"__name__": name, **labels}, np.floor(at - began + 1e-6), self._epoch_ms)

    def happened(
        self, target: Target, metric: str, labels: Mapping[str, str], times: Floats, weights: Floats | None = None
    ) -> Iterator[Series]:
        """A counter of single happenings; `times` rise."""
        if self._wants(metric):
            counts = np.append(0.0, np.cumsum(np.ones(len(times)) if weights is None else weights))
            at, began = (counts[np.searchsorted(times, when, side="right")] for when in (target.ok, target.life))
            yield target.found({"__name__": metric, **labels}, at - began, self._epoch_ms)

    def gauge(self, target: Target, metric: Metric | str, labels: Mapping[str, str], values: Floats | float) -> Iterator[Series]:
        """`values` at the scrapes that reach it."""
        name = metric if isinstance(metric, str) else metric.name
        if self._wants(name):
            filled = np.broadcast_to(np.asarray(values, dtype=np.float64), target.ok.shape)
            yield target.found({"__name__": name, **labels}, filled, self._epoch_ms)

    def histogram(
        self,
        target: Target,
        metric: Metric,
        labels: Mapping[str, str],
        pace: Floats,
        share: Callable[[float], Floats | float],
        mean: float,
    ) -> Iterator[Series]:
        """`share(bound)`: of what is observed, how much is at most so long; in each bin, or always."""
        if self._wants(f"{metric.name}_bucket"):
            for bound in (*metric.buckets, np.inf):
                part = 1.0 if np.isinf(bound) else share(bound)
                le = {"le": _le_of(bound)}
                yield self._counted(target, f"{metric.name}_bucket", {**labels, **le}, self._cumulative(pace * part))
        for suffix, times in (("_count", 1.0), ("_sum", mean)):
            if self._wants(metric.name + suffix):
                yield self._counted(target, metric.name + suffix, labels, self._cumulative(pace * times))

    def observed(self, target: Target, metric: Metric, labels: Mapping[str, str], at: Floats, values: Floats) -> Iterator[Series]:
        """A histogram of single observations; times rise."""
        for bound in (*metric.buckets, np.inf) if self._wants(f"{metric.name}_bucket") else ():
            yield from self.happened(target, f"{metric.name}_bucket", {**labels, "le": _le_of(bound)}, at[values <= bound])
        yield from self.happened(target, f"{metric.name}_count", labels, at)
        yield from self.happened(target, f"{metric.name}_sum", labels, at, values)

    def without_hidden(self, series: Series) -> Iterator[Series]:
        """Series of a metric that is hidden end, as if they were no longer exposed."""
        name = series.labels["worker"] if series.name == "up" else _family(series.name)
        if name not in self._hidden:
            yield series
            return
        begins, ends = self._hidden[name]
        at = series.times_ms / 1000 - self._epoch_ms / 1000
        kept = (at < begins) | (at >= ends)
        times, values = series.times_ms[kept], series.values[kept]
        gone = series.times_ms[~kept][:1]
        place = np.searchsorted(times, gone)
        # A target that is no longer scraped at all ends as well.
        yield Series(series.labels, np.insert(times, place, gone), np.insert(values, place, stale(len(gone))))

    def _wants(self, name: str) -> bool:
        return self._wanted is None or name in self._wanted


def _le_of(bound: float) -> str:
    """A bucket's label, as prometheus-client writes it."""
    words: str = utils.floatToGoString(bound)  # type: ignore[no-untyped-call]
    return words


def _to_ms(at: Floats, epoch_ms: int) -> Millis:
    return epoch_ms + np.rint(at * 1000).astype(np.int64)


def _family(name: str) -> str:
    for ending in ("_bucket", "_count", "_sum"):
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name
