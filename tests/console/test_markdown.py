"""Markdown as runbooks are written."""

import pytest

from dashboards.console.markdown import markdown
from tests.console.parsed import Parsed


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("1. one\n   more\n2. two", "<ol><li>one more</li><li>two</li></ol>"),
        ("1.\n   `a b`: c", "<ol><li><code>a b</code>: c</li></ol>"),
        ("3. three\n4. four", '<ol start="3"><li>three</li><li>four</li></ol>'),
        ("1. one\n\n2. two", "<ol><li>one</li><li>two</li></ol>"),
        ("- a\n  - b\n- c", "<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>"),
        (
            "1. Run\n\n   ```sh\n   make it\n   ```\n2. Look",
            "<ol><li>Run<pre><code>make it\n</code></pre></li><li>Look</li></ol>",
        ),
        ("1. Run\n   ```\n   1. it\n   ```\n", "<ol><li>Run<pre><code>1. it\n</code></pre></li></ol>"),
        ("- a\nwrapped\n\nnext", "<ul><li>a wrapped</li></ul><p>next</p>"),
        ("See:\n- a\n- b", "<p>See:</p><ul><li>a</li><li>b</li></ul>"),
        ("do steps 3 and\n4. Then wait", "<p>do steps 3 and 4. Then wait</p>"),
        ("# One\nText\n## Two ##", "<h2>One</h2><p>Text</p><h3>Two</h3>"),
        ("```\n# no | **heading**\n\n- no\n```", "<pre><code># no | **heading**\n\n- no\n</code></pre>"),
        ("    a\n    b", "<pre><code>a\nb</code></pre>"),
        ("`**a** [b](/c)` **d `e`**", "<p><code>**a** [b](/c)</code> <strong>d <code>e</code></strong></p>"),
        ("``a ` b``", "<p><code>a ` b</code></p>"),
        ("[`x`](/y) [z](javascript:1)", '<p><a href="/y" rel="noreferrer"><code>x</code></a> [z](javascript:1)</p>'),
        ("", ""),
    ],
)
def test_blocks_and_what_stands_in_them(written: str, shown: str) -> None:
    assert shown == markdown(written)


def test_a_table_has_its_head_and_a_bar_in_code_is_no_border() -> None:
    parsed = Parsed(markdown("| cause | how |\n| --- | :-: |\n| a | `x | y` |\n| b \\| c | [d](/e) |"))
    assert ["th", "th", "td", "td", "td", "td"] == [name for name, _ in parsed.elements if name in ("th", "td")]
    assert "causehowax | yb | cd" == parsed.words


@pytest.mark.parametrize(
    "text", ["```\nnever closed", "1. a\n" * 500, "- a\n" + "\n".join(" " * n + "- b" for n in range(60)), "`" * 999]
)
def test_whatever_is_written_ends_and_is_shown(text: str) -> None:
    assert [] == Parsed(markdown(text + "<script>")).dangers()
    assert "<script>" in Parsed(markdown(text + "<script>")).text
