"""The settings of what runs now: how every command but `up` finds the embedded servers."""

from __future__ import annotations

from pydantic import SecretStr

from ops.data_dir import DataDir
from spans.errors import SetupError
from wiring.settings import Settings, read_settings


def running_settings() -> Settings:
    """The settings, with both stores' URLs: as set, else those of the running `tallyard up`.

    Raises SetupError with the next step if a URL is neither set nor known.
    """
    settings = read_settings()
    if settings.database_url and settings.redis_url:
        return settings
    data = DataDir(settings.data_dir)
    state = data.read_state() if data.holder() is not None else None
    if state is None:
        raise SetupError(
            f"Nothing runs on {data.path}: start it with `tallyard up` (or `make run`). If it "
            "runs on other data, go to its folder or set TALLYARD_DATA_DIR; for servers of "
            "your own set TALLYARD_DATABASE_URL and TALLYARD_REDIS_URL."
        )
    return settings.model_copy(
        update={
            "database_url": settings.database_url or SecretStr(state.database_url),
            "redis_url": settings.redis_url or SecretStr(state.redis_url),
        }
    )
