"""The command `tallyard`. Each subject has its own module, imported when it is asked for: what
`tallyard up` imports stays in memory as long as it supervises.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from spans.errors import TallyardError

# The command, where it is below `ops.commands`, and its line in `tallyard --help`.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up:up", "Start everything, and keep it running until Ctrl-C."),
    "status": ("status:status", "Show where everything is and whether it is ready."),
    "explain": ("explain:explain_command", "Tell why a span has the scores it has."),
    "tail": ("tail:tail", "Show scores as they arrive."),
    "rules": ("rules:rules", "Rules as code, and a rule run on rows that are there."),
    "scorers": (
        "scorers:scorers", "Scorers of your own: pushed, tried on stored rows, compared.",
    ),
    "outcomes": ("outcomes:outcomes", "What errored, and running it again."),
    "keys": ("keys:keys", "Make, list and revoke API keys."),
    "migrate": ("migrate:migrate", "Bring the database to the newest schema."),
    "clean": ("clean:clean", "Stop what runs and forget all its data."),
}


class Subjects(click.Group):
    """The commands of COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """In the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now; None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"ops.commands.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list in `--help`, without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Subjects, context_settings={"help_option_names": ["-h", "--help"]})
def tallyard() -> None:
    """Background scoring for LLM traces, on this machine."""


def main() -> None:
    """Entry of the console script: what cannot be done is one sentence and exit code 1."""
    try:
        tallyard()
    except TallyardError as error:
        click.echo(f"tallyard: {error}", err=True)
        sys.exit(1)
