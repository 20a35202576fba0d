"""What the filters of system calls answer, by running their programs as the kernel does."""

from __future__ import annotations

import errno
import struct

import pytest

from scorers.sandbox.inside import seccomp

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, RETURN = 0x20, 0x06
JUMPS = {
    0x15: lambda held, value: held == value,
    0x25: lambda held, value: held > value,
    0x35: lambda held, value: held >= value,
    0x45: lambda held, value: bool(held & value),
}
NUMBERS = range(600)
BY_ARGUMENT = {
    "ioctl": 16, "socketpair": 53, "clone": 56, "fcntl": 72, "prctl": 157, "prlimit64": 302,
}
SOCKET, EXECVE, SETNS, CLONE3 = 41, 59, 308, 435
NEW_PID = 0x20000000
CLOEXEC = 0o2000000


def says(program, number, *arguments, machine=X86_64):
    """What the filter says to a call."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("<iIQ6Q", number, machine, 0, *padded)
    held = place = 0
    while True:
        code, yes, no, value = struct.unpack_from("=HBBI", program, 8 * place)
        place += 1
        if code == RETURN:
            return value
        if code == LOAD:
            (held,) = struct.unpack_from("<I", data, value)
        else:
            place += yes if JUMPS[code](held, value) else no


@pytest.mark.parametrize("may_execute", [True, False])
@pytest.mark.parametrize("may_signal", [True, False])
@pytest.mark.parametrize("may_mark", [True, False])
def test_a_scorer_may_call_what_the_table_names_and_nothing_else(
    may_execute, may_signal, may_mark
):
    program = seccomp.inner_filter(
        may_execute=may_execute, may_signal=may_signal, may_mark=may_mark
    )
    allowed = {*seccomp._ALLOWED.values()}
    allowed |= {EXECVE} if may_execute else set()
    allowed |= {*seccomp._SIGNALLING.values()} if may_signal else set()
    allowed |= {*seccomp._MARKING.values()} if may_mark else set()
    for number in set(NUMBERS) - {SOCKET, *BY_ARGUMENT.values()}:
        refused = FAIL | (errno.ENOSYS if number > 334 else errno.EPERM)
        assert says(program, number) == (ALLOW if number in allowed else refused), number
    assert says(program, 0x3FFFFFFF) == FAIL | errno.ENOSYS


@pytest.mark.parametrize(
    ("number", "arguments", "expected"),
    [
        (SOCKET, [1], FAIL | errno.EACCES),                      # AF_UNIX
        (SOCKET, [2], FAIL | errno.EACCES),                      # AF_INET
        (SOCKET, [16], FAIL | errno.EACCES),                     # AF_NETLINK
        (BY_ARGUMENT["socketpair"], [1, 1 | CLOEXEC], ALLOW),    # SOCK_STREAM
        (BY_ARGUMENT["socketpair"], [1, 5], ALLOW),              # SOCK_SEQPACKET
        (BY_ARGUMENT["socketpair"], [1, 2 | CLOEXEC], FAIL | errno.EACCES),    # SOCK_DGRAM
        (BY_ARGUMENT["socketpair"], [1, 3], FAIL | errno.EACCES),              # SOCK_RAW
        (BY_ARGUMENT["ioctl"], [0, 0x5401], ALLOW),              # TCGETS
        (BY_ARGUMENT["ioctl"], [0, 0x40086602], FAIL | errno.EPERM),           # FS_IOC_SETFLAGS
        (BY_ARGUMENT["ioctl"], [0, 0x5412], FAIL | errno.EPERM), # TIOCSTI
        # The kernel takes the lower half alone, and so must the filter.
        (BY_ARGUMENT["ioctl"], [0, 0x5412 | 1 << 32], FAIL | errno.EPERM),
        (BY_ARGUMENT["fcntl"], [0, 3], ALLOW),                   # F_GETFL
        (BY_ARGUMENT["fcntl"], [0, 8], FAIL | errno.EPERM),      # F_SETOWN
        (BY_ARGUMENT["fcntl"], [0, 1024], FAIL | errno.EPERM),   # F_SETLEASE
        (BY_ARGUMENT["prctl"], [15], ALLOW),                     # PR_SET_NAME
        (BY_ARGUMENT["prctl"], [38], FAIL | errno.EPERM),        # PR_SET_NO_NEW_PRIVS
        (BY_ARGUMENT["prlimit64"], [0], ALLOW),
        (BY_ARGUMENT["prlimit64"], [7], FAIL | errno.EPERM),     # another process
        (BY_ARGUMENT["clone"], [0x3D0F00], ALLOW),               # a thread
        *(
            (BY_ARGUMENT["clone"], [flag | 17], FAIL | errno.EPERM)
            for flag in (1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30)
        ),
    ],
)
def test_some_calls_depend_on_an_argument(number, arguments, expected):
    assert says(seccomp.inner_filter(), number, *arguments) == expected


@pytest.mark.parametrize("lock", [6, 7, 37, 38])
def test_files_are_locked_only_where_none_but_a_scorers_own_are_in_reach(lock):
    for may_mark, expected in ((True, ALLOW), (False, FAIL | errno.EPERM)):
        program = seccomp.inner_filter(may_mark=may_mark)
        assert says(program, BY_ARGUMENT["fcntl"], 3, lock) == expected


def test_the_whole_jail_is_kept_from_what_is_denied_and_from_nothing_else():
    program = seccomp.outer_filter()
    for number in set(NUMBERS) - {SETNS, CLONE3}:
        denied = number in seccomp._DENIED.values()
        assert says(program, number) == (FAIL | errno.EPERM if denied else ALLOW), number
    assert says(program, CLONE3) == FAIL | errno.ENOSYS
    assert says(program, SETNS, 9, NEW_PID) == ALLOW
    for kind in (0, 1 << 17, 1 << 28, 1 << 30, NEW_PID | 1 << 28):
        assert says(program, SETNS, 9, kind) == FAIL | errno.EPERM


@pytest.mark.parametrize("program", [seccomp.inner_filter(), seccomp.outer_filter()])
def test_a_call_in_another_numbering_is_death(program):
    assert says(program, 11, machine=I386) == KILL
    assert says(program, 0x40000000) == KILL
    assert says(program, -1) == KILL
