"""What any sandbox must do, in each tier, as root and as an ordinary user: results, limits,
records that spoil no others, and walls that hold against code that wants out.

Each attack gives a score of 1 if it worked. An attack that could not be made, because a module
was missing, proves nothing: the test fails.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time

import pytest
from cells import CELLS, IS_ROOT, ORDINARY_UID, cell_id
from pieces import missing
from ports import own_listener
from sandbox_user import OthersSandboxes, OwnSandboxes, common_python, place_of

from scorers.sandbox.handler_scores import scores_of
from scorers.sandbox.inside import landlock
from scorers.sandbox.model import CodeEnd, Isolation, Limits, Program, Runtime
from scorers.sandbox.place import Tier
from scorers.sandbox.pool import Owner

OWNER = Owner("project", "scorer", "1")
LIMITS = Limits(time_s=2.0, memory_mb=128)
# On a machine where other tests run, a limit of time must not be met by being slow.
PATIENT = Limits(time_s=20.0, memory_mb=256)


@pytest.fixture(scope="module", params=CELLS, ids=cell_id)
def cell(request):
    return request.param


@pytest.fixture(scope="module")
def sandboxes(cell):
    """Sandboxes of one tier and user."""
    tier, user = cell
    if tier is Tier.LANDLOCK and landlock.abi() < landlock.ABI_MIN:
        missing(f"this kernel has Landlock {landlock.abi()}")
    try:
        common_python()
        made = OthersSandboxes(tier, ORDINARY_UID) if IS_ROOT and user != "root" else None
    except LookupError as error:
        missing(str(error))
    made = made or OwnSandboxes(place_of(tier), kept=4, idle_s=60)
    yield made
    made.close()


def python(code, *, isolation=Isolation.BATCH, limits=LIMITS, **more):
    return Program(
        runtime=Runtime.PYTHON, code=code, isolation=isolation, limits=limits, **more
    )


def ran(sandboxes, code, *records, **more):
    """What came of the records; of one without anything in it if there are none given."""
    return sandboxes.run(OWNER, python(code, **more), records or [{"output": None}])


def only(sandboxes, code, *records, **more):
    (one,) = ran(sandboxes, code, *records, **more)
    return one


def forking(sandboxes, code, **more):
    """As `only`, for code that forks.

    In tier B the limit on processes also counts those that the same user starts elsewhere, such
    as the sandboxes of tests beside this one: a fork that fails for them is tried again.
    """
    for _ in range(20):
        one = only(sandboxes, code, **more)
        if "Resource temporarily unavailable" not in one.detail:
            break
    return one


def endings(found):
    return [each.ended for each in found]


# --- what a handler takes and gives


def test_the_proof_holds(sandboxes):
    proof = sandboxes.prove()
    assert proof.sentence == ""
    assert proof.ok
    assert set(proof.probes.values()) == {"ok"}
    assert len(proof.probes) == 6


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("def handler(output): return output / 4", 0.5),
        ("def helper(): ...\ndef mine(output): return output > 1", True),
        ("def handler(output): return 0\ndef later(output): return 1", 0),
        ("async def handler(output): return {'score': 1, 'metadata': {'n': output}}",
         {"score": 1, "metadata": {"n": 2}}),
        ("def handler(**given): return sorted(given) == ['expected', 'id', 'output']", True),
        ("def handler(output, missing=0.25, input=None): return missing", 0.25),
        ("def handler(output, tags, metadata): return tags is None and metadata is None", True),
        ("def handler(output, /, expected): return output + expected == 5", True),
        ("handler = lambda output: None", None),
        ("def handler(output): return [0.1, {'score': None, 'name': 'n'}]",
         [0.1, {"score": None, "name": "n"}]),
        ("class Score:\n  score, name, metadata = 0.5, 'n', None\n"
         "def handler(output): return Score()", {"score": 0.5, "name": "n"}),
        ("class Score:\n  def as_dict(self): return {'score': 1}\n"
         "def handler(output): return (Score(),)", [{"score": 1}]),
        ("import dataclasses\n@dataclasses.dataclass\nclass D:\n  x: int = 1\n"
         "def handler(output): return D().x", 1),
    ],
)  # fmt: skip
def test_a_handler_takes_what_it_declares_and_gives_what_scores_are(sandboxes, code, value):
    record = {"output": 2, "expected": 3, "id": "r1"}
    one = only(sandboxes, code, record, limits=PATIENT)
    assert (one.ended, one.value, one.detail) == (CodeEnd.OK, value, "")
    assert scores_of(one.value, name="scorer").scores


def test_a_trace_can_be_used_and_awaited(sandboxes):
    spans = [
        {"id": "a", "span_attributes": {"type": "llm"}, "output": "yes"},
        {"id": "b", "span_attributes": {"type": "score", "purpose": "scorer"}},
        {"id": "c", "span_attributes": None},
    ]
    trace = {
        "spans": spans, "thread": [{"role": "user", "content": "hi"}],
        "configuration": {"object_type": "project_logs", "root_span_id": "r"},
    }  # fmt: skip
    code = """
