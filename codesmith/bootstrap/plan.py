"""The steps from the facts of a node to its desired state. Pure: an empty plan proves that nothing is to be done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.door import plan_door, plan_files
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.ledger import plan_ledger
from codesmith.bootstrap.releases import plan_prune, plan_release
from codesmith.bootstrap.services import plan_services
from codesmith.bootstrap.step import MISSING, Step, describe, write_order
from codesmith.bootstrap.support import missing_packages, refuse_unsupported
from codesmith.bootstrap.uids import plan_uids

NO_AGEING = ("--key", "PASS_MAX_DAYS=-1", "--key", "PASS_MIN_DAYS=-1", "--key", "PASS_WARN_AGE=-1")


def plan(facts: Facts, desired: layout.Desired) -> list[Step]:
    """Return the steps from `facts` to `desired`, in order; Unsupported if the node cannot be prepared."""
    refuse_unsupported(facts, desired)
    if facts.is_ledger_unread:  # without Python nothing more is known
        return _packages(facts)
    accounts = [*_groups(facts), *_user(facts), *_member(facts)]
    files = [
        *_directories(facts),
        *_node(facts, desired),
        *plan_uids(facts),
        *plan_files(facts, desired),
        *plan_release(facts, desired),
    ]
    services = plan_services(facts, desired, {step.kind: step for step in (*accounts, *files)})
    door = plan_door(facts, desired)
    # An opened or shut door opens or shuts all accounts.
    logins = _logins(facts, is_upgrade=any(step.kind == "link" for step in files), is_door_changed=bool(door))
    steps = [*_packages(facts), *accounts, *files, *services, *door, *logins, *plan_prune(facts, desired)]
    return [*plan_ledger(facts, desired, steps), *steps]


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
        for name in layout.GROUPS
        if not facts.groups.get(name)
    ]


def _run(*argv: str, **unless: str) -> dict[str, Any]:
    """Return the order to run a command unless the named account exists by then."""
    return {"do": "run", "argv": list(argv), "unless": unless}


def _user(facts: Facts) -> list[Step]:
    """Plan the front end's user; every setting is explicit, so the node's own account policy does not apply."""
    name, there = layout.USER, facts.users.get(layout.USER)
    wanted = ["--gid", name, "--shell", layout.NOLOGIN, "--groups", "", "--inactive", "-1", "--expiredate", ""]
    wanted += ["--password", "*"]
    new = ["useradd", "--system", "--no-create-home", "--no-log-init", "--comment", "CodeSmith agent", *NO_AGEING]
    ageing = ("--mindays", "-1", "--maxdays", "-1", "--warndays", "-1", "--inactive", "-1", "--lastday", "-1")
    order = {
        "do": "user",
        "name": name,
        "new": [[*new, "--home-dir", layout.STATE, *wanted, "--", name]],
        "commands": [
            ["usermod", "--home", layout.STATE, *wanted, "--", name],
            ["chage", *ageing, "--", name],
            ["gpasswd", "--members", "", "--administrators", "", name],
        ],
        "stop": [layout.AGENT_SERVICE] if there else [],
    }
    after = f"system user, group {name} alone, home {layout.STATE}, no login, no ageing"
    if there is None:
        return [Step("user", name, f"create the user {name}", MISSING, after, order)]
    differences = ", ".join(_differences(facts, there))
    return [Step("user", name, f"repair the user {name}", differences, after, order)] if differences else []


def _differences(facts: Facts, there: Mapping[str, Any]) -> Iterator[str]:
    name = layout.USER
    if (there["group"], there["home"]) != (name, layout.STATE) or not there["shell"].endswith(("/nologin", "/false")):
        yield f"group {there['group']}, home {there['home']}, shell {there['shell']}"
    if there["groups"]:
        yield f"in the group {', '.join(there['groups'])}"
    guests = (facts.groups.get(name) or {}).get("members", ())
    if guests:
        yield f"its group has other members: {', '.join(guests)}"
    yield from there.get("policy", ())


def _member(facts: Facts) -> list[Step]:
    """Plan that the operator's login may call the agent; root may anyway."""
    group = facts.groups.get(layout.CLIENTS)
    if facts.login == "root" or (group and facts.login in group["members"]):
        return []
    text = f"add {facts.login} to the group {layout.CLIENTS}, whose members may call the agent"
    argv = ("gpasswd", "--add", facts.login, layout.CLIENTS)
    return [Step("member", facts.login, text, "not a member", "member", _run(*argv))]


def _logins(facts: Facts, *, is_upgrade: bool, is_door_changed: bool) -> list[Step]:
    """Plan that the helper repairs accounts of users that were changed: all of them if the agent cannot tell which."""
    order = {"do": "logins", "socket": layout.HELPER_SOCKET_FILE, "helper": layout.HELPER_SOCKET}
    after = "as CodeSmith makes them"
    if facts.accounts is None or is_door_changed:
        if not (is_upgrade or is_door_changed) or not facts.files.get(layout.CURRENT):
            return []
        text = "repair the accounts of all users"
        return [Step("login", "all", text, "not looked at", after, {**order, "names": [None]})]
    return [
        Step("login", login, f"repair the account {login}", "; ".join(found), after, {**order, "names": [login[3:]]})
        for login, found in sorted(facts.accounts.get("drift", {}).items())
    ]


def _directories(facts: Facts) -> list[Step]:
    found = []
    for entry in layout.DIRECTORIES:
        there = facts.files.get(entry.path)
        before, after = describe(there), f"{entry.mode:04o} {entry.owner}:{entry.group}"
        if before != after:
            text = f"repair the directory {entry.path}" if there else f"create the directory {entry.path}"
            path = str(there.get("real", entry.path)) if there else entry.path
            order = {"do": "directory", "path": path, **_ownership(entry)}
            found.append(Step("directory", entry.path, text, before, after, order))
    return found


def _ownership(entry: layout.Owned) -> dict[str, Any]:
    return {"mode": entry.mode, "owner": entry.owner, "group": entry.group}


def _node(facts: Facts, desired: layout.Desired) -> list[Step]:
    node_id = facts.node_id or desired.new_node_id
    wanted = json.dumps({"node_id": node_id}) + "\n"
    has_id = isinstance(facts.node, dict) and facts.node.get("node_id") == node_id
    there = facts.files.get(layout.NODE)
    if has_id and there and describe(there).startswith("0644 root:root"):
        return []
    text = "give the node its id" if there is None else f"repair {layout.NODE}"
    # Each plan makes a new id: --plan must not show one that will not be used.
    after = f"0644 root:root, {f'id {node_id}' if facts.node_id else 'a new id'}"
    return [Step("node", layout.NODE, text, describe(there), after, write_order(layout.NODE, wanted))]
