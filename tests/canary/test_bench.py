"""The load at which the canary's price is stated follows from what it really sends."""

import pytest

from canary.bench.__main__ import probes_a_second, slots_of
from canary.settings import CanarySettings
from tests.canary.world import STEP_SECONDS, World, canary_in, pass_time

MINUTE_SECONDS = 60.0


@pytest.mark.parametrize(
    ("shards", "slices", "a_second"),
    [
        (1, 16, 0.4),
        (2, 16, 0.8),
        # No more lanes than slices, and no more events than a round may have.
        (64, 16, 6.4),
        (64, 256, 12.8),
    ],
)
def test_probes_a_second_follow_from_shards_and_interval_and_are_bounded(shards: int, slices: int, a_second: float) -> None:
    assert a_second == pytest.approx(probes_a_second(CanarySettings(), len(slots_of(shards, slices))))


def test_a_canary_sends_as_many_as_its_price_is_stated_for() -> None:
    world, interval_seconds = World(), 2 * STEP_SECONDS
    canary = canary_in(world, interval_seconds=interval_seconds)
    pass_time(world, canary, MINUTE_SECONDS)
    rate = probes_a_second(CanarySettings(interval_seconds=interval_seconds), len(slots_of(2, 16)))
    assert rate * MINUTE_SECONDS == len(world.sent)
