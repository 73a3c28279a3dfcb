"""Probe a node and print the facts as JSON. Changes nothing.

Runs on the node as root: `python3 -I -S -c PROGRAM`, the questions as JSON on standard input.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.machinery
import json
import os
import socket
import stat
import subprocess
import sys
from functools import partial

from codesmith.bootstrap.on_node.accounts import group_facts, group_name, user_facts, user_name
from codesmith.bootstrap.on_node.ids import id_facts
from codesmith.bootstrap.on_node.programs import differences, program_of, shown, used_releases
from codesmith.bootstrap.on_node.residents import read_residents

TYPE_CHECKING = False  # the typing module takes 2 ms to import
if TYPE_CHECKING:
    from typing import Any, Callable

RPC_TIMEOUT_S = 5
TOOL_TIMEOUT_S = 20
READ_MAX = 1 << 20
# The agent's report comes on this descriptor: the shell starts it before this program (REPORT in bootstrap/probe.py).
REPORT = 3
# What could not be read, and why: it must not be reported as missing.
UNSEEN: dict[str, str] = {}
# What a database begins with; bytes 60 to 63 are its user_version.
SQLITE = b"SQLite format 3\0"
ABSENT = (FileNotFoundError, NotADirectoryError)


def observe(what: str, look: Callable[[], Any], default: Any = None) -> Any:
    """Return what `look` returns; `default` if it is missing or cannot be read, and then UNSEEN says why."""
    try:
        return look()
    except ABSENT:
        return default
    except (OSError, subprocess.SubprocessError) as error:
        if getattr(error, "errno", None) == errno.ELOOP:  # links in a circle lead nowhere
            return default
        UNSEEN[what] = getattr(error, "strerror", None) or str(error)
        return default


def file_facts(path: str) -> dict[str, Any]:
    """Return type, mode and owner of `path`, sha256 of a file, target of a link."""
    found = os.lstat(path)
    facts: dict[str, Any] = {"mode": stat.S_IMODE(found.st_mode), "uid": found.st_uid, "gid": found.st_gid}
    facts["owner"], facts["group"] = user_name(found.st_uid), group_name(found.st_gid)
    if stat.S_ISLNK(found.st_mode):
        facts.update(type="link", target=os.readlink(path))
        if os.path.isfile(path):
            facts["sha256"] = sha256(path)  # of its target
    elif stat.S_ISDIR(found.st_mode):
        facts["type"] = "directory"
        if has_acl(path):
            facts["acl"] = True
        if path == program_of(os.path.dirname(path)):
            facts["differs"] = shown(differences(os.path.dirname(path)))
    elif stat.S_ISREG(found.st_mode):
        facts.update(type="file", sha256=sha256(path))
    else:
        facts["type"] = "other"
    return facts


def base_facts(path: str) -> dict[str, Any]:
    """Return the facts of the base; if it is a link of root's to a directory, those of the directory."""
    found = file_facts(path)
    if found["type"] != "link" or found["uid"] != 0:
        return found
    real = os.path.realpath(path)
    there = file_facts(real)
    return {**there, "real": real} if there["type"] == "directory" else found


def has_acl(path: str) -> bool:
    """Tell whether a path has an access list."""
    try:
        return any(name.startswith("system.posix_acl_") for name in os.listxattr(path, follow_symlinks=False))
    except OSError:
        return False


def folder_names(path: str) -> list[str]:
    """Return the paths of all entries of a folder."""
    return sorted(os.path.join(path, name) for name in os.listdir(path))


