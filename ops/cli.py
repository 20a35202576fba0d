"""The command `tallyard`. Each subject has its own module; this joins them."""

from __future__ import annotations

import sys

import click

from ops.clean import clean
from ops.migrate import migrate
from ops.status import status
from ops.up import up
from spans.errors import TallyardError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
def tallyard() -> None:
    """Background scoring for LLM traces, on this machine."""


for each in (up, status, clean, migrate):
    tallyard.add_command(each)


def main() -> None:
    """Entry of the console script: what cannot be done is one sentence and exit code 1."""
    try:
        tallyard()
    except TallyardError as error:
        click.echo(f"tallyard: {error}", err=True)
        sys.exit(1)
