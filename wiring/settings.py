"""Every setting of Tallyard, read once from the environment.

A setting `judge_timeout_s` is the variable `TALLYARD_JUDGE_TIMEOUT_S`. An unknown
`TALLYARD_*` variable is an error: a misspelt limit must not be a silent default.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from spans.errors import SetupError

PREFIX = "TALLYARD_"
POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class Settings(BaseModel):
    """Frozen values; each field's description is its line in the README's table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address that the API and Flower listen on")
    api_port: int = Field(8000, ge=0, le=65535, description="Port of the API")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower")
    flower_user: str = Field("tallyard", description="Flower's user")
    flower_password: SecretStr | None = Field(
        None, description="Flower's password; unset: one is made and kept in the data directory"
    )
    public_url: str | None = Field(
        None,
        description="URL under which clients reach the API; unset: the request's own Host",
    )
    data_dir: Path = Field(
        Path(".tallyard"),
        description="Embedded servers' data, the local API key and logs (mode 0700)",
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 14+; unset: the embedded server in the data directory"
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey 6+; unset: the embedded server in the data directory"
    )
    example: bool = Field(default=True, description="Load the example into an empty store")
    org_name: str = Field("tallyard", description="Organisation that is made at first start")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Least level that is logged: DEBUG, INFO, WARNING or ERROR"
    )

    judge_base_url: str = Field(
        "https://api.openai.com/v1", description="OpenAI-compatible endpoint of the LLM judge"
    )
    judge_api_key: SecretStr | None = Field(None, description="Key for the judge's endpoint")
    judge_model: str = Field("gpt-5-mini", description="Judge's model where a rule names none")
    judge_embedding_model: str = Field(
        "text-embedding-3-small", description="Embedding model of the similarity scorers"
    )
    judge_timeout_s: float = Field(60.0, gt=0, description="Deadline of a judge call, seconds")
    judge_in_flight: int = Field(
        256, ge=1, le=4096, description="Judge calls under way at once in one worker process"
    )
    judge_cache_days: float = Field(
        0.0,
        ge=0,
        description="Days for which a classifier's answer is given again to an identical call; "
        "0: each call is made",
    )
    attempts_max: int = Field(
        5, ge=1, le=100, description="Attempts of one outcome before a transient error is final"
    )
    backoff_max_s: float = Field(
        600.0, gt=0, description="Longest wait between two attempts, seconds"
    )
    lease_s: float = Field(
        60.0, gt=0, description="How long a silent worker keeps what it claimed, seconds"
    )
    heavy_timeout_s: float = Field(
        300.0,
        ge=30,
        description="A heavy worker's process that is busy for longer is killed, seconds; at "
        "the third time its span is poisoned",
    )
    match_processes: int = Field(2, ge=1, le=64, description="Processes of the match worker")
    heavy_processes: int = Field(1, ge=1, le=64, description="Processes of the heavy worker")
    cost_limit: float = Field(
        1e7,
        gt=0,
        description="Most work of a scorer that runs while matching, in units of 0.15 ns "
        "(for Levenshtein: characters x characters); above it the heavy queue takes over",
    )

    scorer_packages: Path | None = Field(
        None,
        description="Folder of the packages that users' scorers may import; unset: those of "
        "the environment that set-up makes beside Tallyard's own",
    )

    sandbox: Literal["auto", "bubblewrap", "landlock", "off"] = Field(
        "auto",
        description="What contains users' code: auto takes bubblewrap, or none; landlock is "
        "weaker and never taken unasked; off runs none",
    )
    sandbox_batches: int = Field(
        2, ge=1, le=64, description="Batches of users' code under way at once in one worker"
    )
    sandbox_kept: int = Field(
        16, ge=1, le=1024, description="Sandboxes that one worker keeps ready, one a scorer"
    )
    sandbox_idle_s: float = Field(
        60.0, gt=0, description="An idle sandbox is let go after this, seconds"
    )
    sandbox_time_max_s: float = Field(
        30.0, gt=0, le=600, description="Most that a scorer may ask for one record, seconds"
    )
    sandbox_memory_max_mb: int = Field(
        1024, ge=64, description="Most that a scorer may ask for all its processes, MiB"
    )
    sandbox_result_bytes_max: int = Field(
        2**20, ge=1024, description="Most that a scorer may ask for one result, bytes"
    )
    sandbox_log_bytes_max: int = Field(
        2**18, ge=0, description="Most of a scorer's output that is kept for one record, bytes"
    )

    sandbox_models: str | None = Field(
        None,
        description="Models that users' code may call over the judge's endpoint, with commas "
        "between them; unset: none",
    )
    sandbox_tokens_per_call: int = Field(
        4096, ge=16, description="Most tokens of one answer to users' code"
    )
    sandbox_tokens_per_day: int = Field(
        1_000_000, ge=1, description="Most tokens that the code of one scorer may use in a day"
    )

    body_bytes_max: int = Field(
        20 * 2**20, ge=1024, description="Largest request body as sent, bytes"
    )
    inflated_bytes_max: int = Field(
        64 * 2**20, ge=1024, description="Largest request body after inflating, bytes"
    )
    bundle_bytes_max: int = Field(
        64 * 2**20, ge=1024, description="Largest pushed bundle of code, bytes as sent"
    )
    span_bytes_max: int = Field(
        6 * 2**20, ge=1024, description="Largest span, bytes of JSON (an SDK's largest batch)"
    )
    rows_per_request_max: int = Field(1000, ge=1, description="Rows in one insert request")
    depth_max: int = Field(64, ge=4, le=512, description="Deepest nesting inside a span")
    nodes_max: int = Field(10_000, ge=100, description="JSON values inside a span")
    query_timeout_s: float = Field(30.0, gt=0, description="Longest query of /btql, seconds")
    fetch_limit_max: int = Field(1000, ge=1, description="Largest page of fetch and /btql")

    match_record_days: float = Field(
        30.0, gt=0, description="Days that match records are kept, for explain"
    )
    rejected_row_days: float = Field(14.0, gt=0, description="Days that rejected rows are kept")
    resend_minutes: float = Field(
        60.0, gt=0, description="Minutes in which a resent request gets its first answer"
    )

    invoke_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="How long a call waits for its answer, seconds: "
        "invoke, scorer tests, and the check of code when it is uploaded"
    )
    invocation_days: float = Field(
        1.0, gt=0, description="Days that such calls and their answers are kept"
    )

    bundle_unused_days: float = Field(
        7.0, gt=0, description="Days that a worker keeps an unpacked bundle nobody runs"
    )

    @field_validator("database_url")
    @classmethod
    def _with_driver(cls, given: SecretStr | None) -> SecretStr | None:
        """The usual spellings of a PostgreSQL URL, as the one that names our driver."""
        if given is None:
            return None
        scheme, separator, rest = given.get_secret_value().partition("://")
        if scheme not in POSTGRES_SCHEMES or not separator:
            raise ValueError("must be a URL like postgresql://user:password@host/database")
        return SecretStr(f"postgresql+psycopg://{rest}")

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, given: SecretStr | None) -> SecretStr | None:
        if given and not given.get_secret_value().startswith(REDIS_SCHEMES):
            raise ValueError("must be a URL like redis://host:6379/0")
        return given

    @property
    def postgres_dir(self) -> Path:
        """Where the embedded PostgreSQL keeps its data, and its socket."""
        return self.data_dir / "postgres"

    @property
    def scorer_packages_dir(self) -> Path:
        """What users' scorers may import: `.venv-scorers` beside `.venv`, and the like."""
        if self.scorer_packages:
            return self.scorer_packages
        own = Path(sys.prefix)
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return own.with_name(f"{own.name}-scorers") / "lib" / python / "site-packages"

    @property
    def valkey_socket(self) -> Path:
        """The embedded Valkey's unix socket."""
        return self.data_dir / "valkey" / "valkey.sock"


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (or the mapping given).

    Raises SetupError that names each variable that is unknown or has an unusable value.
    """
    source = os.environ if environment is None else environment  # noqa: TID251 the one reader
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in source.items()
        if name.startswith(PREFIX) and value != ""
    }
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(
            f"{PREFIX}{'_'.join(map(str, problem['loc'])).upper()}: "
            + (
                "no such setting, see the table in README.md"
                if problem["type"] == "extra_forbidden"
                else problem["msg"]
            )
            for problem in error.errors()
        )
        raise SetupError(problems) from error
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})
