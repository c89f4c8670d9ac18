"""Personal data in free text: where it is, and the text without it.

What is found. E-mail addresses (also of Unicode letters, also quoted local parts); phone numbers with a `+` or `00`, in North
American grouping, in national form with a leading 0, and any 7 to 15 digits after a word such as "phone"; payment cards of
13 to 19 digits by issuer prefix and Luhn; IPv4 and IPv6 addresses. Each also when it is percent-encoded, an HTML entity,
escaped as in a JSON string within a string, in full-width or other Unicode digits, cut by zero-width characters, or in a
base64 token (all of these on top of each other, to `DEPTH_MAX`).

What it can't see. Names and postal addresses; "ann at example dot com"; numbers in words; digits glued to letters; bare
digits that have the shape of no phone number; hexadecimal, compressed or encrypted text; data cut over two fields; MAC
addresses; base64 tokens of fewer than 12 characters. Fields that may hold these need a policy of their own in proto/.

What is left alone on purpose: UUIDs and other hexadecimal, times and dates, Unix times, version numbers and product tokens
("Chrome/120.0.0.0"), bare digits after a word such as "order", tail numbers, networks that are already generalised
("203.0.113.0/24"), loopback and unspecified addresses.

The law: `find(mask(text)) == []`. Most texts hold no candidate and leave after one search.
"""

import base64
import binascii
import html
import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

# Encodings on top of each other that are taken off.
DEPTH_MAX = 3
_MASK_ROUNDS_MAX = 4
# A base64 token is looked at in words at least this long: shorter ones hold no address and no number.
_TOKEN_CHARS_MIN = 12
_UUID_CHARS = 36


class Kind(StrEnum):
    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IP = "ip"


@dataclass(frozen=True, slots=True)
class Span:
    """Personal data at text[start:end]."""

    kind: Kind
    start: int
    end: int


# Without a mark or a long token there is nothing to find. One character class each, since that is what `re` searches fast.
_MARK = re.compile(r"[@%\\&:0-9]")
_SEVEN_DIGITS = re.compile(r"\d[ ./()-]{0,3}\d(?:[ ./()-]{0,3}\d){5}")
_TWO_DOTS = re.compile(r"\d\.\d{1,3}\.\d")
_TWO_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+(?:xn--[A-Za-z0-9-]{1,59}|[^\W\d_]{2,63})")
_LOCAL_MARKS = frozenset("._%+-'~!$*^")
_LOCAL_CHARS_MAX = 254
_UUID = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}(?![0-9A-Za-z])")
_DIGITS = re.compile(r"(?<![0-9A-Za-z])\+?\(?\d(?:[ ./()-]{0,3}\d){6,}(?![0-9A-Za-z])")
_GROUP = re.compile(r"\d+")
# After "00" no letter may follow: hexadecimal begins like that too.
_INTERNATIONAL = re.compile(
    r"(?<![\w+])(?:\+(?=[1-9(])(?:[ ./()-]{0,3}\d){8,15}(?!\d)|00(?=[1-9(])(?:[ ./()-]{0,3}\d){8,15}(?![0-9A-Za-z]))"
)
_NORTH_AMERICAN = re.compile(r"(?<![\w.+-])(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d[ .-])[2-9]\d\d[ .-]?\d{4}(?![\w-])")
_BARE_NORTH_AMERICAN = re.compile(r"(?<![\w.+/#:=-])1?[2-9]\d\d[2-9]\d{6}(?![\w-]|\.\d)")
_NATIONAL = re.compile(r"(?<![\w.:+/-])\(?0[1-9]\d{0,3}\)?(?:[ ./-]{0,2}\d{2,4}){2,4}(?![\w:-])")
_DATE = re.compile(r"\d{2}([-/. ])\d{2}\1\d{4}")
_SPOKEN = re.compile(
    r"\b(?:tel|telephone|phone|mobile|cell|call|whatsapp|sms|fax|ring)\b[^0-9A-Za-z]{0,5}(?:(?:me|us|him|her|at|on|is|no|number|nr)\b[^0-9A-Za-z]{0,3}){0,3}"
    r"(\+?\(?\d(?:[ ./()-]{0,2}\d){6,14})(?![\w-])",
    re.IGNORECASE,
)
_ORDER_WORD = re.compile(r"(?:order|invoice|ticket|sku|ref|reference|booking|id|#)[\s:#.=_-]{0,4}$", re.IGNORECASE)
_IPV4 = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?!\w|\.\d)")
_VERSION_WORD = re.compile(
    r"(?:version|release|build|ver|"
    r"(?:chrome|chromium|edg|edge|edga|edgios|opr|opera|safari|firefox|fxios|crios|headlesschrome|yabrowser|samsungbrowser|electron|"
    r"vivaldi|brave|webkit|applewebkit|version|trident|gecko)/)[\s.:=]{0,2}$",
    re.IGNORECASE,
)
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?:/\d{1,3})?(?![\w:])", re.ASCII
)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{12,}={0,2}")
_PIECE = re.compile(r"[^/]{12,}")
_ISSUERS = re.compile(r"4|5[0-8]|2[2-7]|3[0456789]|6[0-9]")
_ESCAPE = re.compile(
    r"(?:%[0-9A-Fa-f]{2})+|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}|\\+[\"/nrtbf\\]|&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|commat|period|plus|nbsp|amp|colon|num|lowbar|quot);"
)
_ESCAPED_CONTROL = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_DOTS, _DASHES = frozenset("。｡．·․"), frozenset("‐‑‒–—―−﹣－")


