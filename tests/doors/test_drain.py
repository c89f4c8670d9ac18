"""The order of stopping, as one journal under a simulated clock."""

import pytest
import structlog

from pipeline.doors.drain import drain


class Journal:
    def __init__(self, inflight_seconds: float) -> None:
        self.now = 0.0
        self.lines: list[str] = []
        self._inflight_seconds = inflight_seconds

    def note(self, text: str) -> None:
        self.lines.append(f"{self.now:g} s: {text}")

    async def sleep(self, seconds: float) -> None:
        self.note("wait for the balancer")
        self.now += seconds

    async def fail_readiness(self) -> None:
        self.note("door not ready")

    async def stop_accepting(self, budget_seconds: float) -> None:
        self.note("stop accepting")
        self.now += min(self._inflight_seconds, budget_seconds)

    async def drain(self, budget_seconds: float) -> int:
        self.note(f"flush within {budget_seconds:g} s")
        return 0


@pytest.mark.parametrize(("inflight_seconds", "flush"), [(2.0, "7 s: flush within 18 s"), (600.0, "24 s: flush within 1 s")])
async def test_a_door_stops_in_the_order_that_loses_nothing(inflight_seconds: float, flush: str) -> None:
    """TRAPS 11."""
    journal = Journal(inflight_seconds)
    await drain(
        journal,
        journal,
        set_ready=lambda ready: journal.note(f"process ready: {ready}"),
        wait_seconds=5,
        budget_seconds=20,
        clock=lambda: journal.now,
        sleep=journal.sleep,
        log=structlog.get_logger(),
    )
    assert [
        "0 s: process ready: False",
        "0 s: door not ready",
        "0 s: wait for the balancer",
        "5 s: stop accepting",
        flush,
    ] == journal.lines
