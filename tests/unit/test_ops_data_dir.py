"""The data directory: private to one user, and used by one process at a time."""

from __future__ import annotations

import stat

import pytest

from ops.data_dir import DataDir, ProcessState, RunState
from ops.folders import private_folder, socket_folder
from spans.errors import SetupError


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_claiming_makes_a_folder_that_only_its_owner_enters(tmp_path):
    data = DataDir(tmp_path / "new" / "data")
    with data.claim():
        assert mode(data.path) == mode(data.logs) == 0o700


def test_a_second_claim_is_refused_with_the_holder(tmp_path):
    data = DataDir(tmp_path / "data")
    with data.claim(), pytest.raises(SetupError, match=r"already runs on .* \(process \d+\)"):
        data.claim()


def test_a_claim_ends_with_its_holder(tmp_path):
    data = DataDir(tmp_path / "data")
    with data.claim():
        assert data.holder() is not None
    assert data.holder() is None
    with data.claim():
        pass


def test_a_folder_with_other_files_is_neither_used_nor_closed(tmp_path):
    (tmp_path / "thesis.txt").write_text("words")
    tmp_path.chmod(0o755)
    with pytest.raises(SetupError, match="not Tallyard's"):
        DataDir(tmp_path).claim()
    assert mode(tmp_path) == 0o755


def test_cleaning_leaves_what_is_not_ours(tmp_path):
    data = DataDir(tmp_path / "data")
    with data.claim():
        data.secret(data.flower_password)
        (data.path / "thesis.txt").write_text("words")
    data.remove()
    assert [each.name for each in data.path.iterdir()] == ["thesis.txt"]


def test_cleaning_takes_the_folder_with_it(tmp_path):
    data = DataDir(tmp_path / "data")
    with data.claim():
        data.secret(data.api_key)
        data.secret(data.secret_key)
    data.remove()
    assert not data.path.exists()


def test_cleaning_takes_what_sandbox_workers_left_so_that_the_next_start_is_accepted(tmp_path):
    data = DataDir(tmp_path / "data")
    with data.claim():
        for folder in (data.bundles / "0a1b", data.scratch / "unpack"):
            folder.mkdir(parents=True)
            (folder / "register.py").write_text("")
    data.remove()
    assert not data.path.exists()
    with data.claim():
        pass


def test_a_secret_is_made_once_and_closed(tmp_path):
    data = DataDir(tmp_path)
    first = data.secret(data.flower_password)
    assert data.secret(data.flower_password) == first
    assert mode(data.flower_password) == 0o600


def test_the_state_is_read_as_it_was_written(tmp_path):
    state = RunState(
        pid=7,
        api_url="http://127.0.0.1:1",
        flower_url="http://127.0.0.1:2",
        flower_user="tallyard",
        database_url="postgresql://x",
        redis_url="unix:///y",
        processes=(ProcessState(name="api", pid=8, restarts=1),),
        settings={"api_port": 1, "outbound_allow": "127.0.0.1:9", "public_url": None},
    )
    data = DataDir(tmp_path)
    data.write_state(state)
    assert data.read_state() == state


def test_a_folder_that_cannot_be_looked_into_is_a_sentence(tmp_path):
    # As root nothing is forbidden; a name too long is refused in the same way.
    with pytest.raises(SetupError, match=r"cannot be read .* set TALLYARD_DATA_DIR"):
        DataDir(tmp_path / ("x" * 300)).claim()


def test_a_file_in_the_place_of_a_folder_is_a_sentence(tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(SetupError, match="is a file, and must be a folder"):
        private_folder(tmp_path / "data")


@pytest.mark.parametrize("name", ["x" * 100, "with space", "comma,comma", "at@sign"])
def test_a_path_that_no_socket_can_have_gets_a_short_closed_one(tmp_path, name):
    short = socket_folder(tmp_path / name)
    try:
        assert len(str(short)) < 60
        assert mode(short) == 0o700
        assert socket_folder(tmp_path / name) == short
    finally:
        short.rmdir()


def test_anothers_link_in_the_place_of_the_short_folder_is_refused(tmp_path):
    short = socket_folder(tmp_path / "a b")
    short.rmdir()
    short.symlink_to(tmp_path)
    try:
        with pytest.raises(SetupError, match="belongs to another user"):
            socket_folder(tmp_path / "a b")
    finally:
        short.unlink()
