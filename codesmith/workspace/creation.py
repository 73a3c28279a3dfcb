"""workspace.create: a workspace as a template and the options want it; what fails on the way leaves nothing."""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith import paths
from codesmith.cli import arguments, limit_options, output
from codesmith.cli.hints import completed
from codesmith.errors import (
    THIS_COMMAND,
    AgentRefused,
    BadArgument,
    CallInterrupted,
    CallLost,
    CodeSmithError,
    Interruption,
    StepFailed,
    Unreachable,
)
from codesmith.fleet import one_node, placing
from codesmith.fleet.one_node import OneNode
from codesmith.fleet.report import Row
from codesmith.sdk.api import Job, UserDetails, Workspace
from codesmith.workspace import console, file_pieces, following, jobs, template, template_reader
from codesmith.workspace.clone_credentials import CloneTask, credential_for
from codesmith.workspace.forwarding import PORTS_LABEL
from codesmith.workspace.template import Template

if TYPE_CHECKING:
    from codesmith.sdk.client import Client
    from codesmith.workspace.task_options import CreateTask

# Each command is a shell of its own that ends at its first failure, and begins in the workspace's directory.
# One pipe for all that it writes: of two nobody could tell the order.
SETUP = """\
exec 2>&1
number=0
for command do
    number=$((number + 1))
    printf '+ %s\\n' "$command"
    sh -e -c "$command" || {
        status=$?
        printf 'setup command %s of %s has ended with exit code %s\\n' "$number" "$#" "$status"
        exit "$status"
    }
done"""
SETUP_JOB = "setup"
# The label that names the template of a workspace.
TEMPLATE_LABEL = "template"
# How long a delete waits for what Ctrl-C left under way at the node, each time.
WAITS_S = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Wish:
    """A new workspace in the words of a command line."""

    name: str
    user: str | None = None
    ssh_key: Sequence[str] = ()
    label: Sequence[str] = ()
    repo: str | None = None
    repo_name: str | None = None

    def plan(self, options: CreateTask) -> Plan:
        """Return what to create, checked as far as that is possible here; options win over the template."""
        keys, labels = arguments.read_public_keys(self.ssh_key), arguments.parse_pairs(self.label, "--label")
        name = options.get("template")
        chosen = Template("", Path()) if name is None else _load(name, options)
        of_template = {} if name is None else {TEMPLATE_LABEL: name}
        if chosen.ports:
            of_template[PORTS_LABEL] = ",".join(chosen.ports)
        labels = {**of_template, **chosen.labels, **(labels or {})} or None
        params = {"name": self.name, "user": self.user, "ssh_keys": keys, "labels": labels}
        limits, network = limit_options.parse_limits(options), limit_options.parse_network(options)
        chosen = replace(chosen, sandbox={**chosen.sandbox, **limits}, network=network or chosen.network)
        variables = {**chosen.env, **_variables(options.get("env") or ())}
        return Plan(params, self._source(chosen, options), chosen, variables, options.get("keep", False))

    def _source(self, chosen: Template, options: CloneTask) -> dict[str, Any] | None:
        """Return what to clone: the repository of the command line, else the template's; options are for either."""
        if self.repo is not None or not chosen.repo:
            return arguments.read_repo(self.repo, self.repo_name, options)
        how: CloneTask = {**options}
        how["ref"] = options.get("ref") or chosen.repo.get("ref")
        how["depth"] = options.get("depth") or chosen.repo.get("depth")
        return arguments.read_repo(chosen.repo["url"], self.repo_name or chosen.repo.get("name"), how)


@dataclass(frozen=True)
class Plan:
    """What is created: parameters of workspace.create, what is cloned, and what comes after."""

    params: Mapping[str, Any]
    source: dict[str, Any] | None
    template: Template
    variables: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False

    @property
    def has_more(self) -> bool:
        """Tell whether anything is to be done after workspace.create."""
        known = self.template
        return bool(known.sandbox or known.network or known.files or known.setup or self.variables)


