"""Proves that sandboxes contain code on this machine, by running attacks that must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scorers.sandbox.model import CodeEnd, Isolation, Limits, Program, RunResult, Runtime
from scorers.sandbox.place import Place, Tier, unavailable
from scorers.sandbox.pool import Owner, Sandboxes
from spans.json import Json

_LIMITS = Limits(time_s=20.0, memory_mb=96)
"""Enough time for a busy machine; so little memory that one greedy process soon reaches it."""

_OWNER = Owner("selftest", "selftest", "0")

_NETWORK = """
import socket
def handler():
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1).close()
    except OSError as error:
        return {"score": int(error.errno in (1, 13, 101)), "metadata": {"said": str(error)}}
    return 0
"""

_SHADOW = """
def handler():
    try:
        open("/etc/shadow").close()
    except OSError:
        return 1
    return 0
"""

_FORKS = """
import os, signal
def handler():
    made = 0
    try:
        for _ in range(200):
            if os.fork() == 0:
                signal.pause()
            made += 1
    except OSError:
        pass
    return {"score": 1 if made < 64 else 0, "metadata": {"processes": made}}
"""

# When memory runs out, the kernel chooses which process of the tree it kills: the first one or
# any other, even one that already got the memory that it asked for.
_MEMORY = """
import os, signal, time
def handler():
    children = []
    for _ in range(4):
        told, tells = os.pipe()
        children.append(os.fork())
        if not children[-1]:
            held = [bytes([1]) * 2**20 for _ in range(64)]
            os.write(tells, b"held")
            signal.pause()
        os.close(tells)
        if not os.read(told, 4):
            return 1
    for _ in range(50):
        if any(os.waitpid(each, os.WNOHANG)[0] for each in children):
            return 1
        time.sleep(0.1)
    return 0
"""

_ENVIRONMENT = """
import os
KNOWN = {"PATH", "HOME", "LANG", "TMPDIR", "PWD", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
         "OPENAI_BASE_URL", "OPENAI_API_KEY", "BRAINTRUST_NUM_RETRIES"}
def handler():
    found = sorted(os.environ.keys() - KNOWN)
    return {"score": 0 if found else 1, "metadata": {"found": found}}
"""

_RESULT = """
def handler(output):
    return {"score": 1 if output == [1, "a", None] else 0}
"""


def _scored(ran: RunResult) -> str | None:
    """None if the attack failed; otherwise what it achieved."""
    value: Json = ran.value
    score = value.get("score") if isinstance(value, dict) else value
    if ran.ended is CodeEnd.OK and score == 1:
        return None
    return f"{ran.ended.value} {value if ran.ended is CodeEnd.OK else ran.detail}"


def _scored_or_killed(ran: RunResult) -> str | None:
    return None if ran.ended is CodeEnd.KILLED else _scored(ran)


_PROBES: dict[str, tuple[str, Callable[[RunResult], str | None]]] = {
    "network": (_NETWORK, _scored),
    "files": (_SHADOW, _scored),
    "processes": (_FORKS, _scored),
    "memory": (_MEMORY, _scored_or_killed),
    "environment": (_ENVIRONMENT, _scored),
    "result": (_RESULT, _scored),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Whether sandboxes contain code here.

    `probes` maps the name of each attack to "ok" or to what happened. `sentence` tells the
    operator what is wrong; it is empty if nothing is.
    """

    tier: Tier
    ok: bool
    probes: dict[str, str]
    sentence: str


def prove(place: Place) -> Proof:
    """Run each attack in a sandbox. This takes a second or two, and no finding raises."""
    sandboxes = Sandboxes(place, kept=1, idle_s=0.0)
    try:
        probes: dict[str, str] = {}
        for name, (code, held) in _PROBES.items():
            program = Program(
                runtime=Runtime.PYTHON, code=code, isolation=Isolation.RECORD, limits=_LIMITS
            )
            (ran,) = sandboxes.run(_OWNER, program, [{"output": [1, "a", None]}])
            if ran.ended is CodeEnd.INFRA_ERROR:
                # Without a jail no attack can run; the result's detail says what is missing.
                return Proof(tier=place.tier, ok=False, probes=probes, sentence=ran.detail)
            probes[name] = held(ran) or "ok"
    finally:
        sandboxes.close()
    bad = [f"{name} ({said})" for name, said in probes.items() if said != "ok"]
    problem = unavailable(f"it did not stop these attacks: {', '.join(bad)}")
    sentence = str(problem) if bad else ""
    return Proof(tier=place.tier, ok=not bad, probes=probes, sentence=sentence)
