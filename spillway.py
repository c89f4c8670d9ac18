"""The command `spillway`. Each part brings its own commands; this file only says where they are.

Modules are imported when their command is called, so that `spillway --help` is quick and a part whose dependency is missing
does not take the others with it.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pipeline.errors import SpillwayError

# Command, the module whose COMMANDS hold it, and its line in `spillway --help`, in the order in which a newcomer needs them.
_COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("pipeline.stack.command", "Start the whole pipeline on this machine."),
    "status": ("pipeline.stack.command", "Show the processes of the stack and their health."),
    "down": ("pipeline.stack.command", "Stop the stack, in the order that loses nothing."),
    "doctor": ("pipeline.stack.command", "Say what this machine lacks and how to get it."),
    "demo": ("loadtests.demo", "Send a month of real flights through both doors and prove that all arrived."),
    "send": ("pipeline.sdk.command", "Send events of your own."),
    "explain": ("pipeline.explain.command", "Say where one event is: every hop, every exit, or the dead letters."),
    "trace": ("pipeline.explain.trace", "Show a trace: the time at each hop, where it waits or died, and why."),
    "canary": ("canary.command", "Prove delivery from outside: probes through every door, looked for at every exit."),
    "ledger": ("canary.ledger.command", "Account for every acknowledged event: what is lost, doubled or not known, and where."),
    "slo": ("alerts.command", "What is promised, what that allows, and how much of the error budget is left."),
    "keys": ("pipeline.doors.commands", "Add, list and revoke API keys."),
    "dlq": ("pipeline.dead_letters.commands", "List, read and redrive dead letters."),
    "backup": ("pipeline.backup.commands", "List, read and verify the Firehose backup."),
    "replay": ("pipeline.backup.commands", "Send a stretch of the backup through the pipeline again."),
    "lake": ("pipeline.etl.command", "Show, query and tend the lake."),
    "rebuild": ("pipeline.etl.command", "Make an exit anew from history."),
}


# These find or make the stack by themselves.
_ABOUT_THE_STACK = ("up", "status", "down", "doctor", "demo")


_READS_AWS = ("canary", "ledger", "explain", "dlq", "backup", "replay", "lake", "rebuild")
# A shell that sets one of these means that AWS, local or real.
_SAYS_WHICH_AWS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN")


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        commands: Sequence[click.Command] = importlib.import_module(_COMMANDS[cmd_name][0]).COMMANDS
        return next(command for command in commands if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SpillwayError as exc:
            raise click.ClickException(str(exc)) from exc


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="spillway")
@click.pass_context
def main(ctx: click.Context) -> None:
    """An event pipeline that proves it loses nothing.

    Try `spillway demo`: it starts everything on this machine, sends real events in at both doors, and shows that every
    acknowledged one came out at every exit. `spillway COMMAND --help` teaches each command.

    Commands that read AWS use what AWS_ENDPOINT_URL and your credentials say; where there is neither, the local stack in
    SPILLWAY_STATE_DIR (default .spillway).
    """
    if ctx.invoked_subcommand not in _ABOUT_THE_STACK and not {"-h", "--help"} & set(sys.argv):
        _use_local_stack(needed=ctx.invoked_subcommand in _READS_AWS)


def _use_local_stack(*, needed: bool) -> None:
    """Take the addresses and keys of the stack in the state folder, unless this shell already says which AWS it means."""
    if any(os.environ.get(name) for name in _SAYS_WHICH_AWS):
        return
    from pipeline.stack.launch import Stack

    folder = Path(os.environ.get("SPILLWAY_STATE_DIR", ".spillway"))
    if not (folder / "stack.json").exists():
        if needed:
            raise click.UsageError(
                f"no stack in {folder.absolute()} and no AWS in this shell: run `spillway up` first, name another folder by "
                "SPILLWAY_STATE_DIR, or set AWS_REGION (and credentials) to mean AWS"
            )
        return
    for name, value in Stack.at(folder).env().items():
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    main()