def run(wish: Wish, options: CreateTask, columns: Sequence[str]) -> Workspace | Row:
    """Do what the task workspace.create does: check, choose a node with `any`, create, show.

    With `any` the record is a row that begins with its node, as in a list of several nodes.
    """
    plan, tags = wish.plan(options), options.get("tag")
    if not options.get("any"):
        if tags:
            raise BadArgument("--tag needs --any", hint=f"inv workspace.create {wish.name} --any --tag {tags[0]}")
        workspace = create(wish, plan, options)
        one_node.show(options, workspace, columns)
        say_ports(workspace, options)
        return workspace
    node = placing.place(wish.name, wish.user, tags, options)
    where: CreateTask = {**options, "node": node}
    workspace = create(wish, plan, where)
    row = {"node": node, **workspace.to_dict()}
    one_node.show(where, row, ("node", *columns))
    say_ports(workspace, where)
    return row


def create(wish: Wish, plan: Plan, options: CloneTask) -> Workspace:
    """Create a workspace, and say on stderr what to know of it; what fails after its creation deletes it again."""
    url = plan.source["url"] if plan.source else None
    with one_node.connect(options) as client:
        # A user that was there before stays, whatever comes.
        user = _find_user(client, wish.user or wish.name) if plan.has_more else None
        given, forward_agent = (plan.source or {}).get("credential"), options.get("forward_agent", False)
        with credential_for(client, url, given, forward_agent=forward_agent) as credential:
            source = {**plan.source, "credential": credential} if plan.source and credential else plan.source
            workspace = client.workspace.create(**plan.params, repo=source)
        if plan.has_more:
            keep_user = user is not None and not _is_made_for(user, workspace)
            undo = Undo(client, workspace, keep=plan.keep, keep_user=keep_user)
            with undo.unless_whole(options):
                equip(client, wish.name, plan)
                workspace = client.workspace.get(name=wish.name)
        repos = client.repo.list(workspace=wish.name) if plan.source else []
    for cloned in repos:
        output.say_left_out(cloned)
    return workspace


def say_ports(workspace: Workspace, where: OneNode) -> None:
    """Say which ports a workspace has, and the command that forwards them."""
    ports = workspace.labels.get(PORTS_LABEL)
    if ports:
        command = completed(f"inv workspace.forward {workspace.name}", **_place(where))
        output.say(f"its ports {ports.replace(',', ', ')}, forwarded to this machine: {command}")


def equip(client: Client, name: str, plan: Plan) -> None:
    """Give a new workspace its sandbox, variables and files, and run its setup as a job, on stderr."""
    chosen = plan.template
    if chosen.sandbox or chosen.network:
        client.sandbox.create(workspace=name, limits=chosen.sandbox, network=chosen.network)
    folders: set[str] = set()
    for file in chosen.files:
        for path, content, mode in file.pieces():
            _write(client, name, path, content, mode, folders)
    if plan.variables:
        lines = [f'{variable}="{value}"\n' for variable, value in plan.variables.items()]
        text = "# Variables for all that runs in this workspace: NAME=VALUE lines, read at each start.\n"
        _write(client, name, template_reader.ENVIRONMENT, (text + "".join(lines)).encode(), "0600", folders)
    if chosen.setup:
        _set_up(client, name, chosen.setup)


def _set_up(client: Client, name: str, commands: Sequence[str]) -> None:
    argv = ["sh", "-c", SETUP, SETUP_JOB, *commands]
    job: Job = jobs.job_of(client.job.start(workspace=name, argv=argv, name=SETUP_JOB))
    follower = following.Follower(client, name, job.id)
    try:
        ended = follower.follow(0, console.Outputs(to_stderr=True).write, console.Source(None))
    except console.NobodyReads:
        ended = follower.wait(None)
    jobs.say_end(ended)
    if ended.exit_code != 0:
        hint = f"inv job.logs {name} {SETUP_JOB}"
        raise StepFailed(f"the setup of {name} {jobs.how_it_ended(ended)}", hint=hint)


def _write(client: Client, name: str, path: str, content: bytes | Path, mode: str, folders: set[str]) -> None:
    folder = posixpath.dirname(path)
    if folder and folder not in folders:
        client.file.make_directory(workspace=name, path=folder, parents=True)
        folders.add(folder)
    try:
        source = io.BytesIO(content) if isinstance(content, bytes) else content.open("rb")
    except OSError as error:
        raise CodeSmithError(f"cannot read {content!s}: {error.strerror}", hint=f"ls -l {content!s}") from error
    with source:
        file_pieces.Upload(client, name, path).write(source, mode=mode, if_etag=None)


