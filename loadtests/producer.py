"""A producer that is watched like a part of the stack: spans to its store, and a port of its own that its Prometheus scrapes."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config import load
from pipeline.stack.launch import Stack
from pipeline.stack.watch import Target, write_targets
from telemetry.personal_data import mask
from telemetry.process import Telemetry
from telemetry.settings import TelemetrySettings

PROCESS = "producer"


@contextmanager
def watched(stack: Stack, name: str) -> Iterator[Telemetry]:
    """For a `Client`. `name` is its worker; it is a target as long as this lasts."""
    telemetry = Telemetry.begin(name, name, load(TelemetrySettings, stack.env()), health_port=0, scrub=mask)
    assert telemetry.health is not None, "it was asked for a port"
    file = stack.folder.targets / f"{name}.json"
    write_targets(file, [Target(PROCESS, name, telemetry.health.port)])
    try:
        yield telemetry
    finally:
        file.unlink(missing_ok=True)
        telemetry.end()
