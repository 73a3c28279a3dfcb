"""token.*: secrets that open one workspace to whoever shows them, and nothing else."""

from __future__ import annotations

from typing import Annotated, Iterator, List, Optional

from agent.contract.fields import Keywords, Name, Preset, RequestId, Time, TokenId, TokenLabel
from agent.contract.method import method
from agent.contract.types import CreatedToken, Token, TokenRevoked
from agent.frontend.context import Context
from agent.shared.errors import AlreadyExists, LimitReached, NotFound, ReadOnly, Unsupported

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
    expires_at: Annotated[Optional[Time], Keywords({"maxLength": 64})] = None,
    label: Optional[TokenLabel] = None,
    request_id: Optional[RequestId] = None,
) -> CreatedToken:
    """Create a token of a workspace. The caller makes the secret and sends its SHA-256; the node never sees it.

    It is valid on scoped.sock alone, for the methods of its preset (default: work) or those named.
    """
    raise Unsupported("not built yet")


@method("token.list", scope="operator", errors=(ReadOnly,))
def list_(context: Context, *, workspace: Optional[Name] = None) -> Iterator[Token]:
    """Return the tokens of a workspace, or of all, oldest first; expired ones too until they are revoked."""
    return iter(())


@method("token.revoke", scope="operator", errors=(NotFound,), mutates=True, makes_room=True)
def revoke(context: Context, *, id: TokenId, request_id: Optional[RequestId] = None) -> TokenRevoked:
    """Revoke a token; streams that were opened with it end within two seconds."""
    raise NotFound(f"no token {id!r} on this node", hint="inv token.list")
