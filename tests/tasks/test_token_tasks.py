"""token.*, and what its holder does with CODESMITH_ENDPOINT, on a real node."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from invoke.context import Context

from codesmith.errors import CallLost
from codesmith.sdk.api import TokenMethods
from codesmith.tasks import token
from tests.person import BIN, Person


class Holder:
    """Somebody who has an endpoint and a token, and no nodes.yaml."""

    def __init__(self, made: dict[str, str], folder: Path) -> None:
        known = {key: value for key, value in os.environ.items() if not key.startswith("CODESMITH_")}
        self.folder = folder
        self.environment = {
            **known,
            "CODESMITH_HOME": str(folder / "home"),
            "CODESMITH_ENDPOINT": made["endpoint"],
            "CODESMITH_TOKEN_FILE": made["token_file"],
        }

    def codesmith(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(BIN / "codesmith"), *words]
        return subprocess.run(argv, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def ada(make_person: Callable[..., Person]) -> Iterator[Person]:
    person = make_person({"web1": "bookworm"})
    person.prepare()
    person.runs("inv workspace.create demo && inv workspace.create other")
    yield person


@pytest.fixture
def holder(ada: Person, tmp_path: Path) -> Holder:
    return Holder(ada.runs("inv token.create demo --label ci --expires 1h --endpoint --json").json, tmp_path)


def test_a_holder_works_without_a_registry(ada: Person, holder: Holder) -> None:
    done = holder.codesmith("workspace.exec", "demo", "--", "sh", "-c", "id -un; exit 3")
    assert (done.stdout, done.returncode) == ("cs-demo\n", 3), done.stderr
    assert holder.codesmith("job.start", "demo", "--name", "web", "--", "sleep", "1000").returncode == 0
    assert json.loads(holder.codesmith("job.list", "demo", "--json").stdout)[0]["by"].startswith("token:")
    (listed,) = [one for one in ada.runs("inv token.list --workspace demo --json").json if one["last_used_at"]]
    assert listed["label"] == "ci"
    ada.runs("inv job.stop demo web")


def test_what_is_out_of_scope_says_so(ada: Person, holder: Holder) -> None:
    for words in (["workspace.exec", "other", "--", "true"], ["user.list"], ["workspace.list"], ["token.list"]):
        refused = holder.codesmith(*words)
        assert refused.returncode == 6, refused
        assert "does not reach" in refused.stderr or "reaches workspace" in refused.stderr


def test_the_endpoint_without_a_token_is_refused(ada: Person, holder: Holder, tmp_path: Path) -> None:
    secret = Path(holder.environment["CODESMITH_TOKEN_FILE"])
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    wrong = tmp_path / "wrong"
    wrong.write_text("0" * 64)
    wrong.chmod(0o600)
    holder.environment["CODESMITH_TOKEN_FILE"] = str(wrong)
    refused = holder.codesmith("workspace.get", "demo")
    assert refused.returncode == 4
    assert "error: " in refused.stderr and "hint: " in refused.stderr
    wrong.chmod(0o644)
    assert "others may read" in holder.codesmith("workspace.get", "demo").stderr
    holder.environment["CODESMITH_TOKEN_FILE"] = str(tmp_path / "missing")
    assert "cannot read the token" in holder.codesmith("workspace.get", "demo").stderr


def test_what_needs_a_node_says_so(holder: Holder) -> None:
    refused = holder.codesmith("workspace.forward", "demo", "8000")
    assert refused.returncode == 1
    assert "CODESMITH_ENDPOINT" in refused.stderr


def test_the_endpoint_comes_back_with_the_network_and_ends_with_the_token(ada: Person, holder: Holder) -> None:
    node = ada.lab_node("web1")
    shown = ada.runs("inv node.status --json").json[0]
    assert shown["scoped"] == holder.environment["CODESMITH_ENDPOINT"]
    node.reboot()
    ada.wait_until(lambda: holder.codesmith("workspace.get", "demo").returncode == 0, within_s=60)
    kept = holder.folder / "kept"
    kept.write_text(Path(holder.environment["CODESMITH_TOKEN_FILE"]).read_text())
    kept.chmod(0o600)
    holder.environment["CODESMITH_TOKEN_FILE"] = str(kept)
    made = json.loads(ada.runs("inv token.list --workspace demo --json").out)
    for one in made:
        ada.runs(f"inv token.revoke {one['id']}")
    assert holder.codesmith("workspace.get", "demo").returncode == 4
    assert ada.runs("inv token.list").out == ""


def test_out_and_expires(ada: Person, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    made = ada.runs(f"inv token.create demo --preset read --out {file} --json").json
    assert made["token_file"] == str(file)
    assert len(file.read_text().strip()) == 64
    ada.fails(f"inv token.create demo --out {file}", code=1)
    ada.fails("inv token.create demo --expires soon", code=1)
    ada.fails(f"inv token.create nothing --out {tmp_path / 'other'}", code=3)
    assert not (tmp_path / "other").exists()
    ada.runs(f"inv token.revoke {made['id']}")


def test_a_lost_answer_to_a_creation_is_looked_for_and_not_repeated(
    ada: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lose(*_: object, **__: object) -> None:
        raise CallLost("the answer was lost", hint="CODESMITH_REQUEST_ID=x inv token.create demo", request_id="x")

    monkeypatch.setattr(TokenMethods, "create", lose)
    with ada.here(), pytest.raises(CallLost, match="the answer was lost") as lost:
        token.create(Context(), "demo", node="web1", out=str(tmp_path / "secret"))
    assert (
        lost.value.hint == "inv token.list --workspace demo --node web1  # revoke one that is there, its secret is lost"
    )
    assert not (tmp_path / "secret").exists()
