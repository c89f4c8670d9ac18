"""Colours that can be read, dark and light, and said once."""

import re

import pytest

from dashboards.console.layout import STATIC

STYLE = (STATIC / "console.css").read_text()
CHARTS = (STATIC / "charts.js").read_text()
# Source: WCAG 2.2, 1.4.3 (text) and 1.4.11 (what is not text).
TEXT_CONTRAST_MIN, SHAPE_CONTRAST_MIN = 4.5, 3.0


def colors(block: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", block))


LIGHT, DARK_BY_SYSTEM, DARK_CHOSEN = (
    colors(found) for found in re.findall(r":root(?:\[data-theme=dark\]|:not\(\[data-theme=light\]\))?\{([^}]*)\}", STYLE)
)
THEMES = {"light": LIGHT, "dark": DARK_CHOSEN}


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_what_it_is_said_to_be() -> None:
    assert (21.0, 1.0) == (round(contrast("#000000", "#ffffff"), 2), contrast("#777777", "#777777"))


def test_dark_is_the_same_whether_the_system_or_the_reader_wants_it() -> None:
    assert DARK_BY_SYSTEM == DARK_CHOSEN
    assert LIGHT.keys() == DARK_CHOSEN.keys()


@pytest.mark.parametrize("theme", THEMES)
def test_text_can_be_read_on_every_ground_it_stands_on(theme: str) -> None:
    named = THEMES[theme]
    pairs = [(text, ground) for text in ("text", "quiet", "accent") for ground in ("bg", "panel")]
    pairs += [("text", f"{state}bg") for state in ("near", "bad", "nodata")] + [
        ("quiet", f"{state}bg") for state in ("near", "bad")
    ]
    pairs += [(state, ground) for state in ("ok", "near", "bad", "nodata") for ground in ("panel",)]
    pairs += [(state, f"{state}bg") for state in ("near", "bad", "nodata")]
    assert {} == {
        pair: ratio for pair in pairs if (ratio := round(contrast(named[pair[0]], named[pair[1]]), 2)) < TEXT_CONTRAST_MIN
    }


@pytest.mark.parametrize("theme", THEMES)
def test_lines_bars_and_the_ring_of_the_focus_are_seen(theme: str) -> None:
    named = THEMES[theme]
    (found,) = re.findall(rf"{theme}: \[([^\]]*)\]", CHARTS)
    shapes = [*re.findall(r"#[0-9a-f]{6}", found), named["work"], named["focus"]]
    assert 12 == len(shapes)
    assert {} == {shape: ratio for shape in shapes if (ratio := round(contrast(shape, named["panel"]), 2)) < SHAPE_CONTRAST_MIN}


def test_every_colour_that_is_used_has_a_name() -> None:
    rules = re.sub(r":root[^{]*\{[^}]*\}", "", STYLE)
    assert [] == re.findall(r"#[0-9a-fA-F]{6}\b", rules)
    assert set(re.findall(r"var\(--(\w+)\)", STYLE)) <= LIGHT.keys() | {"row"}
