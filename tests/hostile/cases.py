"""The attacks, and the outcomes that are allowed for each.

An attack answers 1.0 if it worked, so OK is contained only with another score. Where it is
about what its own answer may claim, that score is its author's to choose: `scores_itself`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scorers.sandbox.model import CodeEnd

TIME_S, STOPPED_S = 1.0, 0.5
LOAD_S, STOPPED_LOAD_S = 5.0, 1.0
"""What code is given to load, and such as never does, and takes that twice in each run."""
BOMB_S = 4.0
"""Enough to have four times the memory: what stops a bomb should not be its time."""

HERE = Path(__file__).parent
NESTED = 100_000
INVALID_SOURCE = "invalid_source"
"""Refused before it ran: what the transpiler says, which is no `CodeEnd` of a run."""

OK, ERROR, TIMEOUT, KILLED = CodeEnd.OK, CodeEnd.ERROR, CodeEnd.TIMEOUT, CodeEnd.KILLED
NO_RESULT, BAD_RESULT = CodeEnd.NO_RESULT, CodeEnd.BAD_RESULT
TOO_LARGE = CodeEnd.RESULT_TOO_LARGE

QUIET = frozenset({OK})       # nothing of what it tried has worked, and it came to its end
STOPPED = frozenset({TIMEOUT, KILLED})
REFUSED = frozenset({ERROR, BAD_RESULT})
DIED = frozenset({OK, ERROR, KILLED, TIMEOUT, NO_RESULT})


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One attack. `variants` are records of one batch, told apart by `metadata.variant`.

    `control`: it does no harm to a machine that nothing protects, and must succeed there.
    `time_s` is one record's, `load_s` what its code has to load. `runs`: how often it is run,
    each in a batch of its own, since some need a second time.
    """

    name: str
    ended: frozenset[str]
    variants: int = 1
    runs: int = 1
    scores_itself: bool = False
    control: bool = False
    time_s: float = TIME_S
    load_s: float = LOAD_S


def case(
    name: str, ended: frozenset[CodeEnd], *more: str, variants: int = 1, runs: int = 1,
    scores_itself: bool = False, control: bool = False, time_s: float | None = None,
    load_s: float = LOAD_S,
) -> Case:
    # What must be stopped may be stopped soon; what may end by itself is given the time.
    soon = STOPPED_S if OK not in ended else TIME_S
    return Case(
        name=name, ended=frozenset({*ended, *more}), variants=variants, runs=runs,
        scores_itself=scores_itself, control=control, time_s=time_s or soon,
        load_s=load_s,
    )