async def handler(trace):
    spans = await trace.get_spans()
    llm, = trace.get_spans(span_type=["llm"])
    every = trace.get_spans(None, True)
    thread = await trace.get_thread()
    where = trace.get_configuration()
    return [len(spans), len(every), llm.output, llm["id"], llm.expected,
            thread[0]["role"], where["object_type"]]
"""
    one = only(sandboxes, code, {"trace": trace}, limits=PATIENT)
    assert (one.detail, one.value) == ("", [2, 3, "yes", "a", None, "user", "project_logs"])


def test_records_are_answered_in_order_however_many_there_are(sandboxes):
    records = [{"output": n, "input": "x" * 1000} for n in range(250)]
    found = ran(sandboxes, "def handler(output): return output", *records, limits=PATIENT)
    assert [each.value for each in found] == list(range(250))


def test_no_records_are_no_work(sandboxes):
    assert sandboxes.run(OWNER, python("def handler(): return 1"), []) == []


def test_what_is_printed_stands_with_its_record_without_control_characters(sandboxes):
    code = """
import sys
def handler(output):
    print(output, "\\x1b[31m<b>\\r")
    print("é" if output else "\\udc80", file=sys.stderr)
    return 1
"""
    found = ran(sandboxes, code, {"output": 0}, {"output": 1}, limits=PATIENT)
    assert [each.log for each in found] == [
        "0 \\x1b[31m<b>\\r\n\\udc80\n", "1 \\x1b[31m<b>\\r\né\n",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "write", ["print('x' * 10)", "os.write(1, b'xxxxxxxxxx\\n')", "os.write(2, b'x' * 11)"]
)
def test_output_beyond_its_limit_is_counted_and_dropped(sandboxes, write):
    code = f"import os\ndef handler():\n  for _ in range(10000): {write}\n  return 1"
    limits = Limits(time_s=20.0, log_bytes=50)
    one = only(sandboxes, code, limits=limits)
    assert (one.ended, len(one.log), one.log_dropped) == (CodeEnd.OK, 50, 110_000 - 50)


# --- errors are the record's own


def test_an_exception_ends_one_record_and_says_where(sandboxes):
    code = """
def handler(output):
    return check(output)
def check(output):
    if output == 1:
        raise ValueError("one\\x00 is bad")
    return output
