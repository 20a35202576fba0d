"""`tallyard migrate`: the newest schema for a given database (`up` sees to its own)."""

from __future__ import annotations

import click

from spans.errors import SetupError
from store.migrate import upgrade_at
from wiring.settings import read_settings


@click.command()
def migrate() -> None:
    """Bring the database at TALLYARD_DATABASE_URL to the newest schema. Safe to repeat."""
    url = read_settings().database_url
    if url is None:
        raise SetupError(
            "TALLYARD_DATABASE_URL is not set: the embedded database is migrated by "
            "`tallyard up`; set the variable to migrate another."
        )
    upgrade_at(url.get_secret_value())
    click.echo("The database has the newest schema.")
