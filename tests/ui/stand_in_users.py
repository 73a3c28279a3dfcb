"""Who comes into the workspaces of a stand-in: users with their keys, shares, and tokens, all in memory."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from tests.ui.stand_in_work import AT, Refusal

READ = ["file.read", "rpc.discover", "workspace.get"]
WORK = [*READ, "file.write", "job.start"]


def key_of(line: str) -> dict[str, str]:
    """Return a key as a user has it; the fingerprint is one of the line, and not what ssh-keygen prints."""
    kind, _, comment, *_ = [*line.split(" ", 2), "", ""]
    digest = base64.b64encode(hashlib.sha256(line.encode()).digest()).decode().rstrip("=")
    return {"type": kind, "fingerprint": f"SHA256:{digest}", "comment": comment}


class Users:
    """user.*, token.*, and who may enter a workspace. `token_hashes` has what came for the secret of each token."""

    workspaces: dict[str, dict[str, Any]]
    add: Callable[..., dict[str, Any]]
    _of: Callable[..., dict[str, Any]]

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[str, dict[str, Any]] = {}
        self.token_records: dict[str, dict[str, Any]] = {}
        self.token_hashes: dict[str, str] = {}

    def user_list(self, **_: Any) -> Any:
        return list(self.users.values())

    def user_get(self, name: str) -> Any:
        return {**self._of(self.users, name, "user"), "drift": []}

    def user_create(self, name: str, ssh_keys: Sequence[str] = ()) -> Any:
        self.add(name)
        del self.workspaces[name]
        return {**self._change_user(name, workspaces=[], ssh_keys=list(map(key_of, ssh_keys))), "warnings": []}

    def user_set_keys(self, name: str, ssh_keys: Sequence[str]) -> Any:
        return self._change_user(name, ssh_keys=list(map(key_of, ssh_keys)))

    def user_add_keys(self, name: str, ssh_keys: Sequence[str]) -> Any:
        return self._change_user(name, ssh_keys=[*self.users[name]["ssh_keys"], *map(key_of, ssh_keys)])

    def user_remove_keys(self, name: str, fingerprints: list[str]) -> Any:
        keys = self._of(self.users, name, "user")["ssh_keys"]
        return self._change_user(name, ssh_keys=[key for key in keys if key["fingerprint"] not in fingerprints])

    def user_disable(self, name: str) -> Any:
        return self._change_user(name, state="disabled")

    def user_enable(self, name: str) -> Any:
        return self._change_user(name, state="active")

    def user_delete(self, name: str) -> Any:
        user = self._of(self.users, name, "user")
        if user["workspaces"]:
            raise Refusal(1004, f"user {name!r} owns {', '.join(user['workspaces'])}", kind="in_use")
        del self.users[name]
        return {"name": name, "deleted": True, "leftovers": []}

    def workspace_assign(self, name: str, user: str) -> Any:
        self._of(self.users, user, "user")
        self.token_records = {key: one for key, one in self.token_records.items() if one["workspace"] != name}
        shared = [one for one in self._of(self.workspaces, name, "workspace")["shared_with"] if one != user]
        return self._change_workspace(name, user=user, shared_with=shared)

    def workspace_share(self, name: str, user: str) -> Any:
        self._of(self.users, user, "user")
        shared = self._of(self.workspaces, name, "workspace")["shared_with"]
        return self._change_workspace(name, shared_with=sorted({*shared, user}))

    def workspace_unshare(self, name: str, user: str) -> Any:
        shared = self._of(self.workspaces, name, "workspace")["shared_with"]
        return self._change_workspace(name, shared_with=[one for one in shared if one != user])

    def token_create(
        self, workspace: str, token_sha256: str, preset: str | None = None, methods: list[str] | None = None,
        expires_at: str | None = None, label: str = "",
    ) -> Any:  # fmt: skip
        self._of(self.workspaces, workspace, "workspace")
        if preset is not None and methods is not None:
            errors = [{"field": "methods", "problem": "are in place of a preset: give one of both"}]
            raise Refusal(-32602, "methods are in place of a preset", kind="invalid_params", errors=errors)
        kept = None if methods else preset or "work"
        scope = {
            "workspace": workspace, "preset": kept, "methods": methods or (READ if kept == "read" else WORK),
            "expires_at": expires_at,
        }  # fmt: skip
        made = hashlib.sha256(f"id:{token_sha256}".encode()).hexdigest()[:12]
        self.token_hashes[made] = token_sha256
        self.token_records[made] = {
            "id": made, "label": label, **scope, "created_at": AT, "last_used_at": None, "by": "root",
        }  # fmt: skip
        return {"id": made, "scope": scope}

    def token_list(self, workspace: str | None = None) -> Any:
        return [one for one in self.token_records.values() if workspace in (None, one["workspace"])]

    def token_revoke(self, id: str) -> Any:  # noqa: A002
        if self.token_records.pop(id, None) is None:
            raise Refusal(1001, f"no token {id!r} on this node", kind="not_found")
        return {"id": id, "revoked": True}

    def _change_user(self, name: str, **changed: Any) -> dict[str, Any]:
        self.users[name] = {**self._of(self.users, name, "user"), **changed}
        return self.users[name]

    def _change_workspace(self, name: str, **changed: Any) -> dict[str, Any]:
        self.workspaces[name] = {**self._of(self.workspaces, name, "workspace"), **changed}
        return self.workspaces[name]