handler.check = check
"""
    found = ran(sandboxes, code, *({"output": n} for n in range(3)), limits=PATIENT)
    assert endings(found) == [CodeEnd.OK, CodeEnd.ERROR, CodeEnd.OK]
    assert found[1].detail == (
        "ValueError: one\\x00 is bad\nscorer.py:3 in handler\nscorer.py:6 in check"
    )


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("def handler(:\n  pass", "scorer.py:1:13"),
        ("x = 1", "LookupError: the code defines no function"),
        ("import nothing_like_it\ndef handler(): ...", "ModuleNotFoundError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("def handler(unheard_of): return 1", "TypeError"),
        ("def handler(): raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def handler(): raise SystemExit(3)", "SystemExit: 3"),
        ("class E(Exception):\n  def __str__(self): raise self\ndef handler(): raise E()",
         "its message cannot be made"),
        ("def f(n): return f(n)\ndef handler(): return f(0)", "RecursionError"),
    ],
)  # fmt: skip
def test_the_authors_mistakes_are_errors_with_a_reason(sandboxes, code, detail):
    one = only(sandboxes, code, limits=PATIENT)
    assert one.ended is CodeEnd.ERROR
    assert detail in one.detail


@pytest.mark.parametrize(
    "value",
    [
        "float('nan')", "{'score': float('inf')}", "2**63", "10**4000", "b'1'", "object()",
        "{1, 2}", "(lambda x: x.append(x) or x)([])",
        "__import__('functools').reduce(lambda x, _: [x], range(5000), 1)",
    ],
)  # fmt: skip
def test_what_json_or_the_store_cannot_hold_is_a_bad_result(sandboxes, value):
    found = ran(
        sandboxes,
        f"def handler(output): return {value} if output == 1 else 0",
        *({"output": n} for n in range(3)),
        limits=PATIENT,
    )
    assert endings(found) == [CodeEnd.OK, CodeEnd.BAD_RESULT, CodeEnd.OK]


def test_what_stands_beside_a_score_costs_neither_it_nor_other_records(sandboxes):
    code = """
def handler(output):
    print("looked")
    if output == 0: return {"score": 0.5, "metadata": {"m": float("nan")}}
    if output == 1: return {"score": 0.5, "metadata": {"m": "x" * 300_000}}
    return 0.5
"""
    found = ran(sandboxes, code, *({"output": n} for n in range(3)), limits=PATIENT)
    assert [each.value for each in found] == [
        {"score": 0.5, "metadata": {"m": None}}, {"score": 0.5}, 0.5,
    ]  # fmt: skip
    assert [each.log for each in found] == [
        "looked\n[metadata.m is nan, which JSON has no form for: null is stored]\n",
        "looked\n[metadata does not fit into the result (result_bytes): it is left out]\n",
        "looked\n",
    ]


@pytest.mark.parametrize("isolation", Isolation)
def test_a_result_too_large_is_its_records_own(sandboxes, isolation):
    code = "def handler(output): return 'x' * (300_000 if output == 1 else 10)"
    records = [{"output": n} for n in range(3)]
    found = ran(sandboxes, code, *records, isolation=isolation, limits=PATIENT)
    assert endings(found) == [CodeEnd.OK, CodeEnd.RESULT_TOO_LARGE, CodeEnd.OK]


# --- a poisonous record spoils no other


@pytest.mark.parametrize(
    ("poison", "ended"),
    [
        ("while True: pass", CodeEnd.TIMEOUT),
        ("import ctypes; ctypes.string_at(0)", CodeEnd.KILLED),
        ("import os; os._exit(0)", CodeEnd.NO_RESULT),
        ("import os; os.write(3, b'\\xff' * 12)", CodeEnd.BAD_RESULT),
        ("import os; os.write(3, b'\\0' * 11 + b'\\3' + b'NaN')", CodeEnd.BAD_RESULT),
        ("import os; os.write(3, bytes(8) + b'\\0\\0\\0\\x0c{\"result\":1}'); return 0",
         CodeEnd.BAD_RESULT),
        ("import os; os.write(3, bytes(8) + b'\\0\\0\\0\\x0c{\"result\"'); os.pipe(); "
         "import time; time.sleep(100)", CodeEnd.TIMEOUT),
        ("import os; os.close(3)", CodeEnd.NO_RESULT),
        ("x = [bytearray(1 << 20) for _ in range(1000)]", None),
    ],
    ids=["loop", "segfault", "exit", "frame too large", "no frame", "two frames",
         "part of a frame", "closed pipe", "memory"],
)  # fmt: skip
@pytest.mark.parametrize("isolation", Isolation)
def test_a_batch_with_one_poisonous_record_loses_nothing_else(
    sandboxes, poison, ended, isolation
):
    code = (
        f"def bad():\n  {poison}\n"
        "def handler(output):\n  if output == 'bad': bad()\n  return output"
    )
    records = [{"output": each} for each in (1, 2, "bad", 3, 4)]
    limits = Limits(time_s=3.0, memory_mb=64)
    found = ran(sandboxes, code, *records, isolation=isolation, limits=limits)
    assert [each.value for each in found if each.ended is CodeEnd.OK] == [1, 2, 3, 4]
    if ended is None:
        assert found[2].ended in (CodeEnd.ERROR, CodeEnd.KILLED)
    else:
        assert found[2].ended is ended


def test_code_that_never_loads_costs_its_time_twice_and_not_once_a_record(sandboxes):
    code = "while True: pass\ndef handler(): return 1"
    before = time.monotonic()
    found = ran(sandboxes, code, *[{}] * 50, limits=Limits(time_s=0.5))
    assert set(endings(found)) == {CodeEnd.TIMEOUT}
    assert time.monotonic() - before < 30


def test_each_records_own_time_counts_and_not_the_batchs(sandboxes):
    code = "import time\ndef handler(): time.sleep(0.4); return 1"
    found = ran(sandboxes, code, *[{}] * 6, limits=Limits(time_s=2.0))
    assert set(endings(found)) == {CodeEnd.OK}


@pytest.mark.parametrize(
    "code",
    [
        # signals are not what ends it
        "import signal, time\ndef handler():\n  for n in range(1, 65):\n    try: "
        "signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
        "  signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n  time.sleep(100)",
        # nor is the interpreter
        "import re\ndef handler(): return bool(re.match('(a+)+$', 'a' * 64 + 'b'))",
        "def handler(): return 9 ** 9 ** 9",
        # nor the handler's own consent
        "import asyncio\nasync def handler():\n  while True:\n    try: await asyncio.sleep(9)\n"
        "    except BaseException: pass",
        "import os, time\ndef handler():\n  if os.fork(): time.sleep(100)\n  os.setsid()\n"
        "  if os.fork(): time.sleep(100)\n  time.sleep(100)",
    ],
    ids=["signals", "regex", "bigint", "async", "daemon"],
)
def test_time_is_up_whatever_it_does(sandboxes, code):
    one = only(sandboxes, code, limits=Limits(time_s=0.5))
    assert one.ended in (CodeEnd.TIMEOUT, CodeEnd.KILLED)
    assert is_clean(sandboxes)


def test_a_thread_that_never_ends_keeps_no_result_back(sandboxes):
    code = (
        "import threading, time, atexit\natexit.register(time.sleep, 100)\n"
        "def handler():\n  threading.Thread(target=time.sleep, args=(100,)).start()\n  return 1"
    )
    before = time.monotonic()
    assert only(sandboxes, code, limits=PATIENT).value == 1
    assert time.monotonic() - before < 15


# --- memory: one process, and a tree of them


def test_memory_is_limited_for_all_processes_together(sandboxes):
    code = """
