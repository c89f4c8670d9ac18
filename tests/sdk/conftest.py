"""Clients of these tests report nothing unless a test says so: another test may have left an address in the environment."""

import pytest

from pipeline.sdk.telemetry import VARIABLES


@pytest.fixture(autouse=True)
def no_telemetry_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
