"""The command `tallyard`, with one module for each subcommand.

A module is imported only when its command is used, because everything that `tallyard up`
imports stays in memory as long as it runs.
"""

from __future__ import annotations

from importlib import import_module

import click

from spans.errors import TallyardError

# By name: where the command is below `ops.commands`, and its line in `tallyard --help`.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up:up", "Start everything, and keep it running until Ctrl-C."),
    "status": ("status:status", "Show the URLs, and whether each process is ready."),
    "explain": ("explain:explain_command", "Say why a span has its scores."),
    "rejected": ("explain:rejected", "Show rows that were not stored, and why."),
    "tail": ("tail:tail", "Show scores as they arrive."),
    "rules": ("rules:rules", "Apply, export, list and try rules."),
    "automations": ("automations:automations", "Apply, export, try and explain automations."),
    "scorers": ("scorers:scorers", "Push, test and compare scorers of your own."),
    "budgets": ("budgets:budgets", "Cap what judges may cost, and show prices."),
    "deliveries": (
        "deliveries:deliveries", "Show what was sent to webhooks, and send it again."
    ),
    "rescore": ("rescore:rescore", "Score stored records again, and see what changed."),
    "outcomes": ("outcomes:outcomes", "List errored outcomes, and run them again."),
    "expire": ("expire:expire", "Delete old traces of a project."),
    "keys": ("keys:keys", "Create, list and revoke API keys."),
    "migrate": ("migrate:migrate", "Upgrade the database to the newest schema."),
    "clean": ("clean:clean", "Stop everything and delete all data."),
}


class CommandGroup(click.Group):
    """The commands that COMMANDS lists, each imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """Names of the commands, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of this name, imported now; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"ops.commands.{module}"), name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command. An expected error prints one sentence and exits with code 1."""
        try:
            return super().invoke(ctx)
        except TallyardError as error:
            click.echo(f"tallyard: {error}", err=True)
            return ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands for `--help` without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
def tallyard() -> None:
    """Score LLM traces in the background, on this machine."""
