"""The methods and records of the contract. Generated from agent/openrpc.json by `make api`: do not edit."""
# ruff: noqa: A002, RUF023  names and order are those of the contract

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any

from codesmith.sdk.record import Record
from codesmith.sdk.transport import Transport


class AuditRecord(Record):
    """One attempt to change something, or the end of a job that was started so (method job.end).

    time: RFC 3339, UTC.
    peer_uid: Who called; for a change completed later, its original caller. Null if unknown.
    target: What the call named: name, user, workspace, path, new_path, id of a job; kind of its credential; `more`: how
        many other refused connections this record stands for; `how` somebody came in (method door.enter): shell,
        command, sftp, dial.
    outcome: ok, or the kind of the error. For an interrupted change: resumed, or resumed: and the kind of the error, or
        cut_off. For a refused connection (method connect): forbidden.
    owner: Whose workspace it was then; for workspace.assign, before. Null for all else.
    exit_code: Of the command (workspace.exec) or job (job.end); null for all else.
    killed_by: As in the result of the command or job.
    token: The token that the caller showed; null without one.
    cursor: Pass it as `before` to audit.list to get the records before it.
    """

    __slots__ = (
        "time",
        "method",
        "request_id",
        "peer_uid",
        "peer_login",
        "target",
        "outcome",
        "duration_s",
        "owner",
        "exit_code",
        "signal",
        "killed_by",
        "token",
        "cursor",
    )

    def __init__(
        self,
        *,
        time: str,
        method: str,
        request_id: str | None,
        peer_uid: int | None,
        peer_login: str | None,
        target: dict[str, str],
        outcome: str,
        duration_s: float,
        owner: str | None,
        exit_code: int | None,
        signal: str | None,
        killed_by: str | None,
        token: TokenMark | None,
        cursor: str,
    ) -> None:
        self.time = time
        self.method = method
        self.request_id = request_id
        self.peer_uid = peer_uid
        self.peer_login = peer_login
        self.target = target
        self.outcome = outcome
        self.duration_s = duration_s
        self.owner = owner
        self.exit_code = exit_code
        self.signal = signal
        self.killed_by = killed_by
        self.token = token
        self.cursor = cursor

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AuditRecord:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            time=data["time"],
            method=data["method"],
            request_id=data.get("request_id"),
            peer_uid=data.get("peer_uid"),
            peer_login=data.get("peer_login"),
            target=data["target"],
            outcome=data["outcome"],
            duration_s=data["duration_s"],
            owner=data.get("owner"),
            exit_code=data.get("exit_code"),
            signal=data.get("signal"),
            killed_by=data.get("killed_by"),
            token=TokenMark.from_dict(data["token"]) if data.get("token") else None,
            cursor=data["cursor"],
        )


class Counts(Record):
    """How many objects CodeSmith manages on the node."""

    __slots__ = ("users", "workspaces", "sandboxes")

    def __init__(self, *, users: int, workspaces: int, sandboxes: int) -> None:
        self.users = users
        self.workspaces = workspaces
        self.sandboxes = sandboxes

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Counts:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            users=data["users"],
            workspaces=data["workspaces"],
            sandboxes=data["sandboxes"],
        )


class CreatedToken(Record):
    """A token that was created; the node knows the SHA-256 of its secret alone."""

    __slots__ = ("id", "scope")

    def __init__(self, *, id: str, scope: TokenScope) -> None:
        self.id = id
        self.scope = scope

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CreatedToken:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            scope=TokenScope.from_dict(data["scope"]),
        )


class DeniedHost(Record):
    """A host that something in the workspace wanted to reach and may not.

    last_at: RFC 3339, UTC.
    """

    __slots__ = ("host", "port", "count", "last_at")

    def __init__(self, *, host: str, port: int, count: int, last_at: str) -> None:
        self.host = host
        self.port = port
        self.count = count
        self.last_at = last_at

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DeniedHost:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            host=data["host"],
            port=data["port"],
            count=data["count"],
            last_at=data["last_at"],
        )


class Dialled(Record):
    """A token that turns one connection into a stream with SSH into a workspace, and what its client must know.

    token: For the header CodeSmith-Token of one POST /stream with Upgrade: codesmith-stream.
    expires_at: RFC 3339, UTC.
    user: The Unix account of the workspace: the user name for SSH.
    host_keys: The server's host keys, each as type and base64.
    """

    __slots__ = ("token", "expires_at", "user", "host_keys")

    def __init__(self, *, token: str, expires_at: str, user: str, host_keys: builtins.list[str]) -> None:
        self.token = token
        self.expires_at = expires_at
        self.user = user
        self.host_keys = host_keys

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Dialled:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            token=data["token"],
            expires_at=data["expires_at"],
            user=data["user"],
            host_keys=data["host_keys"],
        )


class Disk(Record):
    """The file system that holds the workspaces."""

    __slots__ = ("total_bytes", "free_bytes")

    def __init__(self, *, total_bytes: int, free_bytes: int) -> None:
        self.total_bytes = total_bytes
        self.free_bytes = free_bytes

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Disk:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            total_bytes=data["total_bytes"],
            free_bytes=data["free_bytes"],
        )


class Execution(Record):
    """The result of a command that ran in a workspace.

    exit_code: 128 + the signal number when a signal ended the command.
    stdout_encoding: base64 when the caller asked for it or the output is not UTF-8, otherwise text.
    stderr_encoding: base64 when the caller asked for it or the output is not UTF-8, otherwise text.
    truncated: True when stdout or stderr was longer than 1 MiB: its first and last 512 KiB are kept, without a
        character that the cut would split.
    """

    __slots__ = (
        "exit_code",
        "signal",
        "stdout",
        "stdout_encoding",
        "stderr",
        "stderr_encoding",
        "truncated",
        "omitted_bytes",
        "duration_s",
        "killed_by",
    )

    def __init__(
        self,
        *,
        exit_code: int,
        signal: str | None,
        stdout: str,
        stdout_encoding: str,
        stderr: str,
        stderr_encoding: str,
        truncated: bool,
        omitted_bytes: int,
        duration_s: float,
        killed_by: str | None,
    ) -> None:
        self.exit_code = exit_code
        self.signal = signal
        self.stdout = stdout
        self.stdout_encoding = stdout_encoding
        self.stderr = stderr
        self.stderr_encoding = stderr_encoding
        self.truncated = truncated
        self.omitted_bytes = omitted_bytes
        self.duration_s = duration_s
        self.killed_by = killed_by

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Execution:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            exit_code=data["exit_code"],
            signal=data.get("signal"),
            stdout=data["stdout"],
            stdout_encoding=data["stdout_encoding"],
            stderr=data["stderr"],
            stderr_encoding=data["stderr_encoding"],
            truncated=data["truncated"],
            omitted_bytes=data["omitted_bytes"],
            duration_s=data["duration_s"],
            killed_by=data.get("killed_by"),
        )


class File(Record):
    """A file, directory or other entry in a workspace; of a link itself, not of what it leads to.

    path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to U+DCFF.
        In answers it has no links.
    modified_at: RFC 3339, UTC.
    target: Where a link leads; null for all others.
    etag: Changes whenever the file does.
    """

    __slots__ = ("path", "type", "size_bytes", "mode", "modified_at", "target", "etag")

    def __init__(
        self, *, path: str, type: str, size_bytes: int, mode: str, modified_at: str, target: str | None, etag: str
    ) -> None:
        self.path = path
        self.type = type
        self.size_bytes = size_bytes
        self.mode = mode
        self.modified_at = modified_at
        self.target = target
        self.etag = etag

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> File:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            path=data["path"],
            type=data["type"],
            size_bytes=data["size_bytes"],
            mode=data["mode"],
            modified_at=data["modified_at"],
            target=data.get("target"),
            etag=data["etag"],
        )


class FileContents(Record):
    """A piece of a file.

    encoding: base64 when the caller asked for it or the output is not UTF-8, otherwise text.
    etag: Changes whenever the file does.
    """

    __slots__ = ("data", "encoding", "size_bytes", "next_offset", "eof", "etag")

    def __init__(self, *, data: str, encoding: str, size_bytes: int, next_offset: int, eof: bool, etag: str) -> None:
        self.data = data
        self.encoding = encoding
        self.size_bytes = size_bytes
        self.next_offset = next_offset
        self.eof = eof
        self.etag = etag

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileContents:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            data=data["data"],
            encoding=data["encoding"],
            size_bytes=data["size_bytes"],
            next_offset=data["next_offset"],
            eof=data["eof"],
            etag=data["etag"],
        )


class FileMatch(Record):
    """A line that a search found; of a long line, the part around it.

    path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to U+DCFF.
        In answers it has no links.
    """

    __slots__ = ("path", "line", "text")

    def __init__(self, *, path: str, line: int, text: str) -> None:
        self.path = path
        self.line = line
        self.text = text

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileMatch:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            path=data["path"],
            line=data["line"],
            text=data["text"],
        )


class FileRemoved(Record):
    """The result of file.remove.

    path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to U+DCFF.
        In answers it has no links.
    """

    __slots__ = ("path", "removed")

    def __init__(self, *, path: str, removed: bool) -> None:
        self.path = path
        self.removed = removed

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FileRemoved:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            path=data["path"],
            removed=data["removed"],
        )


