"""Regular expressions that anybody may ask for: RE2's, as Tempo's, in time that grows with the text and never with its square.

Python's own can take for ever over 30 characters (`(a+)+$`), and nothing else in the process runs meanwhile. Arrow brings RE2; it
costs 0.3 s and 60 MB, so it is loaded when the first pattern is asked for. A match costs 12 us, so answers are remembered.
"""

from collections.abc import Callable

PATTERN_CHARS_MAX = 200
REMEMBERED_MAX = 10_000


def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether the pattern matches a whole text; a dot matches newlines as well.

    Raises:
        ValueError: it is no pattern; the text says why.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if len(pattern) > PATTERN_CHARS_MAX:
        raise ValueError(f"a pattern is at most {PATTERN_CHARS_MAX} characters")
    try:
        # Alone first: wrapped, `a)|(b` would be one.
        pc.match_substring_regex(pa.scalar(""), pattern)
        whole = rf"\A(?s:{pattern})\z"
        pc.match_substring_regex(pa.scalar(""), whole)
    except (pa.ArrowException, UnicodeError) as exc:
        raise ValueError(str(exc)) from exc
    known: dict[str, bool] = {}

    def matches(text: str) -> bool:
        answer = known.get(text)
        if answer is None:
            if len(known) >= REMEMBERED_MAX:
                known.clear()
            answer = known[text] = bool(pc.match_substring_regex(pa.scalar(text), whole).as_py())
        return answer

    return matches
