"""The life of a token: its records, its end, and how many there may be."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.frontend import scoped, tokens
from tests.agent.conftest import Rpc, serve
from tests.agent.frontend.token_holder import make, sha256
from tests.waiting import eventually


def test_what_is_out_of_scope_is_audited_once_a_minute(front: Rpc) -> None:
    holder = make(front, label="ci")
    for _ in range(5):
        holder.is_refused("user.list")
    records = [one for one in front.call("audit.list") if one["outcome"] == "out_of_scope"]
    assert len(records) == 1
    assert (records[0]["method"], records[0]["token"]) == ("user.list", {"id": holder.id, "label": "ci"})


def test_a_change_says_whose_it_is_and_no_secret_is_anywhere(front: Rpc, capfd: pytest.CaptureFixture[str]) -> None:
    holder = make(front, label="ci")
    holder.gets("workspace.start", name="demo")
    mine = next(one for one in front.call("audit.list") if one["method"] == "workspace.start")
    assert mine["token"] == {"id": holder.id, "label": "ci"}
    texts = front.audit.read_text() + "".join(capfd.readouterr())
    places = [texts.encode(), *(path.read_bytes() for path in front.path.parent.glob("state.db*"))]
    assert not any(holder.secret.encode() in place for place in places)


@pytest.mark.slow
def test_a_token_ends_with_its_time(front: Rpc) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    holder = make(front, expires_at=soon)
    holder.gets("workspace.get", name="demo")
    assert eventually(lambda: holder.post({})[0] == 401)
    assert front.call("token.list")[0]["expires_at"] is not None
    for past in ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00", "tomorrow"):
        front.refuses("token.create", -32602, workspace="demo", token_sha256=sha256("y"), expires_at=past)


def test_revoke(front: Rpc) -> None:
    holder = make(front)
    front.call("token.revoke", id=holder.id)
    assert holder.post({})[0] == 401
    assert front.call("token.list") == []
    front.refuses("token.revoke", 1001, id=holder.id)


def test_a_revoked_token_is_found_by_its_workspace(front: Rpc) -> None:
    holder = make(front)
    front.call("token.revoke", id=holder.id)
    front.refuses("token.revoke", 1001, id=holder.id)
    records = [one for one in front.call("audit.list", workspace="demo") if one["method"] == "token.revoke"]
    assert [(one["target"], one["owner"], one["outcome"]) for one in records] == [
        ({"id": holder.id, "workspace": "demo"}, "demo", "ok")
    ]  # fmt: skip
    assert [one["method"] for one in front.call("audit.list", user="demo")].count("token.revoke") == 1
    assert len([one for one in front.call("audit.list") if one["method"] == "token.revoke"]) == 2


def test_a_token_is_of_one_workspace_and_its_owner(front: Rpc) -> None:
    assigned, deleted = make(front), make(front, "other")
    front.call("user.create", name="ada")
    front.call("workspace.assign", name="demo", user="ada")
    assert assigned.post({})[0] == 401
    front.call("workspace.delete", name="other")
    front.call("workspace.create", name="other")
    assert deleted.post({})[0] == 401
    assert front.call("token.list") == []


def test_tokens_outlive_the_front_end(tmp_path: Path) -> None:
    for rpc in serve(tmp_path):
        rpc.call("workspace.create", name="demo")
        holder = make(rpc)
    for rpc in serve(tmp_path):
        holder.rpc = rpc
        assert holder.gets("workspace.get", name="demo")["name"] == "demo"


def test_the_last_use_is_written_once_a_minute(front: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    holder, written = make(front), []
    original = front.store.touch_token
    monkeypatch.setattr(front.store, "touch_token", lambda *one: (written.append(one), original(*one)))
    assert front.call("token.list")[0]["last_used_at"] is None
    for _ in range(5):
        holder.gets("workspace.get", name="demo")
    assert len(written) <= 2
    assert front.call("token.list")[0]["last_used_at"] is not None


def test_there_are_so_many_tokens(front: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "OF_WORKSPACE_MAX", 2)
    make(front)
    make(front)
    front.refuses("token.create", 1008, workspace="demo", token_sha256=sha256("z"))
    make(front, "other")


def test_wrong_secrets_wait(front: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(scoped.time, "sleep", waited.append)
    holder = make(front)
    holder.post({}, f"Authorization: Bearer {secrets.token_hex(32)}")
    assert waited == [scoped.WRONG_S]
    holder.gets("workspace.get", name="demo")
    assert waited == [scoped.WRONG_S]
