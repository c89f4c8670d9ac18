"""Personal data that is made up, unique, and looked for in every form that a program might give it. Pure.

Rules. A seed is a value that occurs nowhere else. It is looked for as it is, in any case; as its digits alone; percent-encoded;
in hexadecimal; and in base64, plain or URL-safe, at each of the three places where it can begin in a group: so it is found within
a longer text that was encoded as a whole. What is found is named by kind, form and place, and never quoted.
"""

import base64
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from canary.lanes import letters

# Shorter pieces of base64 would occur by chance.
_CORE_CHARS_MIN = 12


@dataclass(frozen=True, slots=True)
class Leak:
    """What was found where it must not be."""

    kind: str
    form: str
    place: str


def person(rng: random.Random) -> dict[str, str]:
    """Made up, by kind; each is recognised as what it is by anybody's rules."""
    tag, other = letters(rng.getrandbits(40) | 1 << 39), letters(rng.getrandbits(32) | 1 << 31)
    card = _luhn("4929" + f"{rng.randrange(10**11):011d}")
    return {
        "email": f"zelda.{tag}@mail-{other}.example.com",
        "phone": f"+1 (514) 5{rng.randrange(100):02d}-{rng.randrange(10_000):04d}",
        "card": " ".join(card[start : start + 4] for start in range(0, 16, 4)),
        "ip": f"81.{rng.randrange(100, 256)}.{rng.randrange(100, 256)}.{rng.randrange(100, 255)}",
        "name": f"Zelda {letters(rng.getrandbits(32) | 1 << 31).title()}",
    }


def _luhn(digits: str) -> str:
    """The digits with their check digit behind them."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-1::-2]]
    return digits + str(-(sum(doubled) + sum(map(int, digits[-2::-2]))) % 10)


def forms(kind: str, value: str) -> Iterator[tuple[str, bytes]]:
    """Each form's name and what to look for, in lower case where case says nothing; base64 keeps its case."""
    yield "as it is", value.lower().encode()
    yield "percent-encoded", quote(value, safe="").lower().encode()
    yield "every byte percent-encoded", "".join(f"%{byte:02x}" for byte in value.lower().encode()).encode()
    yield "in hexadecimal", value.lower().encode().hex().encode()
    if kind in ("phone", "card"):
        digits = "".join(filter(str.isdigit, value))
        yield "digits", digits.encode()
        yield "digits without a country", digits[-10:].encode()
    if kind == "email":
        yield "local part", value.partition("@")[0].lower().encode()
        yield "domain", value.partition("@")[2].lower().encode()
    if kind == "name":
        yield "family name", value.split()[1].lower().encode()


def encoded_forms(value: str) -> Iterator[tuple[str, bytes]]:
    """In base64, wherever in a group it begins: what does not depend on its neighbours."""
    for before in range(3):
        raw = b"\0" * before + value.encode()
        whole = base64.b64encode(raw).rstrip(b"=")
        start = -(-before * 8 // 6)
        end = len(raw) * 8 // 6
        core = whole[start:end]
        if len(core) >= _CORE_CHARS_MIN:
            yield "in base64", core
            yield "in URL-safe base64", core.translate(bytes.maketrans(b"+/", b"-_"))


def leaks(seeds: Mapping[str, str], places: Mapping[str, bytes]) -> frozenset[Leak]:
    """Which seeds are in which places, and in which form."""
    found = set[Leak]()
    for place, content in places.items():
        lower = content.lower()
        for kind, value in seeds.items():
            found.update(Leak(kind, form, place) for form, wanted in forms(kind, value) if wanted in lower)
            found.update(Leak(kind, form, place) for form, wanted in encoded_forms(value) if wanted in content)
    return frozenset(found)
