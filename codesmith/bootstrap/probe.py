"""Probe a node: what it has, in one round trip; nothing is changed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesmith.bootstrap import layout
from codesmith.bootstrap.facts import Facts
from codesmith.bootstrap.uids import WINDOWS
from codesmith.errors import LookFailed
from codesmith.ssh.script import name_of, run_script

if TYPE_CHECKING:
    from codesmith.ssh.connection import Connection

PROBE_TIMEOUT_S = 60
# What reading a malformed answer raises.
MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError)
TOO_OLD = 42
NODE_PROGRAMS = Path(__file__).with_name("on_node")

PACKAGE = "codesmith.bootstrap.on_node"
# The modules that are sent with each program, in order of import.
MODULES = {
    "apply": (
        "commands",
        "accounts",
        "files",
        "programs",
        "unpack",
        "agent",
        "releases",
        "residents",
        "door",
        "removal",
    ),
    "start_agent": ("commands", "files", "programs", "unpack", "agent", "releases"),
    "probe": ("accounts", "ids", "programs", "residents"),
}
# Each module gets its full name, so that its imports work on the node too, which does not have the package.
BUNDLE = """\
import sys
for name, text in %r:
    module = type(sys)(name)
    if name != "__main__":
        sys.modules[name] = module
    exec(compile(text, name, "exec"), module.__dict__)
