"""One look at a node over SSH: everything in one script, as root only where that takes no password."""

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
    from codesmith.ssh.carrier import Carrier

LOOK_TIMEOUT_S = 60.0
AGENT_S = 10
CALLS = [{"jsonrpc": "2.0", "id": method, "method": method} for method in ("node.version", "node.health")]

# The agent is called as the one who logged in, as clients of the endpoint are; after the probe, which wants to see
# units as they are: a call starts an agent whose socket waits. Where sudo logs input or has a terminal of its own, even
# `sudo true` reads all of standard input.
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
    """What one look saw. `calls` has the agent's results by method, `silence` why there are none.

    `refusal` is why the login cannot become root, and what to do about it.
    """

    facts: Facts
    is_root: bool
    skew_s: float
    calls: dict[str, Any]
    silence: str
    # Why the login is not root there.
    refusal: AuthenticationFailed | None = None


def look(connection: Carrier, desired: layout.Desired) -> Look:
    """Return what the node has now; nothing is changed there. LookFailed if the look did not come to its end."""
    mark = secrets.token_hex(16)
    begun = time.time()
    payload = probe.payload(probe.program("probe", desired.looks), probe.questions(desired))
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
        "agent": f"{layout.CURRENT}/agent.pyz",
        "agent_s": AGENT_S,
        "request": shlex.quote(request),
    }


def _parse(connection: Carrier, done: ScriptResult, mark: str, begun: float, ended: float) -> Look:
    name, text = name_of(connection), done.stdout.decode(errors="replace")
    head, _, rest = text.partition("\n\n")
    said = dict(line.partition("=")[::2] for line in head.splitlines())
    seen, _, after = rest.partition(f"\n{mark} ")
    status, _, after = after.partition("\n")
    answer, ended_well, _ = after.partition(f"\n{mark} end\n")
    if not ended_well or not status.isdigit() or not {"time", "root"} <= set(said):
        last = (done.stderr or text).strip().splitlines()[-1:] or ["nothing"]
        problem = f"node {name}: the look at it ended early, with status {done.status}: {last[0][-300:]}"
        raise LookFailed(problem)
    facts = probe.parse(name, seen, int(status), done.stderr)
    calls, silence = _answers(f"{answer}\n")
    is_root, skew_s = said["root"] == "yes", _skew_s(said["time"], begun, ended)
    refusal = None if is_root else sudo.refusal(connection, name, sudo.Sudo(), said.get("why", "").strip())
    return Look(facts, is_root, skew_s, calls, silence, refusal)


def _skew_s(seconds: str, begun: float, ended: float) -> float:
    """Return how far the node's clock is from the time in which it was read: more than 0 when it is ahead."""
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
    except probe.NONSENSE:
        pass
    # What helps is in another column.
    lines = [line.strip().removeprefix("error: ") for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("hint: ")]
    return {}, "; ".join(lines)[-300:] or f"no answer within {AGENT_S} s"
