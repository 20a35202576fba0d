"""The command line: every command is there, and `up` carries none of the others."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from ops.cli import COMMANDS, tallyard

HEAVY = ("alembic", "aiohttp", "autoevals", "celery", "openai", "redis", "sqlalchemy")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    shown = CliRunner().invoke(tallyard, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert len(shown.output.splitlines()) > 2


def test_help_lists_every_command():
    shown = CliRunner().invoke(tallyard, ["--help"]).output
    assert [name for name in COMMANDS if f"  {name} " not in shown] == []


def test_an_unknown_command_is_a_sentence():
    shown = CliRunner().invoke(tallyard, ["scrore"])
    assert shown.exit_code == 2
    assert "No such command" in shown.output


def test_the_supervisor_does_not_carry_what_only_others_need():
    program = (
        "import sys, ops.cli, ops.commands.up; "
        f"print(*[name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
