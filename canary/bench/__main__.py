"""`python -m canary.bench`: what the canary costs those that it probes, and what it costs itself when everything fails.

Its probes a second follow from the settings and the stack's shards, and so does the load of which they are 0.1 %; at that load
the doors are measured (`doors.py`). `failing.py`: the canary's own process when all doors and exits fail. `--live`: the steady
state, on a stack of its own (`live.py`). CPU seconds throughout; figures of one run are to be compared with each other.
"""

from collections.abc import Sequence
from dataclasses import replace

import click

from canary.bench import failing, live
from canary.bench.doors import door_prices
from canary.lanes import DOORS, Shard, Slot, cover
from canary.settings import CanarySettings
from pipeline.config import Settings
from pipeline.event import HASH_SPACE
from pipeline.stack.plan import StackSettings

# The promises: of events, and of a door's CPU: of the core that it has and, from a load on that is said, of what that load takes.
EVENTS_SHARE_MAX, CPU_SHARE_MAX = 0.001, 0.01
FAILING_SECONDS = 15.0
LIVE_SECONDS = 30.0


def slots_of(shards: int, slices: int) -> tuple[Slot, ...]:
    """The lanes' slices where every stream has so many shards of the same width."""
    edges = [HASH_SPACE * at // shards for at in range(shards + 1)]
    of = [Shard(f"shardId-{at:012}", edges[at], edges[at + 1] - 1) for at in range(shards)]
    return cover(dict.fromkeys(("web-events", "events", "events-clean"), of), slices)


def probes_a_second(settings: CanarySettings, slots: int) -> float:
    return min(slots * len(DOORS), settings.round_events_max) / settings.interval_seconds


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=3))
@click.option("--seconds", default=2.0, show_default=True, help="Of each load of a door in each round.")
@click.option("--live", "on_a_stack", is_flag=True, help="On a stack of its own instead, idle but for the canary.")
def command(rounds: int, seconds: float, on_a_stack: bool) -> None:
    """What the canary costs the doors, and itself."""
    settings = replace(CanarySettings(), key="spw_bench_x")
    slots = slots_of(StackSettings().shards, Settings().slices)
    rate = probes_a_second(settings, len(slots))
    load_a_second = rate / EVENTS_SHARE_MAX
    click.echo(
        f"{len(slots)} shards, every {settings.interval_seconds:g} s: {rate:g} probes a second, "
        f"{EVENTS_SHARE_MAX:.1%} of the events from {load_a_second:,.0f} a second on"
    )
    if on_a_stack:
        _say_live()
    else:
        _say_doors(settings, slots, load_a_second, rounds, seconds)
        _say_failing(settings, slots)


def _say_live() -> None:
    click.echo(f"\n{'process':<9}{'canary runs':>13}{'held':>9}{'more':>9}   % of a core")
    for name, runs, held in live.prices(LIVE_SECONDS):
        said = "" if held is None else f"{held * 100:>9.3f}{(runs - held) * 100:>9.3f}"
        click.echo(f"{name:<9}{runs * 100:>13.3f}{said}")


def _say_doors(settings: CanarySettings, slots: Sequence[Slot], load_a_second: float, rounds: int, seconds: float) -> None:
    click.echo(
        f"\nat {load_a_second:,.0f} events a second, half through each door; goal: <= {CPU_SHARE_MAX:.0%}\n"
        f"{'door':<6}{'events':>7}{'round us':>10}{'load us/s':>11}{'probes, of a core':>24}{'of the load':>22}"
    )
    for price in door_prices(settings, slots, load_a_second, rounds, seconds):
        of_a_core = price.round_micros / 1e6 / settings.interval_seconds
        core = f"{of_a_core:.2%} " + ("met" if of_a_core <= CPU_SHARE_MAX else "MISSED")
        spread = f"{price.share:.2%} ({price.share_low:.2%}-{price.share_high:.2%})"
        met, missed = price.share_high <= CPU_SHARE_MAX, price.share_low > CPU_SHARE_MAX
        load = "met" if met else "MISSED" if missed else "too noisy to tell"
        if missed:
            load += f": met from {price.share / CPU_SHARE_MAX * load_a_second:,.0f} events a second on"
        click.echo(
            f"{price.door:<6}{price.events:>7}{price.round_micros:>10.0f}{price.load_micros:>11.0f}{core:>24}{spread:>22} {load}"
        )


def _say_failing(settings: CanarySettings, slots: Sequence[Slot]) -> None:
    knocks = ", ".join(f"{door} {count}" for door, count in sorted(failing.knocks(settings).items()))
    click.echo(f"\nrequests of one round at a door that refuses all: {knocks}")
    click.echo(f"\n{'doors and exits':<18}{'% of a core':>12}   {settings.outstanding_max:,} probes under way at most")
    for failure in failing.FAILURES:
        click.echo(f"{failure:<18}{failing.cpu_when_all(failure, settings, slots, FAILING_SECONDS) * 100:>12.2f}")


if __name__ == "__main__":
    command()