import os, time
def handler():
    for _ in range(8):
        if os.fork() == 0:
            held = bytearray(b"x") * (60 << 20)
            time.sleep(100)
    time.sleep(100)
"""
    one = forking(sandboxes, code, limits=Limits(time_s=15.0, memory_mb=128))
    assert one.ended is CodeEnd.KILLED
    assert is_clean(sandboxes)


def test_what_processes_share_counts_once(sandboxes):
    code = """
import os, time
def handler():
    held = bytearray(b"x") * (80 << 20)
    children = [os.fork() or (time.sleep(1), os._exit(0)) for _ in range(5)]
    return sum(os.waitpid(each, 0)[1] == 0 for each in children)
"""
    one = forking(sandboxes, code, limits=Limits(time_s=20.0, memory_mb=160))
    assert (one.ended, one.value) == (CodeEnd.OK, 5)


# --- walls

ATTACKS = {
    "passwords": "open('/etc/shadow').read(); won()",
    "accounts": "open('/etc/passwd').read(); won()",
    "home": """
import os
for name in ('.bashrc', '.profile', '.ssh', '.cache'):
    if os.path.exists(f'/root/{name}'): won(name)""",
    "the project": f"open({__file__!r}).read(); won()",
    "processes' environment": """
import os
for pid in [*map(str, range(1, 300)), 'self', 'thread-self']:
    for name in ('environ', 'mem', 'maps', 'cmdline'):
        try:
            if open(f'/proc/{pid}/{name}', 'rb').read(10): won(pid, name)
        except OSError: pass""",
    "a symlink": "import os; os.symlink('/etc/passwd', 'l'); open('l').read(); won()",
    "loopback": """