class HealthCheck(Record):
    """The result of one check."""

    __slots__ = ("name", "status", "detail")

    def __init__(self, *, name: str, status: str, detail: str) -> None:
        self.name = name
        self.status = status
        self.detail = detail

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> HealthCheck:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            name=data["name"],
            status=data["status"],
            detail=data["detail"],
        )


class Job(Record):
    """A command that runs in a workspace whoever is connected, or that has run there.

    workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
    name: What its starter calls it.
    argv: The command; arguments beyond 4 KiB are left out.
    state: waiting for its stream; running; exited by itself; killed (signal, killed_by); lost: its end was not seen, as
        when the node lost power.
    exit_code: 128 + the signal number when a signal ended it; null while it runs, or lost.
    killed_by: operator: job.stop, workspace.stop and the like; disconnect: its stream ended; null also when the signal
        came from inside.
    started_at: Null while it waits.
    by: The Unix login that started it, or token:ID; null: from inside the workspace.
    """

    __slots__ = (
        "id",
        "workspace",
        "name",
        "argv",
        "state",
        "exit_code",
        "signal",
        "killed_by",
        "tty",
        "ends_with_stream",
        "started_at",
        "ended_at",
        "stdout_bytes",
        "stderr_bytes",
        "by",
    )

    def __init__(
        self,
        *,
        id: str,
        workspace: str,
        name: str | None,
        argv: builtins.list[str],
        state: str,
        exit_code: int | None,
        signal: str | None,
        killed_by: str | None,
        tty: bool,
        ends_with_stream: bool,
        started_at: str | None,
        ended_at: str | None,
        stdout_bytes: int,
        stderr_bytes: int,
        by: str | None,
    ) -> None:
        self.id = id
        self.workspace = workspace
        self.name = name
        self.argv = argv
        self.state = state
        self.exit_code = exit_code
        self.signal = signal
        self.killed_by = killed_by
        self.tty = tty
        self.ends_with_stream = ends_with_stream
        self.started_at = started_at
        self.ended_at = ended_at
        self.stdout_bytes = stdout_bytes
        self.stderr_bytes = stderr_bytes
        self.by = by

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Job:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            workspace=data["workspace"],
            name=data.get("name"),
            argv=data["argv"],
            state=data["state"],
            exit_code=data.get("exit_code"),
            signal=data.get("signal"),
            killed_by=data.get("killed_by"),
            tty=data["tty"],
            ends_with_stream=data["ends_with_stream"],
            started_at=data.get("started_at"),
            ended_at=data.get("ended_at"),
            stdout_bytes=data["stdout_bytes"],
            stderr_bytes=data["stderr_bytes"],
            by=data.get("by"),
        )


class JobDeleted(Record):
    """The result of job.delete."""

    __slots__ = ("id", "deleted")

    def __init__(self, *, id: str, deleted: bool) -> None:
        self.id = id
        self.deleted = deleted

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobDeleted:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            deleted=data["deleted"],
        )


class JobLogs(Record):
    """A piece of what a job wrote.

    encoding: base64 when the caller asked for it or the output is not UTF-8, otherwise text.
    eof: The job has ended, and nothing follows.
    """

    __slots__ = ("data", "encoding", "offset", "next_offset", "eof")

    def __init__(self, *, data: str, encoding: str, offset: int, next_offset: int, eof: bool) -> None:
        self.data = data
        self.encoding = encoding
        self.offset = offset
        self.next_offset = next_offset
        self.eof = eof

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> JobLogs:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            data=data["data"],
            encoding=data["encoding"],
            offset=data["offset"],
            next_offset=data["next_offset"],
            eof=data["eof"],
        )


class NodeHealth(Record):
    """The health of a node: the worst status of all checks, and the checks."""

    __slots__ = ("status", "checks")

    def __init__(self, *, status: str, checks: builtins.list[HealthCheck]) -> None:
        self.status = status
        self.checks = checks

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeHealth:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            status=data["status"],
            checks=[HealthCheck.from_dict(item) for item in data["checks"]],
        )


class NodeInfo(Record):
    """A node: its identity, operating system, hardware and agent.

    node_id: Never changes during the life of the node.
    instance_id: New at every start of the agent.
    memory_available_bytes: What new work may take, as the kernel estimates.
    started_at: RFC 3339, UTC.
    now: RFC 3339, UTC.
    """

    __slots__ = (
        "node_id",
        "instance_id",
        "hostname",
        "os",
        "kernel",
        "arch",
        "python",
        "cpus",
        "memory_bytes",
        "memory_available_bytes",
        "disk",
        "agent_version",
        "api_version",
        "started_at",
        "now",
        "counts",
    )

    def __init__(
        self,
        *,
        node_id: str,
        instance_id: str,
        hostname: str,
        os: Os,
        kernel: str,
        arch: str,
        python: str,
        cpus: int,
        memory_bytes: int,
        memory_available_bytes: int,
        disk: Disk,
        agent_version: str,
        api_version: str,
        started_at: str,
        now: str,
        counts: Counts,
    ) -> None:
        self.node_id = node_id
        self.instance_id = instance_id
        self.hostname = hostname
        self.os = os
        self.kernel = kernel
        self.arch = arch
        self.python = python
        self.cpus = cpus
        self.memory_bytes = memory_bytes
        self.memory_available_bytes = memory_available_bytes
        self.disk = disk
        self.agent_version = agent_version
        self.api_version = api_version
        self.started_at = started_at
        self.now = now
        self.counts = counts

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeInfo:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            node_id=data["node_id"],
            instance_id=data["instance_id"],
            hostname=data["hostname"],
            os=Os.from_dict(data["os"]),
            kernel=data["kernel"],
            arch=data["arch"],
            python=data["python"],
            cpus=data["cpus"],
            memory_bytes=data["memory_bytes"],
            memory_available_bytes=data["memory_available_bytes"],
            disk=Disk.from_dict(data["disk"]),
            agent_version=data["agent_version"],
            api_version=data["api_version"],
            started_at=data["started_at"],
            now=data["now"],
            counts=Counts.from_dict(data["counts"]),
        )


class NodeVersion(Record):
    """The version of the agent that answers.

    build: SHA-256 of the shipped file; empty when run from source.
    """

    __slots__ = ("agent", "api", "python", "build", "node_id")

    def __init__(self, *, agent: str, api: str, python: str, build: str, node_id: str) -> None:
        self.agent = agent
        self.api = api
        self.python = python
        self.build = build
        self.node_id = node_id

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> NodeVersion:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            agent=data["agent"],
            api=data["api"],
            python=data["python"],
            build=data["build"],
            node_id=data["node_id"],
        )


class OpenedWorkspace(Record):
    """A workspace that was opened, and how to enter it. The Unix account is login.user.

    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    home: The home directory, as what runs in the workspace sees it.
    user: 1 to 28 of a-z, 0-9 and inner hyphens.
    shared_with: Other users who may enter it.
    labels: The caller's own labels, key to value.
    created_at: RFC 3339, UTC.
    """

    __slots__ = (
        "id",
        "name",
        "path",
        "home",
        "user",
        "shared_with",
        "uid",
        "gid",
        "mode",
        "state",
        "labels",
        "repos",
        "sandbox",
        "runtime",
        "created_at",
        "opened_at",
        "login",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        path: str,
        home: str,
        user: str,
        shared_with: builtins.list[str],
        uid: int,
        gid: int,
        mode: str,
        state: str,
        labels: dict[str, str],
        repos: builtins.list[str],
        sandbox: Sandbox | None,
        runtime: Runtime,
        created_at: str,
        opened_at: str | None,
        login: WorkspaceLogin,
    ) -> None:
        self.id = id
        self.name = name
        self.path = path
        self.home = home
        self.user = user
        self.shared_with = shared_with
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.state = state
        self.labels = labels
        self.repos = repos
        self.sandbox = sandbox
        self.runtime = runtime
        self.created_at = created_at
        self.opened_at = opened_at
        self.login = login

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OpenedWorkspace:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            name=data["name"],
            path=data["path"],
            home=data["home"],
            user=data["user"],
            shared_with=data["shared_with"],
            uid=data["uid"],
            gid=data["gid"],
            mode=data["mode"],
            state=data["state"],
            labels=data["labels"],
            repos=data["repos"],
            sandbox=Sandbox.from_dict(data["sandbox"]) if data.get("sandbox") else None,
            runtime=Runtime.from_dict(data["runtime"]),
            created_at=data["created_at"],
            opened_at=data.get("opened_at"),
            login=WorkspaceLogin.from_dict(data["login"]),
        )


class Os(Record):
    """The node's operating system, from /etc/os-release."""

    __slots__ = ("id", "version_id", "name")

    def __init__(self, *, id: str, version_id: str, name: str) -> None:
        self.id = id
        self.version_id = version_id
        self.name = name

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Os:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            version_id=data["version_id"],
            name=data["name"],
        )


