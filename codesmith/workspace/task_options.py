"""The options of workspace.create and workspace.forward, with their help. It is light: each command line reads it."""

from __future__ import annotations

from codesmith.cli.arguments import CLONE_HELP
from codesmith.cli.limit_options import LIMIT_HELP, LimitOptions
from codesmith.fleet.one_node import OneNode
from codesmith.workspace.clone_credentials import CloneTask


class CreateTask(CloneTask, LimitOptions, total=False):
    """The options of workspace.create, beside what it creates."""

    template: str | None
    env: list[str] | None
    keep: bool
    any: bool
    tag: list[str] | None


class ForwardTask(OneNode, total=False):
    """The options of workspace.forward."""

    open: bool
    background: bool
    any: bool
    list: bool
    stop: bool


CREATE_HELP = {
    "name": "The workspace's name: 1 to 28 of a-z, 0-9 and inner hyphens.",
    "user": "Who may open it, an existing user (default: a new user of the same name, for this workspace alone).",
    "ssh_key": "A public key of the new user, or a file of public keys; repeatable; with it `ssh cs-NAME@HOST` enters "
    "(default: none).",
    "label": "A label as KEY=VALUE; repeatable; wins over the template's (default: those of the template).",
    "repo": "The URL of a repository to clone into it; no workspace is created if that fails (default: that of the "
    "template).",
    "repo_name": "The repository's name and its directory in code/ (default: the last part of the URL).",
    **CLONE_HELP,
    "template": "What it has: templates/TEMPLATE.yaml beside nodes.yaml; options win over it (default: none).",
    "env": "A variable as KEY=VALUE for all that runs in it; repeatable; wins over the template's (default: none).",
    # As sandbox.create has them, but for what counts without one.
    **{
        option: text.replace("(default: ", "(default: that of the template, else ")
        for option, text in LIMIT_HELP.items()
    },
    "keep": "If something fails after its creation, leave what is there (default: delete it again).",
    "any": "Take the node with the most free memory and disk, of --tag or of all (default: see --node).",
    "tag": "With --any: only nodes with this tag; repeatable (default: every node).",
}
FORWARD_HELP = {
    "name": "The workspace's name; --list alone needs none, and shows those of all.",
    "ports": "A port inside, as 3000, or 18000:8000 for 8000 inside at 18000 here; several may follow (default: those "
    "in the workspace's label `ports`, which a template sets).",
    "open": "Open the first port in the browser (default: only print the address).",
    "background": "Keep them after this command, until --stop (default: until Ctrl-C).",
    "any": "Where a port of this machine is taken, use the next free one (default: an error).",
    "list": "Show the ports of the workspace that are forwarded in the background (default: forward).",
    "stop": "End those of the named ports, or all of the workspace (default: forward).",
}
