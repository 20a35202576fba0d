"""`tallyard clean`: deletes all data on this machine."""

from __future__ import annotations

import os
import signal

import click

from ops.data_dir import DataDir
from ops.servers.children import wait_until
from spans.errors import SetupError
from wiring.settings import read_settings

STOP_S = 10.0
"""How long a running `tallyard up` may take to stop. Its supervisor needs about 4 s."""


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def clean(*, yes: bool) -> None:
    """Stop Tallyard and delete everything in its data directory.

    A database at TALLYARD_DATABASE_URL is not changed.
    """
    settings = read_settings()
    data = DataDir(settings.data_dir)
    if not data.is_ours():
        click.echo(f"Nothing to delete: Tallyard keeps no data in {data.path}.")
        return
    if not yes:
        click.confirm(f"Delete all spans, scores and keys in {data.path}?", abort=True)
    _stop_running(data)
    data.remove()
    click.echo(f"Deleted all data in {data.path}.")
    if settings.database_url:
        click.echo("The database at TALLYARD_DATABASE_URL was not changed.")


def _stop_running(data: DataDir) -> None:
    holder = data.holder()
    if holder is None:
        return
    try:
        os.kill(holder, signal.SIGTERM)
    except PermissionError as error:
        raise SetupError(
            f"Another user runs Tallyard on {data.path} (process {holder}): stop it first."
        ) from error
    if not wait_until(lambda: data.holder() is None, deadline_s=STOP_S, every_s=0.1):
        raise SetupError(
            f"Process {holder} does not stop: kill it, then run `tallyard clean` again."
        )
