"""Migrates a database to the newest schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, NullPool, create_engine, text

from spans.errors import SetupError
from store.postgres.database import map_errors

# The key of the advisory lock that keeps two processes from migrating at the same time. The
# second one waits, and then finds nothing to do. The number means nothing.
MIGRATION_LOCK = 7_414_001

OLDEST_MAJOR_VERSION = 15
"""The oldest PostgreSQL that the tests run on."""


def upgrade(
    engine: Engine, *, say: Callable[[str], None] = lambda _: None, revision: str = "head"
) -> None:
    """Apply the missing migrations up to `revision`. `say` gets a line on what takes long.

    Safe to repeat, also from several hosts at once. No other service may run meanwhile. A
    migration that was killed goes on from where it was. Raises SetupError if the server is too
    old.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.connect() as connection:
        number = connection.execute(text("show server_version_num")).scalar_one()
        check_version(int(number) // 10_000)   # 150018 is 15.18
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        config.attributes["connection"] = connection
        config.attributes["say"] = say
        command.upgrade(config, revision)
        connection.commit()
        connection.execute(text("select pg_advisory_unlock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()


def upgrade_at(url: str, *, say: Callable[[str], None]) -> None:
    """Apply the missing migrations to the database at `url`, which may be empty.

    `say` gets a line on what takes long. Raises StoreUnavailable if the database cannot be
    reached, and SetupError if the server is too old.
    """
    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with map_errors():
        upgrade(engine, say=say)
    engine.dispose()


def check_version(major_version: int) -> None:
    """Raises SetupError, with the next step, if that PostgreSQL is too old."""
    if major_version < OLDEST_MAJOR_VERSION:
        raise SetupError(
            f"The server is PostgreSQL {major_version}, and Tallyard needs "
            f"{OLDEST_MAJOR_VERSION} or newer: move the data to a newer server (pg_upgrade or "
            "pg_dump), and let TALLYARD_DATABASE_URL name it."
        )
