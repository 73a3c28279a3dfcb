"""What the node must have beside its sshd before the door of people who have only a key may be open."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.shared import sshd_door


@pytest.mark.parametrize(("text", "is_shut"), [("0\n", True), ("128000\n", False), ("", True)])
def test_without_user_namespaces_the_door_is_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, is_shut: bool
) -> None:
    (tmp_path / "max").write_text(text)
    monkeypatch.setattr(sshd_door, "USER_NAMESPACES", str(tmp_path / "max"))
    found = [one.keyword for one in sshd_door.problems()]
    assert ("user.max_user_namespaces" in found) is is_shut
