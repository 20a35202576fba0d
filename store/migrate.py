"""Brings a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, NullPool, create_engine, text

from store.postgres.database import map_errors

# Two starting processes must not migrate at once: the second waits, and finds nothing to do.
MIGRATION_LOCK = 7_414_001


def upgrade(engine: Engine) -> None:
    """Apply what is missing. Safe to repeat, and safe to run from several hosts at once."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
        connection.execute(text("select pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()


def upgrade_at(url: str) -> None:
    """The same for the database at `url`, which need not hold anything yet.

    Raises StoreUnavailable where it cannot be reached.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with map_errors():
        upgrade(engine)
    engine.dispose()