@dataclass(frozen=True)
class Undo:
    """The way back from a workspace that is not whole."""

    client: Client
    workspace: Workspace
    keep: bool
    keep_user: bool

    @contextlib.contextmanager
    def unless_whole(self, where: OneNode) -> Iterator[None]:
        """Delete the workspace again if the block fails or Ctrl-C ends it; say what is there then."""
        try:
            yield
        except KeyboardInterrupt as interrupt:
            problem, hint = self.undo()
            if isinstance(interrupt, CallInterrupted) and hint:
                problem = f"{interrupt.node} goes on with {interrupt.method}; {problem}"
            raise Interruption(problem, hint=hint) from None
        except CodeSmithError as error:
            problem, hint = self.undo()
            if hint:
                output.say(completed(f"note: {problem}; to delete it: {hint}", **_place(where)))
                raise
            output.say(f"note: {problem}")
            if isinstance(error, CallLost):  # its hint would repeat a part of what is undone
                raise Unreachable(error.problem, hint=THIS_COMMAND) from None
            if isinstance(error, StepFailed):
                raise StepFailed(error.problem, hint=f"to look at what is there then: {THIS_COMMAND} --keep") from None
            raise

    def undo(self) -> tuple[str, str]:
        """Delete the workspace; return in words what is there, and if it is, the command that deletes it."""
        name = self.workspace.name
        hint = f"inv workspace.delete {name}"
        if self.keep:
            return f"workspace {name} is there, as far as it came", hint
        try:
            self._delete_when_free()
        except AgentRefused as refusal:
            return f"workspace {name} could not be deleted again: {refusal.problem}", hint
        except CodeSmithError as error:
            return f"workspace {name} may still be there: {error.problem}", hint
        except CallInterrupted:
            raise  # which says that the node goes on with the delete
        except KeyboardInterrupt:
            return f"workspace {name} may still be there", hint
        return f"workspace {name} is deleted again", ""

    def _delete_when_free(self) -> None:
        """Delete the workspace as soon as the call that was interrupted has ended."""
        for wait_s in (*WAITS_S, None):
            try:
                self._delete()
                break
            except AgentRefused as refusal:
                if refusal.rpc_kind == "not_found":
                    break
                if refusal.rpc_kind != "in_use" or wait_s is None:
                    raise
                time.sleep(wait_s)

    def _delete(self) -> None:
        name = self.workspace.name
        if self.client.workspace.get(name=name).id == self.workspace.id:  # else it is somebody else's by now
            self.client.workspace.delete(name=name, keep_user=self.keep_user, request_id=os.urandom(16).hex())


def _find_user(client: Client, user: str) -> UserDetails | None:
    try:
        return client.user.get(name=user)
    except AgentRefused as refusal:
        if refusal.rpc_kind != "not_found":
            raise
        return None


def _is_made_for(user: UserDetails, workspace: Workspace) -> bool:
    """Tell whether a user was made with the workspace, by this very create: its answer was lost, and it is repeated."""
    return user.workspaces == [workspace.name] and user.created_at >= workspace.created_at


def _load(name: str, options: OneNode) -> Template:
    return template.load(paths.nodes_file(options.get("file") or ""), name)


def _variables(words: Sequence[str]) -> dict[str, str]:
    """Return the variables of --env, which keep to the rules of a template's."""
    found = arguments.parse_pairs(words, "--env") or {}
    for name, value in found.items():
        is_ours = name in template_reader.KEPT or name.startswith("CODESMITH_")
        if is_ours or not re.fullmatch(template_reader.VARIABLE, name):
            raise BadArgument(f"--env cannot set {name!r}")
        if not template_reader.is_variable_value(value):
            raise BadArgument(f"--env {name} takes {template_reader.VALUE}, not {value!r}")
    return found


def _place(where: OneNode) -> dict[str, str]:
    return {"node": where.get("node") or "", "file": where.get("file") or ""}
