"""Grafana's dashboard JSON, as far as the console draws it: panels with their queries, units, thresholds and places.

Anything that is not known is left out, not guessed: a panel of another type is shown as its title and the words that say so.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Target:
    expr: str
    legend: str = ""
    exemplar: bool = False
    instant: bool = False
    ref: str = "A"


@dataclass(frozen=True, slots=True)
class Threshold:
    # None: from minus infinity.
    value: float | None
    color: str


@dataclass(frozen=True, slots=True)
class Link:
    title: str
    url: str


@dataclass(frozen=True, slots=True)
class Panel:
    id: int
    kind: str
    title: str
    description: str
    # Columns of 24, and rows of about 38 px.
    x: int
    y: int
    width: int
    height: int
    targets: tuple[Target, ...] = ()
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    thresholds: tuple[Threshold, ...] = ()
    draws_thresholds: bool = False
    stacked: bool = False
    fill: bool = False
    calculation: str = "lastNotNull"
    # Of a number: with its course over the range beneath.
    sparkline: bool = False
    decimals: int | None = None
    content: str = ""
    links: tuple[Link, ...] = ()
    # By field name: another unit, a name to show.
    units_by_field: Mapping[str, str] | None = None
    renamed: Mapping[str, str] | None = None
    hidden: frozenset[str] = frozenset()
    maps: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    label: str
    query: str
    default: str
    options: tuple[str, ...] = ()
    # Whether the reader may choose; a constant is not shown.
    asked: bool = True


@dataclass(frozen=True, slots=True)
class Dashboard:
    uid: str
    title: str
    description: str
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...] = ()
    tags: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()

    @property
    def place(self) -> int:
        """In the menu: pages carry a tag like `menu-07`."""
        return next((int(tag[5:]) for tag in self.tags if re.fullmatch(r"menu-\d{1,4}", tag)), 999)

    def panel(self, id: int) -> Panel | None:
        return next((each for each in self.panels if each.id == id), None)


class Dashboards:
    """Those of a folder, read again when a file has changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._seen: dict[Path, tuple[int, Dashboard]] = {}
        self.unreadable: dict[str, str] = {}

    def all(self) -> list[Dashboard]:
        """In order: overview first, then as their files are named."""
        found: dict[Path, tuple[int, Dashboard]] = {}
        self.unreadable = {}
        for file in sorted(self.folder.glob("*.json")):
            try:
                changed = file.stat().st_mtime_ns
                kept = self._seen.get(file)
                found[file] = kept if kept and kept[0] == changed else (changed, read(json.loads(file.read_text()), file.stem))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
                self.unreadable[file.name] = f"{type(exc).__name__}: {exc}"
        self._seen = found
        return sorted((each for _, each in found.values()), key=lambda board: (not is_overview(board), board.place, board.uid))

    def get(self, uid: str) -> Dashboard | None:
        return next((each for each in self.all() if each.uid == uid), None)

    def overview(self) -> Dashboard | None:
        return next((each for each in self.all() if is_overview(each)), None)


def is_overview(board: Dashboard) -> bool:
    return board.uid.split("-")[-1] == "overview"


def read(raw: Mapping[str, Any], stem: str = "") -> Dashboard:
    panels: list[Panel] = []
    for each in raw.get("panels") or ():
        panels.append(_panel(each, len(panels) + 1))
        panels.extend(_panel(inner, len(panels) + 1) for inner in each.get("panels") or ())
    variables = (raw.get("templating") or {}).get("list") or ()
    return Dashboard(
        uid=str(raw.get("uid") or stem),
        title=str(raw.get("title") or stem),
        description=str(raw.get("description") or ""),
        panels=tuple(sorted(panels, key=lambda panel: (panel.y, panel.x))),
        variables=tuple(_variable(each) for each in variables if each.get("type") in ("query", "custom", "constant", "textbox")),
        tags=tuple(raw.get("tags") or ()),
        links=_links(raw.get("links")),
    )


