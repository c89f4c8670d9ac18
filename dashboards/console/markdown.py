"""As much Markdown as text panels, descriptions and runbooks use: headings, paragraphs, lists, tables, code, bold, links.

Lines become blocks, and an item of a list is blocks again, so that a step may hold a command in a fence. Everything is escaped; a
link leads to a page of the console or to an https address, and is plain text otherwise. What stands in backticks stays as it is.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from textwrap import dedent

from dashboards.console.layout import Markup, html, tag

DEPTH_MAX = 6
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)[\w+-]*\s*$")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
_ITEM = re.compile(r"^(\s*)([-*]|\d{1,3}[.)])(?:\s+|$)")
_INLINE = re.compile(
    r"(?P<ticks>`+)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)"
    r"|\[(?P<text>[^\]]+)\]\((?P<url>/[^/)\s][^)\s]*|/|https://[^)\s]*)\)"
    r"|\*\*(?P<bold>[^*]+(?:\*[^*]+)*)\*\*"
)


def markdown(text: str) -> Markup:
    return html(*_blocks(text.replace("${console}", "").splitlines(), 0))


def _blocks(lines: Sequence[str], depth: int) -> Iterator[Markup]:
    at = 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        if not line.strip():
            pass
        elif fence := _FENCE.match(line):
            end = _until(lines, end, lambda each: each.strip().startswith(fence[1]))
            yield tag("pre", tag("code", "".join(f"{each}\n" for each in lines[at + 1 : end])))
            end += 1
        elif heading := _HEADING.match(line):
            yield tag(f"h{min(4, len(heading[1]) + 1)}", _inline(heading[2]))
        elif line.startswith("    ") and not _ITEM.match(line):
            end = _until(lines, end, lambda each: not each.startswith("    "))
            yield tag("pre", tag("code", "\n".join(each[4:] for each in lines[at:end])))
        elif _is_row(line):
            end = _until(lines, end, lambda each: not _is_row(each))
            yield _table(lines[at:end])
        elif _ITEM.match(line) and depth < DEPTH_MAX:
            items, end = _items(lines, at)
            yield _list(line, items, depth)
        else:
            end = _until(lines, end, _interrupts)
            yield tag("p", _inline(" ".join(each.strip() for each in lines[at:end])))
        at = end


def _until(lines: Sequence[str], start: int, ends: Callable[[str], object]) -> int:
    return next((at for at in range(start, len(lines)) if ends(lines[at])), len(lines))


def _is_row(line: str) -> bool:
    return line.lstrip().startswith("|")


def _interrupts(line: str) -> bool:
    """Ends a paragraph. A number but 1 does not: it may be the end of a sentence that was wrapped."""
    item = _ITEM.match(line)
    begins = item is not None and (item[2] in "-*" or item[2][:-1] == "1")
    return not line.strip() or bool(_FENCE.match(line) or _HEADING.match(line)) or _is_row(line) or begins


# -- lists


def _items(lines: Sequence[str], start: int) -> tuple[list[list[str]], int]:
    """The lines of each item, and where the list ends. What is indented, or was only wrapped, belongs to the item before it."""
    first = _ITEM.match(lines[start])
    assert first is not None
    indent, ordered = len(first[1]), first[2] not in "-*"
    items: list[list[str]] = []
    at = start
    while at < len(lines):
        line = lines[at]
        item = _ITEM.match(line)
        if item is not None and len(item[1]) <= indent:
            if (item[2] not in "-*") != ordered:
                break
            items.append([line[item.end() :]])
        elif not line.strip():
            follows = next((each for each in lines[at:] if each.strip()), "")
            again = _ITEM.match(follows)
            if len(follows) - len(follows.lstrip()) <= indent and not (again and (again[2] not in "-*") == ordered):
                break
            items[-1].append("")
        elif len(line) - len(line.lstrip()) > indent or not (lines[at - 1].strip() == "" or _interrupts(line)):
            items[-1].append(line)
        else:
            break
        at += 1
    return items, at


def _list(line: str, items: Sequence[Sequence[str]], depth: int) -> Markup:
    mark = _ITEM.match(line)
    assert mark is not None
    inner = [tag("li", _item(each, depth)) for each in items]
    if mark[2] in "-*":
        return tag("ul", *inner)
    start = int(mark[2][:-1])
    return tag("ol", *inner, start=start if start != 1 else None)


def _item(lines: Sequence[str], depth: int) -> Markup:
    """One paragraph stands bare."""
    rest = dedent("\n".join(lines[1:])).splitlines()
    whole = [lines[0], *rest]
    if not any(not each.strip() or _interrupts(each) for each in rest):
        return _inline(" ".join(each.strip() for each in whole if each.strip()))
    first = _until(whole, 1, _interrupts)
    head = _inline(" ".join(each.strip() for each in whole[:first] if each.strip()))
    return html(head, *_blocks(whole[first:], depth + 1))


# -- tables and what stands in a line


def _table(lines: Sequence[str]) -> Markup:
    rows = [_cells(line) for line in lines]
    body = [row for row in rows[1:] if not all(set(cell) <= set("-: ") for cell in row)]
    inner = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", _inline(cell), scope="col") for cell in rows[0]))),
        tag("tbody", *(tag("tr", *(tag("td", _inline(cell)) for cell in row)) for row in body)),
    )
    return tag("div", inner, class_="scroll", tabindex="0")


def _cells(line: str) -> list[str]:
    r"""A bar in backticks, or behind a backslash, is no border."""
    bare = re.sub(r"`+[^`]*`+|\\\|", lambda found: found[0].removeprefix("\\").replace("|", "\0"), line.strip())
    return [cell.strip().replace("\0", "|") for cell in bare.removeprefix("|").removesuffix("|").split("|")]


def _inline(text: str) -> Markup:
    parts: list[Markup | str] = []
    at = 0
    for found in _INLINE.finditer(text):
        parts.append(text[at : found.start()])
        if found["code"] is not None:
            parts.append(tag("code", found["code"].strip() or found["code"]))
        elif found["url"] is not None:
            parts.append(tag("a", _inline(found["text"]), href=found["url"], rel="noreferrer"))
        else:
            parts.append(tag("strong", _inline(found["bold"])))
        at = found.end()
    return html(*parts, text[at:])
