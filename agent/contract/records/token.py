"""Tokens."""

from __future__ import annotations

from typing import Annotated, List, Literal, Optional, TypedDict

from agent.contract.fields import Keywords, Name, Preset, Time, TokenId, TokenLabel


class TokenScope(TypedDict):
    """What a token reaches."""

    workspace: Name
    preset: Annotated[Optional[Preset], Keywords({"description": "Null when the methods were named one by one."})]
    methods: List[str]
    expires_at: Annotated[Optional[Time], Keywords({"description": "Null: until it is revoked."})]


class CreatedToken(TypedDict):
    """A token that was created; the node knows the SHA-256 of its secret alone."""

    id: TokenId
    scope: TokenScope


class Token(TypedDict):
    """A token of a workspace."""

    id: TokenId
    label: TokenLabel
    workspace: Name
    preset: Annotated[Optional[Preset], Keywords({"description": "Null when the methods were named one by one."})]
    methods: List[str]
    created_at: Time
    expires_at: Annotated[Optional[Time], Keywords({"description": "Null: until it is revoked."})]
    last_used_at: Annotated[Optional[Time], Keywords({"description": "To the minute; null before its first use."})]
    by: Annotated[str, Keywords({"description": "The Unix login that created it."})]


class TokenRevoked(TypedDict):
    """The result of token.revoke."""

    id: TokenId
    revoked: Literal[True]
