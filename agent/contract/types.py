"""The records of the contract, as they travel. `make api` turns the annotations into JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Dict, List, Literal, Optional, TypedDict

from agent.shared.names import NAME, NAME_HINT


class Keywords(Dict[str, Any]):
    """JSON Schema keywords beside a type; hashable, as typing wants what stands in Annotated to be."""

    __hash__ = object.__hash__  # type: ignore[assignment]


A_LINE = "one line without control characters, of"
# A character that neither ends a line nor steers a terminal, and that is no half of a pair.
ONE_LINE = "[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff]"
Name = Annotated[
    str,
    Keywords(
        {
            "pattern": f"^{NAME}$",
            "maxLength": 28,
            "description": f"{NAME_HINT[0].upper()}{NAME_HINT[1:]}.",
            "examples": ["web-app"],
            # What a refusal says instead of the pattern (the keyword of ajv-errors).
            "errorMessage": f"must be {NAME_HINT}",
        }
    ),
]
RequestId = Annotated[
    str,
    Keywords(
        {
            "pattern": "^[A-Za-z0-9._:-]{1,64}$",
            "maxLength": 64,
            "errorMessage": "must be 1 to 64 of A-Z, a-z, 0-9 and . _ : -",
            "description": "Chosen by the caller; repeating a call with the same request_id returns the first result.",
        }
    ),
]
SshKeys = Annotated[
    List[
        Annotated[
            str,
            Keywords({"maxLength": 8192, "pattern": f"^{ONE_LINE}+$", "errorMessage": f"must be {A_LINE} up to 8192"}),
        ]
    ],
    Keywords({"maxItems": 64, "description": "OpenSSH public keys, one per item, without options."}),
]
Labels = Annotated[
    Dict[
        str,
        Annotated[
            str,
            Keywords({"maxLength": 256, "pattern": f"^{ONE_LINE}*$", "errorMessage": f"must be {A_LINE} up to 256"}),
        ],
    ],
    Keywords(
        {
            "maxProperties": 32,
            "propertyNames": {"pattern": "^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$", "maxLength": 63},
            "description": "Words of the caller's own, key to value.",
            "errorMessage": "must be at most 32 keys of 1 to 63 of A-Z, a-z, 0-9 and inner . _ / -, each with a value",
        }
    ),
]
Time = Annotated[str, Keywords({"format": "date-time", "description": "RFC 3339, UTC."})]
Bytes = Annotated[int, Keywords({"minimum": 0})]
Count = Annotated[int, Keywords({"minimum": 0})]


class AuditRecord(TypedDict):
    """One attempt to change something."""

    time: Time
    method: str
    request_id: Optional[str]
    peer_uid: Annotated[
        Optional[int], Keywords({"description": "Who called, or had called what was completed later; null if unknown."})
    ]
    peer_login: Optional[str]
    target: Annotated[
        Dict[str, str],
        Keywords(
            {
                "description": "What the call named: name, user, workspace; the kind of its credential; and how "
                "many `more` refused connections the record stands for."
            }
        ),
    ]
    outcome: Annotated[
        str,
        Keywords(
            {
                "description": "ok, or the kind of the error; for what was interrupted resumed (or resumed: and the "
                "kind), or cut_off; for a connection from somebody who may not call (method connect) forbidden."
            }
        ),
    ]
    duration_s: float
    cursor: Annotated[str, Keywords({"description": "What `before` of audit.list takes for those before this one."})]


class Os(TypedDict):
    """The node's operating system, from /etc/os-release."""

    id: str
    version_id: str
    name: str


class Disk(TypedDict):
    """The file system that holds the workspaces."""

    total_bytes: Bytes
    free_bytes: Bytes


class Counts(TypedDict):
    """How many objects CodeSmith manages on the node."""

    users: Count
    workspaces: Count
    sandboxes: Count


class NodeInfo(TypedDict):
    """What a node is and has."""

    node_id: Annotated[str, Keywords({"description": "Stays with the node for its life."})]
    instance_id: Annotated[str, Keywords({"description": "New with every start of the agent."})]
    hostname: str
    os: Os
    kernel: str
    arch: str
    python: str
    cpus: Count
    memory_bytes: Bytes
    disk: Disk
    agent_version: str
    api_version: str
    started_at: Time
    now: Time
    counts: Counts


class HealthCheck(TypedDict):
    """One thing that was looked at."""

    name: str
    status: Literal["ok", "degraded", "failing"]
    detail: str


class NodeHealth(TypedDict):
    """The worst of all checks, and the checks."""

    status: Literal["ok", "degraded", "failing"]
    checks: List[HealthCheck]


class NodeVersion(TypedDict):
    """Which agent answers."""

    agent: str
    api: str
    python: str
    build: Annotated[str, Keywords({"description": "SHA-256 of the shipped file; empty when run from source."})]
    node_id: str


class SshKey(TypedDict):
    """One public key as it is shown."""

    type: str
    fingerprint: Annotated[str, Keywords({"description": "SHA256:..., as ssh-keygen prints it."})]
    comment: str


