"""The checks of a prepared node for the peers, generated from the layout that prepare uses."""

from __future__ import annotations

import hashlib
import json
import shlex
import uuid
from pathlib import Path
from typing import Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.pack import Payload


def write(folder: Path, agent_file: Path) -> int:
    """Write checks.json (for pyinfra and ansible), checks.sh (for the Fabric program) and the files to compare with.

    Return how many things there are to check.
    """
    found = describe(folder, agent_file)
    (folder / "checks.json").write_text(json.dumps(found, indent=1))
    (folder / "checks.sh").write_text(script(found))
    return sum(len(value) if isinstance(value, list) else 1 for value in found.values())


def write_bare(folder: Path, agent_file: Path) -> Path:
    """Write the checks for bare nodes, on which the peer also makes what prepare makes once; return their file."""
    found = describe(folder, agent_file)
    for path in found["present"]:
        twin = folder / Path(path).name
        twin.write_text(json.dumps({"node_id": str(uuid.uuid4())}))
        found["files"].append(_file(path, twin))
    found["present"] = []
    file = folder / "bare.json"
    file.write_text(json.dumps(found, indent=1))
    return file


def describe(folder: Path, agent_file: Path) -> dict[str, Any]:
    """Return accounts, directories, links, files and units; each file with a local copy and its sha256."""
    data = agent_file.read_bytes()
    desired = layout.desired_for(Payload(data, hashlib.sha256(data).hexdigest(), ""), "")
    units = []
    for name, text in desired.units.items():
        (folder / name).write_text(text)
        units.append(_file(layout.unit_of(desired.release, name), folder / name))
    owned = [*layout.DIRECTORIES, *desired.release_directories]
    links = {layout.CURRENT: desired.release, **layout.UNIT_LINKS}
    user = {"name": layout.USER, "group": layout.USER, "home": layout.STATE, "shell": layout.NOLOGIN}
    return {
        "groups": [layout.USER, layout.CLIENTS],
        "user": user,
        "directories": [
            {"path": one.path, "mode": f"{one.mode:o}", "owner": one.owner, "group": one.group} for one in owned
        ],
        "links": [{"path": path, "target": target} for path, target in links.items()],
        "files": [_file(desired.agent, agent_file), *units],
        "present": [layout.NODE, layout.LEDGER],
        "services": list(layout.ENABLED),
    }


def _file(path: str, twin: Path) -> dict[str, str]:
    return {"path": path, "twin": str(twin), "mode": "644", "sha256": hashlib.sha256(twin.read_bytes()).hexdigest()}


def script(found: dict[str, Any]) -> str:
    """Return the same checks as one POSIX script with few processes."""
    user, links = found["user"], found["links"]
    wanted = [f"{one['mode']} {one['owner']} {one['group']} {one['path']}" for one in found["directories"]]
    wanted += [f"{one['mode']} root root {one['path']}" for one in found["files"]]
    wanted += [f"644 root root {path}" for path in found["present"]]
    paths = shlex.join(line.split(" ", 3)[3] for line in wanted)
    sums = "\n".join(f"{one['sha256']}  {one['path']}" for one in found["files"])
    services, targets = shlex.join(found["services"]), "\n".join(one["target"] for one in links)
    return f"""set -eu
getent group {shlex.join(found["groups"])} >/dev/null
test "$(getent passwd {user["name"]} | cut -d: -f6,7)" = {shlex.quote(f"{user['home']}:{user['shell']}")}
test "$(readlink {shlex.join(one["path"] for one in links)})" = {shlex.quote(targets)}
test "$(stat -c '%a %U %G %n' {paths})" = {shlex.quote(chr(10).join(wanted))}
sha256sum --check --quiet <<'END'
{sums}
END
systemctl is-enabled --quiet {services}
systemctl is-active --quiet {services}
echo nothing to do
"""
