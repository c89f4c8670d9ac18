"""The overview and the dashboards as pages: their frames, and the links that lead on; the browser fills the panels in."""

from collections.abc import Iterator, Mapping, Sequence

from dashboards.console import hop_map
from dashboards.console.grafana import Dashboard, Link, Panel
from dashboards.console.layout import Markup, choice, html, notice, tag
from dashboards.console.markdown import markdown
from dashboards.console.panels import RANGES_SECONDS, Range
from dashboards.queries import resolve_link
from telemetry.hops import BY_NAME, HOPS, Hop

_DRAWN = frozenset(("timeseries", "graph", "stat", "gauge", "bargauge", "table"))
_NUMBERS = frozenset(("stat", "gauge", "bargauge"))
REFRESHES = (("5", "every 5 s"), ("30", "every 30 s"), ("0", "not by itself"))
# Short names of the links of a panel, by how their addresses begin.
_LEADS = (("/traces", "traces"), ("/runbooks/", "runbook"), ("/d/", "page"))
HOP_UID = "spillway-hop-"


def title_row(title: str, *parts: Markup) -> Markup:
    return tag("div", tag("h1", title), *parts, class_="title")


def menu(known: Sequence[Dashboard]) -> Markup:
    """Of the whole pipeline, then of its hops in the order of the path."""
    hops = [each for each in known if each.uid.startswith(HOP_UID)]
    others = [each for each in known if each not in hops]
    return html(_cards("Of the whole pipeline", others), _cards("Of one hop, in the order of the path", hops))


def _cards(title: str, known: Sequence[Dashboard]) -> Markup:
    if not known:
        return Markup("")
    cards = [
        tag("li", tag("a", each.title, href=f"/d/{each.uid}"), tag("p", each.description, class_="quiet"), data_line=True)
        for each in known
    ]
    return html(tag("h2", title), tag("ul", *cards, class_="menu"))


# -- the map


def verdict(now: hop_map.Map) -> Markup:
    """Who is to blame, in words, before any chart."""
    items = [
        tag("li", tag("a", each.hop.title, href=f"/d/{HOP_UID}{each.hop.name}"), f": {each.text}", class_=f"state-{each.state}")
        for each in hop_map.blames(now)
    ]
    return tag(
        "section",
        tag("strong", hop_map.verdict(now)),
        tag("ul", *items),
        id="verdict",
        class_=f"verdict state-{hop_map.verdict_state(now)}",
        role="status",
        aria_label="Verdict",
    )


def targets(now: hop_map.Map) -> Markup:
    state = hop_map.targets_state(now)
    return tag("p", hop_map.targets_text(now), id="targets", class_=f"targets state-{state}", role="status")


def hop_map_section(now: hop_map.Map, boards: Sequence[str]) -> Markup:
    """The path as boxes and arrows. The lines run beneath the boxes, from centre to centre."""
    placed = hop_map.places()
    columns = 1 + max(place.column for place in placed.values())
    rows = 1 + max(place.row for place in placed.values())
    lines = [_line(placed[before], placed[after], columns, rows) for before, after in hop_map.arrows()]
    boxes = [_box(each, placed[each.hop.name], boards) for each in now.hops]
    return tag(
        "section",
        tag("h2", "The path of an event, now", class_="unseen"),
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
    uid = f"{HOP_UID}{hop.name}"
    title = tag("a", hop.title, href=f"/d/{uid}") if uid in boards else tag("span", hop.title, class_="name")
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
            tag("h3", title, tag("span", now.words, class_="words")),
            tag("dl", *signals),
            class_=f"hop state-{now.state}",
            data_hop=hop.name,
        ),
        class_=f"c{place.column} r{place.row}",
    )


# -- a dashboard


