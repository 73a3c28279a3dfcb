"""From what a node has to what it should have: pure, so that an empty plan is the proof of "nothing to do"."""

from __future__ import annotations

import json
from typing import Any

from codesmith.remote.bootstrap import layout
from codesmith.remote.bootstrap.facts import Facts
from codesmith.remote.bootstrap.ledger import plan_ledger
from codesmith.remote.bootstrap.releases import plan_prune, plan_release
from codesmith.remote.bootstrap.services import plan_services
from codesmith.remote.bootstrap.step import MISSING, Step, shown, write_order
from codesmith.remote.bootstrap.support import missing_packages, refuse_unsupported


def plan(facts: Facts, wish: layout.Wish) -> list[Step]:
    """Return the steps that lead from `facts` to `wish`, in order; Unsupported if there is no way."""
    refuse_unsupported(facts, wish)
    if facts.is_ledger_unread:  # what is there is known only once there is a Python to look with
        return _packages(facts)
    accounts = [*_groups(facts), *_user(facts), *_member(facts)]
    files = [
        *_directories(facts),
        *_node(facts, wish),
        *plan_release(facts, wish),
    ]
    services = plan_services(facts, wish, {step.kind: step for step in (*accounts, *files)})
    steps = [*_packages(facts), *accounts, *files, *services, *plan_prune(facts, wish)]
    return [*plan_ledger(facts, wish, steps), *steps]


def _packages(facts: Facts) -> list[Step]:
    names = missing_packages(facts)
    if not names:
        return []
    listed = ", ".join(names)
    install, refresh = [*layout.INSTALL[facts.manager], *names], list(layout.REFRESH[facts.manager])
    wanted = {name for need in facts.needs for name in need["packages"]}
    start = [layout.STARTED[name] for name in sorted(wanted & set(layout.STARTED))]
    order = {"do": "package", "names": names, "install": install, "refresh": refresh, "start": start}
    return [Step("package", listed, f"install {listed} with {facts.manager}", MISSING, "installed", order)]


def _groups(facts: Facts) -> list[Step]:
    return [
        Step(
            "group",
            name,
            f"create the group {name}",
            MISSING,
            "a system group",
            _run("groupadd", "--system", "--", name, group=name),
        )
        for name in (layout.USER, layout.CLIENTS)
        if not facts.groups.get(name)
    ]


def _run(*argv: str, **unless: str) -> dict[str, Any]:
    """Return the order to run a command, unless the account named is there by then."""
    return {"do": "run", "argv": list(argv), "unless": unless}


def _user(facts: Facts) -> list[Step]:
    name, there = layout.USER, facts.users.get(layout.USER)
    wanted = ["--gid", name, "--home-dir", layout.STATE, "--shell", layout.NOLOGIN]
    after = f"system user, group {name}, home {layout.STATE}, no login"
    if there is None:
        argv = ["useradd", "--system", "--no-create-home", "--comment", "CodeSmith agent", *wanted, "--", name]
        return [Step("user", name, f"create the user {name}", MISSING, after, _run(*argv, user=name))]
    fits = there["group"] == name and there["home"] == layout.STATE and there["shell"].endswith(("/nologin", "/false"))
    if fits and not there["groups"]:
        return []
    groups = f" and {', '.join(there['groups'])}" if there["groups"] else ""
    before = f"group {there['group']}{groups}, home {there['home']}, shell {there['shell']}"
    wanted[wanted.index("--home-dir")] = "--home"
    order = {**_run("usermod", *wanted, "--groups", "", "--", name), "stop": [layout.AGENT_SERVICE]}
    return [Step("user", name, f"put the user {name} right", before, after, order)]


def _member(facts: Facts) -> list[Step]:
    """The one who prepares may call the agent; root may anyway."""
    group = facts.groups.get(layout.CLIENTS)
    if facts.login == "root" or (group and facts.login in group["members"]):
        return []
    text = f"add {facts.login} to the group {layout.CLIENTS}, whose members may call the agent"
    argv = ("gpasswd", "--add", facts.login, layout.CLIENTS)
    return [Step("member", facts.login, text, "not a member", "member", _run(*argv))]


def _directories(facts: Facts) -> list[Step]:
    found = []
    for entry in layout.DIRECTORIES:
        there = facts.files.get(entry.path)
        before, after = shown(there), f"{entry.mode:04o} {entry.owner}:{entry.group}"
        if before != after:
            text = f"put the directory {entry.path} right" if there else f"create the directory {entry.path}"
            path = str(there.get("real", entry.path)) if there else entry.path
            order = {"do": "directory", "path": path, **_ownership(entry)}
            found.append(Step("directory", entry.path, text, before, after, order))
    return found


def _ownership(entry: layout.Owned) -> dict[str, Any]:
    return {"mode": entry.mode, "owner": entry.owner, "group": entry.group}


def _node(facts: Facts, wish: layout.Wish) -> list[Step]:
    node_id = facts.node_id or wish.new_node_id
    wanted = json.dumps({"node_id": node_id}) + "\n"
    has_id = isinstance(facts.node, dict) and facts.node.get("node_id") == node_id
    there = facts.files.get(layout.NODE)
    if has_id and there and shown(there).startswith("0644 root:root"):
        return []
    text = "give the node its id" if there is None else f"put {layout.NODE} right"
    # A new id is made for each plan: the one that is carried out has another.
    after = f"0644 root:root, {f'id {node_id}' if facts.node_id else 'a new id'}"
    return [Step("node", layout.NODE, text, shown(there), after, write_order(layout.NODE, wanted))]