def sha256(path: str) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def reported() -> tuple[Any, Any]:
    """Return what the installed agent reports about accounts and the door; None if there is none, or an older one."""
    try:
        with os.fdopen(REPORT) as file:
            found = json.load(file)
        return found["accounts"], found["door"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def space_facts(path: str) -> dict[str, Any]:
    """Return free space and mount flags of the file system where `path` is, or will be."""
    there = path
    while not os.path.exists(there):
        there = os.path.dirname(there)
    found = os.statvfs(there)
    flags = {"read_only": bool(found.f_flag & os.ST_RDONLY), "noexec": bool(found.f_flag & os.ST_NOEXEC)}
    return {"free_bytes": found.f_bavail * found.f_frsize, **flags}


def read_json(path: str) -> Any:
    """Return the content of one of our JSON files; None if it is damaged."""
    with open(path, encoding="utf-8") as file:
        try:
            return json.loads(file.read(READ_MAX))
        except ValueError:
            return None


def ranges_in(found: Any) -> Any:
    """Return the ranges in the content of uids.json; None if it is damaged."""
    return found.get("ranges") if isinstance(found, dict) else None


def ledger_paths(ledger: Any) -> list[str]:
    """Return the paths in the ledger: those of other releases are not among the questions."""
    entries = ledger.get("entries") if isinstance(ledger, dict) else None
    paths = [entry.get("path") for entry in entries or () if isinstance(entry, dict)]
    return [path for path in paths if isinstance(path, str) and path.startswith("/")]


def format_of(path: str) -> int:
    """Return the format of a store from the head of its file, which another user may control."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        head = os.read(descriptor, 64) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)
    return int.from_bytes(head[60:64], "big") if head.startswith(SQLITE) else 0


def resident_facts(ledger: str) -> dict[str, Any]:
    """Return the workspaces and users in the helper's ledger, or {"error": [why]}."""
    try:
        return dict(read_residents(ledger))
    except ValueError as error:
        return {"error": [str(error)]}


def os_release() -> dict[str, str]:
    """Return /etc/os-release with its keys in lower case."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                pairs = [line.strip().partition("=") for line in file if "=" in line]
                return {key.lower(): value.strip("\"'") for key, _, value in pairs}
        except OSError:
            continue
    return {}


def is_command(name: str) -> bool:
    """Tell whether PATH has such a command."""
    return any(os.access(os.path.join(folder, name), os.X_OK) for folder in os.environ["PATH"].split(":"))


def pid1() -> str:
    """Return the name of process 1."""
    with open("/proc/1/comm", encoding="utf-8") as file:
        return file.read().strip()


def start_tool(argv: list[str]) -> subprocess.Popen[str] | None:
    """Start a tool; None if it is not installed."""
    try:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        return None


def tool_output(process: subprocess.Popen[str] | None) -> str:
    """Return what a tool printed; OSError with its last line if it failed, TimeoutExpired if it did not end."""
    if process is None:
        return ""
    try:
        found, errors = process.communicate(timeout=TOOL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    if process.returncode:
        raise OSError((errors.strip().splitlines() or [f"it ended with {process.returncode}"])[-1])
    return found


def unit_facts(text: str) -> dict[str, dict[str, str]]:
    """Return the properties of each unit in what `systemctl show` printed."""
    found = {}
    for block in text.split("\n\n"):
        properties = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if properties.get("Id"):
            found[properties.pop("Id")] = properties
    return found


def agent_facts(path: str) -> dict[str, Any]:
    """Return the result of node.version, or {"error": reason}."""
    body = b'{"jsonrpc":"2.0","id":1,"method":"node.version","params":{}}'
    head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(RPC_TIMEOUT_S)
            peer.connect(path)
            peer.sendall(request)
            answer = b""
            for chunk in iter(lambda: peer.recv(65536), b""):
                answer += chunk
        found = json.loads(answer.partition(b"\r\n\r\n")[2])["result"]
        return found if isinstance(found, dict) else {"error": "no object"}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def facts(questions: dict[str, Any], login: str) -> dict[str, Any]:
    """Answer all questions; the slow tools run in parallel."""
    ledger = observe(questions["ledger"], lambda: read_json(questions["ledger"]))
    paths = {*questions["files"], *ledger_paths(ledger)}
    properties = "--property=Id,LoadState,ActiveState,UnitFileState,NeedDaemonReload,DropInPaths"
    version = observe("systemd", lambda: start_tool(["systemctl", "--version"]))
    systemd_runs = os.path.isdir("/run/systemd/system")  # sd_booted(3)
    show = ["systemctl", "show", "--no-pager", properties, *questions["units"]]
    units = observe("units", lambda: start_tool(show)) if systemd_runs else None
    found: dict[str, Any] = {
        "os": os_release(),
        "kernel": os.uname().release,
        "arch": os.uname().machine,
        "pid1": observe("process 1", pid1, ""),
        "systemd_runs": systemd_runs,
        "python": list(sys.version_info[:3]),
        "has_sqlite": importlib.machinery.PathFinder.find_spec("_sqlite3") is not None,
        "manager": next((tool for tool in questions["managers"] if is_command(tool)), ""),
        "missing_commands": [tool for tool in questions["commands"] if not is_command(tool)],
        "login": login,
        "users": {name: user_facts(name) for name in questions["users"]},
        "groups": {name: group_facts(name) for name in questions["groups"]},
        "files": {path: observe(path, partial(file_facts, path)) for path in sorted(paths)},
        "releases": observe(questions["releases"], lambda: folder_names(questions["releases"]), []),
        "spaces": {path: observe(path, partial(space_facts, path), {}) for path in questions["spaces"]},
        "ledger": ledger,
        "node": observe(questions["node"], lambda: read_json(questions["node"])),
        "ids": observe("ids", lambda: id_facts(questions["uid_lowest"], questions["no_home"])),
        "uid_ranges_file": ranges_in(observe(questions["uids"], lambda: read_json(questions["uids"]))),
        "hostname": os.uname().nodename,
    }
    # A single release is the current one, which stays anyway.
    found["used_releases"] = used_releases(found["releases"]) if len(found["releases"]) > 1 else []
    # An ordinary login of doctor's sees no store.
    wanted = questions["formats"] if os.geteuid() == 0 else {}
    found["formats"] = {path: observe(path, partial(format_of, path), 0) for path in wanted}
    is_earlier = any(0 < there < wanted[path] for path, there in found["formats"].items())
    found["residents"] = resident_facts(questions["helper_ledger"]) if questions["residents"] or is_earlier else {}
    found["systemd"] = observe("systemd", lambda: tool_output(version), "").split("\n")[0]
    found["units"] = unit_facts(observe("units", lambda: tool_output(units), ""))
    # Only if it runs: a call to the socket would start it.
    is_running = found["units"].get(questions["agent"], {}).get("ActiveState") == "active"
    found["agent"] = agent_facts(questions["socket"]) if is_running and os.path.exists(questions["socket"]) else None
    # A module of the agent that was sent along: see `program` in bootstrap/probe.py.
    found["needs"] = sys.modules[questions["needs"]].check() if questions["needs"] else []
    found["files"][questions["base"]] = observe(questions["base"], lambda: base_facts(questions["base"]))
    found["accounts"], found["door"] = reported()
    found["unseen"] = UNSEEN
    return found


if __name__ == "__main__":
    print(json.dumps(facts(json.load(sys.stdin), os.environ.get("LOGIN", "root"))))
