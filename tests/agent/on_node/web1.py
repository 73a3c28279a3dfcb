"""The node of the tests: its API, and a back door that goes past CodeSmith."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from agent.shared.names import RUNTIMES
from codesmith.errors import AgentRefused, CodeSmithError
from codesmith.http.client import Closed, Connection
from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from codesmith.tunnel.local_endpoint import endpoint_path
from tests.person import Person, Said

ONE_CALL_S = 120.0

HELPER = """
import json, socket, sys
sys.path.insert(0, "/usr/lib/codesmith/current/program")
from agent.shared import framing
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect("/run/codesmith-helper/helper.sock")
    framing.send(connection, json.loads(sys.argv[1]))
    print(json.dumps(framing.receive(connection, 1 << 24)))
"""

# Asks a supervisor past the front end, as root.
RUNTIME = """
import json, socket, sys
sys.path.insert(0, "/usr/lib/codesmith/current/agent.pyz")
from agent.shared import framing
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    framing.send(connection, {"protocol": 1, **json.loads(sys.argv[2])})
    print(json.dumps(framing.receive(connection, 1 << 24)))
"""


def command(*argv: str) -> dict[str, Any]:
    """Return the fields of a request to run a command."""
    return {"argv": list(argv), "cwd": "", "env": {}, "stdin": "", "encoding": "text", "timeout_s": 60.0}


class Web1:
    """A prepared node: its API, and a back door that goes past CodeSmith."""

    def __init__(self, person: Person, client: Client) -> None:
        self.person, self.client = person, client

    def on(self, script: str, *, check: bool = True, typed: str = "") -> Said:
        """Run a script on the node as root; everybody there may see the script, and nobody what is typed."""
        return self.person.on("web1", script, check=check, typed=typed)

    def wait_until_it_answers(self) -> None:
        """Wait until the agent answers again, after a kill or a power cut."""

        def answers() -> bool:
            try:
                self.client.node.version()
            except CodeSmithError:
                return False
            return True

        self.person.wait_until(answers, within_s=60)

    def error_of(self, method: str, params: dict[str, Any]) -> str:
        """Make a change once, and return the error that it ended with; the client would repeat one that is cut off."""
        endpoint = endpoint_path(Registry.load(self.person.registry).get("web1"))
        given = {**params, "request_id": os.urandom(8).hex()}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": given}).encode()
        deadline = time.monotonic() + ONE_CALL_S
        with closing(Connection(endpoint, deadline)) as connection:
            try:
                _, answer, _ = connection.post(body, deadline)
            except Closed as closed:
                return str(closed)
        return str(json.loads(answer).get("error", ""))

    def refuses(self, call: Callable[..., Any], kind: str, **params: Any) -> AgentRefused:
        """Make a call that must be refused with this kind."""
        with pytest.raises(AgentRefused) as refusal:
            call(**params)
        assert refusal.value.rpc_kind == kind, refusal.value
        return refusal.value

    def helper(self, message: dict[str, Any], login: str = "codesmith") -> Said:
        """Send one message to the root half as some login."""
        return self.on(self.helper_command(message, login), check=False)

    def helper_command(self, message: dict[str, Any], login: str = "codesmith") -> str:
        """Return the command that sends one message to the root half."""
        become = f"setpriv --reuid={login} --regid={login} --clear-groups"
        return f"{become} python3 -I -c '{HELPER}' '{json.dumps(message)}'"

    def running(self, name: str) -> str:
        """Return the pids of a workspace's login, without that of its supervisor."""
        supervisor = f"$(systemctl show --property=MainPID --value codesmith-workspace@{name}.service)"
        return self.on(f"pgrep -u cs-{name} | grep -vx {supervisor}", check=False).out

    def pids(self, login: str, program: str) -> set[str]:
        """Return the pids of what runs as a login under this name."""
        return set(self.on(f"pgrep -u {login} -x {program}", check=False).out.split())

    def runtime_command(self, name: str, request: str, **fields: Any) -> str:
        """Return the command that sends one request to the runtime of a workspace."""
        return f"python3 -I -c '{RUNTIME}' {RUNTIMES}/{name}.sock '{json.dumps({'request': request, **fields})}'"

    def runtime(self, name: str, request: str, **fields: Any) -> Any:
        """Send one request to the runtime of a workspace, and return its answer."""
        return json.loads(self.on(self.runtime_command(name, request, **fields)).out)


@contextmanager
def calling(person: Person) -> Iterator[Web1]:
    """Give the prepared node of somebody, with a client of this process for the life of this block."""
    with person.here(), Client(Registry.load(person.registry).get("web1")) as client:
        client.node.version()
        yield Web1(person, client)
