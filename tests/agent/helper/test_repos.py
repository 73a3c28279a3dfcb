"""repo.* over the real socket: what is stored, what is not, and what follows when the helper does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.shared.errors import CommandFailed, InUse
from tests.agent.conftest import Rpc, serve

URL = "https://git.example.org/team/site.git"
SECRET = "geheim-0815"
COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"


def written(folder: Path) -> bytes:
    """Return all that the front end wrote."""
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_a_clone_is_told_and_listed(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    made = rpc.call("repo.clone", workspace="demo", url=URL, ref="main", depth=1)
    path = "/srv/codesmith/workspaces/demo/code/site"
    assert made == {
        "name": "site", "path": path, "url": URL, "branch": "main", "commit": COMMIT, "left_out": [],
        "ahead": 0, "behind": 0, "updated": None, "new_commits": None,
    }  # fmt: skip
    assert rpc.call("repo.init", workspace="demo")["name"] == "demo"
    assert rpc.call("workspace.get", name="demo")["repos"] == ["demo", "site"]
    assert rpc.call("workspace.list")[0]["repos"] == ["demo", "site"]
    assert rpc.call("repo.list", workspace="demo")[1] == rpc.call("repo.get", workspace="demo", name="site") == made
    rpc.refuses("repo.clone", 1002, workspace="demo", url=URL)
    assert rpc.call("repo.delete", workspace="demo", name="site") == {
        "workspace": "demo", "name": "site", "deleted": True,
    }  # fmt: skip
    rpc.refuses("repo.get", 1001, workspace="demo", name="site")
    rpc.refuses("repo.get", 1001, workspace="other", name="site")
    rpc.call("workspace.delete", name="demo")
    rpc.call("workspace.create", name="demo")
    assert rpc.call("repo.list", workspace="demo") == []


@pytest.mark.parametrize(
    "params",
    [
        {"url": "file:///etc"}, {"url": "https://u:p@h/x"}, {"url": URL, "ref": "-x"}, {"url": URL, "depth": 0},
        {"url": URL, "depth": True}, {"url": URL, "credential": {"color": "x"}}, {"url": URL, "credential": {}},
        {"url": URL, "credential": {"ssh_key": "x"}}, {"url": URL, "known_hosts": ["x"]}, {"url": URL, "name": "../x"},
        {"url": URL, "timeout_s": 4000},
    ],
)  # fmt: skip
def test_what_breaks_its_grammar_never_reaches_the_helper(rpc: Rpc, params: dict[str, object]) -> None:
    rpc.call("workspace.create", name="demo")
    rpc.refuses("repo.clone", -32602, workspace="demo", **params)
    assert [verb for verb, _ in rpc.helper.calls] == ["workspace.ensure"]


def test_a_credential_reaches_the_job_and_no_file(rpc: Rpc, tmp_path: Path) -> None:
    rpc.call("workspace.create", name="demo")
    given = {"workspace": "demo", "url": URL, "credential": {"token": SECRET}, "request_id": "r1"}
    first = rpc.call("repo.clone", **given)
    assert rpc.helper.calls[-1][1]["credential"] == {"username": "x-access-token", "password": SECRET}
    assert rpc.call("repo.clone", **{**given, "credential": {"token": "another"}}) == first
    rpc.helper.refusals["repo.clone"] = rpc.helper.refusals["repo.settle"] = None
    rpc.refuses("repo.clone", 1004, **{**given, "request_id": "r2", "name": "x"})
    assert [intent.params.get("credential") for intent in rpc.store.intents()] == [None]
    assert SECRET.encode() not in written(tmp_path)
    rpc.helper.refusals.clear()


def test_a_clone_that_fails_leaves_nothing(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    for refusal in (CommandFailed("git clone failed", command="git clone", exit_code=128, stderr="no"), None):
        rpc.helper.refusals["repo.clone"] = refusal
        rpc.refuses("repo.clone", 1007, workspace="demo", url=URL)
        assert rpc.helper.calls[-1][0] == "repo.settle"
        assert rpc.call("repo.list", workspace="demo") == rpc.store.intents() == []
    rpc.helper.refusals.clear()
    assert rpc.call("repo.clone", workspace="demo", url=URL)["commit"] == COMMIT


def test_a_clone_that_was_cut_off_runs_when_it_is_asked_for_again(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    wanted = {"workspace": "demo", "url": URL, "request_id": "r1"}
    rpc.helper.refusals["repo.clone"] = rpc.helper.refusals["repo.settle"] = None
    rpc.refuses("repo.clone", 1004, **wanted)
    rpc.helper.refusals.clear()
    assert rpc.call("repo.clone", **wanted)["name"] == "site"
    assert rpc.store.intents() == []


def test_a_clone_that_cannot_be_settled_yet_does_not_keep_its_name_for_ever(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    rpc.helper.refusals["repo.clone"] = CommandFailed("git clone failed", command="git clone", exit_code=128, stderr="")
    rpc.helper.refusals["repo.settle"] = InUse("another change on this node takes too long")
    assert rpc.refuses("repo.clone", 1004, workspace="demo", url=URL)["data"]["pending"]
    assert "repo.clone demo" in str(rpc.call("node.health"))
    rpc.helper.refusals.clear()
    assert rpc.call("repo.clone", workspace="demo", url=URL)["name"] == "site"
    assert rpc.store.intents() == []


@pytest.mark.parametrize("is_made", [False, True])
def test_a_clone_that_was_cut_off_is_settled_at_the_next_start(tmp_path: Path, is_made: bool) -> None:
    first = serve(tmp_path)
    rpc = next(first)
    rpc.call("workspace.create", name="demo")
    rpc.helper.refusals["repo.clone"] = rpc.helper.refusals["repo.settle"] = None
    rpc.refuses("repo.clone", 1004, workspace="demo", url=URL, credential={"token": SECRET})
    assert "repo.clone" in str(rpc.call("node.health"))
    rpc.refuses("repo.clone", 1004, workspace="demo", url=URL)
    assert rpc.call("workspace.get", name="demo")["repos"] == []
    for _ in first:
        pass
    second = serve(tmp_path)
    rpc = next(second)
    rpc.helper.is_made = is_made
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["repos"] == (["site"] if is_made else [])
    assert "repo.clone" not in [verb for verb, _ in rpc.helper.calls]
    assert rpc.store.intents() == []
    for _ in second:
        pass
