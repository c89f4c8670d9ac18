"""HTML as a browser would take it apart: what is element, what is attribute, what is text."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser


@dataclass
class Parsed(HTMLParser):
    """`elements` in their order, each with its attributes; `text` of all."""

    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements, self.text = [], ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> Iterator[dict[str, str]]:
        return (attributes for name, attributes in self.elements if name == tag)

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def dangers(self) -> list[tuple[str, str, str]]:
        """What could run, or lead away: scripts that are not ours, handlers, styles, links to elsewhere."""
        found = []
        for tag, attributes in self.elements:
            if tag in ("iframe", "object", "embed", "base", "style", "img", "b0rken"):
                found.append((tag, "", ""))
            if tag == "script" and not attributes.get("src", "").startswith("/static/"):
                found.append((tag, "src", attributes.get("src", "")))
            for name, value in attributes.items():
                leads = name in ("href", "src", "action", "formaction")
                if (
                    name.startswith("on")
                    or name == "style"
                    or (leads and not (value.startswith(("/", "#")) and value[:2] != "//"))
                ):
                    found.append((tag, name, value))
        return found
