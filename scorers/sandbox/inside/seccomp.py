"""Builds the filters of system calls: classic BPF for seccomp, on x86-64 only.

There are two filters. The outer one covers a whole jail and lists the denied calls, because
the trusted processes in the jail must still make namespaces. The inner one covers a scorer and
lists the allowed calls, so that a call which a later kernel adds is denied until it is listed
here.
"""

from __future__ import annotations

import errno
import functools
import struct
from collections.abc import Iterable

MACHINE = "x86_64"
"""The architecture of the numbers below, as platform.machine() names it."""

# linux/bpf_common.h: the instructions that are used.
_LOAD = 0x20
_IF_EQUAL = 0x15
_IF_GREATER = 0x25
_IF_AT_LEAST = 0x35
_IF_ANY_BIT = 0x45
_RETURN = 0x06

# linux/seccomp.h: the answers of a filter, and the offsets in struct seccomp_data.
_ALLOW = 0x7FFF0000
_KILL_PROCESS = 0x80000000
_FAIL = 0x00050000                        # with errno in the lower half
_OFFSET_NUMBER = 0
_OFFSET_ARCHITECTURE = 4
_OFFSET_ARGUMENTS = 16                    # six of 8 bytes, lower half first

_AUDIT_ARCH_X86_64 = 0xC000003E
_X32_BIT = 0x40000000                     # marks a second numbering of the same calls
_LAST_OLD = 334                           # numbers 335..423 are unused; later ones are new

_SOCKET, _CLONE, _EXECVE, _IOCTL, _PRCTL, _CLONE3 = 41, 56, 59, 16, 157, 435
_SOCKETPAIR, _FCNTL, _PRLIMIT, _SETNS = 53, 72, 302, 308
_CLONE_ANY_NAMESPACE = 0x7E020000         # linux/sched.h: CLONE_NEW* that clone(2) takes
_CLONE_NEWPID = 0x20000000
# asm-generic/ioctls.h: read a terminal's settings and size, ask how much can be read, set
# whether reads wait and whether an exec closes the descriptor. Others would do harm: they set a
# file's flags through a descriptor that may only read, or type into a terminal.
_IOCTL_ALLOWED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# fcntl(2): F_SETOWN, F_SETSIG and F_SETOWN_EX have signals sent to another process. F_SETLEASE
# makes others wait who open a file, and F_NOTIFY watches a folder.
_FCNTL_DENIED = (8, 10, 15, 1024, 1026)
_LOCKS = (6, 7, 37, 38)                   # F_SETLK, F_SETLKW, and of open files F_OFD_SETLK(W)
# Only pairs that stay connected. A datagram socket (SOCK_RAW makes one, too) could send to any
# other socket of the machine by its path.
_SOCK_STREAM, _SOCK_SEQPACKET, _SOCK_NONBLOCK, _SOCK_CLOEXEC = 1, 5, 0o4000, 0o2000000
_PAIRS = tuple(
    kind | flags
    for kind in (_SOCK_STREAM, _SOCK_SEQPACKET)
    for flags in (0, _SOCK_NONBLOCK, _SOCK_CLOEXEC, _SOCK_NONBLOCK | _SOCK_CLOEXEC)
)
_PR_NAMES = (3, 15, 16, 23)               # get dumpable, set name, get name, read bounding set

