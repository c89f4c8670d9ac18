"""`make bench`: every part's benchmark, one after the other, each in a process of its own.

Machines are shared and noisy: what counts are ratios between rows of one run, and CPU seconds beside wall time. Each part's
module says what its rows mean. Name parts to run only those: `make bench ARGS="doors etl"`.
"""

import subprocess
import sys
import time

import click

# What is measured, and the module that does it.
PARTS = {
    "emulator": "pipeline.emulator.bench",
    "schema": "pipeline.schema.bench",
    "doors": "pipeline.doors.bench",
    "telemetry": "pipeline.doors.price",
    "consumer": "pipeline.consumer.bench",
    "sdk": "pipeline.sdk.bench",
    "etl": "pipeline.etl.bench",
    "ledger": "pipeline.ledger.bench",
    "canary": "canary.bench",
    "store": "telemetry.store.bench",
}
SECONDS_MAX = 900


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
def main(parts: tuple[str, ...]) -> None:
    """Run the benchmarks of PARTS (default: all)."""
    failed = []
    for part in parts or PARTS:
        click.secho(f"\n== {part} (python -m {PARTS[part]})", bold=True)
        start = time.monotonic()
        try:
            code = subprocess.run([sys.executable, "-m", PARTS[part]], timeout=SECONDS_MAX, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
        click.echo(f"-- {part}: {time.monotonic() - start:.0f} s" + ("" if code == 0 else f", FAILED ({code})"))
        if code != 0:
            failed.append(part)
    if failed:
        raise click.ClickException(f"these did not finish: {', '.join(failed)}")


if __name__ == "__main__":
    main()
