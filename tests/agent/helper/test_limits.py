"""Limits and lists that change: the last word counts, twice is once, and what a control group shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.helper.runtime import limits, sandboxes
from agent.shared.errors import InUse, InvalidParams

LISTS = {"allow": ["pypi.org", "a.example.org"], "deny": ["b.example.org"]}
NOTHING: dict[str, Any] = {"limits": {}, "network": None, "allow": [], "deny": [], "drop": []}


@pytest.fixture(autouse=True)
def no_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may have a proxy of its own."""
    monkeypatch.setattr(sandboxes.proxies, "upstream", lambda: None)


@pytest.mark.parametrize(
    ("change", "allow", "deny"),
    [
        ({"allow": ["GitHub.com."]}, ["pypi.org", "a.example.org", "github.com"], ["b.example.org"]),
        ({"allow": ["b.example.org"]}, ["pypi.org", "a.example.org", "b.example.org"], []),
        ({"deny": ["pypi.org"]}, ["a.example.org"], ["b.example.org", "pypi.org"]),
        ({"drop": ["b.example.org", "PyPI.org"]}, ["a.example.org"], []),
        ({"drop": ["nobody.example.org"]}, ["pypi.org", "a.example.org"], ["b.example.org"]),
        ({"network": {"allow": []}}, [], []),
    ],
)
def test_hosts_change_one_by_one_and_twice_is_once(change: dict[str, Any], allow: list[str], deny: list[str]) -> None:
    before = sandboxes.parse("demo", {}, LISTS)
    once = limits.change(before, **{**NOTHING, **change})
    assert once.network == {"allow": allow, "deny": deny}
    assert limits.change(once, **{**NOTHING, **change}) == once


def test_limits_merge_and_null_removes_one() -> None:
    before = sandboxes.parse("demo", {"tasks": 20, "cpus": 1.5}, "full")
    after = limits.change(before, **{**NOTHING, "limits": {"tasks": None, "runtime_s": 5.0}})
    assert after.limits == {"cpus": 1.5, "runtime_s": 5.0}
    assert (after.network, before.limits) == ("full", {"tasks": 20, "cpus": 1.5})


@pytest.mark.parametrize(
    "change",
    [
        {"limits": []},
        {"limits": {"User": 0}},
        {"limits": {"tasks": True}},
        {"allow": "pypi.org"},
        {"drop": ["no host"]},
        {"allow": [f"{number}.example.org" for number in range(255)]},
    ],
)
def test_what_is_no_change_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidParams):
        limits.change(sandboxes.parse("demo", {}, LISTS), **{**NOTHING, **change})


def test_a_network_without_lists_says_how_to_get_one() -> None:
    with pytest.raises(InUse) as refusal:
        limits.change(sandboxes.parse("demo", {}, "none"), **{**NOTHING, "allow": ["pypi.org"]})
    assert "--network list" in refusal.value.data["hint"]


@pytest.mark.parametrize(("memory", "tasks", "is_refused"), [(64, 5, False), (65, 5, True), (64, 6, True)])
def test_a_limit_below_the_present_use_is_refused(tmp_path: Path, memory: int, tasks: int, is_refused: bool) -> None:
    (tmp_path / "memory.current").write_text(f"{memory << 20}\n")
    (tmp_path / "pids.current").write_text(f"{tasks}\n")
    before = sandboxes.parse("demo", {}, "full")
    after = sandboxes.parse("demo", {"memory_bytes": 64 << 20, "tasks": 5}, "full")
    if is_refused:
        with pytest.raises(InUse, match="now"):
            limits.check_use(after, before, {"": str(tmp_path)})
    else:
        limits.check_use(after, before, {"": str(tmp_path)})
    limits.check_use(after, after, {"": str(tmp_path)})  # one that stays as it is


def test_what_the_control_group_shows_is_what_is_enforced(tmp_path: Path) -> None:
    wanted = {"memory_bytes": 64 << 20, "tasks": 5, "cpus": 0.5, "runtime_s": 3.0}
    groups = {"": str(tmp_path)}
    assert limits.seen(wanted, groups) == {"memory_bytes": False, "tasks": False, "cpus": False}
    for name, text in (("memory.max", f"{64 << 20}"), ("pids.max", "5"), ("cpu.max", "50000 100000")):
        (tmp_path / name).write_text(text + "\n")
    assert limits.seen(wanted, groups) == {"memory_bytes": True, "tasks": True, "cpus": True}
    (tmp_path / "pids.max").write_text("max\n")
    assert limits.seen(wanted, groups)["tasks"] is False


def test_a_limit_that_is_gone_is_taken_back_by_name() -> None:
    assert limits.properties({"tasks": 5}, "99") == [
        "MemoryMax=infinity", "MemorySwapMax=infinity", "CPUQuota=", "TasksMax=5",
    ]  # fmt: skip
    assert limits.properties({"memory_bytes": 1 << 30, "cpus": 1.5}, "99") == [
        "MemoryMax=1073741824", "MemorySwapMax=0", "CPUQuota=150%", "TasksMax=99",
    ]  # fmt: skip
