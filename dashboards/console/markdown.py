"""As much Markdown as text panels, descriptions and runbooks use: headings, lists, tables, paragraphs, code, bold, links.

Everything is escaped; a link leads to a page of the console or to an https address, and is plain text otherwise.
"""

import re
from collections.abc import Iterator, Sequence

from dashboards.console.layout import Markup, html, tag

_FENCE = re.compile(r"^```\w*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\((/[^/)\s][^)\s]*|/|https://[^)\s]*)\)")
_BULLET, _NUMBER = re.compile(r"^\s*[-*] "), re.compile(r"^\s*\d{1,3}[.)] ")


def markdown(text: str) -> Markup:
    parts: list[Markup] = []
    at = 0
    for fence in _FENCE.finditer(text):
        parts += _blocks(text[at : fence.start()])
        parts.append(tag("pre", tag("code", fence[1])))
        at = fence.end()
    return html(*parts, *_blocks(text[at:]))


def _blocks(text: str) -> Iterator[Markup]:
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if lines and lines[0].startswith("#"):
            depth = len(lines[0]) - len(lines[0].lstrip("#"))
            yield tag(f"h{min(4, depth + 1)}", _inline(lines[0].lstrip("# ")))
            lines = lines[1:]
        if not lines:
            continue
        if all(line.startswith("    ") for line in lines):
            yield tag("pre", tag("code", "\n".join(line[4:] for line in lines)))
        elif _BULLET.match(lines[0]):
            yield tag("ul", *(tag("li", _inline(item)) for item in _items(lines, _BULLET)))
        elif _NUMBER.match(lines[0]):
            yield tag("ol", *(tag("li", _inline(item)) for item in _items(lines, _NUMBER)))
        elif all(line.lstrip().startswith("|") for line in lines):
            yield _table(lines)
        else:
            yield tag("p", _inline(" ".join(lines)))


def _items(lines: Sequence[str], mark: re.Pattern[str]) -> list[str]:
    """The items of a list; a line without the mark goes on with the item before."""
    items: list[str] = []
    for line in lines:
        if mark.match(line):
            items.append(mark.sub("", line))
        else:
            items[-1] += f" {line.strip()}"
    return items


def _table(lines: Sequence[str]) -> Markup:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    body = [row for row in rows[1:] if not all(set(cell) <= set("-: ") for cell in row)]
    inner = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", _inline(cell), scope="col") for cell in rows[0]))),
        tag("tbody", *(tag("tr", *(tag("td", _inline(cell)) for cell in row)) for row in body)),
    )
    return tag("div", inner, class_="scroll", tabindex="0")


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
