"""What is done to one value: pure functions from a text to a text.

Pseudonyms are `<kind>_` and 32 letters `a` to `p`, which are the 128 first bits of HMAC-SHA256 over the kind and the normalised
value. Letters only, so that no pseudonym can look like a phone or a card number and be taken for personal data again. E-mail
addresses are compared without case, phone and card numbers by their digits.
"""

import hmac
import ipaddress
import re

from pipeline.gen.spillway.v1.policy_pb2 import PersonalDataKind
from telemetry.personal_data import find

_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")
_YEAR = re.compile(r"(?<!\d)(?:1[89]|20)\d\d(?!\d)")
_NOT_DIGITS = re.compile(r"\D+")
_BY_DIGITS = (PersonalDataKind.PERSONAL_DATA_KIND_PHONE, PersonalDataKind.PERSONAL_DATA_KIND_CARD)
_TAIL_DIGITS = 4

PREFIXES: dict[int, str] = {
    int(number): "person" if number == 0 else name.removeprefix("PERSONAL_DATA_KIND_").lower()
    for name, number in PersonalDataKind.items()
}
_KIND_OF_PREFIX = {prefix: number for number, prefix in PREFIXES.items()}


def pseudonym(key: bytes, kind: int, value: str) -> str:
    """The same value of the same kind gives the same pseudonym under the same key."""
    return exact_pseudonym(key, PREFIXES[kind], _normalised(kind, value))


def subject_pseudonym(key: bytes, value: str) -> str:
    """Of a whole text that holds personal data.

    If it is nothing but one e-mail address, phone, card or IP, then it is the pseudonym that a field of that kind gets, so that a
    subject can still be joined with it.
    """
    spans = find(value)
    if len(spans) == 1 and spans[0].start == 0 and spans[0].end == len(value):
        return pseudonym(key, _KIND_OF_PREFIX[str(spans[0].kind)], value)
    return exact_pseudonym(key, "subject", value)


def exact_pseudonym(key: bytes, prefix: str, value: str) -> str:
    """Different values give different pseudonyms: nothing is normalised."""
    digest = hmac.digest(key, prefix.encode() + b"\0" + value.encode(), "sha256")[:16]
    return f"{prefix}_{digest.hex().encode().translate(_LETTERS).decode()}"


def _normalised(kind: int, value: str) -> str:
    if kind == PersonalDataKind.PERSONAL_DATA_KIND_EMAIL:
        return value.strip().casefold()
    if kind in _BY_DIGITS:
        return _NOT_DIGITS.sub("", value) or value.strip()
    return value.strip()


def masked(kind: int, value: str) -> str:
    """The shape of the value: `a***@***.com`, `***-1111`, else `***`."""
    if kind == PersonalDataKind.PERSONAL_DATA_KIND_EMAIL:
        local, at, domain = value.strip().rpartition("@")
        top = domain.rpartition(".")[2]
        if at and local and top.isalpha() and top.isascii():
            return f"{local[0] if local[0].isalpha() else ''}***@***.{top.lower()}"
    if kind in _BY_DIGITS:
        digits = _NOT_DIGITS.sub("", value)
        if len(digits) >= 2 * _TAIL_DIGITS:
            return f"***-{digits[-_TAIL_DIGITS:]}"
    return "***"


def generalised(kind: int, value: str) -> str:
    """An IP address as its /24 or /48 network, a birth date as its year. A value that is neither gives an empty text."""
    if kind == PersonalDataKind.PERSONAL_DATA_KIND_BIRTH_DATE:
        year = _YEAR.search(value)
        return year[0] if year else ""
    try:
        address = ipaddress.ip_address(value.strip().partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((address.packed, 48), strict=False))
        address = address.ipv4_mapped
    return str(ipaddress.IPv4Network((address.packed, 24), strict=False))
