"""The records of the contract, as they are sent. `make api` turns the annotations into JSON Schema."""

from __future__ import annotations

from typing import Annotated, Dict, List, Literal, Optional, TypedDict

from agent.contract.fields import (
    Bytes,
    Count,
    Etag,
    FilePath,
    JobId,
    JobState,
    Keywords,
    Labels,
    Limits,
    Mode,
    Name,
    Network,
    OutputEncoding,
    Preset,
    Time,
    TokenId,
    TokenLabel,
)


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
    """A node: its identity, operating system, hardware and agent."""

    node_id: Annotated[str, Keywords({"description": "Never changes during the life of the node."})]
    instance_id: Annotated[str, Keywords({"description": "New at every start of the agent."})]
    hostname: str
    os: Os
    kernel: str
    arch: str
    python: str
    cpus: Count
    memory_bytes: Bytes
    memory_available_bytes: Annotated[
        int, Keywords({"minimum": 0, "description": "What new work may take, as the kernel estimates."})
    ]
    disk: Disk
    agent_version: str
    api_version: str
    started_at: Time
    now: Time
    counts: Counts


class HealthCheck(TypedDict):
    """The result of one check."""

    name: str
    status: Literal["ok", "degraded", "failing"]
    detail: str


class NodeHealth(TypedDict):
    """The health of a node: the worst status of all checks, and the checks."""

    status: Literal["ok", "degraded", "failing"]
    checks: List[HealthCheck]


class NodeVersion(TypedDict):
    """The version of the agent that answers."""

    agent: str
    api: str
    python: str
    build: Annotated[str, Keywords({"description": "SHA-256 of the shipped file; empty when run from source."})]
    node_id: str


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


class Sandbox(TypedDict):
    """The isolation boundary of a workspace."""

    workspace: Name
    limits: Limits
    network: Network
    enforced: Annotated[
        Dict[str, bool],
        Keywords(
            {"description": "What a look from inside confirmed; `nesting`: whether namespaces can be made in it."}
        ),
    ]
    state: Literal["ready"]
    denied: Annotated[
        List[DeniedHost],
        Keywords({"description": "What the allow-list kept out, last one first; empty in lists and changes."}),
    ]
    created_at: Time


class DeniedHost(TypedDict):
    """A host that something in the workspace wanted to reach and may not."""

    host: str
    port: int
    count: Count
    last_at: Time


class UsedNetwork(TypedDict):
    """What the allow-list of a workspace lets through, and what it kept out."""

    allowed: Annotated[List[str], Keywords({"description": "The allow-list; empty without one."})]
    denied: List[DeniedHost]


class SandboxDeleted(TypedDict):
    """The result of sandbox.delete."""

    workspace: Name
    deleted: Literal[True]


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


class Repo(TypedDict):
    """A git repository in a workspace, as git reports it to the workspace's user."""

    name: Name
    path: str
    url: Annotated[Optional[str], Keywords({"description": "The URL it was cloned from; null for repo.init."})]
    branch: Annotated[Optional[str], Keywords({"description": "Null when HEAD is detached or the directory is gone."})]
    commit: Annotated[Optional[str], Keywords({"description": "Null before the first commit."})]
    left_out: Annotated[
        List[Literal["lfs", "submodules"]],
        Keywords({"description": "What the clone left out and nobody fetched since: Git LFS files, submodules."}),
    ]
    ahead: Annotated[
        Optional[int],
        Keywords(
            {
                "minimum": 0,
                "description": "Commits of the branch that its upstream did not have when they last met.",
            }
        ),
    ]
    behind: Annotated[
        Optional[int], Keywords({"minimum": 0, "description": "Commits of its upstream that the branch does not have."})
    ]
    updated: Annotated[
        Optional[bool],
        Keywords(
            {
                "description": "Of repo.pull, push and fetch: whether anything came or went; null for a tag that was "
                "pushed, and in all other results."
            }
        ),
    ]
    new_commits: Annotated[
        Optional[int],
        Keywords({"minimum": 0, "description": "How many came with a pull or went with a push, where that is known."}),
    ]


