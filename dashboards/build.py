"""Writes the committed dashboards: `python -m dashboards.build --write`. Without it, says whether they are fresh (exit 1: no)."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dashboards import canary, capacity, cost, delivery, hop_pages, itself, ledger, overview, slo
from dashboards.grafana import as_json
from dashboards.page import Page
from dashboards.queries import JSON_FOLDER


def pages() -> tuple[Page, ...]:
    """In the order of the menu."""
    return (
        overview.page(),
        *hop_pages.pages(),
        delivery.page(),
        canary.page(),
        ledger.page(),
        slo.page(),
        capacity.page(),
        cost.page(),
        itself.page(),
    )


def generated() -> dict[str, str]:
    """JSON by file name."""
    return {f"{page.uid}.json": as_json(page, place) for place, page in enumerate(pages())}


def stale(folder: Path = JSON_FOLDER) -> list[str]:
    """Names of files that are not as they would be generated: changed, missing, or no page's any more."""
    wanted = generated()
    there = {file.name: file.read_text() for file in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def write(folder: Path = JSON_FOLDER) -> list[str]:
    """Makes the folder hold exactly the pages, and says which files that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted, changed = generated(), stale(folder)
    for name in changed:
        if name in wanted:
            (folder / name).write_text(wanted[name])
        else:
            (folder / name).unlink()
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the JSON into dashboards/json")
    if parser.parse_args(arguments).write:
        print("\n".join(write()) or "nothing has changed")
        return 0
    behind = stale()
    if behind:
        print(f"not fresh: {', '.join(behind)}; run `python -m dashboards.build --write`", file=sys.stderr)
    return 1 if behind else 0


if __name__ == "__main__":
    sys.exit(main())
