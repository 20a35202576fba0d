"""Set-up's parts that need no network: pip's settings for uv, progress, the image's files."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.install import pieces, pip
from ops.install.bytecode import Bytecode
from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making, Piece, carry_out, without_credentials
from ops.install.places import STAMP, guarded, stamped
from ops.install.uv import variables
from ops.servers.children import wait_until

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("written", ["null", "5", "{}", '"abc"', "", "\0"])
def test_a_damaged_stamp_says_that_nothing_is_complete(tmp_path: Path, written: str) -> None:
    (tmp_path / STAMP).write_text(written)
    assert stamped(tmp_path) == []


# --- pip's settings


def test_settings_that_pip_cannot_read_end_the_set_up_with_its_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "pip.conf"
    broken.write_text("[global\nindex-url = http://private.invalid/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(broken))
    with pytest.raises(SetupFailed, match="pip cannot read its settings"):
        pip.configuration(Making("uv"))


def test_uv_makes_no_packages_of_links() -> None:
    assert variables({}, {"UV_LINK_MODE": "symlink"})["UV_LINK_MODE"] == "copy"
    assert "UV_LINK_MODE" not in variables({}, {"UV_LINK_MODE": "clone"})


def test_a_setting_for_install_goes_before_a_general_one_and_a_variable_before_both() -> None:
    listed = (
        ":env:.proxy='http://c'\n"
        "download.proxy='http://d'\n"
        "global.index-url='http://a'\n"
        "global.proxy='http://a'\n"
        "install.index-url='http://b'\n"
        "install.proxy='http://b'\n"
    )
    assert pip.read_configuration(listed) == {"index-url": "http://b", "proxy": "http://c"}


@pytest.mark.parametrize(
    ("configured", "variables"),
    [
        ({"index-url": "https://i/simple"}, {"UV_DEFAULT_INDEX": "https://i/simple"}),
        ({"extra-index-url": "\nhttps://a\nhttps://b"}, {"UV_INDEX": "https://a https://b"}),
        ({"find-links": "/wheels https://w"}, {"UV_FIND_LINKS": "/wheels,https://w"}),
        ({"no-index": "true"}, {"UV_NO_INDEX": "1"}),
        ({"no-index": "0"}, {}),
        ({"trusted-host": "a\nb:8080"}, {"UV_INSECURE_HOST": "a b:8080"}),
        ({"cert": "/ca.pem"}, {"SSL_CERT_FILE": "/ca.pem"}),
        ({"client-cert": "/me.pem"}, {"SSL_CLIENT_CERT": "/me.pem"}),
        ({"default-timeout": "180"}, {"UV_HTTP_TIMEOUT": "180"}),
        ({"timeout": "7.5"}, {"UV_HTTP_TIMEOUT": "8"}),
        ({"proxy": "http://p"}, {"HTTP_PROXY": "http://p", "HTTPS_PROXY": "http://p"}),
    ],
    ids=str,
)  # fmt: skip
def test_uv_is_told_what_pip_is_configured_to(
    configured: dict[str, str], variables: dict[str, str]
) -> None:
    always = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_SYSTEM_CERTS": "1"}
    assert pip.for_uv(configured, {}) == always | variables


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ({"UV_DEFAULT_INDEX": "https://mine"}, ["UV_INDEX", "UV_INDEX_STRATEGY"]),
        ({"UV_FIND_LINKS": "/mine"}, ["UV_FIND_LINKS"]),
        ({"SSL_CERT_FILE": "/mine"}, ["SSL_CERT_FILE"]),
        ({"https_proxy": "http://mine"}, ["HTTPS_PROXY"]),
        ({"UV_HTTP_TIMEOUT": "7"}, ["UV_HTTP_TIMEOUT"]),
    ],
    ids=str,
)
def test_what_uv_is_told_by_the_user_stays(own: dict[str, str], kept: list[str]) -> None:
    configured = {
        "index-url": "https://i", "extra-index-url": "https://e", "find-links": "/w",
        "cert": "/c", "proxy": "http://p", "timeout": "60",
    }  # fmt: skip
    assert pip.for_uv(configured, own).keys() & {*kept, *own} == set()


def test_an_index_is_named_without_its_credentials() -> None:
    configured = {"index-url": "https://me:secret@index.example/simple"}
    assert pip.index_name(configured) == "the package index https://***@index.example/simple"
    assert without_credentials("see https://token@a/b, http://c/@d, http://me:p@ss@e") == (
        "see https://***@a/b, http://c/@d, http://***@e"
    )


# --- progress


@dataclass
class Made:
    """A piece whose making is a function of the test."""

    name: str
    work: Callable[[Making], None]
    after: tuple[Piece, ...] = ()

    def is_complete(self) -> bool:
        """Never."""
        return False

    def make(self, making: Making) -> None:
        """Do the work."""
        self.work(making)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show progress at once, and call an index slow soon."""
    monkeypatch.setattr(pieces, "SHOW_EVERY_S", 0.01)
    monkeypatch.setattr(pieces, "QUIET_S", 0.05)


