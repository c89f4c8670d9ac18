"""What telemetry/README.md says of the signals is what the code says."""

import pytest

from telemetry.catalogue import BEGIN, END, README, fresh, tables
from telemetry.hops import HOPS
from telemetry.metrics import CATALOGUE


def test_the_readme_holds_the_catalogue_as_it_is() -> None:
    assert fresh(README.read_text()) == README.read_text(), "stale: python -m telemetry.catalogue --write"


def test_every_hop_and_every_metric_has_one_row() -> None:
    first_cells = [line.split("|")[1].strip() for line in tables().splitlines() if line.startswith("| `")]
    assert [f"`{hop.name}`" for hop in HOPS] + [f"`{metric.name}`" for metric in CATALOGUE] == first_cells


def test_what_stands_around_the_tables_stays() -> None:
    assert f"a\n{BEGIN}\n\n{tables()}\n\n{END}\nz\n" == fresh(f"a\n{BEGIN}\nold\n{END}\nz\n")


def test_a_readme_without_a_place_for_them_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        fresh("# telemetry\n")