class Repo(Record):
    """A git repository in a workspace, as git reports it to the workspace's user.

    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    url: The URL it was cloned from; null for repo.init.
    branch: Null when HEAD is detached or the directory is gone.
    commit: Null before the first commit.
    left_out: What the clone left out and nobody fetched since: Git LFS files, submodules.
    ahead: Commits of the branch that its upstream did not have when they last met.
    behind: Commits of its upstream that the branch does not have.
    updated: Of repo.pull, push and fetch: whether anything came or went; null for a tag that was pushed, and in all
        other results.
    new_commits: How many came with a pull or went with a push, where that is known.
    """

    __slots__ = ("name", "path", "url", "branch", "commit", "left_out", "ahead", "behind", "updated", "new_commits")

    def __init__(
        self,
        *,
        name: str,
        path: str,
        url: str | None,
        branch: str | None,
        commit: str | None,
        left_out: builtins.list[str],
        ahead: int | None,
        behind: int | None,
        updated: bool | None,
        new_commits: int | None,
    ) -> None:
        self.name = name
        self.path = path
        self.url = url
        self.branch = branch
        self.commit = commit
        self.left_out = left_out
        self.ahead = ahead
        self.behind = behind
        self.updated = updated
        self.new_commits = new_commits

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Repo:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            name=data["name"],
            path=data["path"],
            url=data.get("url"),
            branch=data.get("branch"),
            commit=data.get("commit"),
            left_out=data["left_out"],
            ahead=data.get("ahead"),
            behind=data.get("behind"),
            updated=data.get("updated"),
            new_commits=data.get("new_commits"),
        )


class RepoDeleted(Record):
    """The result of repo.delete.

    workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    """

    __slots__ = ("workspace", "name", "deleted")

    def __init__(self, *, workspace: str, name: str, deleted: bool) -> None:
        self.workspace = workspace
        self.name = name
        self.deleted = deleted

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RepoDeleted:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            workspace=data["workspace"],
            name=data["name"],
            deleted=data["deleted"],
        )


class Runtime(Record):
    """The place where everything of a workspace runs; it starts on demand and ends when it is idle.

    since: When it started; null unless it runs, and in lists and changes.
    idle_stop_at: When it ends if nothing runs in it until then; null while something does.
    """

    __slots__ = ("state", "since", "idle_stop_at")

    def __init__(self, *, state: str, since: str | None, idle_stop_at: str | None) -> None:
        self.state = state
        self.since = since
        self.idle_stop_at = idle_stop_at

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Runtime:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            state=data["state"],
            since=data.get("since"),
            idle_stop_at=data.get("idle_stop_at"),
        )


class Sandbox(Record):
    """The isolation boundary of a workspace.

    workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
    limits: Of everything in the workspace together: memory, tasks at once, CPUs, disk; and the seconds of each command.
    network: full; none: only the loopback interface; or the hosts that a proxy lets through, where deny wins. Default:
        full.
    enforced: What a look from inside confirmed; `nesting`: whether namespaces can be made in it.
    denied: What the allow-list kept out, last one first; empty in lists and changes.
    created_at: RFC 3339, UTC.
    """

    __slots__ = ("workspace", "limits", "network", "enforced", "state", "denied", "created_at")

    def __init__(
        self,
        *,
        workspace: str,
        limits: dict[str, Any],
        network: str | dict[str, Any],
        enforced: dict[str, bool],
        state: str,
        denied: builtins.list[DeniedHost],
        created_at: str,
    ) -> None:
        self.workspace = workspace
        self.limits = limits
        self.network = network
        self.enforced = enforced
        self.state = state
        self.denied = denied
        self.created_at = created_at

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Sandbox:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            workspace=data["workspace"],
            limits=data["limits"],
            network=data["network"],
            enforced=data["enforced"],
            state=data["state"],
            denied=[DeniedHost.from_dict(item) for item in data["denied"]],
            created_at=data["created_at"],
        )


class SandboxDeleted(Record):
    """The result of sandbox.delete.

    workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
    """

    __slots__ = ("workspace", "deleted")

    def __init__(self, *, workspace: str, deleted: bool) -> None:
        self.workspace = workspace
        self.deleted = deleted

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SandboxDeleted:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            workspace=data["workspace"],
            deleted=data["deleted"],
        )


class SshKey(Record):
    """A public key: type, fingerprint and comment.

    fingerprint: SHA256:..., as ssh-keygen prints it.
    """

    __slots__ = ("type", "fingerprint", "comment")

    def __init__(self, *, type: str, fingerprint: str, comment: str) -> None:
        self.type = type
        self.fingerprint = fingerprint
        self.comment = comment

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SshKey:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            type=data["type"],
            fingerprint=data["fingerprint"],
            comment=data["comment"],
        )


class StartedJob(Record):
    """A job that was started. One that ends with its stream starts when the stream does.

    workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
    name: What its starter calls it.
    argv: The command; arguments beyond 4 KiB are left out.
    state: waiting for its stream; running; exited by itself; killed (signal, killed_by); lost: its end was not seen, as
        when the node lost power.
    exit_code: 128 + the signal number when a signal ended it; null while it runs, or lost.
    killed_by: operator: job.stop, workspace.stop and the like; disconnect: its stream ended; null also when the signal
        came from inside.
    started_at: Null while it waits.
    by: The Unix login that started it, or token:ID; null: from inside the workspace.
    stream: For a job with ends_with_stream, once; null for all others, and for a repeated request_id.
    """

    __slots__ = (
        "id",
        "workspace",
        "name",
        "argv",
        "state",
        "exit_code",
        "signal",
        "killed_by",
        "tty",
        "ends_with_stream",
        "started_at",
        "ended_at",
        "stdout_bytes",
        "stderr_bytes",
        "by",
        "stream",
    )

    def __init__(
        self,
        *,
        id: str,
        workspace: str,
        name: str | None,
        argv: builtins.list[str],
        state: str,
        exit_code: int | None,
        signal: str | None,
        killed_by: str | None,
        tty: bool,
        ends_with_stream: bool,
        started_at: str | None,
        ended_at: str | None,
        stdout_bytes: int,
        stderr_bytes: int,
        by: str | None,
        stream: StreamToken | None,
    ) -> None:
        self.id = id
        self.workspace = workspace
        self.name = name
        self.argv = argv
        self.state = state
        self.exit_code = exit_code
        self.signal = signal
        self.killed_by = killed_by
        self.tty = tty
        self.ends_with_stream = ends_with_stream
        self.started_at = started_at
        self.ended_at = ended_at
        self.stdout_bytes = stdout_bytes
        self.stderr_bytes = stderr_bytes
        self.by = by
        self.stream = stream

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StartedJob:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            workspace=data["workspace"],
            name=data.get("name"),
            argv=data["argv"],
            state=data["state"],
            exit_code=data.get("exit_code"),
            signal=data.get("signal"),
            killed_by=data.get("killed_by"),
            tty=data["tty"],
            ends_with_stream=data["ends_with_stream"],
            started_at=data.get("started_at"),
            ended_at=data.get("ended_at"),
            stdout_bytes=data["stdout_bytes"],
            stderr_bytes=data["stderr_bytes"],
            by=data.get("by"),
            stream=StreamToken.from_dict(data["stream"]) if data.get("stream") else None,
        )


class StreamToken(Record):
    """A token that turns one connection into a stream.

    token: For the header CodeSmith-Token of one POST /stream with Upgrade: codesmith-stream.
    expires_at: RFC 3339, UTC.
    """

    __slots__ = ("token", "expires_at")

    def __init__(self, *, token: str, expires_at: str) -> None:
        self.token = token
        self.expires_at = expires_at

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StreamToken:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            token=data["token"],
            expires_at=data["expires_at"],
        )


class Token(Record):
    """A token of a workspace.

    workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
    preset: Null when the methods were named one by one.
    created_at: RFC 3339, UTC.
    expires_at: Null: until it is revoked.
    last_used_at: To the minute; null before its first use.
    by: The Unix login that created it.
    """

    __slots__ = ("id", "label", "workspace", "preset", "methods", "created_at", "expires_at", "last_used_at", "by")

    def __init__(
        self,
        *,
        id: str,
        label: str,
        workspace: str,
        preset: str | None,
        methods: builtins.list[str],
        created_at: str,
        expires_at: str | None,
        last_used_at: str | None,
        by: str,
    ) -> None:
        self.id = id
        self.label = label
        self.workspace = workspace
        self.preset = preset
        self.methods = methods
        self.created_at = created_at
        self.expires_at = expires_at
        self.last_used_at = last_used_at
        self.by = by

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Token:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            label=data["label"],
            workspace=data["workspace"],
            preset=data.get("preset"),
            methods=data["methods"],
            created_at=data["created_at"],
            expires_at=data.get("expires_at"),
            last_used_at=data.get("last_used_at"),
            by=data["by"],
        )


class TokenMark(Record):
    """Which token it was."""

    __slots__ = ("id", "label")

    def __init__(self, *, id: str, label: str) -> None:
        self.id = id
        self.label = label

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenMark:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            label=data["label"],
        )


class TokenRevoked(Record):
    """The result of token.revoke."""

    __slots__ = ("id", "revoked")

    def __init__(self, *, id: str, revoked: bool) -> None:
        self.id = id
        self.revoked = revoked

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenRevoked:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            revoked=data["revoked"],
        )


class TokenScope(Record):
    """What a token reaches.

    workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
    preset: Null when the methods were named one by one.
    expires_at: Null: until it is revoked.
    """

    __slots__ = ("workspace", "preset", "methods", "expires_at")

    def __init__(
        self, *, workspace: str, preset: str | None, methods: builtins.list[str], expires_at: str | None
    ) -> None:
        self.workspace = workspace
        self.preset = preset
        self.methods = methods
        self.expires_at = expires_at

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenScope:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            workspace=data["workspace"],
            preset=data.get("preset"),
            methods=data["methods"],
            expires_at=data.get("expires_at"),
        )


