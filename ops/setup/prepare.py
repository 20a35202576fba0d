"""Prepares the database before the processes start: schema, organisation and first API key.

`tallyard up` runs this in a process of its own, because what it imports would otherwise stay in
the supervisor's memory.
"""

from __future__ import annotations

import sys

from ops.data_dir import DataDir
from ops.setup.first_start import ensure_local_key
from spans.errors import TallyardError
from wiring.migrations import migrate_database
from wiring.settings import Settings, read_settings
from wiring.tallyard import tallyard_for_command


def prepare(settings: Settings) -> None:
    """Upgrade the database to the newest schema, and keep the administrator's key in a file.

    Safe to repeat. Raises SetupError with the next step.
    """
    migrate_database(settings, say=_say)
    with tallyard_for_command(settings) as tallyard:
        ensure_local_key(
            tallyard.keys, tallyard.organizations,
            path=DataDir(settings.data_dir).api_key, org_name=settings.org_name,
        )


def _say(line: str) -> None:
    """Print a line at once, where `tallyard up` prints its own."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        prepare(read_settings())
    except TallyardError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
