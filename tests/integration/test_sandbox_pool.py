"""The pool of jails: no jail is shared or left behind, and no record is lost with one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pieces import missing
from sandbox_user import place_of

from ops.servers.children import wait_until
from scorers.sandbox.cgroup import Cgroups, find_home
from scorers.sandbox.jail import Jail
from scorers.sandbox.model import CodeEnd, Isolation, Limits, Program, Runtime
from scorers.sandbox.place import Tier, find_place
from scorers.sandbox.pool import Owner, Sandboxes

SECONDS = 30.0
LIMITS = Limits(time_s=20.0, memory_mb=128)
ECHO = Program(runtime=Runtime.PYTHON, code="def handler(output): return output", limits=LIMITS)


@pytest.fixture
def sandboxes():
    made = Sandboxes(find_place(), kept=2, idle_s=0.0)
    yield made
    made.close()


def owner(number):
    return Owner("project", f"scorer {number}", "1")


def python(code, **more):
    return Program(runtime=Runtime.PYTHON, code=code, **{"limits": LIMITS, **more})


@pytest.fixture(autouse=True)
def _elsewhere():
    """What other tests of this session keep in bubblewraps is none of ours."""
    ELSEWHERE[:] = _bubblewraps()


ELSEWHERE: list[str] = []


def jails():
    """Processes that this one started since the test began and that are bubblewraps."""
    return [each for each in _bubblewraps() if each not in ELSEWHERE]


def _bubblewraps():
    found: list[str] = []
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with suppress(OSError):   # its thread may end just now
            found += path.read_text().split()
    return [each for each in found if _is_jail(each)]


def _is_jail(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap"
    return False


def inner(pid):
    """The processes below one, nearest first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return children + [each for child in children for each in inner(child)]


# Asks the broker about each record, and waits for the answer.
KNOCKS = python(
    "import os\ndef handler(output):\n"
    "  os.write(4, str(output).encode()); os.read(4, 1); return output",
    models=("a-model",),
)


class Door:
    """A broker that counts who asks, and answers nobody before it is opened."""

    def __init__(self):
        self.knocks = threading.Semaphore(0)
        self.opens = threading.Event()

    def __call__(self, end):
        while end.recv(1):
            self.knocks.release()
            self.opens.wait(SECONDS)
            end.sendall(b"!")


def test_a_jail_is_used_again_by_its_owner_and_by_nobody_else(sandboxes):
    assert sandboxes.run(owner(1), ECHO, [{"output": 1}])[0].value == 1
    first = jails()
    sandboxes.run(owner(1), ECHO, [{"output": 1}])
    assert jails() == first
    sandboxes.run(owner(2), ECHO, [{"output": 1}])
    assert len(jails()) == 2


def test_the_least_recently_used_jail_makes_room(sandboxes):
    for number in (1, 2, 1, 3):
        sandboxes.run(owner(number), ECHO, [{"output": 1}])
    assert len(jails()) == 2
    before = jails()
    sandboxes.run(owner(1), ECHO, [{"output": 1}])
    assert jails() == before, "the one that was used more recently had been kept"


def test_idle_jails_are_let_go(sandboxes):
    for number in (1, 2):
        sandboxes.run(owner(number), ECHO, [{"output": 1}])
    assert sandboxes.let_go_idle() == 2
    assert jails() == []
    assert sandboxes.let_go_idle() == 0
    assert sandboxes.run(owner(1), ECHO, [{"output": 2}])[0].value == 2


def test_a_jail_that_is_in_use_is_neither_idle_nor_in_the_way(sandboxes):
    door = Door()
    with ThreadPoolExecutor(4) as threads:
        running = [
            threads.submit(sandboxes.run, owner(number), KNOCKS, [{"output": number}], door)
            for number in range(4)
        ]
        try:
            for _ in running:
                assert door.knocks.acquire(timeout=SECONDS)
            assert len(jails()) == 4
            assert sandboxes.let_go_idle() == 0
        finally:
            door.opens.set()
        assert [each.result()[0].value for each in running] == [0, 1, 2, 3]
    assert len(jails()) <= 2


