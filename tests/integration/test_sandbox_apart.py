"""Records that run in separate processes share nothing, and a crash fails only one."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from ops.servers.children import wait_until
from scorers.sandbox.model import CodeEnd, Isolation, Limits, Program, Runtime
from scorers.sandbox.place import find_place
from scorers.sandbox.pool import Owner, Sandboxes

SECONDS = 30.0
OWNER = Owner("project", "scorer", "1")

HELD = """
import os
def handler(output):
    os.write(4, str(output).encode())
    os.read(4, 1)
    return output
"""


@pytest.fixture
def sandboxes():
    made = Sandboxes(find_place(), kept=2, idle_s=60.0)
    known[:] = psutil.Process().children()
    yield made
    made.close()


known: list[psutil.Process] = []


def program(code, **more):
    return Program(
        runtime=Runtime.PYTHON, code=code, isolation=Isolation.RECORD,
        limits=Limits(time_s=20.0, memory_mb=128), **more,
    )


def inside():
    """What the sandboxes consist of: two bubblewraps, the zygote, a supervisor, a child."""
    own = [each for each in psutil.Process().children() if each not in known]
    found = [below for each in own for below in (each, *each.children(recursive=True))]
    return [each for each in found if each.is_running()]


class Gate:
    """A broker that holds record 2 up, once, and says when it does."""

    def __init__(self):
        self.holds = threading.Event()

    def __call__(self, end):
        while asked := end.recv(1):
            if asked == b"2" and not self.holds.is_set():
                self.holds.set()
                continue
            end.sendall(b"!")


@pytest.mark.parametrize("which", ["zygote", "supervisor", "child"])
def test_where_each_record_runs_apart_a_death_costs_one(sandboxes, which):
    gate = Gate()
    records = [{"output": n} for n in range(4)]
    held = program(HELD, models=("a-model",))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(sandboxes.run, OWNER, held, records, gate)
        assert gate.holds.wait(SECONDS)
        _, _, zygote, supervisor, child = inside()
        {"zygote": zygote, "supervisor": supervisor, "child": child}[which].kill()
        found = running.result(SECONDS)
    assert [each.value for each in found] == [0, 1, None, 3]
    assert found[2].ended is (CodeEnd.KILLED if which == "child" else CodeEnd.SANDBOX_LOST)
    assert wait_until(lambda: len(inside()) == 3, deadline_s=SECONDS), "its supervisor stayed"


LEAVES = """
import os, time
def is_there(pid):
    try:
        os.kill(pid, 0)
        return True
    except ProcessLookupError:
        return False
def handler(output):
    found = {"pid": os.getpid(), "files": os.listdir("/tmp"),
             "others": [pid for pid in range(2, 50) if is_there(pid)]}
    open(f"/tmp/{output}", "w").write("left")
    if os.fork() == 0:
        time.sleep(60)
    return {"score": 1, "metadata": found}
"""

FORGES = """
import os, struct
def handler(output):
    if output == 1:
        body = b'{"result": 0.5}'
        os.write(3, struct.pack(">III", 0, 0, len(body)) + body)
    return output
"""


def test_a_record_that_runs_apart_finds_nothing_of_the_one_before(sandboxes):
    found = sandboxes.run(
        OWNER, program(LEAVES), [{"output": n} for n in range(4)]
    )
    assert [each.value["metadata"] for each in found] == [
        {"pid": 1, "files": [], "others": []}
    ] * 4


def test_an_answer_too_many_is_never_the_next_records(sandboxes):
    found = sandboxes.run(
        OWNER, program(FORGES), [{"output": n} for n in range(4)]
    )
    ends = [each.ended for each in found]
    assert ends == [CodeEnd.OK, CodeEnd.BAD_RESULT, CodeEnd.OK, CodeEnd.OK]
    assert [each.value for each in found] == [0, None, 2, 3]
