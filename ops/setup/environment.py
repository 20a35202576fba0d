"""Creates a virtual environment from a lock file with hashes. `make` runs this first.

It runs under the Python that `make` found, before any package is installed, so it uses only the
standard library. A repetition takes about 40 ms: a stamp, which is written last, says for which
lock, interpreter and folder the environment is complete (a moved checkout breaks it). An
environment without a stamp was interrupted, and is created again.
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
    """Set-up failed. The message names the next step."""


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Gives the exit code: 0, 1 after an error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True, help="the environment's folder")
    parser.add_argument(
        "--lock",
        type=Path,
        action="append",
        required=True,
        help="lock file to install; if given twice, the second must contain the first",
    )
    parser.add_argument(
        "--wheels", type=Path,
        help="folder in the environment into which the lock's wheels are downloaded too",
    )
    parser.add_argument("--project", type=Path, help="project to install as well, editable")
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
        sys.stderr.write("Stopped; run the command again to continue.\n")
        return 130
    return 0


def ensure(
    *, venv: Path, locks: list[Path], project: Path | None, wheels: Path | None = None
) -> None:
    """Install the last of `locks` into `venv`, or do nothing if that is done already.

    Two processes may call this at once: the second waits for the first. Raises SetupFailed with
    the next step.
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
            # Without the stamp, an environment that is interrupted here is created again.
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
        # Only what the editable installation copies; the rest is read from the checkout.
        about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        digest.update(json.dumps([about["version"], about["scripts"]]).encode())
    digest.update(f"\0{venv}\0{sys.version}\0{Path(sys.executable).resolve()}".encode())
    return digest.hexdigest()


def _installed(venv: Path) -> list[str]:
    """Fingerprints of the completely installed locks; empty if `venv` cannot be used."""
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
            f"{sys.executable} cannot create a virtual environment "
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
            f"{tail}\nInstalling into {venv} failed: the reason is above. If pip could not "
            "reach its index, check the network and pip's settings; then run the command again."
        )


if __name__ == "__main__":
    sys.exit(main())