class Tty(Record):
    """A terminal: its size in characters, and its type for TERM."""

    __slots__ = ("rows", "cols", "term")

    def __init__(self, *, rows: int, cols: int, term: str) -> None:
        self.rows = rows
        self.cols = cols
        self.term = term

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tty:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            rows=data["rows"],
            cols=data["cols"],
            term=data["term"],
        )


class Usage(Record):
    """What a workspace uses: its runtime now, and its files.

    memory_peak_bytes: Since the runtime started.
    memory_limit_bytes: Null without a limit, or when stopped.
    cpu_s: Since the runtime started.
    disk_bytes: Of the workspace and its home; null when there are too many files to count.
    files: How many, with directories; null like disk_bytes.
    disk_limit_bytes: Null without a limit.
    """

    __slots__ = (
        "memory_bytes",
        "memory_peak_bytes",
        "memory_limit_bytes",
        "cpu_s",
        "tasks",
        "disk_bytes",
        "files",
        "disk_limit_bytes",
        "network",
    )

    def __init__(
        self,
        *,
        memory_bytes: int,
        memory_peak_bytes: int | None,
        memory_limit_bytes: int | None,
        cpu_s: float,
        tasks: int,
        disk_bytes: int | None,
        files: int | None,
        disk_limit_bytes: int | None,
        network: UsedNetwork,
    ) -> None:
        self.memory_bytes = memory_bytes
        self.memory_peak_bytes = memory_peak_bytes
        self.memory_limit_bytes = memory_limit_bytes
        self.cpu_s = cpu_s
        self.tasks = tasks
        self.disk_bytes = disk_bytes
        self.files = files
        self.disk_limit_bytes = disk_limit_bytes
        self.network = network

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Usage:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            memory_bytes=data["memory_bytes"],
            memory_peak_bytes=data.get("memory_peak_bytes"),
            memory_limit_bytes=data.get("memory_limit_bytes"),
            cpu_s=data["cpu_s"],
            tasks=data["tasks"],
            disk_bytes=data.get("disk_bytes"),
            files=data.get("files"),
            disk_limit_bytes=data.get("disk_limit_bytes"),
            network=UsedNetwork.from_dict(data["network"]),
        )


class UsedNetwork(Record):
    """What the allow-list of a workspace lets through, and what it kept out.

    allowed: The allow-list; empty without one.
    """

    __slots__ = ("allowed", "denied")

    def __init__(self, *, allowed: builtins.list[str], denied: builtins.list[DeniedHost]) -> None:
        self.allowed = allowed
        self.denied = denied

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UsedNetwork:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            allowed=data["allowed"],
            denied=[DeniedHost.from_dict(item) for item in data["denied"]],
        )


class User(Record):
    """A user that CodeSmith created: who may enter workspaces, and a Unix account that owns no files.

    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    created_at: RFC 3339, UTC.
    """

    __slots__ = ("name", "login", "uid", "gid", "home", "shell", "state", "ssh_keys", "workspaces", "created_at")

    def __init__(
        self,
        *,
        name: str,
        login: str,
        uid: int,
        gid: int,
        home: str,
        shell: str,
        state: str,
        ssh_keys: builtins.list[SshKey],
        workspaces: builtins.list[str],
        created_at: str,
    ) -> None:
        self.name = name
        self.login = login
        self.uid = uid
        self.gid = gid
        self.home = home
        self.shell = shell
        self.state = state
        self.ssh_keys = ssh_keys
        self.workspaces = workspaces
        self.created_at = created_at

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> User:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            name=data["name"],
            login=data["login"],
            uid=data["uid"],
            gid=data["gid"],
            home=data["home"],
            shell=data["shell"],
            state=data["state"],
            ssh_keys=[SshKey.from_dict(item) for item in data["ssh_keys"]],
            workspaces=data["workspaces"],
            created_at=data["created_at"],
        )


class UserDeleted(Record):
    """The result of user.delete.

    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    leftovers: What could not be removed; usually empty.
    """

    __slots__ = ("name", "deleted", "leftovers")

    def __init__(self, *, name: str, deleted: bool, leftovers: builtins.list[str]) -> None:
        self.name = name
        self.deleted = deleted
        self.leftovers = leftovers

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UserDeleted:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            name=data["name"],
            deleted=data["deleted"],
            leftovers=data["leftovers"],
        )


class UserDetails(Record):
    """A user, and how its account differs from what CodeSmith created.

    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    created_at: RFC 3339, UTC.
    drift: How the account differs from what CodeSmith created (closed, groups, ageing, uid, access lists); empty when
        it does not. user.enable and node.prepare correct it.
    """

    __slots__ = (
        "name",
        "login",
        "uid",
        "gid",
        "home",
        "shell",
        "state",
        "ssh_keys",
        "workspaces",
        "created_at",
        "drift",
    )

    def __init__(
        self,
        *,
        name: str,
        login: str,
        uid: int,
        gid: int,
        home: str,
        shell: str,
        state: str,
        ssh_keys: builtins.list[SshKey],
        workspaces: builtins.list[str],
        created_at: str,
        drift: builtins.list[str],
    ) -> None:
        self.name = name
        self.login = login
        self.uid = uid
        self.gid = gid
        self.home = home
        self.shell = shell
        self.state = state
        self.ssh_keys = ssh_keys
        self.workspaces = workspaces
        self.created_at = created_at
        self.drift = drift

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> UserDetails:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            name=data["name"],
            login=data["login"],
            uid=data["uid"],
            gid=data["gid"],
            home=data["home"],
            shell=data["shell"],
            state=data["state"],
            ssh_keys=[SshKey.from_dict(item) for item in data["ssh_keys"]],
            workspaces=data["workspaces"],
            created_at=data["created_at"],
            drift=data["drift"],
        )


class Workspace(Record):
    """A workspace: a directory and a home, owned by a login of its own.

    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    home: The home directory, as what runs in the workspace sees it.
    user: 1 to 28 of a-z, 0-9 and inner hyphens.
    shared_with: Other users who may enter it.
    labels: The caller's own labels, key to value.
    created_at: RFC 3339, UTC.
    """

    __slots__ = (
        "id",
        "name",
        "path",
        "home",
        "user",
        "shared_with",
        "uid",
        "gid",
        "mode",
        "state",
        "labels",
        "repos",
        "sandbox",
        "runtime",
        "created_at",
        "opened_at",
        "login",
    )

    def __init__(
        self,
        *,
        id: str,
        name: str,
        path: str,
        home: str,
        user: str,
        shared_with: builtins.list[str],
        uid: int,
        gid: int,
        mode: str,
        state: str,
        labels: dict[str, str],
        repos: builtins.list[str],
        sandbox: Sandbox | None,
        runtime: Runtime,
        created_at: str,
        opened_at: str | None,
        login: str,
    ) -> None:
        self.id = id
        self.name = name
        self.path = path
        self.home = home
        self.user = user
        self.shared_with = shared_with
        self.uid = uid
        self.gid = gid
        self.mode = mode
        self.state = state
        self.labels = labels
        self.repos = repos
        self.sandbox = sandbox
        self.runtime = runtime
        self.created_at = created_at
        self.opened_at = opened_at
        self.login = login

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Workspace:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            id=data["id"],
            name=data["name"],
            path=data["path"],
            home=data["home"],
            user=data["user"],
            shared_with=data["shared_with"],
            uid=data["uid"],
            gid=data["gid"],
            mode=data["mode"],
            state=data["state"],
            labels=data["labels"],
            repos=data["repos"],
            sandbox=Sandbox.from_dict(data["sandbox"]) if data.get("sandbox") else None,
            runtime=Runtime.from_dict(data["runtime"]),
            created_at=data["created_at"],
            opened_at=data.get("opened_at"),
            login=data["login"],
        )


class WorkspaceDeleted(Record):
    """The result of workspace.delete.

    name: 1 to 28 of a-z, 0-9 and inner hyphens.
    leftovers: What could not be removed; usually empty.
    """

    __slots__ = ("name", "deleted", "user_deleted", "leftovers")

    def __init__(self, *, name: str, deleted: bool, user_deleted: bool, leftovers: builtins.list[str]) -> None:
        self.name = name
        self.deleted = deleted
        self.user_deleted = user_deleted
        self.leftovers = leftovers

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkspaceDeleted:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            name=data["name"],
            deleted=data["deleted"],
            user_deleted=data["user_deleted"],
            leftovers=data["leftovers"],
        )


class WorkspaceLogin(Record):
    """How to enter a workspace: login, directory and environment.

    user: The Unix account; also the user name for SSH.
    host_hint: The node's own host name; it may not be the address that reaches the node.
    """

    __slots__ = ("user", "host_hint", "directory", "environment")

    def __init__(self, *, user: str, host_hint: str, directory: str, environment: dict[str, str]) -> None:
        self.user = user
        self.host_hint = host_hint
        self.directory = directory
        self.environment = environment

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WorkspaceLogin:
        """Read what the agent sent; unknown fields are ignored, a missing one is None if it may be."""
        return cls(
            user=data["user"],
            host_hint=data["host_hint"],
            directory=data["directory"],
            environment=data["environment"],
        )


