"""How the machine's memory is found, and divided."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.servers.memory import (
    MIB,
    cgroup_limits_bytes,
    machine_memory_bytes,
    postgres_settings,
)

NAMES = ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem")


@pytest.mark.parametrize(
    ("memory_mib", "expected"),
    [
        (512, ("32MB", "256MB", "4MB", "16MB")),
        (4096, ("128MB", "2048MB", "4MB", "32MB")),
        (16384, ("512MB", "8192MB", "16MB", "128MB")),
        (2**20, ("512MB", "524288MB", "64MB", "256MB")),
    ],
)
def test_each_use_gets_its_share_within_bounds(
    memory_mib: int, expected: tuple[str, ...]
) -> None:
    settings = postgres_settings(memory_mib * MIB)
    assert tuple(settings[name] for name in NAMES) == expected
    assert set(settings) == set(NAMES)


def groups(root: Path, **limits: str) -> Path:
    """Nested control groups with these limits, the outermost first."""
    folder = root
    for name, limit in limits.items():
        folder = folder / name
        folder.mkdir()
        (folder / "memory.max").write_text(f"{limit}\n")
    return root


def test_the_limit_of_each_group_around_this_process_counts(tmp_path: Path) -> None:
    root = groups(tmp_path, host="max", service="3000", process="5000")
    assert cgroup_limits_bytes(root, "0::/host/service/process\n") == [5000, 3000]


def test_a_container_sees_its_own_limit_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("4096\n")
    assert cgroup_limits_bytes(tmp_path, "0::/\n") == [4096]


@pytest.mark.parametrize("own", ["", "12:memory:/docker/1\n", "0::/gone\n", "0::/host\n"])
def test_without_a_limit_there_is_none(tmp_path: Path, own: str) -> None:
    assert cgroup_limits_bytes(groups(tmp_path, host="max"), own) == []


def test_a_group_outside_of_what_is_mounted_reads_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1\n")
    root = tmp_path / "mounted"
    root.mkdir()
    assert cgroup_limits_bytes(root, "0::/../other\n") == []


def test_this_machine_has_some_memory() -> None:
    assert machine_memory_bytes() > 128 * MIB