def test_many_threads_share_one_owners_jail(sandboxes):
    with ThreadPoolExecutor(8) as threads:
        found = list(
            threads.map(
                lambda n: sandboxes.run(
                    owner(1), ECHO, [{"output": [n, m]} for m in range(30)]
                ),
                range(16),
            )
        )
    assert [[ran.value for ran in each] for each in found] == [
        [[n, m] for m in range(30)] for n in range(16)
    ]
    assert len(jails()) == 1


def test_a_jail_that_died_unused_is_not_noticed(sandboxes):
    sandboxes.run(owner(1), ECHO, [{"output": 1}])
    (pid,) = jails()
    os.kill(int(pid), signal.SIGKILL)
    assert sandboxes.run(owner(1), ECHO, [{"output": 2}])[0].value == 2


class Gate:
    """A broker that holds one record up, once, and says when it does."""

    def __init__(self):
        self.holds = threading.Event()

    def __call__(self, end):
        while asked := end.recv(1):
            if asked == b"2" and not self.holds.is_set():
                self.holds.set()
                continue
            end.sendall(b"!")




@pytest.mark.parametrize("which", ["bubblewrap", "zygote", "child", "pool"])
def test_whatever_dies_around_a_run_no_record_gets_a_wrong_result(sandboxes, which):
    gate = Gate()
    records = [{"output": n} for n in range(4)]
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(sandboxes.run, owner(1), KNOCKS, records, gate)
        assert gate.holds.wait(SECONDS)
        (jail,) = jails()
        # bubblewrap's own first process, the zygote, the supervisor, the child
        _, zygote, _, child = inner(jail)
        if which == "pool":
            sandboxes.close()
        else:
            pid = {"bubblewrap": jail, "zygote": zygote, "child": child}[which]
            os.kill(int(pid), signal.SIGKILL)
        found = running.result(SECONDS)
    if which == "child":
        assert [each.value for each in found] == [0, 1, 2, 3]
    else:
        assert [each.value for each in found[:2]] == [0, 1]
        assert {each.ended for each in found[2:]} == {CodeEnd.SANDBOX_LOST}


def test_nothing_is_left_when_the_worker_is_killed(tmp_path):
    code = (
        "from scorers.sandbox.model import *; from scorers.sandbox.pool import *\n"
        "from scorers.sandbox.place import find_place\n"
        "s = Sandboxes(find_place(), kept=1, idle_s=9)\n"
        "c = 'import time\\ndef handler():\\n  time.sleep(60)'\n"
        "p = Program(runtime=Runtime.PYTHON, code=c, limits=Limits(time_s=60))\n"
        "s.run(Owner('a', 'b', 'c'), p, [{}])\n"
    )
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}
    worker = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        def processes():
            found = Path(f"/proc/{worker.pid}/task").glob("*/children")
            return [each for path in found for each in path.read_text().split()]

        def below():
            with suppress(OSError):
                return [each for pid in processes() for each in (pid, *inner(pid))]
            return []

        assert wait_until(lambda: len(below()) == 5, deadline_s=SECONDS)
        left = below()
    finally:
        worker.kill()
        worker.wait()
    assert wait_until(
        lambda: not any(Path(f"/proc/{each}").exists() for each in left), deadline_s=SECONDS
    )


def test_a_pool_that_closes_answers_all_who_still_come():
    look = {"code": ECHO.code}
    for _ in range(5):
        sandboxes = Sandboxes(find_place(), kept=2, idle_s=0.0)
        begun = threading.Semaphore(0)

        def run(number, pool=sandboxes, begun=begun):
            begun.release()
            return pool.run(owner(number), ECHO, [{"output": number}])[0]

        def look_at(_, pool=sandboxes, begun=begun):
            begun.release()
            return pool.do("check", look, limits=LIMITS)

        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit((run, look_at)[n % 2], n) for n in range(16)]
            for _ in range(4):
                begun.acquire()
            sandboxes.close()
            found = [each.result(SECONDS) for each in running]
        assert {each.ended for each in found} <= {CodeEnd.OK, CodeEnd.SANDBOX_LOST}
        late = [run(1), look_at(1)]
        assert [each.ended for each in late] == [CodeEnd.SANDBOX_LOST] * 2
        assert jails() == []


