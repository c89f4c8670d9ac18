"""What the committed dashboards ask Prometheus, with Grafana's variables filled in.

`resolve` is the one place that knows what `$__rate_interval`, `$worker` or `$price_s3_put` stand for where there is no Grafana:
the console and the tests use it. It reads the committed JSON alone, and needs no Grafana SDK.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

JSON_FOLDER = Path(__file__).parent / "json"
DEFAULT_WINDOW = "1m"
# `$name`, `${name}` and `${name:format}`.
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::[^}]*)?\}|(?P<bare>[A-Za-z_]\w*))")

Dashboard = dict[str, Any]


class UnknownVariable(KeyError):
    """A query has a variable that neither Grafana nor the dashboard defines."""


def dashboards() -> list[Dashboard]:
    """The committed dashboards, in the order of their menu."""
    loaded: list[Dashboard] = [json.loads(file.read_text()) for file in sorted(JSON_FOLDER.glob("*.json"))]
    return sorted(loaded, key=lambda each: (_place(each), each["uid"]))


def _place(dashboard: Dashboard) -> int:
    """Pages carry a tag `menu-07`, since neither titles nor uids sort in the order of the path."""
    return next((int(tag[5:]) for tag in dashboard.get("tags", ()) if tag.startswith("menu-")), 999)


def variables_of(dashboard: Dashboard) -> dict[str, str]:
    """The dashboard's variables and their defaults; a variable with "All" stands for `.*`."""
    found: dict[str, str] = {}
    for variable in dashboard.get("templating", {}).get("list", ()):
        if variable["type"] in ("constant", "textbox"):
            found[variable["name"]] = str(variable["query"])
        elif variable.get("includeAll"):
            found[variable["name"]] = str(variable.get("allValue") or ".*")
    return found


def resolve(expr: str, window: str = DEFAULT_WINDOW, variables: Mapping[str, str] | None = None) -> str:
    """PromQL that Prometheus takes. `window` stands for `$__rate_interval`, `$__interval` and `$__range`; `variables` are the
    reader's choices, with the defaults of the committed dashboards where there is none.

    Raises:
        UnknownVariable: the expression has another variable.
    """
    values = {**_defaults(), **(variables or {})}
    values.update(__rate_interval=window, __interval=window, __range=window)

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["bare"]
        if name not in values:
            raise UnknownVariable(f"no dashboard defines ${name}: add it to `variables` of its page")
        return values[name]

    return _VARIABLE.sub(value, expr)


def resolve_link(url: str, *, console: str = "", from_seconds: int = 0, to_seconds: int = 0, value: str = "") -> str:
    """A data link as a browser takes it; `console` is the address before the path ("" on the console itself)."""
    url = url.replace("${console}", console).replace("${__value.raw}", value)
    for name, seconds in (("from", from_seconds), ("to", to_seconds)):
        url = url.replace(f"${{__{name}:date:seconds}}", str(seconds)).replace(f"${{__{name}}}", str(seconds * 1000))
    return url


@cache
def _defaults() -> dict[str, str]:
    found: dict[str, str] = {}
    for dashboard in dashboards():
        found.update(variables_of(dashboard))
    return found


def panels(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    """Every panel in its order, rows included, those inside of collapsed rows as well."""
    for panel in dashboard.get("panels", ()):
        yield panel
        yield from panel.get("panels") or ()


def all_queries(window: str = DEFAULT_WINDOW) -> list[tuple[str, str, str]]:
    """(dashboard uid, panel title, resolved PromQL) of every query of every panel."""
    return [
        (dashboard["uid"], panel.get("title", ""), resolve(target["expr"], window, variables_of(dashboard)))
        for dashboard in dashboards()
        for panel in panels(dashboard)
        for target in panel.get("targets") or ()
    ]
