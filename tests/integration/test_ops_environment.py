"""Set-up of an environment from a lock file: complete, repeated, or a clear error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ops.setup.environment import STAMP

PROGRAM = Path(__file__).parents[2] / "ops" / "setup" / "environment.py"


def set_up(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), "--venv", "env", "--lock", "lock.txt"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose lock, of nothing, has been installed."""
    folder = tmp_path_factory.mktemp("environment")
    (folder / "lock.txt").write_text("# nothing\n")
    done = set_up(folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_second_run_does_nothing(made):
    before = (made / "env" / STAMP).stat().st_mtime_ns
    assert set_up(made).stdout == ""
    assert (made / "env" / STAMP).stat().st_mtime_ns == before


def test_what_was_interrupted_is_made_anew(made):
    (made / "env" / STAMP).unlink()
    (made / "env" / "half").touch()
    assert set_up(made).returncode == 0
    assert not (made / "env" / "half").exists()


def test_a_changed_lock_is_installed_anew(made):
    (made / "env" / "of the old lock").touch()
    (made / "lock.txt").write_text("# nothing, but otherwise\n")
    assert set_up(made).returncode == 0
    assert not (made / "env" / "of the old lock").exists()


def test_what_cannot_be_installed_is_told_with_the_next_step(made):
    (made / "lock.txt").write_text("absent @ file:///nowhere/absent-1-py3-none-any.whl\n")
    done = set_up(made)
    assert done.returncode == 1
    assert "then run the command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (made / "env" / STAMP).exists()