"""

# Reads a program from standard input, its length first, and runs it; exits with 42 if Python is too old.
RUN_PROGRAM = (
    "import sys; i = sys.stdin.buffer; "
    "sys.version_info < (3, 9) and sys.exit(42); "
    'exec(compile(i.read(int(i.readline())), "codesmith", "exec"))'
)
PYTHON = f"/usr/bin/python3 -I -S -c '{RUN_PROGRAM}'"
# The agent's own report, which takes as long as all the rest, is under way before the probe: it comes on descriptor 3.
# Only root may read the passwords' state, and the host keys, without which sshd tells nothing.
REPORT_TIMEOUT_S = 20
REPORT = (
    f'[ ! -e {layout.program_of(layout.CURRENT)} ] || [ "$(id -u)" != 0 ] || timeout {REPORT_TIMEOUT_S} '
    f"/usr/bin/python3 -I -S {layout.program_of(layout.CURRENT)} report </dev/null 2>/dev/null"
)
PROBE = f"exec 4<&0; {{ {REPORT}; }} | {PYTHON} 3<&0 <&4 4<&-"

# What plain sh can find where Python is missing or too old: enough to say what is wrong, or to install Python.
SH_FACTS = """
echo "login=$LOGIN"
echo "hostname=$(uname -n)"
echo "kernel=$(uname -r)"
echo "arch=$(uname -m)"
echo "pid1=$(cat /proc/1/comm 2>/dev/null)"
echo "systemd=$(systemctl --version 2>/dev/null)"
[ ! -d /run/systemd/system ] || echo systemd_runs=yes
echo "python=$(/usr/bin/python3 -V 2>&1)"
for tool in %(managers)s; do command -v $tool >/dev/null && { echo "manager=$tool"; break; }; done
for tool in %(commands)s; do command -v $tool >/dev/null || echo "missing=$tool"; done
for dir in %(spaces)s; do
  while [ ! -e $dir ]; do dir=${dir%%/*}; done
  df -Pk $dir/ | { read -r head; read -r dev size used free rest; echo "free=$dir $free"; }
done
[ ! -e %(ledger)s ] || echo ledger=unread
sed s/^/os./ /etc/os-release 2>/dev/null
echo whole=yes
exit 0
"""
# An answer without one of these was cut off.
ANSWERED = frozenset(entry.name for entry in fields(Facts)) - {"is_ledger_unread"}
SHOWN_MAX = 200


def probe(connection: Connection, desired: layout.Desired, *, residents: bool = False) -> Facts:
    """Return what the node has now, with `residents` its workspaces and users too.

    LookFailed if the probe ended early or could not read something.
    """
    data = payload(program("probe", desired.need_modules), questions(desired, residents=residents))
    done = run_script(connection, script(), data, root=True, timeout_s=PROBE_TIMEOUT_S)
    name = name_of(connection)
    found = parse(name, done.stdout.decode(errors="replace"), done.status, done.stderr)
    if found.unseen:
        listed = "; ".join(f"{what}: {why}" for what, why in found.unseen.items())
        raise LookFailed(f"node {name}: could not look at {listed}", hint=f"inv node.doctor --node {name}")
    return found


def payload(program: str, data: Any, attachment: bytes = b"") -> bytes:
    """Return the standard input for PYTHON: the program, its data as one line of JSON, then raw bytes."""
    code = program.encode()
    return b"%d\n%s%s\n%s" % (len(code), code, json.dumps(data).encode(), attachment)


def program(name: str, agent_modules: tuple[tuple[str, str], ...] = ()) -> str:
    """Return the source of a program of on_node/ with the modules that it imports, after `agent_modules`."""
    modules = list(agent_modules)
    modules += [(f"{PACKAGE}.{module}", _source_of(module)) for module in MODULES.get(name, ())]
    return BUNDLE % ([*modules, ("__main__", _source_of(name))],)


def _source_of(module: str) -> str:
    return (NODE_PROGRAMS / f"{module}.py").read_text(encoding="utf-8")


def script() -> str:
    """Return the shell script that probes a node; its standard input is a `payload`."""
    lists = {
        "managers": " ".join(layout.MANAGERS),
        "commands": " ".join(layout.COMMANDS),
        "spaces": " ".join(layout.FREE_MIN_BYTES),
        "ledger": layout.LEDGER,
    }
    run = f"[ ! -x /usr/bin/python3 ] || {{ {PROBE}; status=$?; [ $status = {TOO_OLD} ] || exit $status; }}"
    return run + SH_FACTS % lists


def questions(desired: layout.Desired, *, residents: bool = False) -> dict[str, Any]:
    """Return what on_node/probe.py is to look at; with `residents` also the workspaces and users."""
    return {
        "files": desired.paths,
        "units": list(layout.UNITS),
        "users": [layout.USER],
        "groups": list(layout.GROUPS),
        "commands": list(layout.COMMANDS),
        "managers": list(layout.MANAGERS),
        "spaces": list(layout.SPACES),
        "releases": layout.RELEASES,
        "ledger": layout.LEDGER,
        "node": layout.NODE,
        "uids": layout.UIDS,
        "no_home": layout.NO_HOME,
        "uid_lowest": min(first for first, _ in WINDOWS),
        "socket": layout.SOCKET,
        "agent": layout.AGENT_SERVICE,
        "residents": residents,
        "helper_ledger": layout.HELPER_LEDGER,
        "formats": {path: desired.formats.get(name, 0) for path, name in layout.STORES.items()},
        "base": layout.BASE,
        "needs": desired.need_modules[-1][0] if desired.need_modules else "",
    }


def parse(name: str, text: str, status: int, stderr: str) -> Facts:
    """Return the facts that a probe of node `name` printed, as JSON or by plain sh; LookFailed if it is incomplete."""
    if status:
        last = (stderr.strip().splitlines() or ["no output"])[-1][-SHOWN_MAX:]
        raise LookFailed(f"node {name}: the probe failed with status {status}: {last}", hint=_by_hand(name))
    try:
        return _parse_json(text) if text.lstrip().startswith("{") else parse_sh_facts(text)
    except MALFORMED as error:
        shown = repr(text.strip()[-SHOWN_MAX:]) if text.strip() else "it is empty"
        raise LookFailed(f"node {name}: the answer to the probe is incomplete: {shown}", hint=_by_hand(name)) from error


def _by_hand(name: str) -> str:
    return f"log in and check /usr/bin/python3 there; then: inv node.doctor --node {name}"


def _parse_json(text: str) -> Facts:
    found = json.loads(text)
    if missing := ANSWERED - set(found):
        raise ValueError(f"no {', '.join(sorted(missing))}")
    return Facts.from_json(found)


def parse_sh_facts(text: str) -> Facts:
    """Return the facts that SH_FACTS printed; ValueError if it ended early."""
    pairs = [line.partition("=")[::2] for line in text.splitlines() if "=" in line]
    found = dict(pairs)
    if "whole" not in found:
        raise ValueError("it was cut off")
    free = [value.split() for key, value in pairs if key == "free"]
    return Facts(
        login=found.get("login", "root"),
        hostname=found.get("hostname", ""),
        kernel=found.get("kernel", ""),
        arch=found.get("arch", ""),
        pid1=found.get("pid1", ""),
        systemd=found.get("systemd", ""),
        systemd_runs="systemd_runs" in found,
        python=_parse_version(found.get("python", "")),
        manager=found.get("manager", ""),
        missing_commands=tuple(value for key, value in pairs if key == "missing"),
        spaces={path: {"free_bytes": int(kib) * 1024} for path, kib in free},
        is_ledger_unread="ledger" in found,
        os={key[3:].lower(): value.strip("\"'") for key, value in pairs if key.startswith("os.")},
    )


def _parse_version(text: str) -> tuple[int, ...] | None:
    word = text.removeprefix("Python ").strip()
    return tuple(int(part) for part in word.split(".") if part.isdigit()) if text.startswith("Python ") else None
