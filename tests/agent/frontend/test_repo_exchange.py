"""What a runtime answers to a pull, push or fetch, said by the front end; the answer is the word of its login."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from agent.frontend import exchange_jobs
from agent.shared.errors import AgentError, CommandFailed, LimitReached, Unsupported

REQUEST = {
    "workspace": "demo", "name": "site", "kind": "push", "url": "https://h/a.git", "ref": None, "credential": {},
    "known_hosts": [], "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8",
}  # fmt: skip


def transfer(answer: Any, **ended: Any) -> dict[str, Any]:
    done = {"exit_code": 0, "signal": None, "killed_by": None, "duration_s": 0.1, **ended, "answer": json.dumps(answer)}
    runtimes: Any = SimpleNamespace(call=lambda *_, **__: done)
    return exchange_jobs.transfer(runtimes, "demo", REQUEST, 1.0)


def refused(kind: type[AgentError], answer: Any, **ended: Any) -> tuple[str, str]:
    with pytest.raises(kind) as refusal:
        transfer(answer, **ended)
    return str(refusal.value), refusal.value.data.get("hint", "")


def test_a_runtime_of_an_older_agent_is_named() -> None:
    problem, hint = refused(Unsupported, None, exit_code=1)
    assert "it may be of an older agent" in problem
    assert hint == "inv workspace.stop demo; what runs in it ends"
    assert "ended before it could answer" in refused(CommandFailed, None, exit_code=137, signal="SIGKILL")[0]


def test_what_came_is_a_number_or_unknown() -> None:
    wrong: list[Any] = [-1, True, "7", 1 << 60, [], 1.5, None]
    for value in wrong:
        found = transfer({"transferred": {"ahead": value, "behind": value, "new_commits": value, "updated": 1}})
        assert [found[key] for key in ("ahead", "behind", "new_commits", "updated")] == [None] * 4
    found = transfer({"transferred": {"ahead": 0, "behind": 1, "new_commits": 2, "updated": False}})
    assert [found[key] for key in ("ahead", "behind", "new_commits", "updated")] == [0, 1, 2, False]


def test_a_refused_exchange_names_the_next_step() -> None:
    stale = {"problem": "rejected", "ref": "main; rm -rf", "reason": "stale", "exit_code": 1, "stderr": ""}
    assert refused(CommandFailed, stale)[1] == (
        "inv repo.pull demo site; if both have commits, first repo.fetch, then merge or rebase inside: "
        "inv workspace.exec demo -- git -C code/site rebase origin/BRANCH"
    )
    diverged = {"problem": "diverged", "branch": "main", "ahead": 1, "behind": 2}
    assert refused(CommandFailed, diverged)[1].startswith("merge or rebase inside: inv workspace.exec demo -- git -C")
    assert refused(LimitReached, None, killed_by="timeout")[1] == "give it longer: --timeout SECONDS (timeout_s)"
