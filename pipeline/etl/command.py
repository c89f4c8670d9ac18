"""`spillway lake` and `spillway rebuild`."""

import json
from collections.abc import Sequence
from datetime import date, datetime

import click

from pipeline.config import Settings, load
from pipeline.etl import lake_care
from pipeline.etl.lake import Lake
from pipeline.etl.settings import EtlSettings, RdsSettings, RedisSettings
from pipeline.event import CANARY_TENANT

_ROWS_SHOWN_MAX = 50
_PIPED_WIDTH = 200


def _lake() -> Lake:
    shared = load(Settings)
    return Lake(load(EtlSettings).lake(shared), shared.region)


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.pass_context
def lake(ctx: click.Context, as_json: bool) -> None:
    """Show, query and tend the lake.

    Without a subcommand: the partitions of the table, their files, and the small-file debt (files that compaction would save).
    """
    if ctx.invoked_subcommand is None:
        _show(lake_care.partitions(_lake()), as_json)


def _show(sizes: Sequence[lake_care.PartitionSize], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{name: getattr(one, name) for name in (*one.__slots__, "debt")} for one in sizes]))
        return
    by_type: dict[tuple[str, str], list[lake_care.PartitionSize]] = {}
    for one in sizes:
        by_type.setdefault((one.tenant, one.type), []).append(one)
    rows = [
        (
            tenant,
            type_name,
            f"{group[0].date} .. {group[-1].date}",
            *(f"{sum(values):,}" for values in zip(*((one.rows, one.files, one.debt) for one in group), strict=True)),
            f"{sum(one.size_bytes for one in group) / 1e6:,.1f} MB",
        )
        for (tenant, type_name), group in by_type.items()
    ]
    _table(("tenant", "type", "dates", "rows", "files", "debt", "size"), rows)
    business = sum(one.rows for one in sizes if one.tenant != CANARY_TENANT)
    click.echo(f"{business:,} events in {sum(one.files for one in sizes):,} files, without those of the tenant {CANARY_TENANT}")
    debt = sum(one.debt for one in sizes)
    if debt:
        click.echo(f"Small-file debt: {debt:,} files. `spillway lake compact` joins them.")


def _table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*("" if value is None else escape(_cell(value)) for value in row))
    console = Console()
    (console if console.is_terminal else Console(width=_PIPED_WIDTH)).print(table)


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


@lake.command()
@click.option("--min-files", default=2, show_default=True, help="Leave partitions with fewer small files alone.")
def compact(min_files: int) -> None:
    """Join the small files of each partition. Rows stay as they are; readers notice nothing."""
    there = _lake()
    crowded = [one for one in lake_care.partitions(there) if one.small_files >= min_files]
    done = sum(lake_care.compact(there, (one.tenant, one.type, one.date)) for one in crowded)
    click.echo(f"{done} of {len(crowded)} partitions compacted")
    if done < len(crowded):
        raise click.ClickException("another commit got in between: run it again for the rest")


@lake.command()
@click.option("--retention-hours", type=int, help="Spare what left the table within this time; default: setting etl.vacuum_...")
@click.option("--dry-run", is_flag=True, help="Only list the files.")
def vacuum(retention_hours: int | None, dry_run: bool) -> None:
    """Remove the bytes of files that left the table longer ago than any reader runs."""
    hours = load(EtlSettings).vacuum_retention_hours if retention_hours is None else retention_hours
    removed = lake_care.vacuum(_lake(), hours, dry_run=dry_run)
    for path in removed if dry_run else ():
        click.echo(path)
    click.echo(f"{len(removed)} files {'would be ' if dry_run else ''}removed")


@lake.command()
def manifest() -> None:
    """Write the symlink manifests that Redshift Spectrum reads."""
    there = _lake()
    lake_care.manifests(there)
    click.echo(f"{there.uri}/_symlink_format_manifest/ is up to date")


@lake.command()
@click.option("--schema", "external_schema", default="spillway", show_default=True, help="Name of the external schema.")
def ddl(external_schema: str) -> None:
    """Print the external-table DDL for Redshift Spectrum."""
    from pipeline.etl.lake_ddl import ddl as text

    click.echo(text(_lake(), external_schema), nl=False)


@lake.command()
@click.argument("sql")
@click.option("--limit", default=_ROWS_SHOWN_MAX, show_default=True, help="Rows to print.")
def query(sql: str, limit: int) -> None:
    """Run SQL on the lake with DuckDB: table `events`, and a view per event type, such as `flight_arrived`."""
    from pipeline.etl.lake_query import query as answer
    from pipeline.schema.registry import Registry

    found = answer(_lake(), sql, list(Registry.load(load(Settings).proto_dir).types))
    _table(found.columns, found.rows[:limit])
    if len(found.rows) > limit:
        click.echo(f"... and {len(found.rows) - limit:,} more rows; --limit shows them")


@click.group()
def rebuild() -> None:
    """Make an exit anew from history. Nothing stops meanwhile, and running it twice changes nothing."""


@rebuild.command("redis")
def rebuild_redis() -> None:
    """The hot state of all subjects, from RDS."""
    from pipeline.etl.rebuild import rebuild_redis as run

    subjects, changed = run(load(RdsSettings).url, load(RedisSettings).url)
    click.echo(f"{subjects:,} subjects; {changed:,} attributes were missing or older in Redis")


@rebuild.command("rds")
def rebuild_rds() -> None:
    """History and current state, from the lake."""
    from pipeline.etl.rebuild import rebuild_rds as run
    from pipeline.schema.registry import Registry

    seen, added = run(_lake(), Registry.load(load(Settings).proto_dir), load(RdsSettings).url)
    click.echo(f"{seen:,} events in the lake; {added:,} were missing in RDS")


COMMANDS: tuple[click.Command, ...] = (lake, rebuild)