def find(text: str) -> list[Span]:
    """Personal data in the text, in its order, without overlaps."""
    if not _may_hold(text):
        return []
    found = _all(text, DEPTH_MAX)
    return _merged(found) if found else found


def mask(text: str) -> str:
    """The text with `[email]`, `[phone]`, `[card]` or `[ip]` in the place of what `find` finds."""
    if len(text) == _UUID_CHARS and _UUID.fullmatch(text):
        return text  # what most ids are; `find` would look at it for long
    for _ in range(_MASK_ROUNDS_MAX):
        spans = find(text)
        if not spans:
            return text
        pieces, at = [], 0
        for span in spans:
            pieces += [text[at : span.start], f"[{span.kind}]"]
            at = span.end
        text = "".join([*pieces, text[at:]])
    return text if not find(text) else "[masked]"


def _may_hold(text: str) -> bool:
    return not text.isascii() or _MARK.search(text) is not None or _has_long_word(text)


def _has_long_word(text: str) -> bool:
    return len(text) >= _TOKEN_CHARS_MIN and max(map(len, text.split()), default=0) >= _TOKEN_CHARS_MIN


def _merged(found: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, -span.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Span(last.kind, last.start, max(last.end, span.end))
        else:
            merged.append(span)
    return merged


def _all(text: str, depth: int) -> list[Span]:
    found = [*_plain(text), *_in_base64(text, depth)]
    if depth and (not text.isascii() or "%" in text or "\\" in text or "&" in text):
        seen, origins = _decoded(text)
        if seen != text and _may_hold(seen):
            found += [Span(span.kind, origins[span.start], origins[span.end]) for span in _all(seen, depth - 1)]
    return found


def _plain(text: str) -> Iterator[Span]:
    if "@" in text:
        yield from _emails(text)
    if ":" in text and _TWO_COLONS.search(text):
        yield from _ipv6(text)
    if "." in text and _TWO_DOTS.search(text):
        yield from _ipv4(text)
    if _SEVEN_DIGITS.search(text):
        text = _UUID.sub("x" * _UUID_CHARS, text)  # its groups of digits look like phone numbers and cards
        for match in _DIGITS.finditer(text):
            yield from _cards(match)
        yield from _phones(text)


def _emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        domain = _DOMAIN.match(text, at + 1)
        if domain is not None:
            start = _local_start(text, at)
            if start < at:
                yield Span(Kind.EMAIL, start, domain.end())
        at = text.find("@", at + 1)


def _local_start(text: str, at: int) -> int:
    if at and text[at - 1] == '"':
        opening = text.rfind('"', max(0, at - _LOCAL_CHARS_MAX), at - 1)
        return opening if opening >= 0 else at
    start, lowest = at, max(0, at - _LOCAL_CHARS_MAX)
    while start > lowest and (text[start - 1].isalnum() or text[start - 1] in _LOCAL_MARKS):
        start -= 1
    return start


def _ipv4(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        start = match.start()
        if start and (text[start - 1].isalnum() or text[start - 1] in "._"):
            continue
        if not _VERSION_WORD.search(text, max(0, start - 24), start) and _is_personal_ip(match[0]):
            yield Span(Kind.IP, match.start(), match.start() + len(match[0].partition("/")[0]))


def _ipv6(text: str) -> Iterator[Span]:
    for match in _IPV6.finditer(text):
        if sum(letter in "0123456789abcdefABCDEF" for letter in match[0].partition("/")[0]) >= 4 and _is_personal_ip(match[0]):
            yield Span(Kind.IP, match.start(), match.start() + len(match[0].partition("/")[0]))


def _is_personal_ip(text: str) -> bool:
    """An address of one machine; a network that was made coarse (IPv4 to /24, IPv6 to /48) is none."""
    try:
        if "/" in text:
            network = ipaddress.ip_network(text)
            if network.prefixlen <= (24 if network.version == 4 else 48):
                return False
    except ValueError:
        pass  # host bits are set: an address with a mask beside it
    try:
        address = ipaddress.ip_address(text.partition("/")[0])
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified or text.startswith(("255.255.255.", "0.0.0.")))


def _cards(run: re.Match[str]) -> Iterator[Span]:
    """Cards among neighbouring groups of digits: a card may stand beside other numbers."""
    groups = [(match.start() + run.start(), match[0]) for match in _GROUP.finditer(run[0])]
    first = 0
    while first < len(groups):
        digits, last = "", first
        for last in range(first, len(groups)):
            digits += groups[last][1]
            if len(digits) >= 13:
                break
        while len(digits) <= 19 and not _is_card(digits) and last + 1 < len(groups):
            last += 1
            digits += groups[last][1]
        if _is_card(digits):
            yield Span(Kind.CARD, groups[first][0], groups[last][0] + len(groups[last][1]))
            first = last
        first += 1


def _is_card(digits: str) -> bool:
    if not 13 <= len(digits) <= 19 or _ISSUERS.match(digits) is None:
        return False
    total = sum(int(digit) for digit in digits[-1::-2]) + sum((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[int(d)] for d in digits[-2::-2])
    return total % 10 == 0


def _phones(text: str) -> Iterator[Span]:
    for match in _INTERNATIONAL.finditer(text):
        if not (match[0].isdigit() and _is_order(text, match.start())):
            yield Span(Kind.PHONE, match.start(), match.end())
    for match in _NORTH_AMERICAN.finditer(text):
        yield Span(Kind.PHONE, match.start(), match.end())
    for match in _BARE_NORTH_AMERICAN.finditer(text):
        if not _is_order(text, match.start()):
            yield Span(Kind.PHONE, match.start(), match.end())
    for match in _NATIONAL.finditer(text):
        digits = sum(character.isdigit() for character in match[0])
        ordered = match[0].isdigit() and _is_order(text, match.start())
        if 9 <= digits <= 11 and not _DATE.match(match[0]) and not ordered:
            yield Span(Kind.PHONE, match.start(), match.end())
    for match in _SPOKEN.finditer(text):
        yield Span(Kind.PHONE, match.start(1), match.end(1))


def _is_order(text: str, start: int) -> bool:
    """Bare digits after a word that says what they count."""
    return _ORDER_WORD.search(text, max(0, start - 16), start) is not None


def _in_base64(text: str, depth: int) -> Iterator[Span]:
    if not depth or not _has_long_word(text):
        return
    for match in _BASE64.finditer(text):
        kind = _kind_in_base64(match[0], depth)
        if kind is not None:
            yield Span(kind, match.start(), match.end())
        elif "/" in match[0]:  # a path of an URL, of which one piece may be a token
            for piece in _PIECE.finditer(text, match.start(), match.end()):
                kind = _kind_in_base64(piece[0], depth)
                if kind is not None:
                    yield Span(kind, piece.start(), piece.end())


def _kind_in_base64(token: str, depth: int) -> Kind | None:
    inner = _text_of_base64(token)
    if inner is None or not _may_hold(inner):
        return None
    found = _all(inner, depth - 1)
    return found[0].kind if found else None


def _text_of_base64(token: str) -> str | None:
    """What the token decodes to, if that is printable text."""
    if token.islower() and token.isalpha():  # a word
        return None
    body = token.rstrip("=").replace("-", "+").replace("_", "/")
    if len(body) % 4 == 1:
        return None
    try:
        inner = base64.b64decode(body + "=" * (-len(body) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return inner if inner.isprintable() or not set(inner) & _CONTROLS else None


_CONTROLS = frozenset(chr(code) for code in range(32) if chr(code) not in "\t\r\n") | {"\x7f"}


def _decoded(text: str) -> tuple[str, list[int]]:
    """The text with one layer of escapes taken off and Unicode look-alikes as ASCII; and where each character came from.

    `origins[i]` is the place in `text` of character i; one more at the end, so that a span maps by its two ends.
    """
    seen: list[str] = []
    origins: list[int] = []
    at = 0
    for match in _ESCAPE.finditer(text):
        _look_alikes(text, at, match.start(), seen, origins)
        for character in _unescaped(match[0]):
            seen.append(character)
            origins.append(match.start())
        at = match.end()
    _look_alikes(text, at, len(text), seen, origins)
    return "".join(seen), [*origins, len(text)]


def _look_alikes(text: str, start: int, end: int, seen: list[str], origins: list[int]) -> None:
    for at in range(start, end):
        character = text[at]
        if character > "\x7f":
            if unicodedata.category(character) in ("Cf", "Mn"):  # zero-width characters, combining marks
                continue
            character = _ascii(character)
        for one in character:
            seen.append(one)
            origins.append(at)


def _ascii(character: str) -> str:
    if character in _DOTS:
        return "."
    if character in _DASHES:
        return "-"
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if unicodedata.category(character) == "Zs":
        return " "
    folded = unicodedata.normalize("NFKC", character)
    return folded if folded.isascii() else character


def _unescaped(escape: str) -> str:
    if escape[0] == "%":
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", "replace")
    if escape[0] == "&":
        return html.unescape(escape)
    if escape[1] in "ux":
        return chr(int(escape[2:], 16))
    return _ESCAPED_CONTROL.get(escape[-1], escape[-1])
