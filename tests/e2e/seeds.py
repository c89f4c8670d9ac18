"""Personal data that occurs nowhere else, and whoever looks for it.

Everything that a person says is written down in the form in which it was said: the checker then looks for each of these words,
in any case, and for the forms that the pipeline itself might make of them. A word that was said and that the checker can't find
where everything still is, is a fault of the checker.
"""

import base64
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

_FORMS = ("plain", "upper", "percent", "every byte percent", "base64", "base64 in a phrase")


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(count))


def _digits(count: int) -> str:
    return "".join(secrets.choice(string.digits) for _ in range(count))


def luhn(digits: str) -> str:
    """The digits with their check digit behind them."""
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-1::-2]]
    return digits + str(-(sum(doubled) + sum(map(int, digits[-2::-2]))) % 10)


@dataclass
class Person:
    """One data subject, made up at random."""

    values: dict[str, str] = field(default_factory=dict)
    # What was said, by (kind, form).
    said: dict[tuple[str, str], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tag, card = _letters(10), luhn("4929" + _digits(11))
        self.values = {
            "email": f"zelda.{tag}@mail-{_letters(8)}.example.com",
            "phone": f"+1 (514) 5{_digits(2)}-{_digits(4)}",
            "card": " ".join(card[start : start + 4] for start in range(0, 16, 4)),
            "ipv4": f"81.{secrets.randbelow(156) + 100}.{secrets.randbelow(156) + 100}.{secrets.randbelow(155) + 100}",
            "ipv6": "2a02:6b8:" + ":".join(f"{secrets.randbelow(0xEFFF) + 0x1000:x}" for _ in range(6)),
            "name": f"Zelda {_letters(9).title()}",
            "street": f"{secrets.randbelow(900) + 100} {_letters(9).title()} Street",
            "birth date": f"190{secrets.randbelow(10)}-0{secrets.randbelow(9) + 1}-{secrets.randbelow(18) + 11}",
        }

    def say(self, kind: str, form: str = "plain") -> str:
        value = self.values[kind]
        match _FORMS.index(form):
            case 0:
                word = value
            case 1:
                word = value.upper()
            case 2:
                word = quote(value, safe="")
            case 3:
                word = "".join(f"%{byte:02X}" for byte in value.encode())
            case 4:
                word = base64.b64encode(value.encode()).decode()
            case _:
                word = base64.b64encode(f'{{"user": "{value}"}}'.encode()).decode()
        self.said[kind, form] = word
        return word

    def text(self) -> str:
        """What a person writes into a box for free text."""
        return (
            f"Please ring {self.say('phone')} or write to {self.say('email')}, no, {self.say('email', 'upper')}; "
            f"card {self.say('card')}, from {self.say('ipv4')} and {self.say('ipv6')}. Thanks"
        )

    def hidden_text(self) -> str:
        """The same, as programs write it into a box for free text."""
        return (
            f"ref={self.say('email', 'percent')} raw={self.say('email', 'every byte percent')} tok={self.say('email', 'base64')} "
            f"jwt={self.say('email', 'base64 in a phrase')} ph={self.say('phone', 'percent')} c={self.say('card', 'base64')}"
        )

    def words(self) -> Iterable[tuple[str, str]]:
        """What must be nowhere: everything said, and what could be made of it."""
        for (kind, form), word in self.said.items():
            yield f"{kind}, {form}", word
        for kind in {kind for kind, _ in self.said}:
            value = self.values[kind]
            yield f"{kind}, as it is", value
            if kind in ("phone", "card"):
                digits = "".join(filter(str.isdigit, value))
                yield f"{kind}, digits", digits
                yield f"{kind}, digits without a country", digits[-10:]
            if kind == "email":
                yield "email, local part", value.partition("@")[0]
                yield "email, domain", value.partition("@")[2]
            if kind in ("name", "street"):
                yield f"{kind}, its own word", value.split()[1]


def leaks(people: Mapping[str, Person], haystack: bytes) -> set[str]:
    """Which words of whom are in there, whatever their case."""
    lower = haystack.lower()
    return {f"{name}: {what}" for name, one in people.items() for what, word in one.words() if word.lower().encode() in lower}


def not_found(people: Mapping[str, Person], haystack: bytes) -> set[str]:
    """What was said and is not in there."""
    lower = haystack.lower()
    return {
        f"{name}: {kind}, {form}"
        for name, one in people.items()
        for (kind, form), word in one.said.items()
        if word.lower().encode() not in lower
    }
