"""Which method starts a runtime, and which counts as activity: the table of the specifications is true and whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.agent.conftest import CONTRACT, Rpc

SPECIFICATIONS = Path(__file__).parents[3] / "agent" / "helper" / "runtime" / "SPECIFICATIONS.md"
METHODS = {method["name"]: method for method in CONTRACT["methods"]}
# Of these a supervisor takes no note: who only looks keeps nothing from ending.
LOOKS = {"status", "wait", "watch", "job_get", "job_list", "job_logs", "job_wait"}


def table() -> dict[str, tuple[bool, bool]]:
    """Return for each method whether it starts a runtime, and whether it counts as activity."""
    rows = re.findall(r"^\| (\w+\.\w+.*) \| (yes|no)[^|]*\| (yes|no)[^|]*\|$", SPECIFICATIONS.read_text(), re.M)
    found: dict[str, tuple[bool, bool]] = {}
    for names, starts, counts in rows:
        for name in re.findall(r"\b(?:audit|file|job|node|repo|rpc|sandbox|token|user|workspace)\.[a-z_]+", names):
            found.setdefault(name, (starts == "yes", counts == "yes"))
    return found


def test_the_table_has_every_method() -> None:
    assert sorted(table()) == sorted(METHODS)


def example(name: str) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in METHODS[name]["examples"][0]["params"]}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_starts_a_runtime_or_does_not(rpc: Rpc, tmp_path: Path, name: str) -> None:
    rpc.call("workspace.create", name="demo")
    rpc.call("user.create", name="ada")
    if name == "token.revoke":
        rpc.call("token.create", **example("token.create"))
    if name == "workspace.unshare":
        rpc.call("workspace.share", name="demo", user="ada")
    if name in ("sandbox.get", "sandbox.delete", "sandbox.update"):
        rpc.call("sandbox.create", workspace="demo")
    if name.startswith("repo.") and name not in ("repo.init", "repo.clone"):
        rpc.call("repo.clone", workspace="demo", url="https://git.example.org/team/site.git")
        (tmp_path / "demo.sock").unlink()
    before = len(rpc.helper.calls)
    rpc.answer({"jsonrpc": "2.0", "id": 1, "method": name, "params": example(name)})
    starts, counts = table()[name]
    assert (tmp_path / "demo.sock").exists() == starts, json.dumps(example(name))
    asked = {
        verb for verb, _ in rpc.helper.calls[before:] if not re.match(r"(user|workspace|sandbox|node|runtime)\.", verb)
    }
    if starts:
        assert bool(asked - LOOKS) == counts, asked
