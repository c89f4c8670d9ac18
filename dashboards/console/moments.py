"""Moments as a reader at night wants them: how long ago, or how long until, and the clock in UTC. The browser keeps them going.

`console.js` rewrites the text of `since` and `due` each second by the same rule as `age`, so that a page that is not loaded again
still counts down.
"""

from datetime import UTC, datetime
from urllib.parse import urlsplit

from dashboards.console.layout import Markup, html, tag

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
# Where an annotation's address may lead: pages of this console.
_OWN_PAGES = ("/d/", "/runbooks/", "/traces", "/trace/", "/logs", "/ledger", "/canary", "/alerts")


def age(seconds: float) -> str:
    """`12 s`, `3 min 5 s`, `2 h 7 min`, `3 d 4 h`."""
    left = max(0, int(seconds))
    for place, (scale, name) in enumerate(_UNITS[:-1]):
        if left >= scale:
            smaller, smaller_name = _UNITS[place + 1]
            rest = left % scale // smaller
            return f"{left // scale} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{left} s"


def clock(at: float, now: float) -> str:
    """UTC; with its day, if that is not today."""
    moment, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    return moment.strftime("%H:%M:%S" if moment.date() == today.date() else "%m-%d %H:%M")


def since(at: float, now: float) -> Markup:
    """`12 min 3 s, since 02:11:03 UTC`."""
    running = tag("time", age(now - at), data_since=f"{at:.3f}")
    return html(running, f", since {clock(at, now)} UTC")


def ago(at: float | None, now: float) -> Markup:
    if at is None:
        return Markup("never")
    return html(tag("time", age(now - at), data_since=f"{at:.3f}", title=clock(at, now)), " ago")


def due(at: float, now: float) -> Markup:
    """`in 3 min 20 s`, then `due for 4 s`."""
    return tag("time", due_words(at, now), data_due=f"{at:.3f}", title=f"at {clock(at, now)} UTC")


def due_words(at: float, now: float) -> str:
    return f"in {age(at - now)}" if at > now else f"due for {age(now - at)}"


def own_path(url: str) -> str:
    """The path of an address of this console, however the console is called there; empty: it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    if parts.scheme not in ("", "http", "https") or not parts.path.startswith(_OWN_PAGES):
        return ""
    return parts.path + (f"?{parts.query}" if parts.query else "") + (f"#{parts.fragment}" if parts.fragment else "")