PYTHON = (
    case("read_etc_shadow", QUIET),
    case("env_secrets", QUIET, control=True),
    case("host_files", QUIET, control=True),
    case("proc_snoop", QUIET, control=True),
    case("symlink_escape", QUIET, control=True),
    case("file_attributes", QUIET, control=True),
    case("open_by_handle", QUIET),
    case("net_loopback_redis", QUIET, control=True),
    case("net_metadata_and_dns", QUIET),
    case("abstract_unix_socket", QUIET, control=True),
    case("unix_datagrams", QUIET, control=True),
    case("fork_bomb", DIED),
    case("thread_bomb", DIED),
    case("memory_bomb_list", STOPPED, ERROR, time_s=BOMB_S),
    case("memory_bomb_mmap", frozenset({ERROR, KILLED}), variants=2, time_s=BOMB_S),
    case("memory_bomb_forked", DIED, time_s=BOMB_S),
    case("memfd_bomb", QUIET, KILLED, TIMEOUT),
    case("sysv_shm_mqueue", QUIET),
    case("infinite_loop", STOPPED),
    case("sleep_past_deadline", STOPPED),
    case("regex_redos", STOPPED),
    case("bigint_pow", STOPPED, ERROR),
    case("giant_stdout", QUIET, KILLED, TIMEOUT),
    case("giant_result", STOPPED, OK, ERROR, TOO_LARGE, variants=4),
    case("fd_exhaustion", QUIET),
    case("tmp_fill", QUIET),
    case("sparse_truncate", QUIET),
    case("poison_site_packages", QUIET),
    case("monkeypatch_next_call", QUIET, BAD_RESULT, scores_itself=True),
    case("leave_tmp_file", QUIET, runs=2, control=True),
    case("daemon_survivor", QUIET, NO_RESULT, TIMEOUT, BAD_RESULT, control=True),
    case("zombie_children", QUIET),
    case("kill_parent", QUIET, KILLED, NO_RESULT, variants=5),
    case("ptrace_parent", QUIET),
    case("os_exit", frozenset({NO_RESULT, ERROR})),
    case("segfault", frozenset({KILLED})),
    case("abort_with_core", frozenset({KILLED})),
    case("sys_exit_and_base_exceptions", frozenset({ERROR, NO_RESULT}), variants=8),
    case("exception_str_bomb", STOPPED, ERROR, NO_RESULT, variants=7),
    case("deep_recursion", STOPPED, ERROR),
    case("deep_json_result", REFUSED, OK, KILLED, variants=2),
    # What stands beside a score costs it nothing, so these give 0.5 where that is the attack.
    case("result_nan", REFUSED, OK, variants=6),
    case("result_infinity", REFUSED, OK, variants=6),
    case("result_raw_nan_bytes", REFUSED, NO_RESULT, TOO_LARGE, variants=16),
    case("result_hugeint", REFUSED, OK, variants=6),
    case("result_out_of_range", REFUSED, variants=7),
    case("result_types", REFUSED, OK, variants=17),
    case("result_nul_and_surrogates", REFUSED, OK, variants=6),
    case("result_spoof_two_frames", REFUSED, TOO_LARGE, KILLED, variants=12),
    case("result_spoof_own_words", REFUSED, OK, TOO_LARGE),
    case("result_spoof_envelope", REFUSED, OK, variants=5),
    case("result_promises_gigabytes", REFUSED, TOO_LARGE, KILLED, TIMEOUT, variants=3),
    case("frames_before_ready", REFUSED, NO_RESULT),
    case("code_executes_at_check", frozenset({ERROR, NO_RESULT})),
    case("result_pickle", REFUSED, TOO_LARGE, variants=3),
    case(
        "result_str_subclass", REFUSED, OK, KILLED, TIMEOUT, variants=6, scores_itself=True
    ),
    case("result_partial_then_hang", frozenset({TIMEOUT})),
    case("result_slow_drip", frozenset({TIMEOUT})),
    case("log_injection", QUIET, ERROR, variants=3),
    case("ctypes_syscalls", QUIET),
    case("mount_unshare", QUIET),
    case("setuid_caps", QUIET),
    case("raise_rlimits", QUIET),
    case("exec_shell", QUIET, control=True),
    case("seccomp_x32_and_int80", QUIET, KILLED),
    case("int80", QUIET, KILLED),
    case("subinterpreter", QUIET, TIMEOUT, KILLED),
    case("thread_hang_at_exit", frozenset({OK, TIMEOUT})),
    case("module_level_bomb", STOPPED, load_s=STOPPED_LOAD_S),
    case("compile_bomb", STOPPED, ERROR, NO_RESULT, variants=3, load_s=STOPPED_LOAD_S),
    case("frame_walk_runner", QUIET, control=True),
    case("inherited_fds", QUIET, control=True),
    case("scm_rights_steal", QUIET, control=True),
    case("tty_tiocsti", QUIET),
    case("clock_abuse", DIED, variants=3),
    case("async_never_done", STOPPED, variants=2),
    case("input_mutation", frozenset({OK})),
    case("dns_exfil_via_result_name", QUIET, BAD_RESULT, variants=11),
)

JAVASCRIPT = (
    case("read_files", QUIET, control=True),
    case("file_attributes", QUIET, control=True),
    case("env", QUIET, control=True),
    case("net_fetch", QUIET, control=True),
    case("child_process", QUIET, control=True),
    case("infinite_loop", STOPPED),
    case("microtask_starvation", STOPPED),
    case("memory_bomb_heap", STOPPED, ERROR, NO_RESULT, time_s=BOMB_S),
    case("memory_bomb_buffers", DIED, time_s=BOMB_S),
    case("worker_thread_bomb", DIED),
    case("prototype_pollution", QUIET, BAD_RESULT, scores_itself=True),
    case("result_fd_spoof", REFUSED, TOO_LARGE, KILLED, variants=12),
    # It may end itself by that, after the one answer: then it has chosen its own score.
    case("result_every_fd", REFUSED, OK, KILLED, NO_RESULT, TIMEOUT, scores_itself=True),
    case("result_nan", REFUSED, OK, variants=18),
    case("process_exit_hooks", DIED, variants=6),
    case("native_addon", QUIET, KILLED, variants=2),
    case("detached_survivor", QUIET, TIMEOUT, control=True),
    case("regex_redos", STOPPED),
    case("type_level_bomb", QUIET),
    case("import_escape", STOPPED, ERROR, INVALID_SOURCE, load_s=STOPPED_LOAD_S),
    case("import_host_paths", frozenset({ERROR}), INVALID_SOURCE),
)

BOMBS = (
    "(" * NESTED + ")" * NESTED,
    "-" * NESTED + "1",
    "[" * 150 + "1" + "]" * 150 + " + 1 ** 9 ** 9 ** 9" * 20 + " + (1 << 2**40)",
)


def sources(case: Case, language: str) -> list[str]:
    """The attack's source, or one for each variant where the source itself is the attack."""
    suffix = {"python": "py", "javascript": "ts"}[language]
    text = (HERE / language / f"{case.name}.{suffix}").read_text()
    if case.name == "compile_bomb":
        return [text.replace("__BOMB__", bomb) for bomb in BOMBS]
    return [text]
