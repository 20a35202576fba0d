"""Decisions of the supervisor and what it shows."""

from __future__ import annotations

import socket

import pytest

from ops.servers.log_files import SIZE_BYTES_MAX, LogFile
from ops.servers.readiness import free_port, local_url
from ops.servers.supervisor import STOP_S, restart_delay_s
from spans.errors import SetupError


def test_a_process_that_ran_steadily_is_started_again_at_once():
    assert restart_delay_s(0) == 0


def test_the_wait_grows_to_half_a_minute_and_no_further():
    delays = [restart_delay_s(failures) for failures in range(1, 50)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (0.5, 30.0)


def test_the_stages_of_a_stop_fit_into_five_seconds():
    assert sum(STOP_S.values()) <= 4.5


def test_only_warnings_and_errors_are_shown_and_each_once(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("2026-11-20 08:00:00,000 ERROR x before this start\n")
    log = LogFile(path)
    with path.open("a") as file:
        file.write("2026-11-20 08:00:01,000 INFO x fine\n12:M # WARNING of the kernel\n")
        file.write("2026-11-20 08:00:02,000 WARNING x disk is filling\n")
    assert log.new_warnings() == ["2026-11-20 08:00:02,000 WARNING x disk is filling"]
    assert log.new_warnings() == []


def test_a_flood_of_errors_is_counted_not_shown(tmp_path):
    log = LogFile(tmp_path / "x.log")
    log.path.write_text("2026-11-20 08:00:00,000 ERROR x again\n" * 100)
    assert log.new_warnings()[-1] == "... and 95 more"


def test_a_log_above_its_bound_starts_anew_and_keeps_the_last(tmp_path):
    log = LogFile(tmp_path / "x.log")
    with log.path.open("ab") as child:
        child.write(b"x" * (SIZE_BYTES_MAX + 1))
        child.flush()
        log.rotate()
        child.write(b"after\n")
    assert log.path.read_bytes() == b"after\n"
    assert (tmp_path / "x.log.1").stat().st_size == SIZE_BYTES_MAX + 1


def test_a_port_in_use_is_a_sentence_with_the_setting():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=rf"127\.0\.0\.1:{port} .*set TALLYARD_API_PORT"):
            free_port("127.0.0.1", port, what="The API", setting="TALLYARD_API_PORT")


def test_an_address_that_is_not_ours_is_a_sentence():
    with pytest.raises(SetupError, match=r"cannot listen on 192\.0\.2\.1:0"):
        free_port("192.0.2.1", 0, what="The API", setting="TALLYARD_API_PORT")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
    ],
)
def test_the_local_url_works_on_this_machine(host, url):
    assert local_url(host, 8000) == url
