"""workspace.create with a repository, over the real socket: complete, absent, or marked pending."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.shared.errors import CommandFailed
from tests.agent.conftest import Rpc, serve

URL = "https://git.example.org/team/site.git"
SECRET = "geheim-0815"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
REPO = {"url": URL, "ref": "main", "credential": {"token": SECRET}}
REFUSED = CommandFailed("git clone failed", command="git clone", exit_code=128, stderr="no")


def verbs(rpc: Rpc) -> list[str]:
    return [verb for verb, _ in rpc.helper.calls]


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_a_workspace_with_a_repository_is_ready_when_that_is_there(rpc: Rpc, tmp_path: Path) -> None:
    made = rpc.call("workspace.create", name="demo", labels={"a": "b"}, repo={**REPO, "depth": 1}, request_id="r1")
    assert (made["state"], made["repos"], made["labels"]) == ("ready", ["site"], {"a": "b"})
    assert rpc.helper.calls[-1][1]["credential"] == {"username": "x-access-token", "password": SECRET}
    assert rpc.call("workspace.get", name="demo") == made
    again = {"url": URL, "ref": "main", "depth": 1, "credential": {"token": "another"}}
    assert rpc.call("workspace.create", name="demo", labels={"a": "b"}, repo=again, request_id="r1") == made
    assert SECRET.encode() not in written(tmp_path)
    assert rpc.call("workspace.create", name="bare")["repos"] == []


@pytest.mark.parametrize(
    "repo",
    [{}, {"ref": "main"}, {"url": "file:///etc"}, {"url": URL, "ref": "-x"}, {"url": URL, "hooks": True}, [URL], URL,
     {"url": URL, "credential": {"ssh_key": SECRET}}, {"url": URL, "known_hosts": ["x"]}, {"url": "https://h/a_b"}],
)  # fmt: skip
def test_invalid_repository_parameters_create_nothing(rpc: Rpc, repo: Any) -> None:
    rpc.refuses("workspace.create", -32602, name="demo", repo=repo)
    assert rpc.helper.calls == rpc.call("workspace.list") == rpc.call("user.list") == []


@pytest.mark.parametrize("method", ["user.create", "workspace.create"])
def test_a_creation_whose_keys_are_refused_is_pending_until_it_is_completed(rpc: Rpc, method: str) -> None:
    """The account is there already: without this, no list would show it, and it could not be made again."""
    rpc.helper.refusals["user.put_keys"] = CommandFailed("/etc/.pwd.lock is held", command="", exit_code=1, stderr="")
    refusal = rpc.refuses(method, 1007, name="demo", ssh_keys=[KEY])
    assert refusal["data"]["pending"] is True
    assert [intent.method for intent in rpc.store.intents()] == [method]
    rpc.helper.refusals.clear()
    rpc.dispatcher.resume()
    assert [key["type"] for key in rpc.call("user.get", name="demo")["ssh_keys"]] == ["ssh-ed25519"]
    assert [one["name"] for one in rpc.call("workspace.list")] == ["demo"] * (method == "workspace.create")
    assert rpc.store.intents() == []


def test_a_clone_that_fails_takes_the_workspace_and_its_new_user_with_it(rpc: Rpc) -> None:
    rpc.call("user.create", name="ada")
    rpc.helper.refusals["repo.clone"] = REFUSED
    refusal = rpc.refuses("workspace.create", 1007, name="demo", repo=REPO)
    assert "workspace 'demo' was removed again" in refusal["message"]
    assert rpc.helper.calls[-1] == ("workspace.remove", {"name": "demo", "remove_user": True})
    rpc.refuses("workspace.create", 1007, name="hers", user="ada", repo=REPO)
    assert rpc.helper.calls[-1] == ("workspace.remove", {"name": "hers", "remove_user": False})
    assert [user["name"] for user in rpc.call("user.list")] == ["ada"]
    assert rpc.call("workspace.list") == rpc.store.intents() == []
    rpc.helper.refusals.clear()
    assert rpc.call("workspace.create", name="demo", repo=REPO)["state"] == "ready"
    rpc.refuses("workspace.create", 1002, name="demo", repo=REPO)
    assert rpc.call("workspace.get", name="demo")["state"] == "ready"


def test_while_it_clones_it_is_pending_and_others_go_on(rpc: Rpc) -> None:
    rpc.helper.hold_back("repo.clone")
    answers: list[Any] = []
    creation = threading.Thread(target=lambda: answers.append(rpc.call("workspace.create", name="demo", repo=REPO)))
    creation.start()
    assert rpc.helper.entered.wait(10)
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    assert rpc.call("workspace.create", name="other")["state"] == "ready"
    for method, params in (
        ("workspace.create", {"name": "demo"}), ("workspace.open", {"name": "demo"}),
        ("workspace.exec", {"name": "demo", "argv": ["true"]}), ("repo.init", {"workspace": "demo"}),
        ("workspace.assign", {"name": "demo", "user": "other"}), ("sandbox.create", {"workspace": "demo"}),
    ):  # fmt: skip
        assert "is being created" in rpc.refuses(method, 1004, **params)["message"]
    assert rpc.call("workspace.update", name="demo", labels={"a": "b"})["state"] == "pending"
    rpc.helper.gate.set()
    creation.join(10)
    assert (answers[0]["state"], answers[0]["labels"]) == ("ready", {"a": "b"})


def test_a_workspace_deleted_and_created_again_meanwhile_stays(rpc: Rpc) -> None:
    rpc.helper.hold_back("repo.clone")
    creation = threading.Thread(target=lambda: rpc.refuses("workspace.create", 1001, name="demo", repo=REPO))
    creation.start()
    assert rpc.helper.entered.wait(10)
    rpc.call("workspace.delete", name="demo")
    rpc.helper.identity = "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0002"
    anew = rpc.call("workspace.create", name="demo")
    rpc.helper.gate.set()
    creation.join(10)
    assert rpc.call("workspace.get", name="demo") == anew


@pytest.mark.parametrize("cut_at", ["workspace.ensure", "repo.clone"])
def test_an_interrupted_creation_is_removed_at_the_next_start(tmp_path: Path, cut_at: str) -> None:
    first = serve(tmp_path)
    rpc = next(first)
    for verb in (cut_at, "repo.settle", "workspace.remove"):
        rpc.helper.refusals[verb] = None
    rpc.refuses("workspace.create", 1004, name="demo", repo=REPO)
    assert "workspace.create" in str(rpc.call("node.health"))
    assert [found["state"] for found in rpc.call("workspace.list")] in ([], ["pending"])
    assert SECRET.encode() not in written(tmp_path)
    for _ in first:
        pass
    second = serve(tmp_path)
    rpc = next(second)
    rpc.dispatcher.resume()
    removed = [("workspace.remove", {"name": "demo", "remove_user": True})]
    # Cut off in the helper, a user may be there without its workspace.
    user_removed = [("user.remove", {"name": "demo"})] if cut_at == "workspace.ensure" else []
    assert rpc.helper.calls == [*removed, *user_removed]
    assert rpc.call("workspace.list") == rpc.call("user.list") == rpc.store.intents() == []
    assert rpc.call("workspace.create", name="demo", repo=REPO)["state"] == "ready"
    for _ in second:
        pass


def test_what_could_not_be_removed_makes_room_for_the_next(rpc: Rpc) -> None:
    for verb in ("repo.clone", "repo.settle", "workspace.remove"):
        rpc.helper.refusals[verb] = None
    rpc.refuses("workspace.create", 1004, name="demo", repo=REPO)
    rpc.helper.refusals.clear()
    assert rpc.call("workspace.create", name="demo", repo=REPO)["state"] == "ready"
    rpc.dispatcher.resume()
    assert rpc.call("workspace.get", name="demo")["repos"] == ["site"]


def test_a_pending_removal_is_completed_before_the_next_change_of_the_workspace(rpc: Rpc) -> None:
    rpc.helper.refusals["repo.clone"] = REFUSED
    rpc.helper.refusals["workspace.remove"] = CommandFailed("a file resists", pending=True)
    refusal = rpc.refuses("workspace.create", 1007, name="demo", repo=REPO, request_id="r1")
    assert "could not be removed again yet: a file resists" in refusal["message"]
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    assert "workspace.create demo" in str(rpc.call("node.health"))
    assert "a file resists" in rpc.refuses("workspace.create", 1007, name="demo")["message"]
    rpc.helper.refusals.clear()
    assert rpc.call("workspace.create", name="demo")["repos"] == []
    assert [user["name"] for user in rpc.call("user.list")] == ["demo"]
    assert rpc.store.intents() == []
    rpc.refuses("workspace.create", 1002, name="demo", repo=REPO, request_id="r1")


def test_a_disk_that_is_full_at_the_end_leaves_it_pending_and_the_next_one_is_whole(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("agent.frontend.workspace_creation.finish", full)
        rpc.refuses("workspace.create", 1008, name="demo", repo=REPO)
    assert rpc.call("workspace.get", name="demo")["state"] == "pending"
    rpc.call("workspace.create", name="demo")
    assert [user["name"] for user in rpc.call("user.list")] == ["demo"]
    assert rpc.call("workspace.get", name="demo")["state"] == "ready"


def full(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")
