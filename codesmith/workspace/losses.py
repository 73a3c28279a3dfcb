"""What a delete would lose, as lines for people: asked of the node before the question."""

from __future__ import annotations

import base64
import re
import shlex
from typing import TYPE_CHECKING

from codesmith.cli.people import count, size
from codesmith.errors import AgentRefused
from codesmith.workspace import jobs

if TYPE_CHECKING:
    from codesmith.sdk.api import Execution, Job
    from codesmith.sdk.client import Client

LOOK_S = 20.0
JOBS_MAX, REPOS_MAX = 5, 20
REPO = re.compile(r"(\d+) (\d+) (\d+) (.+)", re.DOTALL)
# For each repository below the arguments: changed files, commits that no remote has (a stash is one), remotes, path.
LOOK = r"""find "$@" -maxdepth 5 -name .git -prune -exec sh -c 'for git; do repo=${git%/.git}
count() { git -C "$repo" rev-list --count --all "$@" --not --remotes 2>/dev/null; }
changed=$(git -C "$repo" status --porcelain 2>/dev/null | wc -l)
unpushed=$(count HEAD || count || echo 0)
printf "%d %d %d %s\0" "$changed" "$unpushed" "$(git -C "$repo" remote | wc -l)" "$repo"
done' sh {} + 2>/dev/null || true"""


def of_workspace(client: Client, name: str, *, keep_user: bool) -> list[str]:
    """Return what is lost with a workspace; UnknownName if there is none. A stopped one is started for the look."""
    workspace = client.workspace.get(name=name)
    running = _running(client, name)
    lines = [f"all files in {workspace.path} and {workspace.home}: {_measured(client, name)}"]
    lines += running + _repos(client, name, ".", workspace.home)
    if workspace.user == name and not keep_user:
        lines.append(f"its user {name}, unless that owns other workspaces; --keep-user keeps it")
    return lines


def of_repo(client: Client, workspace: str, name: str) -> list[str]:
    """Return what is lost with a repository; UnknownName if there is none."""
    repo = client.repo.get(workspace=workspace, name=name)
    return [f"all files in {repo.path}", *_repos(client, workspace, f"code/{name}")]


def of_user(client: Client, name: str) -> list[str]:
    """Return what is lost with a user."""
    user = client.user.get(name=name)
    lines = [f"its account {user.login} and {count(len(user.ssh_keys), 'SSH key')}"]
    if user.workspaces:
        lines.append(f"nothing as long as it owns workspaces: {', '.join(user.workspaces)}")
    return lines


def of_job(client: Client, workspace: str, job_id: str) -> list[str]:
    """Return what is lost with a job."""
    job = client.job.get(workspace=workspace, id=job_id)
    return [f"the record of {_command(job)}, and its log of {size(jobs.written_bytes(job))}"]


def _measured(client: Client, name: str) -> str:
    try:
        usage = client.workspace.usage(name=name)
    except AgentRefused as error:
        return f"not measured ({error.problem})"
    if usage.disk_bytes is None or usage.files is None:
        return "more than can be counted"
    return f"{size(usage.disk_bytes)} in {count(usage.files, 'file')}"


def _running(client: Client, name: str) -> list[str]:
    try:
        running = client.job.list(workspace=name, state="running")
    except AgentRefused as error:
        return [f"what runs in it was not looked at ({error.problem})"]
    if not running:
        return []
    named = ", ".join(_command(job) for job in running[:JOBS_MAX])
    more = ", ..." if len(running) > JOBS_MAX else ""
    return [f"{count(len(running), 'running command')}: {named}{more}"]


def _command(job: Job) -> str:
    return job.name or shlex.join(job.argv)[:60]


def _repos(client: Client, workspace: str, *places: str) -> list[str]:
    """Return a line for each repository that has what no remote has, and one for all others."""
    try:
        done = client.workspace.exec(name=workspace, argv=["sh", "-c", LOOK, "sh", *places], timeout_s=LOOK_S)
    except AgentRefused as error:
        return [f"repositories were not looked at ({error.problem})"]
    if done.killed_by or done.exit_code:
        return [f"repositories were not looked at ({done.stderr.strip()[:200] or 'it took too long'})"]
    found = [match.groups() for one in _stdout_of(done).split("\0") if (match := REPO.fullmatch(one))]
    lost = [line for words in found if (line := _repo(*words))]
    lines, pushed = lost[:REPOS_MAX], len(found) - len(lost)
    if len(lost) > REPOS_MAX:
        lines.append(f"what is in {len(lost) - REPOS_MAX} more repositories")
    if pushed:
        lines.append(f"{count(pushed, 'repository', 'repositories')} of which a remote has everything")
    return lines


def _stdout_of(done: Execution) -> str:
    if done.stdout_encoding == "base64":  # a path that is not UTF-8
        return base64.b64decode(done.stdout).decode(errors="replace")
    return done.stdout


def _repo(changed: str, unpushed: str, remotes: str, path: str) -> str:
    """Return what is lost with one repository; "" if a remote has it all."""
    parts = [count(int(unpushed), "commit") + " that no remote has"] if int(unpushed) else []
    parts += [count(int(changed), "changed file")] if int(changed) else []
    if not int(remotes):
        parts.append("it has no remote")
    return f"{path.removeprefix('./')}: {', '.join(parts)}" if parts else ""
