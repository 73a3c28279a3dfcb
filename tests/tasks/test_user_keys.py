"""user.add-keys and user.remove-keys: keys from the command line, by fingerprint and by comment."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from codesmith.errors import CodeSmithError, UnknownName
from codesmith.sdk.api import SshKey
from codesmith.tasks import user

FINGERPRINTS = {name: f"SHA256:{name * 43}" for name in "ab"}


class Users:
    """The part of a client that these tasks call."""

    keys: ClassVar = [
        SshKey(type="ssh-ed25519", fingerprint=FINGERPRINTS["a"], comment="ann@pc"),
        SshKey(type="ssh-ed25519", fingerprint=FINGERPRINTS["b"], comment="ann@pc"),
    ]

    def __init__(self) -> None:
        self.user, self.removed = self, [""]

    @property
    def ssh_keys(self) -> list[SshKey]:
        return self.keys

    def get(self, *, name: str) -> Users:
        assert name == "ann"
        return self

    def remove_keys(self, *, name: str, fingerprints: list[str]) -> Any:
        self.removed = [name, *fingerprints]


def removed(*keys: str) -> list[str]:
    client = Users()
    user.remove(client, "ann", list(keys))  # type: ignore[arg-type]
    return client.removed


def test_a_key_is_removed_by_fingerprint_or_comment() -> None:
    assert removed(FINGERPRINTS["b"]) == ["ann", FINGERPRINTS["b"]]
    assert removed("ann@pc", FINGERPRINTS["a"]) == ["ann", FINGERPRINTS["a"], FINGERPRINTS["b"]]
    with pytest.raises(UnknownName, match="no key with the comment 'bob@pc'"):
        removed("bob@pc")


def test_no_key_is_never_all_keys() -> None:
    from invoke.context import Context

    with pytest.raises(CodeSmithError, match=r"user.add-keys takes at least one key"):
        user.add_keys(Context(), "ann")
    with pytest.raises(CodeSmithError, match=r"user.remove-keys takes at least one key"):
        user.remove_keys(Context(), "ann")