class AuditMethods:
    """audit.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        limit: int | None = None,
        before: str | None = None,
        workspace: str | None = None,
        user: str | None = None,
    ) -> builtins.list[AuditRecord]:
        """Return the attempts to change something, refused ones too, newest first.

        For the next page, pass the `cursor` of the last record as `before`: no record is missed or repeated,
        even if the clock was set.

        limit: Return at most so many (default 100).
        before: Only records before this: the `cursor` of a record, for the next page, or a time (RFC 3339 with its
            zone).
        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        user: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params.
        """
        params: dict[str, Any] = {"limit": limit, "before": before, "workspace": workspace, "user": user}
        found = self._transport.call("audit.list", params, changes=False)
        return self._transport.record("audit.list", lambda rows: [AuditRecord.from_dict(row) for row in rows], found)


class FileMethods:
    """file.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def edit(
        self,
        *,
        workspace: str,
        path: str,
        old: str,
        new: str,
        if_etag: str | None = None,
        request_id: str | None = None,
    ) -> File:
        """Replace `old`, which must occur exactly once in the file, by `new`. A file of up to 16 MiB, text or not.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.
        if_etag: InUse unless the file still has this etag; `absent`: unless there is none.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "path": path,
            "old": old,
            "new": new,
            "if_etag": if_etag,
            "request_id": request_id,
        }
        found = self._transport.call("file.edit", params, changes=True)
        return self._transport.record("file.edit", File.from_dict, found)

    def list(self, *, workspace: str, path: str | None = None) -> builtins.list[File]:
        """Return the entries of a directory, by name, up to 10000; default: the workspace. Links are not followed.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "path": path}
        found = self._transport.call("file.list", params, changes=False)
        return self._transport.record("file.list", lambda rows: [File.from_dict(row) for row in rows], found)

    def make_directory(
        self,
        *,
        workspace: str,
        path: str,
        parents: bool = False,
        mode: str | None = None,
        request_id: str | None = None,
    ) -> File:
        """Make a directory.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.
        parents: Make those above it too; one that is there is no error.

        AgentRefused with rpc_kind invalid_params, not_found, already_exists, disabled, not_managed, in_use,
            unsupported, command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "path": path,
            "parents": parents,
            "mode": mode,
            "request_id": request_id,
        }
        found = self._transport.call("file.make_directory", params, changes=True)
        return self._transport.record("file.make_directory", File.from_dict, found)

    def move(
        self,
        *,
        workspace: str,
        path: str,
        new_path: str,
        replace: bool = False,
        if_etag: str | None = None,
        request_id: str | None = None,
    ) -> File:
        """Move or rename an entry; AlreadyExists when there is something at `new_path`, unless `replace`.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.
        new_path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.
        if_etag: InUse unless what is at new_path has this etag; `absent`: unless nothing is there.

        AgentRefused with rpc_kind invalid_params, not_found, already_exists, disabled, not_managed, in_use,
            unsupported, command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "path": path,
            "new_path": new_path,
            "replace": replace,
            "if_etag": if_etag,
            "request_id": request_id,
        }
        found = self._transport.call("file.move", params, changes=True)
        return self._transport.record("file.move", File.from_dict, found)

    def read(
        self,
        *,
        workspace: str,
        path: str,
        offset: int | None = None,
        limit: int | None = None,
        encoding: str | None = None,
    ) -> FileContents:
        """Return bytes of a regular file, up to 512 KiB a call; links inside the workspace are followed.

        With text, a piece ends at a whole character; a piece that is not UTF-8 is base64.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.
        encoding: Default: text.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "path": path,
            "offset": offset,
            "limit": limit,
            "encoding": encoding,
        }
        found = self._transport.call("file.read", params, changes=False)
        return self._transport.record("file.read", FileContents.from_dict, found)

    def remove(
        self, *, workspace: str, path: str, recursive: bool = False, request_id: str | None = None
    ) -> FileRemoved:
        """Remove an entry; a directory that is not empty only with `recursive`. A link is removed, not what it
        leads to.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "path": path,
            "recursive": recursive,
            "request_id": request_id,
        }
        found = self._transport.call("file.remove", params, changes=True)
        return self._transport.record("file.remove", FileRemoved.from_dict, found)

    def search(
        self, *, workspace: str, pattern: str, path: str | None = None, limit: int | None = None
    ) -> builtins.list[FileMatch]:
        """Return lines of text files that match, below `path` (default: the workspace), up to `limit` (default
        100).

        In the order of their names; without .git, .codesmith, binary files and what links lead to. It ends
        within 8 s.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        pattern: A regular expression of Python.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "pattern": pattern, "path": path, "limit": limit}
        found = self._transport.call("file.search", params, changes=False)
        return self._transport.record("file.search", lambda rows: [FileMatch.from_dict(row) for row in rows], found)

    def stat(self, *, workspace: str, path: str) -> File:
        """Return one entry. A link is not followed.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "path": path}
        found = self._transport.call("file.stat", params, changes=False)
        return self._transport.record("file.stat", File.from_dict, found)

    def write(
        self,
        *,
        workspace: str,
        path: str,
        data: str,
        encoding: str | None = None,
        mode: str | None = None,
        append: bool = False,
        if_etag: str | None = None,
        request_id: str | None = None,
    ) -> File:
        """Write a file, whole or not at all: readers see what was there or all of `data`. With `append`, add to its
        end.

        A request has 256 KiB at most. A longer file goes in pieces of up to 168 KiB: the first to a new name
        beside it, `.codesmith-upload-` and something random (if_etag: absent), more with append and the etag of
        the last answer, and at the end file.move with replace, which has them on disk. Only the first piece and
        the move are audited.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        path: A path in the workspace, relative to it; none leads out of it. A byte that is not UTF-8 is U+DC80 to
            U+DCFF. In answers it has no links.
        data: Text, or base64: as `encoding` says.
        encoding: Default: text.
        if_etag: InUse unless the file still has this etag; `absent`: unless there is none.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "path": path,
            "data": data,
            "encoding": encoding,
            "mode": mode,
            "append": append,
            "if_etag": if_etag,
            "request_id": request_id,
        }
        found = self._transport.call("file.write", params, changes=True)
        return self._transport.record("file.write", File.from_dict, found)


class JobMethods:
    """job.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def attach(self, *, workspace: str, id: str, offset: int | None = None) -> StreamToken:
        """Return a one-time token for a stream with a running job: what it writes and its end; input, sizes and
        signals.

        With `offset`, what it wrote from there on (of both streams) comes first; without, what it writes from
        now on.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, disabled, not_found, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "id": id, "offset": offset}
        found = self._transport.call("job.attach", params, changes=False)
        return self._transport.record("job.attach", StreamToken.from_dict, found)

    def delete(self, *, workspace: str, id: str, request_id: str | None = None) -> JobDeleted:
        """Forget a job that has ended, and its log; InUse while it runs.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, disabled, not_found, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "id": id, "request_id": request_id}
        found = self._transport.call("job.delete", params, changes=True)
        return self._transport.record("job.delete", JobDeleted.from_dict, found)

    def get(self, *, workspace: str, id: str) -> Job:
        """Return one job. Starts nothing.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "id": id}
        found = self._transport.call("job.get", params, changes=False)
        return self._transport.record("job.get", Job.from_dict, found)

    def list(self, *, workspace: str, state: str | None = None) -> builtins.list[Job]:
        """Return the jobs of a workspace, newest first; with `state` those in it. Starts nothing.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "state": state}
        found = self._transport.call("job.list", params, changes=False)
        return self._transport.record("job.list", lambda rows: [Job.from_dict(row) for row in rows], found)

    def logs(
        self,
        *,
        workspace: str,
        id: str,
        stream: str | None = None,
        offset: int | None = None,
        limit: int | None = None,
    ) -> JobLogs:
        """Return what a job wrote, from `offset` on, up to `limit` bytes (default and maximum 512 KiB).

        A long log keeps its beginning and its end. Text ends at a whole character. `stream` defaults to both.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        stream: both: in the order in which they were written. Each has offsets of its own.

        AgentRefused with rpc_kind invalid_params, disabled, not_found, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "id": id, "stream": stream, "offset": offset, "limit": limit}
        found = self._transport.call("job.logs", params, changes=False)
        return self._transport.record("job.logs", JobLogs.from_dict, found)

    def start(
        self,
        *,
        workspace: str,
        argv: Sequence[str],
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        tty: Tty | None = None,
        name: str | None = None,
        timeout_s: float | None = None,
        ends_with_stream: bool = False,
        request_id: str | None = None,
    ) -> StartedJob:
        """Start a command in a workspace that goes on without a connection; job.logs and job.attach show what it
        writes.

        It outlives its caller, the agent and an upgrade of it, and ends with the runtime. No shell is involved.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        cwd: The working directory: a path inside the workspace, relative to it.
        stdin: stream: what those who attach send. Default: none.
        tty: Gives it a terminal; stderr is part of stdout.
        name: What you call it; two may have one name.
        timeout_s: Default: as long as it wants.
        ends_with_stream: It starts and ends, with all it started, with its one stream; keeps no log.

        AgentRefused with rpc_kind invalid_params, disabled, not_found, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "argv": argv,
            "cwd": cwd,
            "env": env,
            "stdin": stdin,
            "tty": tty,
            "name": name,
            "timeout_s": timeout_s,
            "ends_with_stream": ends_with_stream,
            "request_id": request_id,
        }
        found = self._transport.call("job.start", params, changes=True)
        return self._transport.record("job.start", StartedJob.from_dict, found)

    def stop(
        self,
        *,
        workspace: str,
        id: str,
        signal: str | None = None,
        grace_s: float | None = None,
        request_id: str | None = None,
    ) -> Job:
        """End a job: `signal` (default SIGTERM) to its process group, and after `grace_s` SIGKILL to all that it
        started.

        Returns when everything has ended. A job that has ended stays as it is.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        grace_s: Default 5.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "id": id,
            "signal": signal,
            "grace_s": grace_s,
            "request_id": request_id,
        }
        limit_s = grace_s or 5.0
        found = self._transport.call("job.stop", params, changes=True, limit_s=limit_s)
        return self._transport.record("job.stop", Job.from_dict, found)

    def wait(self, *, workspace: str, id: str, timeout_s: float | None = None) -> Job:
        """Return a job when it has ended, or as it is after `timeout_s`.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        timeout_s: Default 60.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "id": id, "timeout_s": timeout_s}
        limit_s = timeout_s or 60.0
        found = self._transport.call("job.wait", params, changes=False, limit_s=limit_s)
        return self._transport.record("job.wait", Job.from_dict, found)


