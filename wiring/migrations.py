"""The schema of the database that the settings name."""

from __future__ import annotations

from collections.abc import Callable

from spans.errors import SetupError, StoreUnavailable
from store.migrate import upgrade_at
from wiring.settings import Settings


def migrate_database(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Bring the database to the newest schema. Safe to repeat and to run on several hosts.

    `say` gets a line on what takes long. Raises SetupError with the next step if no database is
    set, it does not answer, or its server is too old.
    """
    url = settings.database_url
    if url is None:
        raise SetupError(
            "TALLYARD_DATABASE_URL is not set: `tallyard up` migrates the embedded database; "
            "set the variable to migrate another."
        )
    try:
        upgrade_at(url.get_secret_value(), say=say)
    except StoreUnavailable as error:
        raise SetupError(
            f"{error}: check TALLYARD_DATABASE_URL, and that the server runs."
        ) from error
