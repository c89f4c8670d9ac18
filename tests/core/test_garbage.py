"""What a process does before it serves."""

import gc

from pipeline.garbage import spare_what_stays


def test_the_collector_passes_over_what_was_made_to_start_and_still_finds_what_comes_later() -> None:
    class Cycle:
        own: "Cycle"

    made = [Cycle() for _ in range(1_000)]
    try:
        spare_what_stays()
        assert [] == [each for each in gc.get_objects() if isinstance(each, Cycle)]
        made[0].own = made[0]
        later = Cycle()
        later.own = later
        del later
        assert 1 <= gc.collect()
    finally:
        gc.unfreeze()