class NodeMethods:
    """node.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def health(self) -> NodeHealth:
        """Return all checks and the worst of their statuses. Changes nothing; the helper checks what only root can
        see.
        """
        params: dict[str, Any] = {}
        found = self._transport.call("node.health", params, changes=False)
        return self._transport.record("node.health", NodeHealth.from_dict, found)

    def info(self) -> NodeInfo:
        """Return the node's identity, operating system, hardware and agent.

        AgentRefused with rpc_kind read_only.
        """
        params: dict[str, Any] = {}
        found = self._transport.call("node.info", params, changes=False)
        return self._transport.record("node.info", NodeInfo.from_dict, found)

    def version(self) -> NodeVersion:
        """Return the agent's version and the node's id: a cheap test that a connection works."""
        params: dict[str, Any] = {}
        found = self._transport.call("node.version", params, changes=False)
        return self._transport.record("node.version", NodeVersion.from_dict, found)


class RepoMethods:
    """repo.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def clone(
        self,
        *,
        workspace: str,
        url: str,
        name: str | None = None,
        ref: str | None = None,
        depth: int | None = None,
        credential: Mapping[str, str] | None = None,
        known_hosts: Sequence[str] | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Repo:
        """Clone a git repository to code/NAME in a workspace, as the workspace's user.

        It appears there whole, or not at all; an interrupted clone is removed. `name` defaults to the last part
        of the URL. Hooks, submodules and Git LFS files are left out; `left_out` lists the latter two. Without
        `credential`, ssh uses the keys of the workspace's user. The clone runs within the limits of the
        workspace's sandbox, but always has the network, through the node's proxies. A commit is checked out
        without a branch.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        url: https://[USER@]HOST[:PORT]/PATH, ssh://[USER@]HOST[:PORT]/PATH or USER@HOST:PATH, without password or token
        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        ref: A branch, a tag, or a whole commit hash (default: the remote's default branch).
        depth: How many commits (default: all).
        credential: For https {username?, password} or {username?, token}; for ssh {ssh_key}, a key without passphrase,
            or {agent}, the token of an ssh agent that is forwarded for this call. Used for this call only, sent only to
            the URL's host, stored nowhere.
        known_hosts: Lines `HOST KEYTYPE KEY`, trusted for this call in addition to the known_hosts of the workspace's
            user. An ssh host whose key is in neither is refused.
        timeout_s: Default 600.

        AgentRefused with rpc_kind invalid_params, not_found, already_exists, disabled, not_managed, in_use,
            unsupported, command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "url": url,
            "name": name,
            "ref": ref,
            "depth": depth,
            "credential": credential,
            "known_hosts": known_hosts,
            "timeout_s": timeout_s,
            "request_id": request_id,
        }
        limit_s = timeout_s or 600.0
        found = self._transport.call("repo.clone", params, changes=True, limit_s=limit_s)
        return self._transport.record("repo.clone", Repo.from_dict, found)

    def delete(self, *, workspace: str, name: str, request_id: str | None = None) -> RepoDeleted:
        """Delete a repository and everything in code/NAME, also what was never pushed.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "name": name, "request_id": request_id}
        found = self._transport.call("repo.delete", params, changes=True)
        return self._transport.record("repo.delete", RepoDeleted.from_dict, found)

    def fetch(
        self,
        *,
        workspace: str,
        name: str,
        ref: str | None = None,
        credential: Mapping[str, str] | None = None,
        known_hosts: Sequence[str] | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Repo:
        """Fetch from the URL that a repository was cloned from: all branches that it follows, or `ref` alone.

        Branches and files of the repository stay as they are; so does what it knows of branches that are gone
        there. Credential, network and limits are as for repo.pull.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        ref: A branch or a tag.
        credential: For https {username?, password} or {username?, token}; for ssh {ssh_key}, a key without passphrase,
            or {agent}, the token of an ssh agent that is forwarded for this call. Used for this call only, sent only to
            the URL's host, stored nowhere.
        known_hosts: Lines `HOST KEYTYPE KEY`, trusted for this call in addition to the known_hosts of the workspace's
            user. An ssh host whose key is in neither is refused.
        timeout_s: Default 600.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "name": name,
            "ref": ref,
            "credential": credential,
            "known_hosts": known_hosts,
            "timeout_s": timeout_s,
            "request_id": request_id,
        }
        limit_s = timeout_s or 600.0
        found = self._transport.call("repo.fetch", params, changes=True, limit_s=limit_s)
        return self._transport.record("repo.fetch", Repo.from_dict, found)

    def get(self, *, workspace: str, name: str) -> Repo:
        """Return one repository with its current branch and commit.

        `branch` is null when HEAD is detached, `commit` before the first commit; both when the user removed the
        repository.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "name": name}
        found = self._transport.call("repo.get", params, changes=False)
        return self._transport.record("repo.get", Repo.from_dict, found)

    def init(
        self,
        *,
        workspace: str,
        name: str | None = None,
        default_branch: str | None = None,
        request_id: str | None = None,
    ) -> Repo:
        """Create an empty git repository in code/NAME of a workspace, as the workspace's user.

        `name` defaults to the name of the workspace, `default_branch` to main.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        default_branch: A branch.

        AgentRefused with rpc_kind invalid_params, not_found, already_exists, disabled, not_managed, in_use,
            unsupported, command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "name": name,
            "default_branch": default_branch,
            "request_id": request_id,
        }
        found = self._transport.call("repo.init", params, changes=True)
        return self._transport.record("repo.init", Repo.from_dict, found)

    def list(self, *, workspace: str) -> builtins.list[Repo]:
        """Return the repositories that CodeSmith created in a workspace, by name; not those that the user made.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace}
        found = self._transport.call("repo.list", params, changes=False)
        return self._transport.record("repo.list", lambda rows: [Repo.from_dict(row) for row in rows], found)

    def pull(
        self,
        *,
        workspace: str,
        name: str,
        ref: str | None = None,
        credential: Mapping[str, str] | None = None,
        known_hosts: Sequence[str] | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Repo:
        """Fetch from the URL that a repository was cloned from, and move its current branch forward.

        Nothing is merged: if the branches have diverged, or a file that was changed would be overwritten, it is
        refused and the branch and the files stay as they are. `ref` defaults to the branch that the current one
        follows. Credential, network and limits are as for repo.clone; the credential is sent to no other host,
        whatever the repository is configured to do.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        ref: A branch or a tag.
        credential: For https {username?, password} or {username?, token}; for ssh {ssh_key}, a key without passphrase,
            or {agent}, the token of an ssh agent that is forwarded for this call. Used for this call only, sent only to
            the URL's host, stored nowhere.
        known_hosts: Lines `HOST KEYTYPE KEY`, trusted for this call in addition to the known_hosts of the workspace's
            user. An ssh host whose key is in neither is refused.
        timeout_s: Default 600.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "name": name,
            "ref": ref,
            "credential": credential,
            "known_hosts": known_hosts,
            "timeout_s": timeout_s,
            "request_id": request_id,
        }
        limit_s = timeout_s or 600.0
        found = self._transport.call("repo.pull", params, changes=True, limit_s=limit_s)
        return self._transport.record("repo.pull", Repo.from_dict, found)

    def push(
        self,
        *,
        workspace: str,
        name: str,
        ref: str | None = None,
        credential: Mapping[str, str] | None = None,
        known_hosts: Sequence[str] | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Repo:
        """Push a branch or tag, by default the current branch, to the URL that a repository was cloned from.

        It gets the same name there, and is never forced. A branch that follows none follows it afterwards. Its
        hook pre-push does not run, and Git LFS files are not uploaded. Credential, network and limits are as for
        repo.pull.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        ref: A branch or a tag.
        credential: For https {username?, password} or {username?, token}; for ssh {ssh_key}, a key without passphrase,
            or {agent}, the token of an ssh agent that is forwarded for this call. Used for this call only, sent only to
            the URL's host, stored nowhere.
        known_hosts: Lines `HOST KEYTYPE KEY`, trusted for this call in addition to the known_hosts of the workspace's
            user. An ssh host whose key is in neither is refused.
        timeout_s: Default 600.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "name": name,
            "ref": ref,
            "credential": credential,
            "known_hosts": known_hosts,
            "timeout_s": timeout_s,
            "request_id": request_id,
        }
        limit_s = timeout_s or 600.0
        found = self._transport.call("repo.push", params, changes=True, limit_s=limit_s)
        return self._transport.record("repo.push", Repo.from_dict, found)


