"""token.*: secrets that open one workspace to whoever shows them, and nothing else."""

from __future__ import annotations

from typing import Annotated, Iterator, List, Optional

from agent.contract.fields import Keywords, Name, Preset, RequestId, TokenId, TokenLabel
from agent.contract.method import method
from agent.contract.records.token import CreatedToken, Token, TokenRevoked, TokenScope
from agent.frontend import audit, tokens, workspace_records
from agent.frontend.agent_forwarding import caller_uid
from agent.frontend.context import Context
from agent.shared.errors import AlreadyExists, LimitReached, NotFound, ReadOnly

SHA256 = Keywords(
    {"pattern": "^[0-9a-f]{64}$", "errorMessage": "must be the SHA-256 of the secret, 64 hexadecimal digits"}
)


@method(
    "token.create",
    scope="operator",
    errors=(NotFound, AlreadyExists, LimitReached),
    mutates=True,
)
def create(
    context: Context,
    *,
    workspace: Name,
    token_sha256: Annotated[str, SHA256],
    preset: Annotated[
        Optional[Preset], Keywords({"description": "read: what only looks; work: that, and all work in the workspace."})
    ] = None,
    methods: Annotated[
        Optional[List[Annotated[str, Keywords({"maxLength": 64})]]],
        Keywords({"minItems": 1, "maxItems": 64, "description": "Single methods, in place of a preset."}),
    ] = None,
    expires_at: Annotated[
        Optional[str],
        Keywords(
            {
                "format": "date-time",
                "maxLength": 64,
                "description": "When it ends (default: when it is revoked).",
                "errorMessage": "must be a time with its zone, like 2026-11-23T12:00:00Z",
            }
        ),
    ] = None,
    label: Optional[TokenLabel] = None,
    request_id: Optional[RequestId] = None,
) -> CreatedToken:
    """Create a token of a workspace. The caller makes the secret and sends its SHA-256; the node never sees it.

    It is valid on scoped.sock alone, for the methods of its preset (default: work) or those named, and as long as the
    workspace belongs to the same user.
    """
    document = workspace_records.find_managed(context, workspace)
    reached = context.tokens.methods_of(preset, methods)
    by = audit.login_of_uid(caller_uid.get()) or f"uid {caller_uid.get()}"
    kept = "read" if preset == "read" else None if methods is not None else "work"
    made = context.tokens.create(document, token_sha256, kept, reached, tokens.expiry(expires_at), label or "", by)
    scope: TokenScope = {
        "workspace": workspace, "preset": made["preset"], "methods": reached, "expires_at": made["expires_at"],
    }  # fmt: skip
    return {"id": made["id"], "scope": scope}


@method("token.list", scope="operator", errors=(ReadOnly,))
def list_(context: Context, *, workspace: Optional[Name] = None) -> Iterator[Token]:
    """Return the tokens of a workspace, or of all, oldest first; expired ones too, until they are revoked."""
    return iter(context.tokens.list(workspace))


@method("token.revoke", scope="operator", errors=(NotFound,), mutates=True, makes_room=True)
def revoke(context: Context, *, id: TokenId, request_id: Optional[RequestId] = None) -> TokenRevoked:
    """Revoke a token; streams that were opened with it end at once. Jobs go on: they are the workspace's."""
    context.tokens.revoke(id)
    return {"id": id, "revoked": True}
