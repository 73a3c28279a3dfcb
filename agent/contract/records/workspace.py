"""Workspaces, what runs in them, and what they use."""

from __future__ import annotations

from typing import Annotated, Dict, List, Literal, Optional, TypedDict

from agent.contract.fields import Bytes, Count, Keywords, Labels, Name, OutputEncoding, Time
from agent.contract.records.sandbox import DeniedHost, Sandbox


class UsedNetwork(TypedDict):
    """What the allow-list of a workspace lets through, and what it kept out."""

    allowed: Annotated[List[str], Keywords({"description": "The allow-list; empty without one."})]
    denied: List[DeniedHost]


class Runtime(TypedDict):
    """The place where everything of a workspace runs; it starts on demand and ends when it is idle."""

    state: Literal["stopped", "starting", "running"]
    since: Annotated[
        Optional[Time], Keywords({"description": "When it started; null unless it runs, and in lists and changes."})
    ]
    idle_stop_at: Annotated[
        Optional[Time],
        Keywords({"description": "When it ends if nothing runs in it until then; null while something does."}),
    ]


class Usage(TypedDict):
    """What a workspace uses: its runtime now, and its files."""

    memory_bytes: Annotated[Bytes, Keywords({"description": "Of all processes, with files in /tmp and cached files."})]
    memory_peak_bytes: Annotated[Optional[Bytes], Keywords({"description": "Since the runtime started."})]
    memory_limit_bytes: Annotated[Optional[Bytes], Keywords({"description": "Null without a limit, or when stopped."})]
    cpu_s: Annotated[float, Keywords({"minimum": 0, "description": "Since the runtime started."})]
    tasks: Count
    disk_bytes: Annotated[
        Optional[Bytes],
        Keywords({"description": "Of the workspace and its home; null when there are too many files to count."}),
    ]
    files: Annotated[Optional[Count], Keywords({"description": "How many, with directories; null like disk_bytes."})]
    disk_limit_bytes: Annotated[Optional[Bytes], Keywords({"description": "Null without a limit."})]
    network: UsedNetwork


class WorkspaceFields(TypedDict):
    """The fields that every record of a workspace has."""

    id: Annotated[str, Keywords({"format": "uuid"})]
    name: Name
    path: str
    home: Annotated[str, Keywords({"description": "The home directory, as what runs in the workspace sees it."})]
    user: Annotated[Name, Keywords({"description": "The user who may open it."})]
    shared_with: Annotated[List[Name], Keywords({"description": "Other users who may enter it."})]
    uid: int
    gid: int
    mode: Annotated[str, Keywords({"pattern": "^[0-7]{4}$"})]
    state: Literal["ready", "pending", "failed"]
    labels: Labels
    repos: List[Name]
    sandbox: Optional[Sandbox]
    runtime: Runtime
    created_at: Time
    opened_at: Optional[Time]


class Workspace(WorkspaceFields):
    """A workspace: a directory and a home, owned by a login of its own."""

    login: str


class WorkspaceLogin(TypedDict):
    """How to enter a workspace: login, directory and environment."""

    user: Annotated[str, Keywords({"description": "The Unix account; also the user name for SSH."})]
    host_hint: Annotated[
        str, Keywords({"description": "The node's own host name; it may not be the address that reaches the node."})
    ]
    directory: str
    environment: Dict[str, str]


class OpenedWorkspace(WorkspaceFields):
    """A workspace that was opened, and how to enter it. The Unix account is login.user."""

    login: WorkspaceLogin


class Dialled(TypedDict):
    """A token that turns one connection into a stream with SSH into a workspace, and what its client must know."""

    token: Annotated[
        str,
        Keywords({"description": "For the header CodeSmith-Token of one POST /stream with Upgrade: codesmith-stream."}),
    ]
    expires_at: Time
    user: Annotated[str, Keywords({"description": "The Unix account of the workspace: the user name for SSH."})]
    host_keys: Annotated[List[str], Keywords({"description": "The server's host keys, each as type and base64."})]


class WorkspaceDeleted(TypedDict):
    """The result of workspace.delete."""

    name: Name
    deleted: Literal[True]
    user_deleted: bool
    leftovers: Annotated[List[str], Keywords({"description": "What could not be removed; usually empty."})]


class Execution(TypedDict):
    """The result of a command that ran in a workspace."""

    exit_code: Annotated[int, Keywords({"description": "128 + the signal number when a signal ended the command."})]
    signal: Optional[str]
    stdout: str
    stdout_encoding: OutputEncoding
    stderr: str
    stderr_encoding: OutputEncoding
    truncated: Annotated[
        bool,
        Keywords(
            {
                "description": "True when stdout or stderr was longer than 1 MiB: its first and last 512 KiB are kept, "
                "without a character that the cut would split."
            }
        ),
    ]
    omitted_bytes: Annotated[Bytes, Keywords({"description": "How many bytes of stdout and stderr are left out."})]
    duration_s: float
    killed_by: Optional[Literal["timeout", "memory"]]