def test_a_piece_is_made_after_those_it_needs_and_beside_the_others() -> None:
    order: list[str] = []
    both = threading.Barrier(2, timeout=30)

    def at_once(making: Making) -> None:
        both.wait()
        order.append(making.name)

    first, beside = Made("first", at_once), Made("beside", at_once)
    second = Made("second", lambda _: order.append("second"), after=(first,))
    assert carry_out([first, beside, second]) == []
    assert order.index("first") < order.index("second")


def test_a_failure_is_told_once_and_what_needs_the_piece_is_not_made() -> None:
    made: list[str] = []

    def fail(_: Making) -> None:
        raise SetupFailed("no index; check the network")

    first, other = Made("first", fail), Made("other", fail)
    needs = Made("needs", lambda _: made.append("needs"), after=(first,))
    assert list(map(str, carry_out([first, other, needs]))) == ["no index; check the network"]
    assert made == []


def test_a_full_disk_is_a_sentence() -> None:
    def fail(_: Making) -> None:
        raise OSError(28, "No space left on device")

    (failure,) = carry_out([Made("first", fail)])
    assert str(failure) == "first cannot be installed: [Errno 28] No space left on device"


@pytest.mark.usefixtures("hasty")
def test_a_state_is_shown_once_and_a_slow_source_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = ""

    def work(making: Making) -> None:
        nonlocal told
        making.source = "the package index https://index.example"
        making.now("2 of 3 packages")
        while "is slow or does not answer" not in told:
            threading.Event().wait(0.01)
            told += capsys.readouterr().out

    carry_out([Made(".venv", work)])
    assert told.count(".venv: 2 of 3 packages") == 1
    assert "https://index.example is slow" in told


@pytest.mark.usefixtures("hasty")
def test_a_program_that_brings_no_news_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "GIVE_UP_S", 0.2)
    sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
    (failure,) = carry_out([Made(".venv", lambda making: making.run(sleeps) and None)])
    assert "nothing arrived from the package index" in str(failure)


def test_who_waits_for_another_make_is_let_in_after_it_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    entered = threading.Event()

    def enter(making: Making) -> None:
        with guarded("it", making):
            entered.set()

    waiting, stopped = Making("waiting"), Making("stopped")
    with ThreadPoolExecutor(2) as pool:
        with guarded("it", Making("other")):
            first = pool.submit(enter, waiting)
            second = pool.submit(enter, stopped)
            assert wait_until(lambda: waiting.waits and stopped.waits, deadline_s=30)
            stopped.end()
            with pytest.raises(SetupFailed, match="stopped"):
                second.result(timeout=30)
            assert not entered.is_set()
        first.result(timeout=30)
    assert entered.is_set()


def test_the_last_words_of_a_failed_program_are_its_reason() -> None:
    script = "import sys; [print(i) for i in range(100)]; print('http://a:b@c'); sys.exit(3)"
    with pytest.raises(ProgramFailed) as failed:
        Making("x").run([sys.executable, "-c", script])
    assert str(failed.value).splitlines()[-2:] == ["99", "http://***@c"]


# --- the project's bytecode


@dataclass(frozen=True)
class OfProject:
    """An environment of a project, not made yet."""

    project: Path

    def is_complete(self) -> bool:
        """Not yet."""
        return False


def test_the_rooms_of_the_project_are_compiled_and_nothing_else(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("spans", "tests"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "some.py").write_text("")
    assert carry_out([Bytecode(OfProject(tmp_path))]) == []
    assert [path.parts[-3] for path in tmp_path.rglob("*.pyc")] == ["spans"]


# --- where it runs


def test_it_runs_without_any_package(tmp_path: Path) -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); import ops.install.__main__"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, str(ROOT)], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_image_is_set_up_by_the_same_program_with_all_that_it_reads(tmp_path: Path) -> None:
    before, command, after = re.split(
        r"^RUN (python -m ops\.install .*)$", (ROOT / "Dockerfile").read_text(), flags=re.M
    )
    assert command == "python -m ops.install image --into /opt/tallyard"
    for copied in re.findall(r"^COPY (.+)$", before, flags=re.M):
        *sources, target = copied.split()
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, tmp_path / target)
            else:
                (tmp_path / target).mkdir(exist_ok=True)
                shutil.copy(ROOT / source, tmp_path / target)
    program = (
        "import pathlib; from ops.install.__main__ import pieces_of\n"
        "for each in pieces_of('image', pathlib.Path('/opt/tallyard')):\n"
        "    each.is_complete()\n"
        "    print(each.name)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made = [each for each in done.stdout.split() if Path(each).parent == Path("/opt")]
    assert re.findall(r"^COPY --from=build (\S+) \1$", after, flags=re.M) == made
