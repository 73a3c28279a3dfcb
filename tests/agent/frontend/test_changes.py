"""Changes through the front end: what they create and remove, what is stored, what they leave when they fail."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.frontend import commands
from agent.shared.errors import CommandFailed
from tests.agent.conftest import Rpc, serve

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"


def test_a_workspace_comes_with_its_dedicated_user_and_goes_with_it(rpc: Rpc) -> None:
    made = rpc.call("workspace.create", name="demo", labels={"team": "a"})
    assert (made["user"], made["login"], made["mode"], made["state"]) == ("demo", "cs-demo", "0700", "ready")
    assert rpc.call("user.get", name="demo")["workspaces"] == ["demo"]
    assert rpc.call("workspace.list", labels={"team": "b"}) == []
    assert [found["name"] for found in rpc.call("workspace.list", labels={"team": "a"}, user="demo")] == ["demo"]
    assert [found["name"] for found in rpc.call("user.list", labels={"team": "a"})] == ["demo"]
    rpc.call("user.create", name="ada")
    assert rpc.call("user.list", labels={"team": "b"}) == rpc.call("user.list", labels={"team": "a", "x": "y"}) == []
    assert [found["name"] for found in rpc.call("user.list", labels={})] == ["ada", "demo"]
    rpc.refuses("user.list", -32602, labels={"team": 1})
    rpc.refuses("user.delete", 1004, name="demo")
    assert rpc.call("workspace.delete", name="demo") == {
        "name": "demo",
        "deleted": True,
        "user_deleted": True,
        "leftovers": [],
    }
    rpc.refuses("user.get", 1001, name="demo")


def test_a_sandbox_belongs_to_its_workspace(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    rpc.refuses("sandbox.get", 1001, workspace="demo")
    made = rpc.call("sandbox.create", workspace="demo", limits={"tasks": 50}, network="none")
    assert (made["limits"], made["network"], made["enforced"]) == ({"tasks": 50}, "none", {"tasks": True})
    assert rpc.call("workspace.get", name="demo")["sandbox"] == made == rpc.call("sandbox.get", workspace="demo")
    assert rpc.call("sandbox.list") == [made]
    assert rpc.call("node.info")["counts"] == {"users": 1, "workspaces": 1, "sandboxes": 1}
    rpc.refuses("sandbox.create", 1002, workspace="demo")
    rpc.refuses("sandbox.create", 1001, workspace="other")
    assert rpc.call("sandbox.delete", workspace="demo") == {"workspace": "demo", "deleted": True}
    assert rpc.call("workspace.get", name="demo")["sandbox"] is None
    rpc.call("sandbox.create", workspace="demo")
    rpc.call("workspace.delete", name="demo")
    assert rpc.call("sandbox.list") == []


def test_a_user_made_by_hand_stays_when_its_workspace_goes(rpc: Rpc) -> None:
    rpc.call("user.create", name="ada")
    rpc.call("workspace.create", name="demo", user="ada")
    assert rpc.call("workspace.delete", name="demo")["user_deleted"] is False
    assert rpc.call("user.delete", name="ada")["leftovers"] == []


def test_what_exists_is_not_made_again(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    calls = len(rpc.helper.calls)
    assert "inv workspace.get demo" in rpc.refuses("workspace.create", 1002, name="demo")["data"]["hint"]
    rpc.refuses("user.create", 1002, name="demo")
    rpc.refuses("workspace.create", 1001, name="other", user="nobody")
    assert len(rpc.helper.calls) == calls


def test_a_repeated_request_id_gets_the_first_result(rpc: Rpc) -> None:
    first = rpc.call("workspace.create", name="demo", request_id="r1")
    assert rpc.call("workspace.create", name="demo", request_id="r1") == first
    assert [verb for verb, _ in rpc.helper.calls] == ["workspace.ensure"]
    rpc.refuses("workspace.create", -32602, name="other", request_id="r1")
    error = rpc.refuses("user.get", 1001, name="nobody")
    assert rpc.refuses("user.delete", 1001, name="nobody", request_id="r2")["data"]["kind"] == error["data"]["kind"]
    rpc.call("user.create", name="nobody")
    rpc.refuses("user.delete", 1001, name="nobody", request_id="r2")


def test_a_result_too_long_to_keep_still_counts_as_done(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.frontend.journal.RESULT_BYTES_MAX", 100)
    rpc.call("workspace.create", name="demo")
    long = {"name": "demo", "argv": ["echo", "x" * 200], "request_id": "r1"}
    assert len(rpc.call("workspace.exec", **long)["stdout"]) > 200
    runs = len(rpc.helper.calls)
    rpc.refuses("workspace.exec", 1008, **long)
    assert len(rpc.helper.calls) == runs


def test_only_the_last_results_are_kept(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.frontend.journal.RESULTS_MAX", 2)
    for number in range(3):
        rpc.call("user.create", name=f"u{number}", request_id=f"r{number}")
    assert [rpc.store.result_of(f"r{number}") is not None for number in range(3)] == [False, True, True]


def test_a_full_disk_is_a_clear_error_and_changes_nothing(rpc: Rpc) -> None:
    rpc.call("workspace.create", name="demo")
    runs = len(rpc.helper.calls)
    pages = rpc.store.database.connection.execute("PRAGMA page_count").fetchone()[0]
    rpc.store.database.connection.execute(f"PRAGMA max_page_count = {pages}")
    labels = {f"key{number}": "x" * 250 for number in range(30)}
    assert "full" in rpc.refuses("workspace.create", 1008, name="big", labels=labels)["message"]
    assert len(rpc.helper.calls) == runs
    # A command that ran is answered, also when its result cannot be kept.
    done = rpc.call("workspace.exec", name="demo", argv=["x" * 9000], request_id="r9")
    assert done["exit_code"] == 0
    rpc.store.database.connection.execute("PRAGMA max_page_count = 100000")
    assert rpc.call("workspace.create", name="big", labels=labels)["state"] == "ready"


def test_commands_at_once_are_bounded(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "COMMANDS_MAX", 1)
    rpc.call("workspace.create", name="demo")
    rpc.helper.gate.clear()
    rpc.helper.entered.clear()
    slow = threading.Thread(target=lambda: rpc.call("workspace.exec", name="demo", argv=["sleep"]))
    slow.start()
    assert rpc.helper.entered.wait(10)
    rpc.refuses("workspace.exec", 1008, name="demo", argv=["true"])
    rpc.helper.gate.set()
    slow.join()
    assert rpc.call("workspace.exec", name="demo", argv=["true"])["exit_code"] == 0


def test_two_calls_at_once_with_one_request_id_run_once(rpc: Rpc) -> None:
    rpc.helper.gate.clear()
    results: list[Any] = []
    calls = [
        threading.Thread(target=lambda: results.append(rpc.call("user.create", name="ada", request_id="r")))
        for _ in range(4)
    ]
    for call in calls:
        call.start()
    assert rpc.helper.entered.wait(10)
    rpc.helper.gate.set()
    for call in calls:
        call.join()
    assert len(results) == 4
    assert all(result == results[0] for result in results)
    assert len(rpc.helper.calls) == 1


def test_reads_go_on_while_a_change_takes_long(rpc: Rpc) -> None:
    rpc.helper.hold_back("user.ensure")
    slow = threading.Thread(target=lambda: rpc.call("user.create", name="ada"))
    slow.start()
    rpc.helper.wait_for("user.ensure")
    assert rpc.call("node.version")
    (pending,) = [one for one in rpc.call("node.health")["checks"] if one["name"] == "pending"]
    assert (pending["status"], pending["detail"]) == ("degraded", "begun and not ended: user.create ada")
    rpc.helper.gate.set()
    slow.join()


def test_every_attempt_leaves_one_audit_record(rpc: Rpc) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
    rpc.call("workspace.create", name="demo", ssh_keys=[key], request_id="r1")
    rpc.refuses("user.create", -32602, name="../x")
    rpc.refuses("user.delete", 1001, name="nobody")
    rpc.call("workspace.exec", name="demo", argv=["echo", "password1"], env={"TOKEN": "secret1"}, stdin="secret2")
    rpc.call("user.list")
    records = rpc.audited()
    assert [(one["method"], one["outcome"]) for one in records] == [
        ("workspace.create", "ok"),
        ("user.create", "invalid_params"),
        ("user.delete", "not_found"),
        ("workspace.exec", "ok"),
    ]
    assert records[0]["peer_uid"] == os.getuid()
    assert records[0]["request_id"] == "r1"
    assert records[0]["target"] == {"name": "demo"}
    text = rpc.audit.read_text()
    assert not any(secret in text for secret in ("password1", "secret1", "secret2", "AAAAC3"))
    assert rpc.audit.stat().st_mode & 0o777 == 0o600


def test_a_tool_that_refuses_is_reported_and_leaves_nothing(rpc: Rpc) -> None:
    failure = CommandFailed("useradd failed: no space", command="useradd", exit_code=1, stderr="no space")
    rpc.helper.refusals["workspace.ensure"] = failure
    error = rpc.refuses("workspace.create", 1007, name="demo")
    assert error["data"]["exit_code"] == 1
    assert rpc.call("workspace.list") == rpc.call("user.list") == []
    assert rpc.store.intents() == []
    rpc.helper.refusals.clear()
    assert rpc.call("workspace.create", name="demo")["state"] == "ready"


def test_a_change_that_was_cut_off_is_completed_at_the_next_start(tmp_path: Path) -> None:
    first = serve(tmp_path)
    rpc = next(first)
    rpc.call("workspace.create", name="kept")
    rpc.helper.refusals["workspace.ensure"] = None  # the helper dies in the middle
    rpc.refuses("workspace.create", 1004, name="demo", request_id="r1")
    assert [intent.method for intent in rpc.store.intents()] == ["workspace.create"]
    for _ in first:
        pass
    second = serve(tmp_path)
    rpc = next(second)
    assert [found["name"] for found in rpc.call("workspace.list")] == ["kept"]
    rpc.dispatcher.resume()
    assert [found["name"] for found in rpc.call("workspace.list")] == ["demo", "kept"]
    assert rpc.store.intents() == []
    assert rpc.call("workspace.create", name="demo", request_id="r1")["name"] == "demo"
    assert rpc.audited()[-2]["outcome"] == "resumed"
    for _ in second:
        pass


@pytest.mark.parametrize("damage", [b"not a database at all" * 100, None], ids=["garbage", "newer"])
def test_a_damaged_store_is_read_only_and_says_so(tmp_path: Path, damage: bytes | None) -> None:
    import sqlite3

    if damage is None:
        database = sqlite3.connect(tmp_path / "state.db")
        database.execute("PRAGMA user_version = 99")
        database.execute("CREATE TABLE future (a)")
        database.commit()
        database.close()
    else:
        (tmp_path / "state.db").write_bytes(damage)
    before = (tmp_path / "state.db").read_bytes()
    running = serve(tmp_path)
    rpc = next(running)
    rpc.refuses("user.create", 1009, name="ada")
    for method in ("node.info", "sandbox.list", "user.list", "workspace.list"):
        rpc.refuses(method, 1009)
    for method in ("user.get", "workspace.get", "workspace.open"):
        rpc.refuses(method, 1009, name="ada")
    for method in ("repo.list", "sandbox.get"):
        rpc.refuses(method, 1009, workspace="ada")
    assert rpc.call("node.health")["status"] == "failing"
    assert [verb for verb, _ in rpc.helper.calls] == ["node.check_door", "node.check"]  # it looks only
    for _ in running:
        pass
    assert (tmp_path / "state.db").read_bytes() == before


def test_a_user_is_disabled_given_keys_and_enabled(rpc: Rpc) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBf4QyqMtYxF0pAkrXgUeYX1gYHnH1P7rqSyGTYk1c2l"
    rpc.call("workspace.create", name="demo")
    assert rpc.call("user.disable", name="demo")["state"] == "disabled"
    error = rpc.refuses("workspace.exec", 1005, name="demo", argv=["true"])
    assert error["data"]["kind"] == "disabled"
    rpc.refuses("workspace.create", 1005, name="other", user="demo")
    changed = rpc.call("user.set_keys", name="demo", ssh_keys=[key])
    assert [one["type"] for one in changed["ssh_keys"]] == ["ssh-ed25519"]
    assert rpc.call("user.get", name="demo") == {**changed, "drift": []}
    assert rpc.call("user.enable", name="demo") == {**changed, "state": "active"}
    assert changed["workspaces"] == ["demo"]
    assert rpc.call("workspace.exec", name="demo", argv=["true"])["exit_code"] == 0
    for method in ("user.disable", "user.enable"):
        rpc.refuses(method, 1001, name="nobody")
    rpc.refuses("user.set_keys", 1001, name="nobody", ssh_keys=[])
    rpc.refuses("user.set_keys", -32602, name="demo", ssh_keys=[f"restrict {key}"])
