"""Pull, push and fetch of a repository that was cloned: the transfer with the credential, then the login's own part."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Dict, List, Optional

from agent.contract.fields import Keywords
from agent.contract.records.repo import Repo
from agent.frontend import exchange_jobs, repo_creation
from agent.frontend.context import Context
from agent.frontend.runtime_client import RuntimeSilent
from agent.git import grammar
from agent.shared.errors import AgentError, CommandFailed, LimitReached, NotFound

ERRORS = (NotFound, *repo_creation.ERRORS[2:])
# What says whether anything came or went.
CAME = ("updated", "new_commits")
BRANCH = Keywords({"type": "string", "minLength": 1, "maxLength": grammar.REF_MAX, "description": "A branch or a tag."})


def exchange(
    context: Context, workspace: str, document: Dict[str, Any], kind: str, *, ref: Optional[str],
    credential: Optional[Dict[str, str]], known_hosts: Optional[List[str]], timeout_s: Optional[float],
) -> Repo:  # fmt: skip
    """Carry out an exchange with the URL that the repository was cloned from, and return the repository.

    `kind` is pull, push or fetch. Without network in the workspace, the transfer alone has it.
    """
    name, url = document["name"], document["url"]
    if url is None:
        text = f"repo {name!r} of workspace {workspace!r} was not cloned: it has no URL for a {kind}"
        raise NotFound(text, hint=f"inv workspace.exec {workspace} -- git -C code/{name} {kind} URL")
    limit_s = repo_creation.TIMEOUT_S if timeout_s is None else float(timeout_s)
    request = {
        "workspace": workspace,
        "name": name,
        "kind": kind,
        "url": url,
        "host": grammar.host_of(url) if url.startswith("https:") else "",
        "ref": None if ref is None else grammar.parse_branch(ref, "ref"),
        "credential": grammar.parse_credential(credential, url),
        "known_hosts": grammar.parse_known_hosts(known_hosts or []),
    }
    is_offline = repo_creation.is_offline(context, workspace)
    try:
        with context.forwarded_agents.claim(request["credential"].get("agent")) as descriptor:
            found = exchange_jobs.transfer(
                context.runtimes, workspace, request, limit_s, descriptor=descriptor, for_clone=is_offline
            )
        wanted = {"branch": found["branch"], "commit": found["commit"], "credential": {}}
        head = exchange_jobs.settle(context.runtimes, workspace, {**request, **wanted}, limit_s)
    except LimitReached:
        tidy(context, workspace, name)
        raise
    except RuntimeSilent:
        return roll_back(context, workspace, name, kind)
    done = head if kind == "pull" else found
    return repo_creation.show(workspace, document, {**head, **{key: done[key] for key in CAME}})


def roll_back(context: Context, workspace: str, name: str, kind: str) -> Repo:
    """Remove what an interrupted exchange has locked, and raise: git has done all of it or nothing."""
    tidy(context, workspace, name)
    text = f"repo.{kind} of {name!r} was cut off: it was carried out, or nothing of it"
    raise CommandFailed(text, hint="try again", command="git", exit_code=None, stderr="")


def tidy(context: Context, workspace: str, name: str) -> None:
    """Remove what an exchange has locked that was ended; where that is impossible now, the next one does it."""
    with suppress(AgentError):
        exchange_jobs.tidy(context.runtimes, workspace, name)
