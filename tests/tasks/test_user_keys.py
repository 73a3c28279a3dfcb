"""Keys of users from the command line: read from files, added, and removed by fingerprint or by comment."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from codesmith.errors import CodeSmithError, UnknownName
from codesmith.sdk.api import SshKey
from codesmith.tasks import user
from tests.sdk.sdk_doubles import error, scripted

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


@pytest.mark.slow
def test_keys_and_labels_are_read_as_people_give_them(place, tmp_path):
    (tmp_path / "keys.pub").write_text("# mine\nssh-ed25519 AAAA one\n\necdsa-sha2-nistp256 BBBB two\n")
    with scripted(place.endpoint(), error(1002, "there", kind="already_exists")) as server:
        words = ["--ssh-key", str(tmp_path / "keys.pub"), "--ssh-key", "ssh-rsa CCCC", "--label", "a=b"]
        place.inv("workspace.create", "demo", *words)
        sent = server.requests[0]["params"]
    assert sent["ssh_keys"] == ["ssh-ed25519 AAAA one", "ecdsa-sha2-nistp256 BBBB two", "ssh-rsa CCCC"]
    assert sent["labels"] == {"a": "b"}


@pytest.mark.slow
def test_a_private_key_never_leaves(place, tmp_path):
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n")
    with scripted(place.endpoint()) as server:
        done = place.inv("user.create", "ada", "--ssh-key", str(tmp_path / "id"))
        assert server.requests == []
    assert done.stderr == "error: this is a private key; keep it to yourself\nhint: give the file that ends in .pub\n"
