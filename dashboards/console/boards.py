"""The overview and the dashboards as pages: their frames; the browser fills the panels in."""

import re
from collections.abc import Mapping, Sequence

from dashboards.console import hop_map
from dashboards.console.grafana import Dashboard, Panel
from dashboards.console.layout import Markup, choice, html, notice, tag
from dashboards.console.panels import RANGES_SECONDS, choices
from dashboards.queries import resolve_link

_DRAWN = frozenset(("timeseries", "graph", "stat", "gauge", "bargauge", "table"))
REFRESHES = (("5", "every 5 s"), ("30", "every 30 s"), ("0", "not by itself"))


def hop_map_section(now: hop_map.Map, boards: Sequence[str], error: str) -> Markup:
    """The path as boxes and arrows. The lines run beneath the boxes, from centre to centre."""
    placed = hop_map.places()
    columns = 1 + max(place.column for place in placed.values())
    rows = 1 + max(place.row for place in placed.values())
    lines = [_line(placed[before], placed[after], columns, rows) for before, after in hop_map.arrows()]
    boxes = [_box(each, placed[each.hop.name], boards) for each in now.hops]
    targets = now.as_json()
    return tag(
        "section",
        tag(
            "div",
            tag("h1", "The path of an event, now"),
            tag("p", str(targets["targets"]), id="targets", class_=f"state-{targets['targets_state']}", role="status"),
            class_="title",
        ),
        tag("p", error, id="map-error", class_="notice away", role="status", hidden=not error),
        tag(
            "div",
            tag("svg", *lines, class_="lines", aria_hidden="true"),
            tag("ol", *boxes, class_="boxes"),
            class_=f"map rows{rows} columns{columns}",
            id="map",
        ),
        class_="path",
    )


def _line(before: hop_map.Place, after: hop_map.Place, columns: int, rows: int) -> Markup:
    """Out of the box, up or down in the gap behind its column, then along to the next box."""
    wide, high = 100 / columns, 100 / rows
    x1, x2 = (before.column + 1) * wide, (after.column + 0.5) * wide
    y1, y2 = (before.row + 0.5) * high, (after.row + 0.5) * high
    start = (before.column + 0.5) * wide

    def segment(xa: float, ya: float, xb: float, yb: float) -> Markup:
        return tag("line", x1=f"{xa:.3f}%", y1=f"{ya:.3f}%", x2=f"{xb:.3f}%", y2=f"{yb:.3f}%")

    head = tag(
        "svg", tag("path", d="M2 -5 L10 0 L2 5 Z"), x=f"{after.column * wide:.3f}%", y=f"{y2:.3f}%", overflow="visible",
        width=1, height=1,
    )  # fmt: skip
    return html(segment(start, y1, x1, y1), segment(x1, y1, x1, y2), segment(x1, y2, x2, y2), head)


def _box(now: hop_map.HopNow, place: hop_map.Place, boards: Sequence[str]) -> Markup:
    hop = now.hop
    uid = next((uid for uid in boards if uid in (f"spillway-hop-{hop.name}", f"hop-{hop.name}")), "")
    title = tag("a", hop.title, href=f"/d/{uid}") if uid else tag("span", hop.title, class_="name")
    signals = [
        tag(
            "div",
            tag("dt", each.label),
            tag("dd", each.text, class_=f"state-{each.state}", data_signal=each.key),
            title=f"{each.signal.title}" + (f"; limit {each.limit_text}" if each.limit_text else ""),
        )
        for each in now.readings
    ]
    return tag(
        "li",
        tag(
            "article",
            tag("h2", title, tag("span", now.words, class_="words")),
            tag("dl", *signals),
            class_=f"hop state-{now.state}",
            data_hop=hop.name,
        ),
        class_=f"c{place.column} r{place.row}",
    )