import socket
for family, address in ((2, ('127.0.0.1', CANARY)), (10, ('::1', CANARY))):
    try: socket.socket(family).connect(address); won()
    except OSError: pass""",
    "datagrams": """
import socket
socket.socket(2, 2).sendto(b'x', ('127.0.0.1', CANARY)); won()""",
    "raw sockets": "import socket; socket.socket(17, 3); won()",
    "netlink": "import socket; socket.socket(16, 3); won()",
    "an abstract socket": """
import socket
socket.socket(1).connect('\\0tallyard-canary-%d' % CANARY); won()""",
    "names": "import socket; won(socket.getaddrinfo('localhost', 80))",
    "a shell": """
import subprocess
subprocess.run(['/bin/sh', '-c', 'true'], check=True); won()""",
    "itself as a program": """
import os, sys
os.execv(sys.executable, [sys.executable, '-c', 'pass'])""",
    "namespaces": """
for flags in (0x10000000, 0x20000, 0x40000000, 0x20000000):
    if libc.unshare(flags) == 0: won(flags)
    if libc.syscall(56, flags | 17, 0, 0, 0, 0) >= 0: won('clone')""",
    "mount": """
if libc.mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0: won()
if libc.umount2(b'/proc', 2) == 0: won()
if libc.chroot(b'/tmp') == 0: won()""",
    "becoming root": "import os; os.setuid(0); won()",
    "ptrace": """
import os
for pid in (os.getppid(), 1, 2):
    if libc.ptrace(16, pid, 0, 0) == 0: won(pid)""",
    "kernel calls": """
for number in (101, 175, 246, 248, 250, 298, 303, 304, 310, 317, 319, 321, 323, 425, 438):
    if libc.syscall(number, 0, 0, 0, 0, 0) >= 0: won(number)""",
    "shared memory": "if libc.shmget(0, 4096, 0o1600) >= 0: won()",
    "raising limits": """
import resource
for name in ('NPROC', 'AS', 'CPU', 'FSIZE', 'NOFILE'):
    which = getattr(resource, f'RLIMIT_{name}')
    try: resource.setrlimit(which, (-1, -1)); won(name)
    except (OSError, ValueError): pass""",
    "others' limits": """
import ctypes
for pid in [*range(2, 3000)]:
    if libc.syscall(302, pid, 7, None, ctypes.create_string_buffer(16)) == 0: won(pid)""",
    "writing to packages": """
import os, encodings
lib = os.path.dirname(os.__file__)
for folder in (lib, '/usr/lib', '/opt', '/', '/dev', '/dev/shm', '/proc', '/bundle'):
    try: open(folder + '/planted.py', 'w').write('x'); won(folder)
    except OSError: pass""",
    "a large file": """
import os
f = open('f', 'wb'); f.truncate(1 << 30)
os.posix_fallocate(f.fileno(), 0, 100 << 20); won()""",
    "inherited descriptors": """
import os
for fd in range(4, 1000):
    try: os.fstat(fd); won(fd)
    except OSError: pass""",
    "the worker's modules": """
import sys
ours = {m for m in sys.modules if m.startswith(('scorers', 'tallyard'))}
won(ours) if ours - {'tallyard', 'tallyard.llm'} else None""",
    "the terminal": """
import ctypes
for fd in (0, 1, 2):
    if libc.ioctl(fd, 0x5412, ctypes.c_char_p(b'x')) == 0: won()""",
    "programs that stay": """
import os
made = 0
try:
    while made < 500:
        if os.fork() == 0: os.setsid(); __import__('time').sleep(100)
        made += 1
except OSError: pass
if made > 64: won(made)""",
    "killing everything": """
import os, signal
for pid in (os.getppid(), 2, 3):
    if pid > 1:
        try: os.kill(pid, signal.SIGKILL); won(pid)
        except OSError: pass""",
    "signals by files": """
