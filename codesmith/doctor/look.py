"""Probe a node over SSH and call its agent, in one script; as root if that takes no password."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesmith.bootstrap import layout, probe
from codesmith.bootstrap.facts import Facts
from codesmith.errors import AuthenticationFailed, LookFailed
from codesmith.ssh import sudo
from codesmith.ssh.script import PATH, ScriptResult, name_of, run_script

if TYPE_CHECKING:
    from codesmith.ssh.connection import Connection

LOOK_TIMEOUT_S = 60.0
AGENT_TIMEOUT_S = 10
CALLS = [{"jsonrpc": "2.0", "id": method, "method": method} for method in ("node.version", "node.health")]

# The agent is called as the login, as from an endpoint. It is called after the probe, because a call starts a stopped
# agent whose socket listens. If sudo logs input or uses a terminal of its own, even `sudo true` reads all of stdin.
SCRIPT = """
echo "time=$(date +%%s)"
set --
if [ "$(id -u)" != 0 ]; then
  if why=$(sudo -n -u root -- env -i /bin/sh -c : 2>&1 </dev/null)
  then set -- sudo -n -u root -- env -i PATH=%(path)s LC_ALL=C.UTF-8 HOME=/root LOGIN="$LOGIN"; echo root=yes
  else echo root=no; echo "why=$(printf %%s "$why" | tr '\\n' ' ')"; fi
else echo root=yes; fi
echo
"$@" /bin/sh -c %(probe)s
status=$?
printf '\\n%%s %%s\\n' %(mark)s $status
if [ -e %(agent)s ]
then printf %%s %(request)s | timeout %(agent_s)s /usr/bin/python3 -I -S %(agent)s dial 2>&1
else ls -d %(agent)s 2>&1
fi
printf '\\n%%s end\\n' %(mark)s
exit 0
"""


@dataclass(frozen=True)
class Look:
    """What one look found. `calls` has the agent's results by method, `no_answer` says why there are none.

    `skew_s` is how far the node's clock is ahead; `refusal` says why the login cannot become root, None if it can.
    """

    facts: Facts
    is_root: bool
    skew_s: float
    calls: dict[str, Any]
    no_answer: str
    refusal: AuthenticationFailed | None = None


def look(connection: Connection, desired: layout.Desired) -> Look:
    """Return what the node has now; nothing is changed there. LookFailed if the script ended early."""
    mark = secrets.token_hex(16)
    begun = time.time()
    payload = probe.payload(probe.program("probe", desired.need_modules), probe.questions(desired))
    done = run_script(connection, _script(mark), payload, timeout_s=LOOK_TIMEOUT_S)
    return _parse(connection, done, mark, begun, time.time())


def _script(mark: str) -> str:
    body = json.dumps(CALLS)
    request = (
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    )
    return SCRIPT % {
        "path": PATH,
        "probe": shlex.quote(probe.script()),
        "mark": mark,
        "agent": layout.program_of(layout.CURRENT),
        "agent_s": AGENT_TIMEOUT_S,
        "request": shlex.quote(request),
    }


def _parse(connection: Connection, done: ScriptResult, mark: str, begun: float, ended: float) -> Look:
    name, text = name_of(connection), done.stdout.decode(errors="replace")
    head, _, rest = text.partition("\n\n")
    header = dict(line.partition("=")[::2] for line in head.splitlines())
    probed, _, after = rest.partition(f"\n{mark} ")
    status, _, after = after.partition("\n")
    answer, ended_well, _ = after.partition(f"\n{mark} end\n")
    if not ended_well or not status.isdigit() or not {"time", "root"} <= set(header):
        last = (done.stderr or text).strip().splitlines()[-1:] or ["no output"]
        problem = f"node {name}: the probe ended early, with status {done.status}: {last[0][-300:]}"
        raise LookFailed(problem)
    facts = probe.parse(name, probed, int(status), done.stderr)
    calls, no_answer = _answers(f"{answer}\n")
    is_root, skew_s = header["root"] == "yes", clock_skew_s(header["time"], begun, ended)
    refusal = None if is_root else sudo.refusal(connection, name, sudo.Sudo(), header.get("why", "").strip())
    return Look(facts, is_root, skew_s, calls, no_answer, refusal)


def clock_skew_s(seconds: str, begun: float, ended: float) -> float:
    """Return by how many seconds the node's clock, read between `begun` and `ended`, is ahead; negative if behind."""
    if not seconds.isdigit():
        return 0.0
    now = int(seconds)
    return max(0.0, now - ended) - max(0.0, begun - (now + 1))


def _answers(text: str) -> tuple[dict[str, Any], str]:
    try:
        answers = json.loads(text.partition("\r\n\r\n")[2])
        results = {one["id"]: one["result"] for one in answers}
        if all(isinstance(result, dict) for result in results.values()):
            return results, ""
    except probe.MALFORMED:
        pass
    # Hints are left out: the next command is in a column of its own.
    lines = [line.strip().removeprefix("error: ") for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("hint: ")]
    return {}, "; ".join(lines)[-300:] or f"no answer within {AGENT_TIMEOUT_S} s"
