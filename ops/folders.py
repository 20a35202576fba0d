"""Closed folders for data, and short ones for sockets."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from spans.errors import SetupError

# sun_path holds 108 bytes with its final zero on Linux, 104 on macOS; the longest name that
# is put in such a folder is PostgreSQL's ".s.PGSQL.5432".
SOCKET_FOLDER_BYTES_MAX = 103 - len("/.s.PGSQL.5432")
# A comma parts PostgreSQL's socket folders and "@" means the abstract namespace to libpq.
PLAIN_PATH = re.compile(r"[A-Za-z0-9._/-]+")


def closed_folder(path: Path) -> Path:
    """`path` as a folder that only its owner enters (0700), made if missing.

    Raises SetupError with the next step.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != 0o700:
            path.chmod(0o700)
    except FileExistsError as error:
        raise SetupError(
            f"{path} is a file where a folder is needed: remove it, or set TALLYARD_DATA_DIR."
        ) from error
    except OSError as error:
        raise SetupError(
            f"{path} cannot be made or closed to others ({error.strerror}): give yourself "
            "the permission, or set TALLYARD_DATA_DIR to a folder of yours."
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise SetupError(
            f"{path} cannot be written: give yourself the permission, or set "
            "TALLYARD_DATA_DIR to a folder of yours."
        )
    return path


def socket_folder(wanted: Path) -> Path:
    """`wanted` if sockets in it can be addressed, else a short closed folder for it.

    The short one lies in the system's folder for temporary files, named after the user and
    `wanted`, so that the next start finds the same one. Raises SetupError if it is another's.
    """
    text = str(wanted)
    if len(os.fsencode(text)) <= SOCKET_FOLDER_BYTES_MAX and PLAIN_PATH.fullmatch(text):
        return wanted
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"tallyard-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    # Anyone may write to the folder for temporary files: what lies there already may be a trap.
    ours = {os.getuid(), wanted.stat().st_uid if wanted.exists() else os.getuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
        raise SetupError(f"{short} belongs to someone else: remove it, or use a shorter path.")
    short.chmod(0o700)
    return short