class User(TypedDict):
    """A user that CodeSmith created, and its Unix account."""

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


Warnings = Annotated[
    List[str], Keywords({"description": "What keeps the login's keys from letting anybody in, as sshd tells."})
]


class CreatedUser(User):
    """A user that was just made."""

    warnings: Warnings


class UserDetails(User):
    """A user, and what somebody has changed about its account."""

    drift: Annotated[
        List[str],
        Keywords(
            {
                "description": "How the account differs from what CodeSmith made (groups, ageing, expiry, shell, uid, "
                "access lists); empty when it does not. user.enable and node.prepare put it right."
            }
        ),
    ]


class UserDeleted(TypedDict):
    """What user.delete answers."""

    name: Name
    deleted: Literal[True]
    leftovers: Annotated[List[str], Keywords({"description": "What could not be removed; empty when all is gone."})]


Limits = Annotated[
    Dict[str, Any],
    Keywords(
        {
            "properties": {
                "memory_bytes": {"type": "integer", "minimum": 16 << 20},
                "cpus": {"type": "number", "exclusiveMinimum": 0, "maximum": 4096},
                "tasks": {"type": "integer", "minimum": 1, "maximum": 1 << 22},
                "runtime_s": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600},
            },
            "additionalProperties": False,
            "description": "Of each command with all it starts: memory and tasks at once, processors, seconds.",
        }
    ),
]
Network = Annotated[
    Literal["full", "none"], Keywords({"description": "none: no interface but loopback. Default: full."})
]


class Sandbox(TypedDict):
    """The isolation boundary of a workspace."""

    workspace: Name
    limits: Limits
    network: Network
    enforced: Annotated[Dict[str, bool], Keywords({"description": "What was seen to hold from inside a command."})]
    state: Literal["ready"]
    created_at: Time


class SandboxDeleted(TypedDict):
    """What sandbox.delete answers."""

    workspace: Name
    deleted: Literal[True]


class WorkspaceFields(TypedDict):
    """What every answer about a workspace has."""

    id: Annotated[str, Keywords({"format": "uuid"})]
    name: Name
    path: str
    user: Name
    uid: int
    gid: int
    mode: Annotated[str, Keywords({"pattern": "^[0-7]{4}$"})]
    state: Literal["ready", "pending", "failed"]
    labels: Labels
    repos: List[Name]
    sandbox: Optional[Sandbox]
    created_at: Time
    opened_at: Optional[Time]


class Workspace(WorkspaceFields):
    """A directory of its own, owned by one login."""

    login: str


class CreatedWorkspace(Workspace):
    """A workspace that was just made."""

    warnings: Warnings


class WorkspaceLogin(TypedDict):
    """How to enter a workspace: as whom, where, with what in the environment."""

    user: Annotated[str, Keywords({"description": "The Unix account, which is also the user name for SSH."})]
    host_hint: Annotated[str, Keywords({"description": "The node's own host name; how to reach it, the caller knows."})]
    directory: str
    environment: Dict[str, str]


class OpenedWorkspace(WorkspaceFields):
    """A workspace that was opened, and how to enter it; the Unix account is login.user."""

    login: WorkspaceLogin


class WorkspaceDeleted(TypedDict):
    """What workspace.delete answers."""

    name: Name
    deleted: Literal[True]
    user_deleted: bool
    leftovers: Annotated[List[str], Keywords({"description": "What could not be removed, mostly nothing."})]


OutputEncoding = Annotated[
    Literal["text", "base64"],
    Keywords({"description": "What it is in: base64 where that was asked for, or where it is no UTF-8."}),
]


class Execution(TypedDict):
    """How a command run in a workspace ended."""

    exit_code: Annotated[int, Keywords({"description": "128 + the signal's number when a signal ended it."})]
    signal: Optional[str]
    stdout: str
    stdout_encoding: OutputEncoding
    stderr: str
    stderr_encoding: OutputEncoding
    truncated: Annotated[
        bool,
        Keywords(
            {
                "description": "True when stdout or stderr was longer than 1 MiB: of that one the first and the last "
                "512 KiB are kept, less a character that the cut would split."
            }
        ),
    ]
    omitted_bytes: Annotated[Bytes, Keywords({"description": "How many bytes of both are left out."})]
    duration_s: float
    killed_by: Optional[Literal["timeout", "memory"]]


class Repo(TypedDict):
    """A git repository in a workspace, as its user's git tells."""

    name: Name
    path: str
    url: Annotated[Optional[str], Keywords({"description": "Where it was cloned from; null for repo.init."})]
    branch: Annotated[Optional[str], Keywords({"description": "Null when HEAD is detached or the directory is gone."})]
    commit: Annotated[Optional[str], Keywords({"description": "Null before the first commit."})]
    left_out: Annotated[
        List[Literal["lfs", "submodules"]],
        Keywords({"description": "What a clone leaves out and is not there: files of Git LFS, submodules."}),
    ]


class RepoDeleted(TypedDict):
    """What repo.delete answers."""

    workspace: Name
    name: Name
    deleted: Literal[True]
