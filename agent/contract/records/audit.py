"""Records of who changed what."""

from __future__ import annotations

from typing import Annotated, Dict, Literal, Optional, TypedDict

from agent.contract.fields import Keywords, Time, TokenId, TokenLabel


class AuditRecord(TypedDict):
    """One attempt to change something, or the end of a job that was started so (method job.end)."""

    time: Time
    method: str
    request_id: Optional[str]
    peer_uid: Annotated[
        Optional[int],
        Keywords({"description": "Who called; for a change completed later, its original caller. Null if unknown."}),
    ]
    peer_login: Optional[str]
    target: Annotated[
        Dict[str, str],
        Keywords(
            {
                "description": "What the call named: name, user, workspace, path, new_path, id of a job; kind of its "
                "credential; `more`: how many other refused connections this record stands for; `how` somebody came in "
                "(method door.enter): shell, command, sftp, dial."
            }
        ),
    ]
    outcome: Annotated[
        str,
        Keywords(
            {
                "description": "ok, or the kind of the error. For an interrupted change: resumed, or resumed: and the "
                "kind of the error, or cut_off. For a refused connection (method connect): forbidden."
            }
        ),
    ]
    duration_s: float
    owner: Annotated[
        Optional[str],
        Keywords({"description": "Whose workspace it was then; for workspace.assign, before. Null for all else."}),
    ]
    exit_code: Annotated[
        Optional[int], Keywords({"description": "Of the command (workspace.exec) or job (job.end); null for all else."})
    ]
    signal: Optional[str]
    killed_by: Annotated[
        Optional[Literal["timeout", "memory", "operator", "disconnect"]],
        Keywords({"description": "As in the result of the command or job."}),
    ]
    token: Annotated[
        Optional[TokenMark], Keywords({"description": "The token that the caller showed; null without one."})
    ]
    cursor: Annotated[str, Keywords({"description": "Pass it as `before` to audit.list to get the records before it."})]


class TokenMark(TypedDict):
    """Which token it was."""

    id: TokenId
    label: TokenLabel
