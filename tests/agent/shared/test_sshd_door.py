"""What the node must have beside its sshd before the door of people who have only a key may be open."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.shared import sshd_door


def test_one_login_of_each_kind_is_looked_at() -> None:
    logins = [f"cs-{number:03}" for number in range(1000)]
    assert sshd_door.kinds(logins, []) == ["cs-000"]
    assert sshd_door.kinds(logins, ["cs-*", "root", "cs-900", "cs-99?"]) == ["cs-000", "cs-900", "cs-990"]
    assert sshd_door.kinds([], ["cs-*"]) == []


@pytest.mark.parametrize(("text", "is_shut"), [("0\n", True), ("128000\n", False), ("", True)])
def test_without_user_namespaces_the_door_is_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_shut: bool
) -> None:
    (tmp_path / "max").write_text(text)
    monkeypatch.setattr(sshd_door, "USER_NAMESPACES", str(tmp_path / "max"))
    found = [one.keyword for one in sshd_door.problems()]
    assert ("user.max_user_namespaces" in found) is is_shut
