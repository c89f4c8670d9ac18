"""AWS list prices from `prices.json`, as known on its date and not verified there: each is a constant of the cost page."""

import json
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "prices.json"


@dataclass(frozen=True, slots=True)
class Price:
    name: str
    # In the currency of the file, for one `unit`.
    price: float
    unit: str
    source: str


@dataclass(frozen=True, slots=True)
class Prices:
    region: str
    currency: str
    # The date on which somebody held these prices to be true.
    as_known_on: str
    # Whether they were compared with their sources on that date.
    verified: bool
    note: str
    prices: tuple[Price, ...]

    def of(self, name: str) -> Price:
        return next(price for price in self.prices if price.name == name)


def prices(file: Path = FILE) -> Prices:
    raw = json.loads(file.read_text())
    return Prices(**{**raw, "prices": tuple(Price(**each) for each in raw["prices"])})


def as_markdown(known: Prices) -> str:
    said = "verified" if known.verified else "not verified here"
    lines = [f"{known.region}, {known.currency}, as known on {known.as_known_on}, {said}. {known.note}", ""]
    lines += ["| what | price | for a | source |", "| --- | --- | --- | --- |"]
    lines += [f"| `{each.name}` | {each.price:g} | {each.unit} | {each.source} |" for each in known.prices]
    return "\n".join(lines)
