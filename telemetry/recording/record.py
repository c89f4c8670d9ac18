"""What a record is: a series that Prometheus works out by itself and keeps.

Rules. A name is `level:metric:operation`: which labels are left, what it is, what was done to it. Several records may share a
name if a fixed label (`hop`, `resource`, `compared_with`) tells them apart. A record of a metric that nobody reports is absent,
never 0: an idle pipeline and a silent one must not look alike. Every expression is in what Prometheus 2.42 and 3.x share, and
none counts the samples of a range, since 3.x leaves out the one on its edge.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from telemetry import hops

Unit = hops.Unit | Literal["events", "days", "hours", "ratio/day", "deviations"]


@dataclass(frozen=True, slots=True)
class Record:
    # By its constant, never by its text: dashboards and alert rules depend on it.
    name: str
    title: str
    unit: Unit
    expr: str
    # What its series carry, in the end.
    labels: tuple[str, ...] = ()
    # Of those, what this record fixes.
    fixed: Mapping[str, str] = field(default_factory=dict)
    # What a reader compares it with, or what it was compared with; empty: nothing.
    compared_with: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Records that are evaluated one after the other, at one moment: a later one sees what an earlier one has just said."""

    name: str
    # How many times slower than the recent groups.
    times_slower: int
    records: tuple[Record, ...]
    # A record that would make more series than this makes none, and Prometheus counts a failed evaluation. 0: no bound.
    series_max: int = 0


def first_of(label: str, choices: Mapping[str, str], *also: str) -> str:
    """PromQL of the first choice that exists, for each series by itself; the label names the choice that was taken.

    `also` are labels in which the choices' series may differ and still be the same thing.
    """
    named = [f'label_replace({expr}, "{label}", "{value}", "", "")' for value, expr in choices.items()]
    return f" or ignoring ({', '.join((label, *also))}) ".join(named)
