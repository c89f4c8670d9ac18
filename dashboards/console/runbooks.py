"""Runbooks: Markdown files of one folder, one a page; a hop's page lists those that name the hop."""

import re
from dataclasses import dataclass
from pathlib import Path

from dashboards.console.layout import Markup, html, notice, tag
from dashboards.console.markdown import markdown
from telemetry.hops import BY_NAME

FOLDER = Path(__file__).parents[2] / "alerts" / "runbooks"
NAME = re.compile(r"^[A-Za-z0-9][\w-]{0,99}$")
FILE_BYTES_MAX = 256 << 10


@dataclass(frozen=True, slots=True)
class Runbook:
    name: str
    text: str

    @property
    def title(self) -> str:
        return self._first.lstrip("# ") if self._first.startswith("#") else self.name

    @property
    def body(self) -> str:
        return self.text.lstrip().removeprefix(self._first) if self._first.startswith("#") else self.text

    @property
    def _first(self) -> str:
        return next(iter(self.text.lstrip().splitlines()), "")

    def names(self, hop: str) -> bool:
        return bool(re.search(rf"(?<![\w-]){re.escape(hop)}(?![\w-])", self.text))


def runbooks(folder: Path) -> list[Runbook]:
    """Those of the folder by name; a file that can't be read is left out."""
    found = []
    for file in sorted(folder.glob("*.md")):
        try:
            if NAME.match(file.stem) and file.stem != "README" and file.stat().st_size <= FILE_BYTES_MAX:
                found.append(Runbook(file.stem, file.read_text()))
        except (OSError, ValueError):
            continue
    return found


def page_of(name: str, folder: Path) -> tuple[str, Markup, int]:
    """Title, body and status: a runbook, or the runbooks of a hop (`overview`: all)."""
    known = runbooks(folder)
    chosen = next((each for each in known if each.name == name), None)
    if chosen is not None:
        return chosen.title, tag("article", tag("h1", chosen.title), markdown(chosen.body), class_="prose"), 200
    if name not in BY_NAME and name != "overview":
        return "Runbooks", html(tag("h1", "Runbooks"), notice(f"There is no runbook {name}.", "quiet"), _listed(known)), 404
    title = "Runbooks" if name == "overview" else f"Runbooks: {BY_NAME[name].title}"
    own = [each for each in known if name != "overview" and each.names(name)]
    rest = [each for each in known if each not in own]
    if not known:
        return title, html(tag("h1", title), notice(f"No runbook is written yet: there is none in {folder}.", "quiet")), 200
    others = html(tag("h2", "Others"), _listed(rest)) if own and rest else Markup("")
    return title, html(tag("h1", title), _listed(own or rest), others), 200


def _listed(known: list[Runbook]) -> Markup:
    items = [tag("li", tag("a", each.title, href=f"/runbooks/{each.name}"), data_line=True) for each in known]
    return tag("ul", *items, class_="menu") if items else Markup("")