def controls(board: Dashboard | None, range_name: str, chosen: Mapping[str, str], values: Mapping[str, Sequence[str]]) -> Markup:
    ranges = [(name, f"last {name}") for name in RANGES_SECONDS]
    fields = [choice("range", "Range", ranges, range_name), choice("refresh", "Refresh", REFRESHES, "5")]
    for variable in board.variables if board else ():
        known = [each for each in values.get(variable.name, ()) if each] or list(variable.options)
        if known:
            every = [(variable.default, "all")] if variable.default.startswith(".") else []
            fields.append(choice(f"var-{variable.name}", variable.label, every + [(each, each) for each in known],
                                 chosen[variable.name]))  # fmt: skip
        elif variable.default and not variable.default.startswith("."):
            entry = tag("input", type="text", name=f"var-{variable.name}", value=chosen[variable.name], class_="short")
            fields.append(tag("label", tag("span", variable.label), entry))
    submit = tag("noscript", tag("button", "Show", type="submit"))
    return tag("form", *fields, submit, method="get", class_="controls", id="controls")


def grid(board: Dashboard, given: Mapping[str, str], now_seconds: int, range_seconds: int) -> Markup:
    chosen = choices(board, given)
    return tag("div", *(_panel(board, panel, chosen, now_seconds, range_seconds) for panel in board.panels), class_="grid")


def _panel(board: Dashboard, panel: Panel, chosen: Mapping[str, str], now_seconds: int, range_seconds: int) -> Markup:
    place = f"x{panel.x} w{panel.width}"
    if panel.kind == "row":
        return tag("h2", panel.title, class_="row x0 w24")
    head = tag("div", tag("h3", panel.title), _about(panel, now_seconds, range_seconds), class_="panel-head")
    if panel.kind == "text":
        return tag("section", head if panel.title else Markup(""), markdown(panel.content), class_=f"panel text {place}")
    if panel.kind not in _DRAWN:
        body = notice(f"The console does not draw panels of the type {panel.kind}.", "quiet")
        return tag("section", head, body, class_=f"panel {place} h{panel.height}")
    return tag(
        "section",
        head,
        tag("div", tag("p", "asking Prometheus", class_="notice quiet"), class_="body"),
        class_=f"panel {panel.kind} {place} h{panel.height}",
        data_panel=panel.id,
        aria_label=panel.title,
    )


def _about(panel: Panel, now_seconds: int, range_seconds: int) -> Markup:
    """What the panel means and where it leads, behind a small button."""
    links = []
    for link in panel.links:
        url = resolve_link(link.url, from_seconds=now_seconds - range_seconds, to_seconds=now_seconds)
        url = url.split("?${__url_time_range}")[0]
        if url.startswith("/") and not url.startswith("//") and "${" not in url:
            links.append(tag("li", tag("a", link.title, href=url)))
    if not panel.description and not links:
        return Markup("")
    inner = markdown(panel.description), tag("ul", *links) if links else Markup("")
    return tag(
        "details",
        tag("summary", "i", aria_label=f"About {panel.title}"),
        tag("div", *inner, class_="about-text"),
        class_="about",
    )


_LINK = re.compile(r"\[([^\]]+)\]\((/[^)\s]*|https://[^)\s]*)\)")


def markdown(text: str) -> Markup:
    """As much as text panels use: headings, lists, paragraphs, links, code, bold."""
    parts: list[Markup] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if not lines:
            continue
        if lines[0].startswith("#"):
            parts.append(tag("h4", _inline(lines[0].lstrip("# "))))
            lines = lines[1:]
        if lines and all(line.lstrip().startswith(("- ", "* ")) for line in lines):
            parts.append(tag("ul", *(tag("li", _inline(line.lstrip()[2:])) for line in lines)))
        elif lines and all(line.lstrip().startswith("|") for line in lines):
            parts.append(_markdown_table(lines))
        elif lines:
            parts.append(tag("p", _inline(" ".join(lines))))
    return html(*parts)


def _markdown_table(lines: Sequence[str]) -> Markup:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    body = [row for row in rows[1:] if not all(set(cell) <= set("-: ") for cell in row)]
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", _inline(cell), scope="col") for cell in rows[0]))),
        tag("tbody", *(tag("tr", *(tag("td", _inline(cell)) for cell in row)) for row in body)),
    )


def _inline(text: str) -> Markup:
    text = text.replace("${console}", "")
    parts: list[str] = []
    at = 0
    for match in _LINK.finditer(text):
        parts += [_marked(text[at : match.start()]), tag("a", match[1], href=match[2], rel="noreferrer")]
        at = match.end()
    return html(*parts, _marked(text[at:]))


def _marked(text: str) -> Markup:
    escaped = html(text)
    escaped = Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped))
