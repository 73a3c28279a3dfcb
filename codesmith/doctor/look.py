"""One look at a node over SSH: everything in one script, as root only where that takes no password."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesmith.remote.bootstrap import layout, probe
from codesmith.remote.bootstrap.facts import Facts
from codesmith.remote.script import PATH, ScriptResult, name_of, run_script

if TYPE_CHECKING:
    from codesmith.remote.connection import NodeConnection

LOOK_TIMEOUT_S = 60.0
AGENT_S = 10
CALLS = [{"jsonrpc": "2.0", "id": method, "method": method} for method in ("node.version", "node.health")]

# The agent is called as the one who logged in, as clients of the endpoint are; after the probe, which wants to see
# units as they are: a call starts an agent whose socket waits.
SCRIPT = """
echo "time=$(date +%%s)"
set --
if [ "$(id -u)" != 0 ]; then
  if sudo -n true 2>/dev/null
  then set -- sudo -n -- env -i PATH=%(path)s LC_ALL=C.UTF-8 HOME=/root LOGIN="$LOGIN"; echo root=yes
  else echo root=no; fi
else echo root=yes; fi
echo
"$@" /bin/sh -c %(probe)s
printf '\\n%%s\\n' %(mark)s
[ ! -e %(agent)s ] || printf %%s %(request)s | timeout %(agent_s)s /usr/bin/python3 -I -S %(agent)s dial 2>&1
exit 0
"""


@dataclass(frozen=True)
class Look:
    """What one look saw. `calls` has the agent's results by method, `silence` why there are none."""

    facts: Facts
    is_root: bool
    skew_s: float
    calls: dict[str, Any]
    silence: str


def look(connection: NodeConnection, wish: layout.Wish) -> Look:
    """Return what the node has now; nothing is changed there."""
    mark = secrets.token_hex(16)
    begun = time.time()
    payload = probe.payload(probe.program("probe"), probe.questions(wish))
    done = run_script(connection, _script(mark), payload, timeout_s=LOOK_TIMEOUT_S)
    return _parse(name_of(connection), done, mark, begun, time.time())


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


def _parse(name: str, done: ScriptResult, mark: str, begun: float, ended: float) -> Look:
    text = done.stdout.decode(errors="replace")
    head, _, rest = text.partition("\n\n")
    said = dict(line.partition("=")[::2] for line in head.splitlines())
    seen, _, answer = rest.partition(f"\n{mark}\n")
    calls, silence = _answers(answer)
    return Look(
        probe.parse(name, seen), said.get("root") == "yes", _skew_s(said.get("time", ""), begun, ended), calls, silence
    )


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
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return {}, "; ".join(lines)[-300:] or f"no answer within {AGENT_S} s"