import fcntl, os
r, w = os.pipe()
fcntl.fcntl(r, 10, 9); fcntl.fcntl(r, 8, os.getppid() or 2); won()""",
    "the other architecture": """
if libc.syscall(0x40000000 | 39) > 0: won()""",
    "a planted module": """
open('json.py', 'w').write('x'); open('left', 'w').write('x')
import json, builtins
json.dumps = builtins.print = None""",
}

FRAME = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
CANARY = {canary}
class Won(BaseException): pass
def won(*said): raise Won(*said)
def attack():
{attack}
def handler():
    try: attack()
    except Won as e: return {{"score": 1, "metadata": {{"said": str(e)}}}}
    except (OSError, ValueError, PermissionError) as e:
        return {{"score": 0, "metadata": {{"said": repr(e)[:200]}}}}
    return 0
"""

CLEAN = """
import os, json
def handler(output):
    return {"score": output, "metadata": {"left": os.listdir("."), "json": json.dumps([1])}}
"""


@pytest.fixture(scope="module")
def canary():
    """A port that counts who comes, and an abstract socket with it."""
    hits = []
    listener = own_listener()
    abstract = socket.socket(socket.AF_UNIX)
    # Its name holds the port, because the whole machine shares these names.
    abstract.bind(f"\0tallyard-canary-{listener.getsockname()[1]}")
    abstract.listen()
    for each in (listener, abstract):
        threading.Thread(target=_count, args=(each, hits), daemon=True).start()
    yield listener.getsockname()[1], hits
    for each in (listener, abstract):
        each.shutdown(socket.SHUT_RDWR)
        each.close()


def _count(listener, hits):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.close()
        hits.append(listener)


def attack(name, canary):
    indented = "\n".join(f"    {line}" for line in ATTACKS[name].strip().splitlines())
    return FRAME.format(attack=indented, canary=canary)


def is_clean(sandboxes):
    """Whether the same jail still scores right, with nothing left in it."""
    one = only(sandboxes, CLEAN, {"output": 0.5}, limits=PATIENT)
    assert (one.ended, one.detail) == (CodeEnd.OK, "")
    return one.value == {"score": 0.5, "metadata": {"left": [], "json": "[1]"}}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_walls_hold(sandboxes, name, canary):
    port, hits = canary
    one = only(sandboxes, attack(name, port), limits=PATIENT)
    assert "ModuleNotFoundError" not in one.detail, one
    assert "NameError" not in one.detail, one
    if one.ended is CodeEnd.OK:
        assert one.value == 0 or one.value["score"] == 0, one
    else:
        assert one.ended in (
            CodeEnd.ERROR, CodeEnd.KILLED, CodeEnd.NO_RESULT, CodeEnd.TIMEOUT,
        ), one
    assert hits == []
    assert is_clean(sandboxes)




@pytest.mark.parametrize(
    "name", ["accounts", "the project", "processes' environment", "a symlink", "datagrams",
             "loopback", "an abstract socket", "netlink", "a shell", "shared memory",
             "signals by files"],
)  # fmt: skip
def test_the_same_attacks_work_without_walls(name, canary, tmp_path):
    port, hits = canary
    code = f"{attack(name, port)}\nprint(handler())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "'score': 1" in done.stdout
    hits.clear()


# --- batches beside each other


def test_one_batch_leaves_nothing_for_the_next(sandboxes):
    code = """
import builtins, json
seen = []
def handler(output):
    seen.append(output)
    builtins.sorted = lambda _: 7
    return {"score": 1, "metadata": {"seen": list(seen)}}
"""
    for _ in range(2):
        found = ran(sandboxes, code, {"output": 1}, {"output": 2}, limits=PATIENT)
        assert [each.value["metadata"]["seen"] for each in found] == [[1], [1, 2]]
    assert only(sandboxes, "def handler(): return sorted([1])[0]").value == 1


def test_with_isolation_by_record_no_record_sees_another(sandboxes):
    code = "seen = []\ndef handler(output):\n  seen.append(output)\n  return len(seen)"
    found = ran(sandboxes, code, *[{"output": 1}] * 3, isolation=Isolation.RECORD)
    assert [each.value for each in found] == [1, 1, 1]