class SandboxMethods:
    """sandbox.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        workspace: str,
        limits: Mapping[str, Any] | None = None,
        network: str | Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> Sandbox:
        """Put a workspace into a sandbox: from now on everything in it runs within these limits, together.

        What runs in it is ended. `enforced` is what a look from inside confirmed on this node. A limit that this
        node cannot enforce is refused with unsupported, and nothing is changed.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        limits: Of everything in the workspace together: memory, tasks at once, CPUs, disk; and the seconds of each
            command.
        network: full; none: only the loopback interface; or the hosts that a proxy lets through, where deny wins.
            Default: full.

        AgentRefused with rpc_kind invalid_params, not_found, already_exists, disabled, not_managed, in_use,
            unsupported, command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "limits": limits,
            "network": network,
            "request_id": request_id,
        }
        found = self._transport.call("sandbox.create", params, changes=True)
        return self._transport.record("sandbox.create", Sandbox.from_dict, found)

    def delete(self, *, workspace: str, request_id: str | None = None) -> SandboxDeleted:
        """Remove the sandbox of a workspace; what runs in it is ended.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"workspace": workspace, "request_id": request_id}
        found = self._transport.call("sandbox.delete", params, changes=True)
        return self._transport.record("sandbox.delete", SandboxDeleted.from_dict, found)

    def get(self, *, workspace: str) -> Sandbox:
        """Return the sandbox of a workspace, with what its allow-list has refused since its runtime was last
        stopped.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace}
        found = self._transport.call("sandbox.get", params, changes=False)
        return self._transport.record("sandbox.get", Sandbox.from_dict, found)

    def list(self) -> builtins.list[Sandbox]:
        """Return all sandboxes, by workspace.

        AgentRefused with rpc_kind read_only.
        """
        params: dict[str, Any] = {}
        found = self._transport.call("sandbox.list", params, changes=False)
        return self._transport.record("sandbox.list", lambda rows: [Sandbox.from_dict(row) for row in rows], found)

    def update(
        self,
        *,
        workspace: str,
        limits: Mapping[str, Any] | None = None,
        network: str | Mapping[str, Any] | None = None,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] | None = None,
        drop: Sequence[str] | None = None,
        restart: bool | None = None,
        force: bool | None = None,
        request_id: str | None = None,
    ) -> Sandbox:
        """Change limits and network of a workspace while it runs.

        `allow`, `deny` and `drop` change single hosts of an allow-list; `network` replaces it whole, or changes
        the mode (full, none, a list), which ends what runs and so wants `restart`: in_use without it. So does
        the first limit of the disk of a workspace that is older than the disk's quotas. A limit below what is
        used now wants `force`: in_use without it.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        limits: Limits to set; null removes one, and what is not named stays.
        network: full; none: only the loopback interface; or the hosts that a proxy lets through, where deny wins.
            Default: full.
        allow: Names or addresses, each with :PORT or for ports 80 and 443; *.NAME is all names below it.
        deny: Names or addresses, each with :PORT or for ports 80 and 443; *.NAME is all names below it.
        drop: Names or addresses, each with :PORT or for ports 80 and 443; *.NAME is all names below it.
        restart: End what runs, if the change needs it (default: false).
        force: Set a limit below what is used now; the kernel may end something (default: false).

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "limits": limits,
            "network": network,
            "allow": allow,
            "deny": deny,
            "drop": drop,
            "restart": restart,
            "force": force,
            "request_id": request_id,
        }
        found = self._transport.call("sandbox.update", params, changes=True)
        return self._transport.record("sandbox.update", Sandbox.from_dict, found)


class TokenMethods:
    """token.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        workspace: str,
        token_sha256: str,
        preset: str | None = None,
        methods: Sequence[str] | None = None,
        expires_at: str | None = None,
        label: str | None = None,
        request_id: str | None = None,
    ) -> CreatedToken:
        """Create a token of a workspace. The caller makes the secret and sends its SHA-256; the node never sees it.

        It is valid on scoped.sock alone, for the methods of its preset (default: work) or those named, and as
        long as the workspace belongs to the same user.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.
        preset: read: what only looks; work: that, and all work in the workspace.
        methods: Single methods, in place of a preset.
        expires_at: When it ends (default: when it is revoked).

        AgentRefused with rpc_kind invalid_params, not_found, already_exists, limit, in_use, read_only.
        """
        params: dict[str, Any] = {
            "workspace": workspace,
            "token_sha256": token_sha256,
            "preset": preset,
            "methods": methods,
            "expires_at": expires_at,
            "label": label,
            "request_id": request_id,
        }
        found = self._transport.call("token.create", params, changes=True)
        return self._transport.record("token.create", CreatedToken.from_dict, found)

    def list(self, *, workspace: str | None = None) -> builtins.list[Token]:
        """Return the tokens of a workspace, or of all, oldest first; expired ones too, until they are revoked.

        workspace: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, read_only.
        """
        params: dict[str, Any] = {"workspace": workspace}
        found = self._transport.call("token.list", params, changes=False)
        return self._transport.record("token.list", lambda rows: [Token.from_dict(row) for row in rows], found)

    def revoke(self, *, id: str, request_id: str | None = None) -> TokenRevoked:
        """Revoke a token; streams that were opened with it end at once. Jobs go on: they are the workspace's.

        AgentRefused with rpc_kind invalid_params, not_found, in_use, limit, read_only.
        """
        params: dict[str, Any] = {"id": id, "request_id": request_id}
        found = self._transport.call("token.revoke", params, changes=True)
        return self._transport.record("token.revoke", TokenRevoked.from_dict, found)


class UserMethods:
    """user.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def add_keys(self, *, name: str, ssh_keys: Sequence[str], request_id: str | None = None) -> User:
        """Add public keys to those of a user; one that is there stays as it is.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        ssh_keys: OpenSSH public keys, one per item, without options.

        AgentRefused with rpc_kind invalid_params, not_found, read_only, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "ssh_keys": ssh_keys, "request_id": request_id}
        found = self._transport.call("user.add_keys", params, changes=True)
        return self._transport.record("user.add_keys", User.from_dict, found)

    def create(self, *, name: str, ssh_keys: Sequence[str] | None = None, request_id: str | None = None) -> User:
        """Create a user: somebody who may enter workspaces, with a Unix account cs-NAME that owns no files.

        Who has one of `ssh_keys` comes in by `ssh cs-NAME@NODE`, and is inside a workspace that the user may
        enter. That is the only way: nobody gets in by the account through cron, at, a password or a user
        manager. A name is one thing on a node, a user or a workspace, or a workspace and its own dedicated user.
        A Unix account or group of that name that CodeSmith did not create is left alone: not_managed.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        ssh_keys: OpenSSH public keys, one per item, without options.

        AgentRefused with rpc_kind invalid_params, already_exists, not_managed, in_use, unsupported, command_failed,
            limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "ssh_keys": ssh_keys, "request_id": request_id}
        found = self._transport.call("user.create", params, changes=True)
        return self._transport.record("user.create", User.from_dict, found)

    def delete(self, *, name: str, request_id: str | None = None) -> UserDeleted:
        """Delete a user and its account. What runs in workspaces that are shared with it is ended.

        Refused with in_use while it owns workspaces. `leftovers` names what could not be removed.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"name": name, "request_id": request_id}
        found = self._transport.call("user.delete", params, changes=True)
        return self._transport.record("user.delete", UserDeleted.from_dict, found)

    def disable(self, *, name: str, request_id: str | None = None) -> User:
        """Disable a user: all that runs in its workspaces, and in those shared with it, is ended, and it enters
        none.

        Its sessions at the node's sshd end too, and its keys let nobody in. Its workspaces are closed to all
        (mode 0000), and nothing runs there. Nothing is lost: user.enable restores them.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"name": name, "request_id": request_id}
        found = self._transport.call("user.disable", params, changes=True)
        return self._transport.record("user.disable", User.from_dict, found)

    def enable(self, *, name: str, request_id: str | None = None) -> User:
        """Enable a disabled user again, and correct what was changed about its account (`drift`).

        The accounts of its workspaces, and account and keys of an active user, are corrected too.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"name": name, "request_id": request_id}
        found = self._transport.call("user.enable", params, changes=True)
        return self._transport.record("user.enable", User.from_dict, found)

    def get(self, *, name: str) -> UserDetails:
        """Return one user, and how its account differs from what CodeSmith made.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, read_only.
        """
        params: dict[str, Any] = {"name": name}
        found = self._transport.call("user.get", params, changes=False)
        return self._transport.record("user.get", UserDetails.from_dict, found)

    def list(self, *, labels: Mapping[str, str] | None = None) -> builtins.list[User]:
        """Return all users that CodeSmith created, by name; or those that own a workspace with the given labels.

        labels: The caller's own labels, key to value.

        AgentRefused with rpc_kind invalid_params, read_only.
        """
        params: dict[str, Any] = {"labels": labels}
        found = self._transport.call("user.list", params, changes=False)
        return self._transport.record("user.list", lambda rows: [User.from_dict(row) for row in rows], found)

    def remove_keys(self, *, name: str, fingerprints: Sequence[str], request_id: str | None = None) -> User:
        """Remove public keys of a user by their fingerprints, SHA256:...; not_found when one of them is not there.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        fingerprints: Of keys, as user.get shows them.

        AgentRefused with rpc_kind invalid_params, not_found, read_only, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "fingerprints": fingerprints, "request_id": request_id}
        found = self._transport.call("user.remove_keys", params, changes=True)
        return self._transport.record("user.remove_keys", User.from_dict, found)

    def set_keys(self, *, name: str, ssh_keys: Sequence[str], request_id: str | None = None) -> User:
        """Replace all public keys of a user; a session that is open stays.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        ssh_keys: OpenSSH public keys, one per item, without options.

        AgentRefused with rpc_kind invalid_params, not_found, read_only, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "ssh_keys": ssh_keys, "request_id": request_id}
        found = self._transport.call("user.set_keys", params, changes=True)
        return self._transport.record("user.set_keys", User.from_dict, found)


