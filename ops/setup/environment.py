"""Makes a virtual environment from a hashed lock; what `make` runs before anything else.

Runs under the bare Python that `make` found, hence the standard library alone. Repeating it
costs some 40 ms: a stamp, written last, tells whether the environment is whole and fits the
lock, this interpreter and this folder (a moved checkout breaks a virtual environment).
An environment without its stamp was interrupted half way and is made anew.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

STAMP = "tallyard-lock.json"
GUARDS = Path(".cache")
LOG_TAIL_LINES = 12
QUIETLY = ("--quiet", "--no-input", "--disable-pip-version-check")


class SetupFailed(Exception):
    """The message names the next step."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, or 1 with a sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True, help="folder of the environment")
    parser.add_argument(
        "--lock",
        type=Path,
        action="append",
        required=True,
        help="lock to install; given twice, the second contains the first",
    )
    parser.add_argument(
        "--wheels", type=Path, help="folder in it for the lock's wheels, to be installed from"
    )
    parser.add_argument("--project", type=Path, help="project to install beside it, editable")
    given = parser.parse_args(arguments)
    try:
        ensure(
            venv=given.venv.absolute(), locks=given.lock, project=given.project,
            wheels=given.wheels,
        )
    except SetupFailed as failure:
        sys.stderr.write(f"{failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped; run the command again to go on.\n")
        return 130
    return 0


def ensure(
    *, venv: Path, locks: list[Path], project: Path | None, wheels: Path | None = None
) -> None:
    """Bring `venv` to the last of `locks`, or do nothing if it is there already.

    A second caller waits for the first. Raises SetupFailed with the next step.
    """
    wanted = [_fingerprint(venv, lock, project) for lock in locks]
    try:
        GUARDS.mkdir(exist_ok=True)
        guard = (GUARDS / f"{venv.name}.lock").open("w")
    except OSError as error:
        raise SetupFailed(f"Cannot write to {GUARDS.absolute()}: {error.strerror}.") from error
    with guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        present = _installed(venv)
        if present[: len(wanted)] == wanted:
            return
        if not present or present != wanted[: len(present)]:
            shutil.rmtree(venv, ignore_errors=True)
            _create(venv)
            present = []
        for position, lock in enumerate(locks[len(present) :], start=len(present)):
            sys.stdout.write(f"Installing {lock} into {venv.name} (half a minute, once) ...\n")
            sys.stdout.flush()
            # The stamp is away while the contents change: an interruption starts anew.
            (venv / STAMP).unlink(missing_ok=True)
            _pip(venv, "install", "--require-hashes", "--requirement", str(lock))
            if wheels:
                kept = ("--only-binary", ":all:", "--dest", str(venv / wheels))
                _pip(venv, "download", "--require-hashes", "--requirement", str(lock), *kept)
            if project and position == 0:
                editable = ("--no-deps", "--no-build-isolation", "--editable", str(project))
                _pip(venv, "install", *editable)
            (venv / STAMP).write_text(json.dumps(wanted[: position + 1]))


def _fingerprint(venv: Path, lock: Path, project: Path | None) -> str:
    digest = hashlib.sha256(lock.read_bytes())
    if project:
        # Of the project only what the installation holds; the rest is read where it lies.
        about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        digest.update(json.dumps([about["version"], about["scripts"]]).encode())
    digest.update(f"\0{venv}\0{sys.version}\0{Path(sys.executable).resolve()}".encode())
    return digest.hexdigest()


def _installed(venv: Path) -> list[str]:
    """Fingerprints of the locks that are wholly installed; empty if it is not usable."""
    try:
        stamped: list[str] = json.loads((venv / STAMP).read_text())
    except (OSError, ValueError):
        return []
    return stamped if (venv / "bin" / "python").exists() else []


def _create(venv: Path) -> None:
    made = subprocess.run(  # noqa: S603 our own interpreter
        [sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        detail = (made.stdout + made.stderr).strip().splitlines()
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupFailed(
            f"{sys.executable} cannot make a virtual environment "
            f"({detail[0] if detail else 'no reason given'}). On Debian and Ubuntu: "
            f"`apt install {version}-venv`; then run the command again."
        )


def _pip(venv: Path, command: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603 the environment's own pip
        [str(venv / "bin" / "python"), "-m", "pip", command, *QUIETLY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-LOG_TAIL_LINES:])
        raise SetupFailed(
            f"{tail}\nInstalling into {venv} failed, see above. If the package index could not "
            "be reached, check the network or pip's settings; then run the command again."
        )


if __name__ == "__main__":
    sys.exit(main())
