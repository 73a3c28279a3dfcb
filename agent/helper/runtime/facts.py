"""What a workspace is told of itself, always current: .codesmith/workspace.json for programs, AGENTS.md for agents.

Both are root's, in a directory beside the runtime's socket that is bound read-only over WORKSPACE/.codesmith. There
the workspace has an empty directory of root's, made while nothing runs in it: whatever was there gets another name.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import Any, Dict, List

from agent.helper.runtime import facts_text, files
from agent.helper.runtime.entry import Entry
from agent.helper.trees import trees
from agent.shared.egress_paths import PORT
from agent.shared.names import FOLDERS, RUNTIMES, WORKSPACES, home_of, path_of

PLACE = ".codesmith"
# A repository in the workspace's own directory: git says nothing of us.
IGNORED_BY_GIT = "*\n"


def source_of(workspace: str) -> str:
    """Return the directory of a workspace's facts."""
    return f"{RUNTIMES}/{workspace}.facts"


def target_of(workspace: str) -> str:
    """Return where the workspace sees them."""
    return f"{path_of(workspace)}/{PLACE}"


def properties(workspace: str) -> List[str]:
    """Return the properties of a service that sees them."""
    # systemd follows a link; there is none, unless somebody else has put it there while nothing ran.
    assertion = f"AssertPathIsSymbolicLink=!{target_of(workspace)}"
    return [f"BindReadOnlyPaths={source_of(workspace)}:{target_of(workspace)}", assertion]


def ensure_place(entry: Entry) -> None:
    """Have the directory that they are bound over; nothing runs in the workspace."""
    trees.ensure_closed_directory(WORKSPACES, entry.workspace, entry.uid, PLACE)


def write(entry: Entry, *, idle_stop_s: float) -> None:
    """Write the facts as they are now; what runs sees them at once."""
    folder, found = source_of(entry.workspace), describe(entry, idle_stop_s=idle_stop_s)
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)  # noqa: S103  the helper's umask has taken the others' bits
    texts = {
        "workspace.json": json.dumps(found, indent=2) + "\n",
        "AGENTS.md": facts_text.render(found),
        ".gitignore": IGNORED_BY_GIT,
    }
    for name, text in texts.items():
        files.write(f"{entry.workspace}.facts/{name}", text, 0o444)


def remove(workspace: str) -> None:
    """Remove them; the runtime has ended."""
    shutil.rmtree(source_of(workspace), ignore_errors=True)


def describe(entry: Entry, *, idle_stop_s: float) -> Dict[str, Any]:
    """Return what is true of a workspace now; limits and network are spelled as sandbox.get spells them."""
    name, path, sandbox = entry.workspace, path_of(entry.workspace), entry.sandbox
    mode = sandbox.mode if sandbox else "full"
    update, allow = f"codesmith sandbox.update {name}", ""
    if mode != "full":
        allow = f"{update} --allow HOST" if mode == "list" else f"{update} --network list --allow HOST --restart"
    return {
        "name": name,
        "node": os.uname().nodename,
        "login": entry.login,
        "uid": entry.uid,
        "path": path,
        "home": home_of(name),
        "directories": list(FOLDERS),
        "limits": sandbox.limits if sandbox else {},
        "network": sandbox.network if sandbox else "full",
        "proxy": f"http://127.0.0.1:{PORT}" if mode == "list" else None,
        "idle_stop_s": idle_stop_s,
        # What the operator types, elsewhere: nothing inside can do it.
        "operator": {
            "forward": f"codesmith workspace.forward {name} PORT",
            "allow_host": allow or None,
            "more": f"{update} --memory SIZE --cpus N --tasks N --runtime SECONDS --disk SIZE" if sandbox else None,
        },
        "jobs": "codesmith-job",
        "without": ["root", "packages of the system (apt)", "containers", "cron and units of systemd"],
    }
