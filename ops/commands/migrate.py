"""`tallyard migrate`: brings a database to the newest schema. `up` does so by itself."""

from __future__ import annotations

import click

from wiring.migrations import migrate_database
from wiring.settings import read_settings


@click.command()
def migrate() -> None:
    """Bring the database at TALLYARD_DATABASE_URL to the newest schema.

    Where rows move to other tables, it says how far it is. Safe to repeat: after a kill it goes
    on from there.
    """
    migrate_database(read_settings(), say=click.echo)
    click.echo("The database has the newest schema.")