_ALLOWED: dict[str, int] = {
    # Files. Without a namespace, Landlock decides which of them may be opened, made, moved and
    # removed. It does not hide that others exist (stat, access, readlink, chdir).
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "lseek": 8,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "dup": 32,
    "dup2": 33, "sendfile": 40, "fsync": 74, "fdatasync": 75,
    "truncate": 76, "ftruncate": 77, "getdents": 78, "getcwd": 79, "chdir": 80, "fchdir": 81,
    "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "readlink": 89, "umask": 95, "statfs": 137,
    "fstatfs": 138, "getdents64": 217, "fadvise64": 221, "openat": 257, "mkdirat": 258,
    "newfstatat": 262, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "readlinkat": 267, "faccessat": 269, "fallocate": 285,
    "dup3": 292, "preadv": 295, "pwritev": 296, "renameat2": 316,
    "copy_file_range": 326, "preadv2": 327, "pwritev2": 328, "statx": 332, "close_range": 436,
    "faccessat2": 439,
    # memory
    "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "msync": 26,
    "mincore": 27, "madvise": 28,
    # waiting and pipes
    "poll": 7, "pipe": 22, "select": 23, "epoll_create": 213, "epoll_wait": 232,
    "epoll_ctl": 233, "pselect6": 270, "ppoll": 271, "epoll_pwait": 281, "eventfd": 284,
    "signalfd4": 289, "eventfd2": 290, "epoll_create1": 291, "pipe2": 293, "epoll_pwait2": 441,
    # connected sockets; there is no socket, bind, listen, accept or connect
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "shutdown": 48,
    "getsockname": 51, "getpeername": 52, "setsockopt": 54, "getsockopt": 55,
    # signals
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pause": 34,
    "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130, "sigaltstack": 131,
    # time
    "nanosleep": 35, "getitimer": 36, "alarm": 37, "setitimer": 38, "gettimeofday": 96,
    "times": 100, "timer_create": 222, "timer_settime": 223, "timer_gettime": 224,
    "timer_getoverrun": 225, "timer_delete": 226, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "timerfd_create": 283, "timerfd_settime": 286,
    "timerfd_gettime": 287,
    # processes and threads
    "sched_yield": 24, "getpid": 39, "fork": 57, "vfork": 58, "exit": 60, "wait4": 61,
    "uname": 63, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "getuid": 102, "getgid": 104,
    "geteuid": 107, "getegid": 108, "setpgid": 109, "getppid": 110, "getpgrp": 111,
    "setsid": 112, "getgroups": 115, "getresuid": 118, "getresgid": 120, "getpgid": 121,
    "getsid": 124, "capget": 125, "getpriority": 140, "sched_getparam": 143,
    "sched_getscheduler": 145, "sched_get_priority_max": 146, "sched_get_priority_min": 147,
    "arch_prctl": 158, "gettid": 186, "futex": 202, "sched_getaffinity": 204,
    "set_tid_address": 218, "restart_syscall": 219, "exit_group": 231, "waitid": 247,
    "set_robust_list": 273, "get_robust_list": 274, "getrandom": 318,
    "membarrier": 324, "rseq": 334, "futex_waitv": 449,
}

_MARKING: dict[str, int] = {
    "flock": 73, "chmod": 90, "fchmod": 91, "fchmodat": 268, "utimensat": 280,
}
"""Calls that change modes, times and locks, which Landlock does not control.

They are allowed if a scorer sees only its own files, and read-only ones that nobody locks. The
calls that change owners and extended attributes are of the same kind, and are never allowed.
"""

_SIGNALLING: dict[str, int] = {
    "kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
}
"""Allowed only if something else confines signals to the scorer's own processes."""

_DENIED: dict[str, int] = {
    # other processes
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
    "pidfd_getfd": 438, "process_madvise": 440,
    # calls with much kernel code behind them, which no scorer needs
    "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425,
    "io_uring_enter": 426, "io_uring_register": 427, "add_key": 248, "request_key": 249,
    "keyctl": 250, "fanotify_init": 300, "fanotify_mark": 301,
    # the machine
    "kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313,
    "delete_module": 176, "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163,
    "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159,
    "iopl": 172, "ioperm": 173, "syslog": 103, "quotactl": 179, "quotactl_fd": 443,
    "sethostname": 170, "setdomainname": 171, "personality": 135,
    # files that are opened without a path
    "open_by_handle_at": 304, "name_to_handle_at": 303,
    # memory that no limit of a process counts
    "memfd_secret": 447, "shmget": 29, "shmat": 30, "shmctl": 31, "mq_open": 240, "mbind": 237,
    "set_mempolicy": 238, "migrate_pages": 256, "move_pages": 279,
}


def outer_filter() -> bytes:
    """The filter for a whole jail (`bwrap --seccomp`): it denies what nothing inside needs."""
    return b"".join(
        (
            *_prologue(),
            *_answer_if(_DENIED.values(), _FAIL | errno.EPERM),
            # A supervisor returns to its own namespace after it has started a child.
            *_by_argument(_SETNS, 1, allowed=[_CLONE_NEWPID], otherwise=errno.EPERM),
            # A filter cannot see clone3's flags, which are in memory. libc then uses clone.
            *_answer_if([_CLONE3], _FAIL | errno.ENOSYS),
            _instruction(_RETURN, _ALLOW),
        )
    )


