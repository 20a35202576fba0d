"""Private folders for data, and short paths for sockets."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path

from spans.errors import SetupError

# A socket's path has at most 108 bytes with its final zero on Linux, and 104 on macOS. The
# longest file name in such a folder is PostgreSQL's ".s.PGSQL.5432".
SOCKET_FOLDER_BYTES_MAX = 103 - len("/.s.PGSQL.5432")
# PostgreSQL reads a comma as the end of a socket folder, and libpq reads "@" as the abstract
# namespace, so only plain paths are used.
PLAIN_PATH = re.compile(r"[A-Za-z0-9._/-]+")


def private_folder(path: Path) -> Path:
    """Create the folder `path` if it is missing, for its owner alone (mode 0700). Gives `path`.

    Raises SetupError with the next step.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) != 0o700:
            path.chmod(0o700)
    except FileExistsError as error:
        raise SetupError(
            f"{path} is a file, and must be a folder: remove it, or set TALLYARD_DATA_DIR to "
            "another folder."
        ) from error
    except OSError as error:
        raise SetupError(
            f"{path} cannot be created with mode 0700 ({error.strerror}): give yourself the "
            "permission, or set TALLYARD_DATA_DIR to a folder of your own."
        ) from error
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise SetupError(
            f"{path} cannot be written: give yourself the permission, or set "
            "TALLYARD_DATA_DIR to a folder of your own."
        )
    return path


def socket_folder(wanted: Path) -> Path:
    """`wanted`, or a private folder with a short path if sockets in `wanted` would not work.

    The short folder is in the system's folder for temporary files. Its name is derived from the
    user and `wanted`, so the next start finds it again. Raises SetupError if it belongs to
    another user.
    """
    text = str(wanted)
    if len(os.fsencode(text)) <= SOCKET_FOLDER_BYTES_MAX and PLAIN_PATH.fullmatch(text):
        return wanted
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"tallyard-{os.getuid()}-{digest}"
    short.mkdir(mode=0o700, exist_ok=True)
    found = short.lstat()
    # Any user can write to that folder, so what is already there may be a trap.
    ours = {os.getuid(), wanted.stat().st_uid if wanted.exists() else os.getuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
        raise SetupError(f"{short} belongs to another user: remove it, or use a shorter path.")
    short.chmod(0o700)
    return short
