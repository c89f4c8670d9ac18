"""The doors' commands: `keys add`, `keys revoke`, `keys list`."""

from datetime import UTC, datetime
from pathlib import Path

import click

from pipeline.config import Settings, load
from pipeline.doors.keys import Role, add_key, read_keys, revoke_key
from pipeline.errors import InvalidConfiguration

_FILE = click.option("--keys-file", type=click.Path(path_type=Path), help="Instead of the setting `keys_file`.")


@click.group()
def keys() -> None:
    """API keys: who may send, and for which tenant."""


@keys.command("add")
@click.option("--tenant", required=True, help="Lower-case letters, digits, _ and -.")
@click.option("--role", type=click.Choice(["producer", "service"]), default="producer", show_default=True)
@_FILE
def add(tenant: str, role: Role, keys_file: Path | None) -> None:
    """Make a key and print it, once: only its hash is kept."""
    try:
        click.echo(add_key(_file(keys_file), tenant, role))
    except InvalidConfiguration as exc:
        raise click.ClickException(str(exc)) from exc


@keys.command("revoke")
@click.argument("key_id")
@_FILE
def revoke(key_id: str, keys_file: Path | None) -> None:
    """Put a key out of force; the doors notice within a second. KEY_ID is the part between the underscores."""
    try:
        if not revoke_key(_file(keys_file), key_id, datetime.now(UTC)):
            raise click.ClickException(f"no key in force has the id {key_id}; see `keys list`")
    except InvalidConfiguration as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"revoked {key_id}")


@keys.command("list")
@_FILE
def show(keys_file: Path | None) -> None:
    """Print id, tenant, role and state of each key."""
    path = _file(keys_file)
    try:
        found = read_keys(path) if path.exists() else []
    except InvalidConfiguration as exc:
        raise click.ClickException(str(exc)) from exc
    for key in found:
        click.echo(f"{key.key_id}  {key.tenant}  {key.role}  {'revoked ' + key.revoked_at if key.revoked_at else 'in force'}")


def _file(named: Path | None) -> Path:
    return named or load(Settings).keys_file


# For the root command.
COMMANDS: tuple[click.Command, ...] = (keys,)
