"""Where the trace store is."""

from dataclasses import dataclass
from typing import ClassVar

import click

from pipeline.config import load
from telemetry.store_client import TraceStore


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """`SPILLWAY_STORE_URL`, or `[store] url` in the configuration file."""

    SECTION: ClassVar[str] = "store"

    # Ours, or any Tempo: "http://127.0.0.1:4318". Empty: there is none.
    url: str = ""

    @classmethod
    def of(cls, option: str | None) -> "StoreAddress":
        return cls(option) if option else load(cls)


def store_at(address: StoreAddress) -> TraceStore:
    """Raises: click.UsageError: there is no address, or it is none."""
    if not address.url:
        raise click.UsageError(
            "no trace store is named: run `spillway up` first, set SPILLWAY_STORE_URL, or name one by --store http://HOST:PORT"
        )
    try:
        return TraceStore(address.url)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
