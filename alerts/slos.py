"""SLOs as data: `alerts/slo/<name>.yaml`, in the shape of OpenSLO's `kind: SLO`, loaded and checked.

Where it differs from OpenSLO v1: an indicator is a list of witnesses, each a ratio of bad to total, and the worst one counts;
`burn` names the alerts that are made of it, `zeroTolerance` the alert that a single bad event fires; `lowTraffic` says in words
what happens when nobody sends. `$window` in a query is the range.
"""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "slo"
SERVICE = "spillway"
API, KIND = "openslo/v1", "SLO"
WINDOW = "$window"
# A rolling window must fit into what Prometheus keeps (36 days on the local stack).
DAYS_MAX = 35
_METADATA = {"name", "displayName", "labels"}
_SPEC = {
    "service", "description", "owner", "policy", "runbook", "dashboard", "lowTraffic", "zeroTolerance", "indicator", "timeWindow",
    "objective", "burn",
}  # fmt: skip
_OPTIONAL = {"zeroTolerance"}
_SEVERITIES = ("page", "ticket")


class InvalidSlo(ValueError):
    """What is wrong with a file, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Witness:
    """PromQL of bad and of all events in `$window`."""

    name: str
    bad: str
    total: str

    def ratio(self, window: str) -> str:
        """Between 0 and 1; 0 while nothing happens; absent if nobody reports."""
        bad, total = (query.replace(WINDOW, window) for query in (self.bad, self.total))
        return f"clamp(({bad}) / (({total}) > 0), 0, 1) or ({total}) * 0"


@dataclass(frozen=True, slots=True)
class Slo:
    name: str
    title: str
    # Of all its series, beside Sloth's: the hop or the exit.
    labels: tuple[tuple[str, str], ...]
    description: str
    owner: str
    policy: str
    # The alert whose runbook is read first.
    runbook: str
    # A dashboard's uid.
    dashboard: str
    low_traffic: str
    # The alert that one bad event fires; empty: none.
    zero_tolerance: str
    witnesses: tuple[Witness, ...]
    days: int
    # A share: 0.999.
    objective: float
    # Names of the burn-rate alerts; empty: none.
    page: str
    ticket: str

    @property
    def budget(self) -> float:
        # As 99.9 was written, without what binary fractions make of it.
        return round(1 - self.objective, 9)

    @property
    def id(self) -> str:
        return f"{SERVICE}-{self.name}"


def load(folder: Path = FOLDER) -> tuple[Slo, ...]:
    """All of the folder, by name.

    Raises:
        InvalidSlo: a file is not what it should be; says which, where, and what to write.
    """
    return tuple(read(file) for file in sorted(folder.glob("*.yaml")))


def read(file: Path) -> Slo:
    """Raises: InvalidSlo."""
    try:
        said = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as exc:
        raise InvalidSlo(f"{file}: it can't be read as YAML: {exc}") from exc
    try:
        slo = of(said)
    except InvalidSlo as exc:
        raise InvalidSlo(f"{file}: {exc}") from exc
    if slo.name != file.stem:
        raise InvalidSlo(f"{file}: metadata.name is {slo.name}: call the file {slo.name}.yaml, or the SLO {file.stem}")
    return slo


def of(said: Any) -> Slo:
    """Raises: InvalidSlo."""
    whole = _mapping(said, "the file")
    if (whole.get("apiVersion"), whole.get("kind")) != (API, KIND):
        raise InvalidSlo(f"begin it with `apiVersion: {API}` and `kind: {KIND}`")
    metadata = _fields(whole.get("metadata"), "metadata", _METADATA, {"labels"})
    spec = _fields(whole.get("spec"), "spec", _SPEC, _OPTIONAL)
    name = _text(metadata, "metadata", "name")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
        raise InvalidSlo(f"metadata.name {name!r}: use small letters, digits and hyphens")
    if _text(spec, "spec", "service") != SERVICE:
        raise InvalidSlo(f"spec.service must be {SERVICE}")
    burn = _mapping(spec["burn"], "spec.burn")
    if set(burn) - set(_SEVERITIES):
        raise InvalidSlo(f"spec.burn has {', '.join(sorted(set(burn) - set(_SEVERITIES)))}: only page and ticket are known")
    zero = str(spec.get("zeroTolerance") or "")
    if not burn and not zero:
        raise InvalidSlo("nobody would be told: name an alert in spec.burn (page, ticket) or in spec.zeroTolerance")
    labels = _mapping(metadata.get("labels") or {}, "metadata.labels")
    return Slo(
        name=name,
        title=_text(metadata, "metadata", "displayName"),
        labels=tuple(sorted((str(label), str(value)) for label, value in labels.items())),
        description=_text(spec, "spec", "description"),
        owner=_text(spec, "spec", "owner"),
        policy=_text(spec, "spec", "policy"),
        runbook=_text(spec, "spec", "runbook"),
        dashboard=_text(spec, "spec", "dashboard"),
        low_traffic=_text(spec, "spec", "lowTraffic"),
        zero_tolerance=zero,
        witnesses=_witnesses(spec["indicator"]),
        days=_days(spec["timeWindow"]),
        objective=_objective(spec["objective"]),
        page=str(burn.get("page", "")),
        ticket=str(burn.get("ticket", "")),
    )


def _witnesses(said: Any) -> tuple[Witness, ...]:
    if not isinstance(said, list) or not said:
        raise InvalidSlo("spec.indicator must be a list of at least one witness with name, bad and total")
    found = []
    for number, each in enumerate(said):
        place = f"spec.indicator[{number}]"
        fields = _fields(each, place, {"name", "bad", "total"})
        for query in ("bad", "total"):
            if WINDOW not in _text(fields, place, query):
                raise InvalidSlo(f"{place}.{query} has no range: write [{WINDOW}] where the range belongs")
        name, bad, total = (" ".join(_text(fields, place, key).split()) for key in ("name", "bad", "total"))
        found.append(Witness(name, bad, total))
    if len({witness.name for witness in found}) < len(found):
        raise InvalidSlo("two witnesses of spec.indicator have one name: name them differently")
    return tuple(found)


def _days(said: Any) -> int:
    match = re.fullmatch(r"(\d+)d", str(said))
    if match is None or not 1 <= int(match[1]) <= DAYS_MAX:
        raise InvalidSlo(f"spec.timeWindow is {said!r}: write days, such as 30d; at most {DAYS_MAX}d, since Prometheus forgets")
    return int(match[1])


def _objective(said: Any) -> float:
    if isinstance(said, bool) or not isinstance(said, int | float) or not 50 <= said < 100:
        raise InvalidSlo(
            f"spec.objective is {said!r}: write per cent, from 50 to less than 100, such as 99.9; what tolerates nothing has "
            "zeroTolerance as well"
        )
    return round(said / 100, 9)


def _fields(said: Any, place: str, known: Set[str], optional: Set[str] = frozenset()) -> Mapping[str, Any]:
    fields = _mapping(said, place)
    unknown, missing = sorted(set(fields) - known), sorted(known - optional - set(fields))
    if unknown:
        raise InvalidSlo(f"{place} has {', '.join(map(str, unknown))}: take it out, or write one of {', '.join(sorted(known))}")
    if missing:
        raise InvalidSlo(f"{place} lacks {', '.join(missing)}: add it, as in the other files of alerts/slo/")
    return fields


def _mapping(said: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(said, Mapping):
        raise InvalidSlo(f"{place} must be a mapping of names to values")
    return said


def _text(fields: Mapping[str, Any], place: str, key: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise InvalidSlo(f"{place}.{key} must be a text")
    return value.strip()


SLOS = load()
