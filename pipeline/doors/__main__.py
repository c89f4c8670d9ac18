"""`python -m pipeline.doors grpc | http | keys ...`"""

import asyncio

import click

from pipeline.config import load
from pipeline.doors.commands import COMMANDS
from pipeline.doors.run import run
from pipeline.doors.settings import GrpcSettings, HttpSettings
from pipeline.doors.workers import supervise
from pipeline.errors import InvalidConfiguration, InvalidSchema


@click.group()
def main() -> None:
    """The doors: where events come in."""


@main.command()
def grpc() -> None:
    """Serve the gRPC door until SIGTERM."""
    _serve("grpc", load(GrpcSettings).workers)


@main.command()
def http() -> None:
    """Serve the HTTP door until SIGTERM."""
    _serve("http", load(HttpSettings).workers)


def _serve(name: str, workers: int) -> None:
    try:
        if workers > 1:
            asyncio.run(supervise(name, workers))
        else:
            run(name)
    except (InvalidConfiguration, InvalidSchema) as exc:
        raise click.ClickException(str(exc)) from exc


for command in COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
