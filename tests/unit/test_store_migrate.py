"""Which PostgreSQL is accepted, tested and named."""

from __future__ import annotations

from pathlib import Path

import pytest
from postgres_servers import RELEASES

from spans.errors import SetupError
from store.migrate import OLDEST_MAJOR_VERSION, check_version

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("version", [9, 14])
def test_an_older_server_is_refused_with_the_next_step(version: int) -> None:
    with pytest.raises(SetupError, match="needs 15 or newer: move the data to a newer server"):
        check_version(version)


@pytest.mark.parametrize("version", [15, 18, 19])
def test_a_server_of_the_oldest_version_or_a_newer_one_is_accepted(version: int) -> None:
    check_version(version)


def test_the_readme_names_the_versions_that_tests_run_on() -> None:
    *older, newest = sorted(RELEASES)
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"{', '.join(map(str, older))} and {newest} are tested" in text
    assert min(RELEASES) == OLDEST_MAJOR_VERSION


def test_all_tests_of_the_store_run_on_every_postgres() -> None:
    tests = ROOT / "tests" / "integration"
    modules = [*tests.glob("test_store_*.py"), *tests.glob("test_btql_*.py")]
    unmarked = [
        path.name for path in modules
        if "pytestmark = pytest.mark.every_postgres" not in path.read_text()
    ]
    assert modules
    assert unmarked == []
