"""The frame of every page: navigation, skip link, theme, the list of shortcuts. Plain HTML, made of escaped text.

`Markup` is text that is HTML already; `tag` escapes everything else. So a value that comes from outside can't become markup.
A page is made at once, or in two halves around `HERE`, when what belongs there is still awaited.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

STATIC = Path(__file__).parent / "static"
_EMPTY = frozenset(("input", "link", "meta", "br", "hr", "rect", "line", "path"))
_SHAPES = frozenset(("rect", "line", "path"))
SHORTCUTS = (
    ("?", "this list"),
    ("g then o", "overview"),
    ("g then a", "alerts"),
    ("g then t", "traces"),
    ("g then l", "logs"),
    ("g then d", "dashboards"),
    ("g then c", "canary"),
    ("g then e", "ledger"),
    ("/", "to the search field"),
    ("r", "refresh now"),
    ("p", "pause or resume refreshing"),
    ("[ and ]", "shorter or longer time range"),
    ("j and k", "next or previous line, panel or span"),
    ("Enter or Space", "open what has the focus"),
    ("Esc", "close what is open"),
)


class Markup(str):
    """HTML, made here."""


HERE = Markup("<!--here-->")


@dataclass(frozen=True, slots=True)
class Page:
    """An entry of the navigation. `key`: typed after g."""

    path: str
    title: str
    key: str


PAGES: tuple[Page, ...] = (
    Page("/", "Overview", "o"),
    Page("/alerts", "Alerts", "a"),
    Page("/dashboards", "Dashboards", "d"),
    Page("/traces", "Traces", "t"),
    Page("/logs", "Logs", "l"),
    Page("/canary", "Canary", "c"),
    Page("/ledger", "Ledger", "e"),
)


def html(*parts: str) -> Markup:
    """The parts in a row; those that are not markup are escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def tag(_name: str, *children: str, **attributes: str | bool | int | float | None) -> Markup:
    """An element. `class_` is `class`, `data_x` is `data-x`; None and False leave an attribute out."""
    said = "".join(
        f" {_attribute(name)}" if value is True else f' {_attribute(name)}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if _name in _EMPTY:
        return Markup(f"<{_name}{said}{'/' if _name in _SHAPES else ''}>")
    return Markup(f"<{_name}{said}>{html(*children)}</{_name}>")


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-") if name not in ("viewBox", "preserveAspectRatio") else name


def notice(text: str, kind: str = "away") -> Markup:
    """Said at the place where the data would be."""
    return tag("p", text, class_=f"notice {kind}", role="status")


@cache
def version_of(file: str) -> str:
    return hashlib.sha256((STATIC / file).read_bytes()).hexdigest()[:10]


def asset(file: str) -> str:
    return f"/static/{file}?v={version_of(file)}"


def page(
    title: str,
    body: Markup,
    *,
    current: str,
    theme: str = "",
    charts: bool = False,
    refreshes: bool = False,
    data: Mapping[str, str] | None = None,
    pages: Sequence[Page] = PAGES,
) -> str:
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content=theme if theme in ("dark", "light") else "dark light"),
        tag("title", f"{title} · Spillway"),
        tag("link", rel="icon", href=asset("icon.svg"), type="image/svg+xml"),
    ]
    if charts:
        head.append(tag("link", rel="stylesheet", href=asset("uPlot.min.css")))
    head.append(tag("link", rel="stylesheet", href=asset("console.css")))
    if charts:
        head.append(tag("script", src=asset("uPlot.iife.min.js"), defer=True))
        head.append(tag("script", src=asset("charts.js"), defer=True))
    head.append(tag("script", src=asset("console.js"), defer=True))
    chosen = f' data-theme="{theme}"' if theme in ("dark", "light") else ""
    attributes = {f"data-{key}": value for key, value in (data or {}).items()}
    said = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return "".join(
        (
            "<!doctype html>",
            f'<html lang="en"{chosen}>',
            tag("head", *head),
            f"<body{said}>",
            tag("a", "Skip to the content", class_="skip", href="#content"),
            _header(current, refreshes, pages),
            tag("main", _without_scripts() if charts else Markup(""), body, id="content", tabindex="-1"),
            _help(),
            "</body></html>",
        )
    )


def _without_scripts() -> Markup:
    return tag("noscript", notice("Charts and the live map need JavaScript. Traces and logs do not."))


def _header(current: str, refreshes: bool, pages: Sequence[Page]) -> Markup:
    links = [
        tag("a", each.title, href=each.path, data_key=each.key, aria_current="page" if each.path == current else None)
        for each in pages
    ]
    tools = [
        tag("span", "", class_="fresh", id="fresh", role="status", aria_live="off") if refreshes else Markup(""),
        tag("button", "Pause", type="button", id="pause", aria_pressed="false", title="p") if refreshes else Markup(""),
        tag("button", "Theme", type="button", id="theme", title="dark or light"),
        tag("button", "?", type="button", id="help-open", aria_label="Keyboard shortcuts", title="?"),
    ]
    return tag(
        "header",
        tag("a", "Spillway", class_="brand", href="/"),
        tag("nav", *links, aria_label="Pages"),
        tag("div", *tools, class_="tools"),
    )


def _help() -> Markup:
    rows = [html(tag("dt", tag("kbd", keys)), tag("dd", meaning)) for keys, meaning in SHORTCUTS]
    close = tag("form", tag("button", "Close", type="submit"), method="dialog")
    return tag("dialog", tag("h2", "Keyboard shortcuts"), tag("dl", *rows), close, id="help", aria_label="Keyboard shortcuts")


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number != 1 else f"{number} {what.removesuffix('s')}"


def table(heads: Sequence[str], rows: Sequence[Markup], caption: str, class_: str = "") -> Markup:
    return tag(
        "div",
        tag(
            "table",
            tag("caption", caption, class_="quiet"),
            tag("thead", tag("tr", *(tag("th", head, scope="col") for head in heads))),
            tag("tbody", *rows),
            class_=class_ or None,
        ),
        class_="scroll",
    )


def choice(name: str, label: str, values: Sequence[tuple[str, str]], chosen: str) -> Markup:
    options = [tag("option", text, value=value, selected=value == chosen) for value, text in values]
    return tag("label", tag("span", label), tag("select", *options, name=name))


def field(name: str, label: str, value: str, *, hint: str = "", wide: bool = False, first: bool = False) -> Markup:
    entry = tag(
        "input", type="text", name=name, value=value, placeholder=hint or None, autocomplete="off", spellcheck="false",
        data_search=first,
    )  # fmt: skip
    return tag("label", tag("span", label), entry, class_="wide" if wide else None)