SCARCE = """
import json, os, resource
from scorers.sandbox.model import *
from scorers.sandbox.place import find_place
from scorers.sandbox.pool import Owner, Sandboxes

def held():
    return sorted(map(int, os.listdir("/proc/self/fd")))

def allow(most):
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, 4096))

def runs():
    program = Program(runtime=Runtime.PYTHON, code="def handler(): return 1", models=("m",))
    broker = lambda end: end.recv(1)
    for owner in (Owner("p", "kept", "1"), Owner("p", "new", "1")):
        yield from sandboxes.run(owner, program, [{}, {}], broker)
    yield sandboxes.do("check", {"code": program.code}, limits=Limits(time_s=20))

sandboxes = Sandboxes(find_place(), kept=1, idle_s=60)
list(runs())
said, before = [], held()
for more in range(1, 16):
    allow(before[-1] + more)
    said.append([each.ended for each in runs()])
allow(4096)
after = [each.ended for each in runs()]
sandboxes.let_go_idle()
print(json.dumps([said, after, len(held()) - len(before)]))
sandboxes.close()
"""


def test_a_worker_without_descriptors_to_spare_says_so_and_loses_none():
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", SCARCE], env=environment, capture_output=True, text=True,
        timeout=4 * SECONDS, check=False,
    )
    assert done.returncode == 0, done.stderr
    said, after, more = json.loads(done.stdout)
    assert said[0] == ["infra_error"] * 5
    assert {each for ended in said for each in ended} <= {"ok", "infra_error", "sandbox_lost"}
    assert after == ["ok"] * 5
    assert more <= 0


def test_a_jail_that_died_leaves_no_folder():
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        place = replace(place_of(Tier.LANDLOCK), scratch=scratch)
        sandboxes = Sandboxes(place, kept=1, idle_s=0.0)
        try:
            for _ in range(3):
                (ran,) = sandboxes.run(owner(1), ECHO, [{"output": 1}])
                assert ran.value == 1, ran
                assert len([*scratch.iterdir()]) == 1
                (jail,) = children_named(name)
                os.kill(int(jail), signal.SIGKILL)
                assert wait_until(lambda pid=jail: is_dead(pid), deadline_s=SECONDS)
        finally:
            sandboxes.close()
        assert [*scratch.iterdir()] == []


