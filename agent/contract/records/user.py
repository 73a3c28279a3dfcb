"""Users and their keys."""

from __future__ import annotations

from typing import Annotated, List, Literal, TypedDict

from agent.contract.fields import Keywords, Name, Time


class SshKey(TypedDict):
    """A public key: type, fingerprint and comment."""

    type: str
    fingerprint: Annotated[str, Keywords({"description": "SHA256:..., as ssh-keygen prints it."})]
    comment: str


class User(TypedDict):
    """A user that CodeSmith created: who may enter workspaces, and a Unix account that owns no files."""

    name: Name
    login: str
    uid: int
    gid: int
    home: str
    shell: str
    state: Literal["active", "disabled"]
    ssh_keys: List[SshKey]
    workspaces: List[Name]
    created_at: Time


class UserDetails(User):
    """A user, and how its account differs from what CodeSmith created."""

    drift: Annotated[
        List[str],
        Keywords(
            {
                "description": "How the account differs from what CodeSmith created (closed, groups, ageing, uid, "
                "access lists); empty when it does not. user.enable and node.prepare correct it."
            }
        ),
    ]


class UserDeleted(TypedDict):
    """The result of user.delete."""

    name: Name
    deleted: Literal[True]
    leftovers: Annotated[List[str], Keywords({"description": "What could not be removed; usually empty."})]