@functools.cache
def inner_filter(
    *, may_execute: bool = False, may_signal: bool = True, may_mark: bool = True
) -> bytes:
    """The filter for a scorer: it allows only the calls that a computation needs.

    `may_execute`: allow execve, for a process that must become node or esbuild.
    `may_signal`: allow signals. Pass False if nothing confines them to the scorer.
    `may_mark`: allow changes of files' modes and times, and locks. Pass False if no namespace
    hides the machine's files.
    """
    allowed = [*_ALLOWED.values()]
    allowed += [*_MARKING.values()] if may_mark else []
    allowed += [_EXECVE] if may_execute else []
    allowed += [*_SIGNALLING.values()] if may_signal else []
    return b"".join(
        (
            *_prologue(),
            *_answer_if(allowed, _ALLOW),
            *_answer_if([_SOCKET], _FAIL | errno.EACCES),
            *_by_argument(_SOCKETPAIR, 1, allowed=_PAIRS, otherwise=errno.EACCES),
            *_by_argument(_PRCTL, 0, allowed=_PR_NAMES, otherwise=errno.EPERM),
            *_by_argument(_IOCTL, 1, allowed=_IOCTL_ALLOWED, otherwise=errno.EPERM),
            *_by_argument(_FCNTL, 1, denied=_FCNTL_DENIED + (() if may_mark else _LOCKS)),
            # Only its own limits: with another process id it could change a worker's.
            *_by_argument(_PRLIMIT, 0, allowed=[0], otherwise=errno.EPERM),
            *_no_namespaces(),
            # Calls that are newer than the list fail with ENOSYS: libc then uses older ones.
            _instruction(_IF_GREATER, _LAST_OLD, no=1),
            _instruction(_RETURN, _FAIL | errno.ENOSYS),
            _instruction(_RETURN, _FAIL | errno.EPERM),
        )
    )


def _prologue() -> list[bytes]:
    """Kill the process for a call in another numbering, which would bypass the filter."""
    return [
        _instruction(_LOAD, _OFFSET_ARCHITECTURE),
        _instruction(_IF_EQUAL, _AUDIT_ARCH_X86_64, yes=1),
        _instruction(_RETURN, _KILL_PROCESS),
        _instruction(_LOAD, _OFFSET_NUMBER),
        _instruction(_IF_AT_LEAST, _X32_BIT, no=1),
        _instruction(_RETURN, _KILL_PROCESS),
    ]


def _answer_if(numbers: Iterable[int], answer: int) -> list[bytes]:
    """Give this answer to each of the calls. Neighbouring numbers share a comparison."""
    program: list[bytes] = []
    for first, last in _ranges(numbers):
        program += [
            _instruction(_IF_AT_LEAST, first, no=2),
            _instruction(_IF_GREATER, last, yes=1),
            _instruction(_RETURN, answer),
        ]
    return program


def _by_argument(
    number: int,
    argument: int,
    *,
    allowed: Iterable[int] = (),
    denied: Iterable[int] = (),
    otherwise: int = 0,
) -> list[bytes]:
    """Decide a call by one argument. Other values get the errno `otherwise`; 0 allows them."""
    last = _FAIL | otherwise if otherwise else _ALLOW
    body = [_instruction(_LOAD, _OFFSET_ARGUMENTS + 8 * argument)]
    for values, answer in ((allowed, _ALLOW), (denied, _FAIL | errno.EPERM)):
        for value in values:
            body += [_instruction(_IF_EQUAL, value, no=1), _instruction(_RETURN, answer)]
    body.append(_instruction(_RETURN, last))
    return [_instruction(_IF_EQUAL, number, no=len(body)), *body]


def _no_namespaces() -> list[bytes]:
    """Allow clone(2) for processes and threads, but not for namespaces."""
    return [
        _instruction(_IF_EQUAL, _CLONE, no=4),
        _instruction(_LOAD, _OFFSET_ARGUMENTS),
        _instruction(_IF_ANY_BIT, _CLONE_ANY_NAMESPACE, no=1),
        _instruction(_RETURN, _FAIL | errno.EPERM),
        _instruction(_RETURN, _ALLOW),
    ]


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """struct sock_filter; `yes` and `no` are how many instructions a comparison skips."""
    return struct.pack("=HBBI", code, yes, no, value)
