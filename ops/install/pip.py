"""The pip of the Python that runs this, and how it is configured."""

from __future__ import annotations

import ast
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ops.install.failure import ProgramFailed, SetupFailed
from ops.install.pieces import Making, without_credentials
from ops.install.places import CACHE

QUIETLY = ("--no-input", "--disable-pip-version-check", "--no-color")

ENVIRONMENT = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
"""Against a user's settings that would put packages elsewhere, or refuse to."""

CONFIGURATION_S = 60
"""Deadline of `pip config list`, which takes half a second on an idle machine."""

_SETTING = re.compile(r"^(?:global|install|:env:)\.([\w-]+)=(.*)$", re.MULTILINE)

_PIN = re.compile(r"^([a-z0-9._-]+)==", re.MULTILINE)


def pip(making: Making) -> list[str]:
    """The command that starts pip. Where this Python has none, it gets one of its own."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    own = CACHE / "pip"
    python = own / "bin" / "python"
    if not (own / "bin" / "pip").exists():
        create_environment(making, own, "--clear")
    return [str(python), "-m", "pip"]


def create_environment(making: Making, folder: Path, *options: str) -> None:
    """Create a virtual environment. Raises SetupFailed with the package that Debian lacks."""
    try:
        making.run([sys.executable, "-m", "venv", *options, str(folder)])
    except ProgramFailed as failure:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupFailed(
            f"{failure}\n{sys.executable} cannot create a virtual environment: the reason is "
            f"above. On Debian and Ubuntu: `apt install {version}-venv`; then run the command "
            "again."
        ) from failure


def configuration(making: Making) -> dict[str, str]:
    """What pip's files and variables set, by the names of its options without `--`.

    Raises SetupFailed if pip does not tell them.
    """
    try:
        listed = subprocess.run(  # noqa: S603 our own pip
            [*pip(making), *QUIETLY, "config", "list"], stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", errors="replace", timeout=CONFIGURATION_S,
            check=False,
        )
        if listed.returncode != 0:
            # Without them, packages would come from another index than the user's.
            raise SetupFailed(
                f"{without_credentials(listed.stderr.strip())}\npip cannot read its settings: "
                "the reason is above. Mend them; then run the command again."
            )
        return read_configuration(listed.stdout)
    except (subprocess.TimeoutExpired, ValueError, SyntaxError) as error:
        raise SetupFailed(
            f"pip does not tell its settings ({type(error).__name__}): try `pip config list`, "
            "mend what it shows; then run the command again."
        ) from error


def read_configuration(listed: str) -> dict[str, str]:
    """The settings in what `pip config list` prints: later sections go before earlier ones."""
    order = ("global.", "install.", ":env:.")
    lines = sorted(
        listed.splitlines(),
        key=lambda line: next((i for i, each in enumerate(order) if line.startswith(each)), 0),
    )
    found = _SETTING.findall("\n".join(lines))
    return {name.replace("_", "-"): str(ast.literal_eval(value)) for name, value in found}


def for_uv(configured: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The variables that make uv use the same indexes as pip. uv does not read pip's settings.

    `own` is this process's environment: what it says to uv itself is not overridden.
    """
    said = {name for name, value in own.items() if value}
    result: dict[str, str] = {}
    if not said & {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"}:
        _put(result, "UV_DEFAULT_INDEX", configured.get("index-url", ""))
        _put(result, "UV_INDEX", " ".join(configured.get("extra-index-url", "").split()))
        # As pip does it: the best file of all indexes. Its hash is checked.
        result["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    _put(result, "UV_FIND_LINKS", ",".join(configured.get("find-links", "").split()))
    _put(result, "UV_NO_INDEX", "1" if _is_true(configured.get("no-index", "")) else "")
    _put(result, "UV_INSECURE_HOST", " ".join(configured.get("trusted-host", "").split()))
    timeout = configured.get("timeout") or configured.get("default-timeout", "")
    # uv takes whole seconds only.
    _put(result, "UV_HTTP_TIMEOUT", str(math.ceil(float(timeout))) if timeout else "")
    _put(result, "SSL_CLIENT_CERT", configured.get("client-cert", ""))
    _put(result, "SSL_CERT_FILE", certificate(configured, own))
    # pip trusts what the system trusts.
    result["UV_SYSTEM_CERTS"] = "1"
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        if name.lower() not in said:
            _put(result, name, configured.get("proxy", ""))
    return {name: value for name, value in result.items() if name not in said}


def certificate(configured: Mapping[str, str], own: Mapping[str, str]) -> str:
    """The file of certificates that pip trusts; empty if it is not set."""
    bundle = own.get("REQUESTS_CA_BUNDLE") or own.get("CURL_CA_BUNDLE", "")
    return configured.get("cert") or bundle


def index_name(configured: Mapping[str, str]) -> str:
    """The index in a sentence, without credentials."""
    url = configured.get("index-url")
    return f"the package index {without_credentials(url)}" if url else "the package index"


def _put(result: dict[str, str], name: str, value: str) -> None:
    if value:
        result[name] = value


def _is_true(value: str) -> bool:
    return value.lower() in {"1", "true", "yes", "y", "t", "on"}


def unreachable(reason: str, index: str) -> str:
    """The sentence for an index that does not answer."""
    return (
        f"{reason}\nNo answer from {index}: the reason is above. Check the network and pip's "
        "settings (`pip config list`); then run the command again."
    )


def run(making: Making, *arguments: str, lock: Path | None = None) -> None:
    """Run pip. If it installs `lock`, its progress is its state.

    Raises ProgramFailed.
    """
    begun: list[str] = []

    def hear(line: str) -> None:
        if found := re.match(r"\s*Collecting ([\w.-]+)", line):
            begun.append(found[1])
            making.now(f"package {len(begun)} of about {len(names)}, {found[1]}")
        elif line.startswith("Installing collected"):
            making.now(f"pip unpacks and compiles {len(begun)} packages")

    names = names_in(lock) if lock else frozenset()
    options = ("--progress-bar", "off") if lock else ()
    command = [*pip(making), *QUIETLY, *arguments, *options]
    making.run(command, environment=ENVIRONMENT, hear=hear)


def names_in(lock: Path) -> frozenset[str]:
    """The names of the packages in a lock, those for other systems too."""
    return frozenset(_PIN.findall(lock.read_text()))