def controls(board: Dashboard | None, range_name: str, chosen: Mapping[str, str], values: Mapping[str, Sequence[str]]) -> Markup:
    ranges = [(name, f"last {name}") for name in RANGES_SECONDS]
    fields = [choice("range", "Range", ranges, range_name), choice("refresh", "Refresh", REFRESHES, "5")]
    for variable in board.variables if board else ():
        known = [each for each in values.get(variable.name, ()) if each] or list(variable.options)
        if known:
            every = [(variable.default, "all")] if variable.default.startswith(".") else []
            fields.append(choice(f"var-{variable.name}", variable.label, every + [(each, each) for each in known],
                                 chosen[variable.name]))  # fmt: skip
        elif variable.asked and variable.default and not variable.default.startswith("."):
            entry = tag("input", type="text", name=f"var-{variable.name}", value=chosen[variable.name], class_="short")
            fields.append(tag("label", tag("span", variable.label), entry))
    submit = tag("noscript", tag("button", "Show", type="submit"))
    return tag("form", *fields, submit, method="get", class_="controls", id="controls")


def around(board: Dashboard, span: Range) -> Markup:
    """Of a hop: the hops before and after it, its traces, its log lines. Of every board: where its own links lead."""
    hop = BY_NAME.get(board.uid.removeprefix(HOP_UID)) if board.uid.startswith(HOP_UID) else None
    links = list(_neighbours(hop)) if hop else []
    links += [tag("a", title, href=url, data_live=live) for title, url, live in _leads(board.links, span)]
    if hop and hop.process:
        links.append(tag("a", f"Log lines of {hop.process}", href=f"/logs?process={hop.process}"))
    return tag("nav", *links, class_="around", aria_label="From here") if links else Markup("")


def _neighbours(hop: Hop) -> Iterator[Markup]:
    groups = (
        ("← ", [BY_NAME[name] for name in hop.after if name in BY_NAME], ""),
        ("", [each for each in HOPS if hop.name in each.after], " →"),
    )
    for before, hops, after in groups:
        for each in hops:
            yield tag("a", f"{before}{each.title}{after}", href=f"/d/{HOP_UID}{each.name}")


def grid(board: Dashboard, span: Range) -> Markup:
    return tag("div", *(_panel(panel, span) for panel in board.panels), class_="grid")


def _panel(panel: Panel, span: Range) -> Markup:
    place = f"x{panel.x} w{panel.width}"
    if panel.kind == "row":
        return tag("h2", panel.title, class_="row x0 w24")
    leads = _leads(panel.links, span)
    opens = next((url for _, url, _ in leads if url.startswith("/d/")), "")
    title = tag("a", panel.title, href=opens) if opens else panel.title
    shown = () if panel.kind in _NUMBERS else tuple(_lead(*each) for each in leads)
    tools = tag("div", *shown, _about(panel, leads), class_="panel-tools")
    head = tag("div", tag("h3", title), tools, class_="panel-head")
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


def _leads(links: Sequence[Link], span: Range) -> list[tuple[str, str, bool]]:
    """Title, address, and whether the address holds the range that is shown. Only addresses of the console."""
    found = []
    for link in links:
        url = resolve_link(link.url, from_seconds=int(span.start), to_seconds=int(span.end)).split("?${__url_time_range}")[0]
        if url.startswith("/") and not url.startswith("//") and "${" not in url:
            found.append((link.title, url, "__from" in link.url))
    return found


def _lead(title: str, url: str, live: bool) -> Markup:
    short = next((name for prefix, name in _LEADS if url.startswith(prefix)), title)
    return tag("a", short, href=url, title=title, data_live=live, class_="lead")


def _about(panel: Panel, leads: Sequence[tuple[str, str, bool]]) -> Markup:
    """What the panel means and where it leads, behind a small button."""
    if not panel.description and not leads:
        return Markup("")
    items = [tag("li", tag("a", title, href=url, data_live=live)) for title, url, live in leads]
    inner = markdown(panel.description), tag("ul", *items) if items else Markup("")
    return tag(
        "details",
        tag("summary", "i", aria_label=f"About {panel.title}"),
        tag("div", *inner, class_="about-text"),
        class_="about",
        data_line=True,
    )