class RepoDeleted(TypedDict):
    """The result of repo.delete."""

    workspace: Name
    name: Name
    deleted: Literal[True]


class Job(TypedDict):
    """A command that runs in a workspace whoever is connected, or that has run there."""

    id: JobId
    workspace: Name
    name: Annotated[Optional[str], Keywords({"description": "What its starter calls it."})]
    argv: Annotated[List[str], Keywords({"description": "The command; arguments beyond 4 KiB are left out."})]
    state: Annotated[
        JobState,
        Keywords(
            {
                "description": "waiting for its stream; running; exited by itself; killed (signal, killed_by); lost: "
                "its end was not seen, as when the node lost power."
            }
        ),
    ]
    exit_code: Annotated[
        Optional[int],
        Keywords({"description": "128 + the signal number when a signal ended it; null while it runs, or lost."}),
    ]
    signal: Optional[str]
    killed_by: Annotated[
        Optional[Literal["timeout", "memory", "operator", "disconnect"]],
        Keywords(
            {
                "description": "operator: job.stop, workspace.stop and the like; disconnect: its stream ended; null "
                "also when the signal came from inside."
            }
        ),
    ]
    tty: bool
    ends_with_stream: bool
    started_at: Annotated[Optional[Time], Keywords({"description": "Null while it waits."})]
    ended_at: Optional[Time]
    stdout_bytes: Bytes
    stderr_bytes: Bytes
    by: Annotated[
        Optional[str],
        Keywords({"description": "The Unix login that started it, or token:ID; null: from inside the workspace."}),
    ]


class StartedJob(Job):
    """A job that was started. One that ends with its stream starts when the stream does."""

    stream: Annotated[
        Optional[StreamToken],
        Keywords(
            {
                "description": "For a job with ends_with_stream, once; null for all others, and for a repeated "
                "request_id."
            }
        ),
    ]


class StreamToken(TypedDict):
    """A token that turns one connection into a stream."""

    token: Annotated[
        str,
        Keywords({"description": "For the header CodeSmith-Token of one POST /stream with Upgrade: codesmith-stream."}),
    ]
    expires_at: Time


class JobLogs(TypedDict):
    """A piece of what a job wrote."""

    data: str
    encoding: OutputEncoding
    offset: Annotated[
        Bytes, Keywords({"description": "Where the data begins; later than asked for where the log left bytes out."})
    ]
    next_offset: Annotated[Bytes, Keywords({"description": "Where to read on."})]
    eof: Annotated[bool, Keywords({"description": "The job has ended, and nothing follows."})]


class JobDeleted(TypedDict):
    """The result of job.delete."""

    id: JobId
    deleted: Literal[True]


class File(TypedDict):
    """A file, directory or other entry in a workspace; of a link itself, not of what it leads to."""

    path: FilePath
    type: Literal["file", "directory", "link", "fifo", "socket", "device"]
    size_bytes: Annotated[Bytes, Keywords({"description": "Of its contents; 0 for a directory."})]
    mode: Mode
    modified_at: Time
    target: Annotated[Optional[str], Keywords({"description": "Where a link leads; null for all others."})]
    etag: Etag


class FileContents(TypedDict):
    """A piece of a file."""

    data: str
    encoding: OutputEncoding
    size_bytes: Annotated[Bytes, Keywords({"description": "Of the whole file."})]
    next_offset: Annotated[Bytes, Keywords({"description": "Where to read on."})]
    eof: bool
    etag: Etag


class FileRemoved(TypedDict):
    """The result of file.remove."""

    path: FilePath
    removed: Literal[True]


class FileMatch(TypedDict):
    """A line that a search found; of a long line, the part around it."""

    path: FilePath
    line: Annotated[int, Keywords({"minimum": 1})]
    text: str


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