def _panel(raw: Mapping[str, Any], position: int) -> Panel:
    place = raw.get("gridPos") or {}
    field = raw.get("fieldConfig") or {}
    defaults = field.get("defaults") or {}
    custom = defaults.get("custom") or {}
    options = raw.get("options") or {}
    calculations = (options.get("reduceOptions") or {}).get("calcs") or ["lastNotNull"]
    units, renamed, hidden = _overrides(field.get("overrides") or ())
    organised = _organised(raw.get("transformations") or ())
    return Panel(
        id=int(raw.get("id") or position),
        kind=str(raw.get("type") or ""),
        title=str(raw.get("title") or ""),
        description=str(raw.get("description") or ""),
        x=int(place.get("x") or 0),
        y=int(place.get("y") or 0),
        width=min(24, max(1, int(place.get("w") or 12))),
        height=min(40, max(1, int(place.get("h") or 8))),
        targets=tuple(_target(each) for each in raw.get("targets") or () if each.get("expr") and not each.get("hide")),
        unit=str(defaults.get("unit") or ""),
        minimum=_number(defaults.get("min")),
        maximum=_number(defaults.get("max")),
        thresholds=tuple(
            Threshold(_number(each.get("value")), str(each.get("color") or ""))
            for each in (defaults.get("thresholds") or {}).get("steps") or ()
        ),
        draws_thresholds=(custom.get("thresholdsStyle") or {}).get("mode", "off") != "off",
        stacked=(custom.get("stacking") or {}).get("mode") in ("normal", "percent"),
        fill=float(custom.get("fillOpacity") or 0) > 0,
        calculation=str(calculations[0]),
        sparkline=options.get("graphMode") == "area",
        decimals=None if defaults.get("decimals") is None else int(defaults["decimals"]),
        content=str(options.get("content") or ""),
        links=_links(raw.get("links")) + _links(defaults.get("links")),
        units_by_field=units,
        renamed={**renamed, **organised[0]},
        hidden=hidden | organised[1],
        maps=_mappings(defaults.get("mappings") or ()),
    )


def _target(raw: Mapping[str, Any]) -> Target:
    legend = str(raw.get("legendFormat") or "")
    return Target(
        str(raw["expr"]),
        "" if legend == "__auto" else legend,
        bool(raw.get("exemplar")),
        bool(raw.get("instant")) and not raw.get("range"),
        str(raw.get("refId") or "A"),
    )


def _overrides(raw: Any) -> tuple[dict[str, str], dict[str, str], frozenset[str]]:
    units: dict[str, str] = {}
    names: dict[str, str] = {}
    hidden: set[str] = set()
    for override in raw:
        matcher = override.get("matcher") or {}
        if matcher.get("id") != "byName":
            continue
        for each in override.get("properties") or ():
            if each.get("id") == "unit":
                units[str(matcher.get("options"))] = str(each.get("value"))
            elif each.get("id") == "displayName":
                names[str(matcher.get("options"))] = str(each.get("value"))
            elif each.get("id") == "custom.hidden" and each.get("value"):
                hidden.add(str(matcher.get("options")))
    return units, names, frozenset(hidden)


def _organised(raw: Any) -> tuple[dict[str, str], frozenset[str]]:
    for each in raw:
        if each.get("id") == "organize":
            options = each.get("options") or {}
            names = {str(key): str(value) for key, value in (options.get("renameByName") or {}).items() if value}
            return names, frozenset(str(key) for key, value in (options.get("excludeByName") or {}).items() if value)
    return {}, frozenset()


def _mappings(raw: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in raw:
        if each.get("type") == "value":
            found.update({str(key): str((value or {}).get("text", "")) for key, value in (each.get("options") or {}).items()})
    return found


def _variable(raw: Mapping[str, Any]) -> Variable:
    query = raw.get("query")
    if isinstance(query, Mapping):
        query = query.get("query")
    current = (raw.get("current") or {}).get("value")
    if isinstance(current, list):
        current = current[0] if current else ""
    default = str(current if current not in (None, "$__all") else "")
    all_value = str(raw.get("allValue") or ".*") if raw.get("includeAll") else ""
    options = tuple(str(each.get("value")) for each in raw.get("options") or () if each.get("value") not in (None, "$__all"))
    return Variable(
        str(raw["name"]),
        str(raw.get("label") or raw["name"]),
        str(query or "") if raw.get("type") == "query" else "",
        default or all_value or (str(query or "") if raw.get("type") in ("constant", "textbox") else next(iter(options), "")),
        options,
        raw.get("type") != "constant",
    )


def _links(raw: Any) -> tuple[Link, ...]:
    return tuple(Link(str(each.get("title") or each.get("url")), str(each["url"])) for each in raw or () if each.get("url"))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
