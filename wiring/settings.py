"""Every setting of Tallyard, read once from the environment.

A setting `judge_timeout_s` is the variable `TALLYARD_JUDGE_TIMEOUT_S`. An unknown
`TALLYARD_*` variable is an error, because a misspelt limit would otherwise be ignored silently.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
)

from automations.outbound.policy import Policy, read_policy
from automations.secrets import KEY_CHARACTERS_MIN
from scorers.judge.endpoints import Endpoint, Endpoints
from scorers.judge.prices import LIST_PRICES
from spans.errors import SetupError

PREFIX = "TALLYARD_"
POSTGRES_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


class Settings(BaseModel):
    """All settings, frozen. Each field's description is its line in the README's table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address on which the API and Flower listen")
    api_port: int = Field(8000, ge=0, le=65535, description="Port of the API")
    flower_port: int = Field(5555, ge=0, le=65535, description="Port of Flower")
    flower_user: str = Field("tallyard", description="Flower's user")
    flower_password: SecretStr | None = Field(
        None, description="Flower's password; unset: a random one, kept in the data directory"
    )
    public_url: str | None = Field(
        None,
        description="URL at which clients reach the API, and with which links in messages "
        "begin; unset: the Host of each request, and in messages this machine",
    )
    data_dir: Path = Field(
        Path(".tallyard"),
        description="Folder of the embedded servers' data, the local API key and logs "
        "(mode 0700)",
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 15+; unset: the embedded server in the data directory"
    )
    memory_mb: int | None = Field(
        None, ge=256,
        description="Memory of the machine for which the embedded PostgreSQL is set up, MiB, "
        "at least 256; unset: what the machine has, or its container may use",
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey 6+; unset: the embedded server in the data directory"
    )
    example: bool = Field(
        default=True, description="Load the example if there is no project yet; 0: do not"
    )
    org_name: str = Field(
        "tallyard", description="Name of the organisation, created at the first start"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level to log: DEBUG, INFO, WARNING or ERROR"
    )

    secret_key: SecretStr | None = Field(
        None,
        description="Keys that encrypt the secrets of webhooks in the database, each a random "
        "text of at least 24 characters, separated by commas: the first encrypts, all decrypt; "
        "unset: for the embedded PostgreSQL, one that is kept in the data directory",
    )
    outbound_allow: str | None = Field(
        None,
        description="Names, addresses and networks that webhooks may reach besides public "
        "addresses over https, each with an optional :port, separated by commas "
        "(docs/webhooks.md); unset: none",
    )
    outbound_proxy: SecretStr | None = Field(
        None,
        description="HTTP proxy through which webhooks are sent, such as `http://proxy:4750`: "
        "it then judges the addresses; unset: they are sent directly",
    )

    judge_base_url: str = Field(
        "https://api.openai.com/v1",
        description="Base URL of the LLM judge, an API compatible with OpenAI's",
    )
    judge_api_key: SecretStr | None = Field(
        None, description="API key for the judge's endpoint"
    )
    judge_model: str = Field("gpt-5-mini", description="Model of judges that name none")
    judge_api: Literal["auto", "chat", "responses"] = Field(
        "auto",
        description="API that the judge's models speak: chat (`/chat/completions`) or "
        "responses (`/responses`); auto: `gpt-5...` the second and others the first, and the "
        "other one if the server says so",
    )
    judge_embedding_model: str = Field(
        "text-embedding-3-small", description="Embedding model of the similarity scorers"
    )
    judges: Path | None = Field(
        None,
        description="YAML file of further endpoints of judges, with their models and prices; "
        "unset: there is only the default one",
    )
    prices: Path | None = Field(
        None,
        description="YAML file of what models cost, which replaces the table that comes with "
        "Tallyard (docs/budgets.md); unset: OpenAI's list prices",
    )
    judge_output_tokens_max: int = Field(
        4096, ge=16,
        description="Most tokens of one answer of a judge while a budget of money caps its "
        "calls",
    )
    judge_timeout_s: float = Field(60.0, gt=0, description="Timeout of a judge call, seconds")
    judge_in_flight: int = Field(
        256, ge=1, le=4096, description="Judge calls in flight at once in one worker process"
    )
    judge_cache_days: float = Field(
        0.0,
        ge=0,
        description="Days for which an identical call of a classifier is answered from the "
        "cache; "
        "0: no cache",
    )
    retry_hours: float = Field(
        24.0, gt=0,
        description="Hours for which an outcome is tried again after its first error that time "
        "may heal, such as a judge that is down; then the error is final",
    )
    backoff_max_s: float = Field(
        600.0, gt=0, description="Longest wait between two attempts, seconds"
    )
    lease_s: float = Field(
        60.0, gt=0,
        description="Seconds after which work claimed by a silent worker may be claimed by "
        "another",
    )
    heavy_timeout_s: float = Field(
        300.0,
        ge=30,
        description="Seconds after which a busy process of the heavy worker is killed; the "
        "third time, the outcome gets the error class poisoned",
    )
    match_processes: int = Field(2, ge=1, le=64, description="Processes of the match worker")
    heavy_processes: int = Field(1, ge=1, le=64, description="Processes of the heavy worker")
    cost_limit: float = Field(
        1e7,
        gt=0,
        description="Largest estimated work of a scorer that the match worker runs itself; "
        "the heavy worker runs scorers with more. One unit takes about 0.15 ns; Levenshtein "
        "needs as many as characters of output x characters of expected",
    )

    scorer_packages: Path | None = Field(
        None,
        description="Folder of the packages that users' scorers may import; unset: that of the "
        "environment `.venv-scorers`, which make installs",
    )

    sandbox: Literal["auto", "bubblewrap", "landlock", "off"] = Field(
        "auto",
        description="Sandbox for users' code: auto uses bubblewrap, and runs no code without "
        "it; "
        "landlock is weaker and is used only if set here; off runs no code",
    )
    sandbox_batches: int = Field(
        2, ge=1, le=64, description="Batches of users' code that one worker runs at once"
    )
    sandbox_kept: int = Field(
        16, ge=1, le=1024,
        description="Sandboxes that one worker keeps ready, one for each scorer version",
    )
    sandbox_idle_s: float = Field(
        60.0, gt=0, description="Seconds after which an idle sandbox is closed"
    )
    sandbox_time_max_s: float = Field(
        30.0, gt=0, le=600,
        description="Largest `time_s` that a scorer may set: time for one record, seconds",
    )
    sandbox_memory_max_mb: int = Field(
        1024, ge=64,
        description="Largest `memory_mb` that a scorer may set: memory of all its processes, "
        "MiB",
    )
    sandbox_result_bytes_max: int = Field(
        2**20, ge=1024,
        description="Largest `result_bytes` that a scorer may set: size of one result, bytes",
    )
    sandbox_log_bytes_max: int = Field(
        2**18, ge=0,
        description="Largest `log_bytes` that a scorer may set: printed text that is "
        "kept of one record, bytes",
    )

    sandbox_models: str | None = Field(
        None,
        description="Models that users' code may call at the judge's endpoint, separated by "
        "commas; unset: none",
    )
    sandbox_tokens_per_call: int = Field(
        4096, ge=16, description="Most tokens of one answer to users' code"
    )
    sandbox_tokens_per_day: int = Field(
        1_000_000, ge=1, description="Most tokens that the code of one scorer may use in a day"
    )

    body_bytes_max: int = Field(
        20 * 2**20, ge=1024, description="Largest request body as sent (compressed), bytes"
    )
    inflated_bytes_max: int = Field(
        64 * 2**20, ge=1024, description="Largest request body after decompression, bytes"
    )
    bundle_bytes_max: int = Field(
        64 * 2**20, ge=1024,
        description="Largest bundle of code that can be pushed, bytes as sent",
    )
    span_bytes_max: int = Field(
        6 * 2**20, ge=1024,
        description="Largest span, bytes of JSON (the size of an SDK's largest batch)",
    )
    rows_per_request_max: int = Field(
        10_000, ge=1, description="Most rows in one insert request"
    )
    depth_max: int = Field(64, ge=4, le=200, description="Deepest nesting of JSON in a span")
    nodes_max: int = Field(10_000, ge=100, description="Most JSON values in a span")
    query_timeout_s: float = Field(
        30.0, gt=0, description="Timeout of a query over /btql, seconds"
    )
    fetch_limit_max: int = Field(
        1000, ge=1,
        description="Most rows in one page of /btql; of fetch, most traces, or with a cursor "
        "most rows",
    )

    log_days: float | None = Field(
        None, gt=0,
        description="Days after which a trace is deleted, counted from its newest row, with "
        "its scores and all that is kept of it; unset: never",
    )
    match_record_days: float = Field(
        30.0, gt=0, description="Days for which match records, which explain shows, are kept"
    )
    rejected_row_days: float = Field(
        14.0, gt=0, description="Days for which rejected rows are kept"
    )
    resend_minutes: float = Field(
        60.0, gt=0,
        description="Minutes for which a request with an `Idempotency-Key` is remembered",
    )

    invoke_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="Seconds that an invocation waits for its answer "
        "(invoke, scorer tests, and the check of uploaded code)"
    )
    invocation_days: float = Field(
        1.0, gt=0, description="Days for which invocations and their answers are kept"
    )

    bundle_unused_days: float = Field(
        7.0, gt=0,
        description="Days for which a worker keeps an unpacked bundle that is not run",
    )

    _judge_endpoints: Endpoints = PrivateAttr()

    @property
    def judge_endpoints(self) -> Endpoints:
        """All endpoints of judges: that of the settings, and those of the file `judges`."""
        return self._judge_endpoints

    @property
    def outbound_policy(self) -> Policy:
        """Where requests to users' addresses may go."""
        return read_policy(self.outbound_allow)

    def _with_parts(self, environment: Mapping[str, str]) -> Self:
        """The settings with their endpoints.

        Raises SetupError for a mistake in the file of endpoints, in that of prices, or in an
        entry of the policy.
        """
        key = self.judge_api_key
        default = Endpoint(
            base_url=self.judge_base_url, api_key=key.get_secret_value() if key else None,
            timeout_s=self.judge_timeout_s, in_flight=self.judge_in_flight, api=self.judge_api,
        )
        others: tuple[Endpoint, ...] = ()
        if self.judges is not None:
            # Imported here: few installations need the reader of YAML in every process.
            from wiring.judges.endpoints import read_endpoints  # noqa: PLC0415

            others = read_endpoints(self.judges, default, environment)
        table = LIST_PRICES
        if self.prices is not None:
            from wiring.judges.prices import read_prices  # noqa: PLC0415 as above

            table = read_prices(self.prices)
        self._judge_endpoints = Endpoints(default, others, table)
        read_policy(self.outbound_allow)
        return self

    @field_validator("outbound_proxy")
    @classmethod
    def _is_proxy(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None and not given.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must be a URL like http://host:port")
        return given

    @field_validator("database_url")
    @classmethod
    def _with_driver(cls, given: SecretStr | None) -> SecretStr | None:
        """The URL with the scheme that names our driver, from any usual PostgreSQL scheme."""
        if given is None:
            return None
        scheme, separator, rest = given.get_secret_value().partition("://")
        if scheme not in POSTGRES_SCHEMES or not separator:
            raise ValueError("must be a URL like postgresql://user:password@host/database")
        return SecretStr(f"postgresql+psycopg://{rest}")

    @field_validator("secret_key")
    @classmethod
    def _long_keys(cls, given: SecretStr | None) -> SecretStr | None:
        """Keys that nobody guesses: random ones of that many characters."""
        if given and any(
            len(key) < KEY_CHARACTERS_MIN for key in _listed(given.get_secret_value())
        ):
            raise ValueError(f"each key must have at least {KEY_CHARACTERS_MIN} characters")
        return given

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, given: SecretStr | None) -> SecretStr | None:
        if given and not given.get_secret_value().startswith(REDIS_SCHEMES):
            raise ValueError("must be a URL like redis://host:6379/0")
        return given

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The keys that encrypt the secrets of webhooks, the one in use first."""
        return _listed(self.secret_key.get_secret_value()) if self.secret_key else ()

    @property
    def retry_budget_s(self) -> float:
        """Seconds for which an outcome is tried again after its first transient error."""
        return self.retry_hours * 3600

    @property
    def scorer_packages_dir(self) -> Path:
        """Folder of the packages that users' scorers may import.

        By default that of the environment named like ours with `-scorers` added, beside it:
        `.venv-scorers` beside `.venv`.
        """
        if self.scorer_packages:
            return self.scorer_packages
        own = Path(sys.prefix)
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        return own.with_name(f"{own.name}-scorers") / "lib" / python / "site-packages"


def _listed(text: str) -> tuple[str, ...]:
    """The parts of a list that is separated by commas."""
    return tuple(filter(None, map(str.strip, text.split(","))))


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `environment`, by default that of this process.

    Raises SetupError, which names every unknown variable and every invalid value.
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
    data_dir = settings.data_dir.expanduser().absolute()
    # The private method is this module's own: a settings object is made here alone.
    return settings.model_copy(update={"data_dir": data_dir})._with_parts(source)  # noqa: SLF001
