"""The options of sandbox.create and sandbox.update; refused hosts and the commands that allow them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from codesmith.cli import limit_options
from codesmith.errors import BadArgument
from codesmith.workspace import denied_hosts

NOTHING = dict.fromkeys(("memory", "cpus", "tasks", "runtime", "disk"))


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, {}),
        ({"memory": "2G", "tasks": "20"}, {"memory_bytes": 2 << 30, "tasks": 20}),
        ({"memory": "none", "cpus": "none", "tasks": "none", "runtime": "none", "disk": "none"},
         {"memory_bytes": None, "disk_bytes": None, "cpus": None, "tasks": None, "runtime_s": None}),
        ({"cpus": "1.5", "runtime": "30", "disk": "5G"}, {"disk_bytes": 5 << 30, "cpus": 1.5, "runtime_s": 30.0}),
    ],
)  # fmt: skip
def test_none_removes_a_limit_and_what_is_not_given_stays(options: dict[str, Any], limits: dict[str, Any]) -> None:
    assert limit_options.parse_changes(**{**NOTHING, **options}) == limits


@pytest.mark.parametrize("options", [{"cpus": "x"}, {"tasks": "1.5"}, {"runtime": "0"}, {"cpus": "inf"}, {"disk": "x"}])
def test_a_bad_limit_names_its_option(options: dict[str, Any]) -> None:
    with pytest.raises(BadArgument, match=f"--{next(iter(options))} takes"):
        limit_options.parse_changes(**{**NOTHING, **options})


def test_hosts_make_a_list_of_a_new_sandbox_and_change_that_of_an_old_one() -> None:
    lists = {"allow": ["a.org"], "deny": []}
    assert limit_options.parse_lists(None, ["a.org"], None, is_new=True) == lists
    assert limit_options.parse_lists(None, ["a.org"], None, is_new=False) is None
    assert limit_options.parse_lists("list", ["a.org"], None, is_new=False) == lists
    assert limit_options.parse_lists("none", None, None, is_new=False) == "none"
    with pytest.raises(BadArgument, match="no lists"):
        limit_options.parse_lists("full", ["a.org"], None, is_new=False)


def test_an_update_without_a_change_is_refused() -> None:
    with pytest.raises(BadArgument, match="changes nothing"):
        limit_options.parse_given(limits={}, network=None, allow=None)
    with pytest.raises(BadArgument, match="--drop"):
        limit_options.parse_given(network="full", drop=["a.org"])


@pytest.mark.parametrize(
    ("host", "port", "entry"),
    [
        ("pypi.org", 443, "pypi.org"),
        ("GitHub.com", 22, "github.com:22"),
        ("10.1.2.3", 5432, "10.1.2.3:5432"),
        ("2001:db8::1", 8080, "[2001:db8::1]:8080"),
        ("a;reboot", 443, None),
        ("$(reboot)", 443, None),
        ("--all", 443, None),
        ("a b", 443, None),
    ],
)
def test_a_refused_host_has_the_command_that_allows_it_and_nothing_else(
    host: str, port: int, entry: str | None
) -> None:
    assert denied_hosts.entry(host, port) == entry
    line = denied_hosts.notes("demo", [SimpleNamespace(host=host, port=port, count=2, last_at="now")])[0]
    assert line.startswith(f"denied: {host}:{port}, 2 times")
    assert ("inv sandbox.update" in line) == (entry is not None)
