"""Finds the servers of the running `tallyard up`, for all other commands."""

from __future__ import annotations

from pydantic import SecretStr

from ops.data_dir import DataDir
from spans.errors import SetupError
from wiring.settings import Settings, read_settings

SHARED = ("host", "api_port", "public_url", "outbound_allow")
"""Settings that a command takes from the running `tallyard up` if its own environment has none:
a test of an automation goes where notifications go, with the links that they have."""


def running_settings() -> Settings:
    """The settings with the URLs of both stores: as set, or those of the running `tallyard up`,
    with its settings of SHARED and the key of its embedded database.

    Raises SetupError with the next step if a URL is neither set nor known.
    """
    settings = read_settings()
    if settings.database_url and settings.redis_url:
        return settings
    data = DataDir(settings.data_dir)
    holder = data.holder()
    state = data.read_state() if holder is not None else None
    if state is None and holder is not None:
        raise SetupError(
            f"Tallyard is still starting on {data.path} (process {holder}): wait until that "
            "process says that it is up."
        )
    if state is None:
        raise SetupError(
            f"Nothing runs on {data.path}: start it with `tallyard up` (or `make run`). If it "
            "runs in another folder, go there or set TALLYARD_DATA_DIR. For servers of your "
            "own, set TALLYARD_DATABASE_URL and TALLYARD_REDIS_URL."
        )
    found: dict[str, SecretStr | str | int | None] = {
        **{name: state.settings[name] for name in SHARED
           if name in state.settings and name not in settings.model_fields_set},
        "database_url": settings.database_url or SecretStr(state.database_url),
        "redis_url": settings.redis_url or SecretStr(state.redis_url),
    }
    if not (settings.database_url or settings.secret_key):
        found["secret_key"] = SecretStr(data.secret(data.secret_key))
    return settings.model_copy(update=found)