class WorkspaceMethods:
    """workspace.*"""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def assign(self, *, name: str, user: str, request_id: str | None = None) -> Workspace:
        """Give a workspace to another active user: what runs in it is ended, and the previous one may not open it
        any more.

        Its files stay as they are: they belong to the workspace's own login. Those with whom it is shared may
        still enter it. The previous user stays, also a dedicated one. Its tokens are revoked.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        user: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "user": user, "request_id": request_id}
        found = self._transport.call("workspace.assign", params, changes=True)
        return self._transport.record("workspace.assign", Workspace.from_dict, found)

    def create(
        self,
        *,
        name: str,
        user: str | None = None,
        ssh_keys: Sequence[str] | None = None,
        labels: Mapping[str, str] | None = None,
        repo: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> Workspace:
        """Create a workspace: a 0700 directory with code, config, data, logs and tmp, owned by a login of its own,
        cs-NAME.

        `user` is who may open it. Without, that is a dedicated user of the same name, which is created if needed
        and deleted with it. A workspace cannot have the name of another user than its own. `ssh_keys` are the
        keys of the dedicated user; they cannot be given for an existing user. With `repo` the workspace is
        pending until that is cloned. If the clone fails or is interrupted, the workspace is removed again, and
        so is a user that was created for it.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        user: 1 to 28 of a-z, 0-9 and inner hyphens.
        ssh_keys: OpenSSH public keys, one per item, without options.
        labels: The caller's own labels, key to value.
        repo: The repository to clone into it, with the parameters of repo.clone.

        AgentRefused with rpc_kind invalid_params, not_found, already_exists, disabled, not_managed, in_use,
            unsupported, command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "name": name,
            "user": user,
            "ssh_keys": ssh_keys,
            "labels": labels,
            "repo": repo,
            "request_id": request_id,
        }
        limit_s = 0.0 if repo is None else repo.get("timeout_s") or 600.0
        found = self._transport.call("workspace.create", params, changes=True, limit_s=limit_s)
        return self._transport.record("workspace.create", Workspace.from_dict, found)

    def delete(self, *, name: str, keep_user: bool = False, request_id: str | None = None) -> WorkspaceDeleted:
        """Delete a workspace and everything in it, and its dedicated user unless that is kept or owns other
        workspaces.

        What runs in workspaces that are shared with a user who goes is ended.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"name": name, "keep_user": keep_user, "request_id": request_id}
        found = self._transport.call("workspace.delete", params, changes=True)
        return self._transport.record("workspace.delete", WorkspaceDeleted.from_dict, found)

    def dial(self, *, name: str, public_key: str) -> Dialled:
        """Return a one-time token for a stream with SSH into a workspace, for the owner of one key.

        Within 60 s, send POST /stream with Upgrade: codesmith-stream and CodeSmith-Token to the same endpoint,
        and wait for 101. The SSH server runs inside the workspace, has one of `host_keys`, and accepts
        `public_key` alone.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        public_key: An OpenSSH public key without options.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "public_key": public_key}
        found = self._transport.call("workspace.dial", params, changes=False)
        return self._transport.record("workspace.dial", Dialled.from_dict, found)

    def exec(
        self,
        *,
        name: str,
        argv: Sequence[str],
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        encoding: str | None = None,
        timeout_s: float | None = None,
        request_id: str | None = None,
    ) -> Execution:
        """Run a command in a workspace as its user, and wait for its end.

        No shell is involved. Background processes of the command are ended with it. An exit code other than 0 is
        a result, not an error. No byte is replaced: output that is not UTF-8 is returned as base64, also with
        encoding text.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        cwd: The working directory: a path inside the workspace, relative to it.
        encoding: The encoding of stdin, stdout and stderr. Default: text.
        timeout_s: Default 60.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {
            "name": name,
            "argv": argv,
            "cwd": cwd,
            "env": env,
            "stdin": stdin,
            "encoding": encoding,
            "timeout_s": timeout_s,
            "request_id": request_id,
        }
        limit_s = timeout_s or 60.0
        found = self._transport.call("workspace.exec", params, changes=True, limit_s=limit_s)
        return self._transport.record("workspace.exec", Execution.from_dict, found)

    def get(self, *, name: str) -> Workspace:
        """Return one workspace.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, read_only.
        """
        params: dict[str, Any] = {"name": name}
        found = self._transport.call("workspace.get", params, changes=False)
        return self._transport.record("workspace.get", Workspace.from_dict, found)

    def list(self, *, user: str | None = None, labels: Mapping[str, str] | None = None) -> builtins.list[Workspace]:
        """Return all workspaces, by name; with `user` those of one user, with `labels` those that have all of them.

        user: 1 to 28 of a-z, 0-9 and inner hyphens.
        labels: The caller's own labels, key to value.

        AgentRefused with rpc_kind invalid_params, read_only.
        """
        params: dict[str, Any] = {"user": user, "labels": labels}
        found = self._transport.call("workspace.list", params, changes=False)
        return self._transport.record("workspace.list", lambda rows: [Workspace.from_dict(row) for row in rows], found)

    def open(self, *, name: str, request_id: str | None = None) -> OpenedWorkspace:
        """Set the time of a workspace's last use (opened_at), and return how to enter it: login, directory,
        environment.

        workspace.dial leads in. Nothing is started.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, in_use, read_only, limit.
        """
        params: dict[str, Any] = {"name": name, "request_id": request_id}
        found = self._transport.call("workspace.open", params, changes=True)
        return self._transport.record("workspace.open", OpenedWorkspace.from_dict, found)

    def share(self, *, name: str, user: str, request_id: str | None = None) -> Workspace:
        """Let another active user enter a workspace too. All who enter it work as its one login.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        user: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "user": user, "request_id": request_id}
        found = self._transport.call("workspace.share", params, changes=True)
        return self._transport.record("workspace.share", Workspace.from_dict, found)

    def start(self, *, name: str, request_id: str | None = None) -> Workspace:
        """Start the runtime of a workspace; commands start it too. It ends when it is idle for a while.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name, "request_id": request_id}
        found = self._transport.call("workspace.start", params, changes=True)
        return self._transport.record("workspace.start", Workspace.from_dict, found)

    def stop(self, *, name: str, request_id: str | None = None) -> Workspace:
        """End everything that runs in a workspace; the next command starts its runtime anew, with an empty /tmp.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"name": name, "request_id": request_id}
        found = self._transport.call("workspace.stop", params, changes=True)
        return self._transport.record("workspace.stop", Workspace.from_dict, found)

    def unshare(self, *, name: str, user: str, request_id: str | None = None) -> Workspace:
        """Keep a user out of a workspace again that was shared with it: what runs in the workspace is ended.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        user: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, not_managed, in_use, unsupported, command_failed, limit,
            read_only.
        """
        params: dict[str, Any] = {"name": name, "user": user, "request_id": request_id}
        found = self._transport.call("workspace.unshare", params, changes=True)
        return self._transport.record("workspace.unshare", Workspace.from_dict, found)

    def update(
        self, *, name: str, labels: Mapping[str, str | None] | None = None, request_id: str | None = None
    ) -> Workspace:
        """Set the labels of a workspace that are given and remove those given as null; all others stay.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.
        labels: Labels to set, key to value; null removes one. All others stay.

        AgentRefused with rpc_kind invalid_params, not_found, in_use, read_only, limit.
        """
        params: dict[str, Any] = {"name": name, "labels": labels, "request_id": request_id}
        found = self._transport.call("workspace.update", params, changes=True)
        return self._transport.record("workspace.update", Workspace.from_dict, found)

    def usage(self, *, name: str) -> Usage:
        """Return what a workspace uses. It starts nothing.

        name: 1 to 28 of a-z, 0-9 and inner hyphens.

        AgentRefused with rpc_kind invalid_params, not_found, disabled, not_managed, in_use, unsupported,
            command_failed, limit, read_only.
        """
        params: dict[str, Any] = {"name": name}
        found = self._transport.call("workspace.usage", params, changes=False)
        return self._transport.record("workspace.usage", Usage.from_dict, found)


class Methods:
    """All methods of the contract, by prefix."""

    def __init__(self, transport: Transport) -> None:
        self.audit = AuditMethods(transport)
        self.file = FileMethods(transport)
        self.job = JobMethods(transport)
        self.node = NodeMethods(transport)
        self.repo = RepoMethods(transport)
        self.sandbox = SandboxMethods(transport)
        self.token = TokenMethods(transport)
        self.user = UserMethods(transport)
        self.workspace = WorkspaceMethods(transport)
