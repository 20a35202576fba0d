"""What sandboxes need of the system: it is installed if allowed, or else reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "ops" / "setup" / "system.py"
COMMANDS = ("bwrap", "node", "esbuild", "npm")
NODE = "#!/bin/sh\necho v20.1.0\n"
# Brings a command of the package's name, once the lists of packages are there.
APT_GET = """#!/bin/sh
folder=$(dirname "$0")
for word in "$@"; do
  case $word in
    update) touch "$folder/lists" ;;
    -*|install) ;;
    *) [ -e "$folder/lists" ] || { echo "E: Unable to locate package $word"; exit 100; }
       command=$word
       [ $word = bubblewrap ] && command=bwrap
       [ $word = nodejs ] && command=node
       printf '#!/bin/sh\\necho v20.1.0\\n' > "$folder/$command"
       chmod 755 "$folder/$command" ;;
  esac
done
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The only folder of PATH; it has all that is needed, and no apt-get."""
    for name in COMMANDS:
        put(tmp_path, name, NODE)
    return tmp_path


def put(path: Path, name: str, script: str) -> None:
    (path / name).write_text(script)
    (path / name).chmod(0o755)


def set_up(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), *arguments], env={"PATH": str(path)},
        capture_output=True, text=True, check=False,
    )


def test_where_all_is_there_it_says_nothing(path: Path) -> None:
    done = set_up(path, "--required")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_missing_is_told_with_what_it_costs(path: Path) -> None:
    (path / "esbuild").unlink()
    done = set_up(path)
    assert done.returncode == 0
    assert "esbuild is missing, so no TypeScript scorer can be uploaded" in done.stderr
    assert "install esbuild" in done.stderr


def test_what_is_missing_fails_where_it_is_required(path: Path) -> None:
    (path / "bwrap").unlink()
    assert set_up(path, "--required").returncode == 1


def test_a_node_that_is_too_old_is_told(path: Path) -> None:
    put(path, "node", "#!/bin/sh\necho v18.19.0\n")
    done = set_up(path, "--required")
    assert done.returncode == 1
    assert "v18.19.0" in done.stderr
    assert "install node 20 or newer" in done.stderr


def test_npm_is_needed_by_tests_alone(path: Path) -> None:
    (path / "npm").unlink()
    assert set_up(path).stderr == ""
    assert "npm is missing" in set_up(path, "--required").stderr


def test_root_installs_what_is_missing_and_others_are_told_how(path: Path) -> None:
    for name in ("bwrap", "node"):
        (path / name).unlink()
    put(path, "apt-get", APT_GET.replace("dirname", "/usr/bin/dirname")
        .replace("touch", "/usr/bin/touch").replace("chmod", "/bin/chmod"))
    done = set_up(path, "--required")
    if os.geteuid() == 0:
        assert (done.returncode, done.stderr) == (0, "")
        assert "Installing bubblewrap, nodejs" in done.stdout
        assert set_up(path, "--required").stdout == ""
    else:
        assert done.returncode == 1
        assert "sudo apt-get install bubblewrap" in done.stderr


def test_a_package_that_cannot_be_had_is_told(path: Path) -> None:
    (path / "esbuild").unlink()
    put(path, "apt-get", "#!/bin/sh\necho no such package\nexit 100\n")
    done = set_up(path)
    assert done.returncode == 0
    assert "sudo apt-get install esbuild" in done.stderr
    assert ("no such package" in done.stderr) == (os.geteuid() == 0)
