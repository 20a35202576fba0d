"""The stores' URLs are told apart before anything starts."""

from __future__ import annotations

import pytest

from spans.errors import SetupError
from wiring.settings import read_settings


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_the_usual_spellings_of_a_postgres_url_name_our_driver(scheme):
    settings = read_settings({"TALLYARD_DATABASE_URL": f"{scheme}://u:p@h/d"})
    assert settings.database_url.get_secret_value() == "postgresql+psycopg://u:p@h/d"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TALLYARD_DATABASE_URL", "mysql://h/d"),
        ("TALLYARD_DATABASE_URL", "h:5432"),
        ("TALLYARD_REDIS_URL", "amqp://h"),
    ],
)
def test_another_kind_of_url_is_a_sentence_that_names_the_variable(name, value):
    with pytest.raises(SetupError, match=f"{name}: .*must be a URL like"):
        read_settings({name: value})


def test_a_secret_url_does_not_stand_in_the_message():
    with pytest.raises(SetupError) as refused:
        read_settings({"TALLYARD_DATABASE_URL": "mysql://u:hunter2@h/d"})
    assert "hunter2" not in str(refused.value)
