"""Unpacked bundles: kept while they are used, dropped whole when they are not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scorers.sandbox.bundles import drop_unused, use
from scorers.sandbox.place import Place

DAY_S = 86400.0


@pytest.fixture
def place(tmp_path):
    (tmp_path / "bundles").mkdir()
    return Place(python=Path("/usr/bin/python3"), bundles=tmp_path / "bundles")


def unpacked(place, name, *, age_s):
    folder = place.bundles / name
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "module.py").write_text("1")
    at = time.time() - age_s
    os.utime(folder, (at, at))
    return folder


def test_what_nobody_used_for_long_is_dropped_and_nothing_else(place):
    old = unpacked(place, "a" * 64, age_s=8 * DAY_S)
    young = unpacked(place, "b" * 64, age_s=6 * DAY_S)
    assert drop_unused(place, unused_s=7 * DAY_S) == 1
    assert [old.exists(), young.exists()] == [False, True]
    assert [each.name for each in place.bundles.iterdir()] == [young.name]


def test_use_keeps_a_bundle(place):
    old = unpacked(place, "a" * 64, age_s=8 * DAY_S)
    assert use(place, old.name)
    assert drop_unused(place, unused_s=7 * DAY_S) == 0
    assert not use(place, "c" * 64)


def test_what_was_left_half_made_goes_after_an_hour(place):
    left = unpacked(place, ".building-x", age_s=2 * 3600)
    making = unpacked(place, ".building-y", age_s=60)
    assert drop_unused(place, unused_s=7 * DAY_S) == 1
    assert [left.exists(), making.exists()] == [False, True]


def test_removing_follows_no_link(place, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text("precious")
    old = unpacked(place, "a" * 64, age_s=8 * DAY_S)
    (old / "inner" / "link").symlink_to(kept)
    (old / "linked").symlink_to(tmp_path)
    os.utime(old, (0, 0))
    assert drop_unused(place, unused_s=7 * DAY_S) == 1
    assert kept.read_text() == "precious"


def test_without_a_store_there_is_nothing_to_drop(tmp_path):
    assert drop_unused(Place(python=Path("/usr/bin/python3")), unused_s=1.0) == 0
    gone = Place(python=Path("/usr/bin/python3"), bundles=tmp_path / "none")
    assert drop_unused(gone, unused_s=1.0) == 0