def is_dead(pid):
    """Whether a child of this process has ended, and waits to be collected."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def children_named(text):
    """Processes that this one started with `text` in their arguments."""
    found = [
        each
        for path in Path(f"/proc/{os.getpid()}/task").glob("*/children")
        for each in path.read_text().split()
    ]
    return [each for each in found if text in Path(f"/proc/{each}/cmdline").read_text()]


def test_a_worker_without_node_leaves_javascript_to_others():
    sandboxes = Sandboxes(replace(find_place(), node=None), kept=1, idle_s=0.0)
    script = replace(ECHO, runtime=Runtime.NODE, code="export default () => 1")
    found = sandboxes.run(owner(1), script, [{}, {}])
    found.append(sandboxes.do("node", {}, limits=LIMITS))
    (still,) = sandboxes.run(owner(1), ECHO, [{"output": 1}])
    sandboxes.close()
    assert [each.ended for each in found] == [CodeEnd.INFRA_ERROR] * 3
    assert {each.detail for each in found} == {
        "this worker has no Node.js; see docs/sandbox.md"
    }
    assert still.value == 1


@pytest.mark.parametrize("name", ["node", "esbuild"])
def test_programs_for_typescript_are_those_of_set_up_and_no_others(tmp_path, monkeypatch, name):
    other = tmp_path / name
    other.write_text("#!/bin/sh\necho v99.0.0\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = getattr(find_place(), name)
    assert found.is_relative_to(Path(sys.prefix).resolve())


def test_a_place_without_bubblewrap_says_so_and_ends_no_worker():
    place = replace(find_place(), bubblewrap=Path("/nowhere/bwrap"))
    sandboxes = Sandboxes(place, kept=1, idle_s=0.0)
    (ran,) = sandboxes.run(owner(1), ECHO, [{"output": 1}])
    sandboxes.close()
    assert ran.ended is CodeEnd.INFRA_ERROR
    assert ran.detail.startswith("sandbox unavailable: ")
    assert ran.detail.endswith("; see docs/sandbox.md")


@pytest.mark.parametrize("has_cgroup", [True, False], ids=["control group", "watch"])
def test_memory_is_limited_with_and_without_a_control_group(has_cgroup):
    if has_cgroup and find_home() is None:
        missing("no control group can be made here")
    sandboxes = Sandboxes(find_place(), kept=1, idle_s=0.0)
    if not has_cgroup:
        sandboxes._cgroups = Cgroups(None)
    # Whom of the tree the kernel kills is its own choice; that all of them live is not.
    greedy = """
import os, time
def handler():
    for _ in range(6):
        told, tells = os.pipe()
        if os.fork() == 0:
            held = bytearray(b"x") * (50 << 20)
            os.write(tells, b"held")
            time.sleep(60)
        os.close(tells)
        if os.read(told, 4) != b"held":
            return 1
    time.sleep(5)
    return len([pid for pid in [os.waitpid(-1, os.WNOHANG)[0]] if pid])
"""
    (ran,) = sandboxes.run(owner(1), python(greedy, limits=LIMITS), [{}])
    sandboxes.close()
    assert ran.ended is CodeEnd.KILLED or ran.value == 1


def test_control_groups_are_removed_with_the_pool():
    home = find_home()
    if home is None:
        missing("no control group can be made here")
    sandboxes = Sandboxes(find_place(), kept=1, idle_s=0.0)
    sandboxes.run(owner(1), ECHO, [{"output": 1}])
    mine = f"tallyard-{os.getpid()}-*"
    assert list(home.glob(mine))
    sandboxes.close()
    assert list(home.glob(mine)) == []


def test_descriptors_and_threads_are_given_back(sandboxes):
    def held():
        return len([*Path("/proc/self/fd").iterdir()]), threading.active_count()

    sandboxes.run(owner(1), ECHO, [{"output": 1}])
    before = held()
    alone = replace(ECHO, isolation=Isolation.RECORD)
    for _ in range(3):
        sandboxes.run(owner(1), alone, [{"output": n} for n in range(10)])
    assert held() == before


def test_a_broker_is_reached_at_descriptor_four_by_who_asked_for_models(sandboxes):
    def broker(end):
        while asked := end.recv(100):
            end.sendall(asked.upper())

    code = """
import os
def handler(output):
    try:
        os.write(4, output.encode())
        return {"score": 1, "metadata": {"said": os.read(4, 100).decode()}}
    except OSError as error:
        return {"score": 0, "metadata": {"said": error.errno}}
"""
    with_models = python(code, models=("a-model",))
    records = [{"output": "yes"}, {"output": "again"}]
    found = sandboxes.run(owner(1), with_models, records, broker)
    assert [each.value["metadata"]["said"] for each in found] == ["YES", "AGAIN"]
    (found,) = sandboxes.run(owner(1), python(code), [{"output": "yes"}], broker)
    assert found.value["score"] == 0


def test_a_jail_ends_with_everything_in_it():
    jail = Jail(find_place())
    (pid,) = jails()
    inside = inner(pid)
    jail.end()
    assert not jail.is_alive
    assert wait_until(
        lambda: not any(Path(f"/proc/{each}").exists() for each in inside), deadline_s=SECONDS
    )
