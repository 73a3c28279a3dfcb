"""`endpoint: tcp:PORT` as people use it: curl with a token, another process, another user of the machine."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from codesmith.lab.programs import environment
from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab
TYPESCRIPT = Path(__file__).parents[3] / "docs" / "typescript.md"
README = Path(__file__).parents[3] / "codesmith" / "tunnel" / "README.md"
NOBODY = 65534
PYTHON = """
import sys, codesmith
with codesmith.connect(url=sys.argv[1], token_file=sys.argv[2]) as client:
    print(client.node.version().node_id)
"""


@pytest.fixture
def port(web1: Web1) -> int:
    """A free port, written into nodes.yaml as the node's endpoint."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    person = web1.person
    person.write_registry({"web1": {**person.lab_entry("web1"), "endpoint": f"tcp:{number}"}})
    return number


def test_tools_without_unix_sockets_reach_the_node(web1: Web1, port: int) -> None:
    person = web1.person
    (ready,) = person.runs("inv node.connect --json").json
    assert (ready["endpoint"], ready["state"]) == (f"tcp:127.0.0.1:{port}", "ready")
    (listed,) = person.runs("inv node.list --json").json
    token_file = Path(listed["token_file"])
    token = token_file.read_text().strip()
    node_id = ready["node_id"]

    # curl, word for word as the README has it.
    (recipe,) = re.findall(r"```sh\n(TOKEN_FILE=.*?)```", README.read_text(), flags=re.S)
    assert f'"node_id":"{node_id}"' in person.runs(recipe.replace(":7001", f":{port}")).out.replace(" ", "")

    # Another process that knows no nodes.yaml.
    argv = [sys.executable, "-c", PYTHON, f"http://127.0.0.1:{port}", str(token_file)]
    client = subprocess.run(argv, cwd=README.parents[2], env=environment(), capture_output=True, text=True, check=True)
    assert client.stdout == f"{node_id}\n"

    # Another user of this machine gets neither the token nor an answer.
    stranger = ["curl", "-sS", "-w", " %{http_code}", "-H", "Content-Type: application/json", "-d", "{}"]
    told = subprocess.run([*stranger, f"http://127.0.0.1:{port}"], user=NOBODY, capture_output=True, text=True)
    assert told.stdout.endswith(" 401")
    assert subprocess.run(["cat", token_file], user=NOBODY, capture_output=True).returncode == 1

    # The rest goes on by the private socket.
    assert person.runs("inv node.version --json").json[0]["node_id"] == node_id
    said = person.runs("inv node.status --json; inv node.status").out + (person.home / "forwarder.log").read_text()
    assert token not in said

    person.runs("inv node.disconnect")
    assert not token_file.exists()
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0


def test_a_port_that_is_taken_is_told_and_calls_go_on(web1: Web1, port: int) -> None:
    person = web1.person
    with socket.create_server(("127.0.0.1", port)):
        said = person.fails("inv node.connect", code=1)
        assert f"cannot open 127.0.0.1:{port}: it is taken by" in said.err
        assert person.runs("inv node.version --json").json[0]["node_id"]
        (seen,) = person.runs("inv node.status --json").json
        assert (seen["state"], "is taken by" in seen["reason"]) == ("degraded", True)
    assert person.runs("inv node.connect --json").json[0]["state"] == "ready"


@pytest.mark.long
@pytest.mark.timeout(600)  # npm downloads the generator and the compiler
def test_a_typescript_client_made_of_the_contract_reaches_a_port(web1: Web1, port: int, tmp_path: Path) -> None:
    """The commands and the program of docs/typescript.md, word for word but for the port."""
    shutil.copytree(TYPESCRIPT.parents[1] / "agent", tmp_path / "agent", ignore=lambda *_: ["__pycache__"])
    page = TYPESCRIPT.read_text()
    (program,) = re.findall(r"```ts\n(.*?)```", page, flags=re.S)
    install, make, clean, compile_, show = re.findall(r"^    \$ (.*)$", page, flags=re.M)
    (tmp_path / "show.ts").write_text(program)
    (tmp_path / "wrong.ts").write_text(program.replace("const workspaces", "const workspaces: NodeVersion[]"))

    def run(command: str, code: int = 0) -> str:
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    for command in (install, make, clean):
        run(command)
    types = (tmp_path / "contract.ts").read_text()
    # A type without a title is named by a hash.
    assert not re.findall(
        r"^export (?:type|interface) \w*(?:Any|String|Integer|Number|Object)[A-Z0-9]\w{7}\b", types, re.M
    )
    assert "Type 'WorkspaceListResult' is not assignable" in run(compile_.replace("show.ts", "wrong.ts"), code=2)
    run(compile_)
    person = web1.person
    person.runs("inv workspace.create typed --label team=web; inv sandbox.create typed --memory 512M")
    (listed,) = person.runs("inv node.connect --json").json
    token_file = person.runs("inv node.list --json").json[0]["token_file"]
    shown = run(show.partition(" http:")[0] + f" http://127.0.0.1:{port} {token_file}")
    assert shown == f"{listed['node_id']} typed ready {512 << 20}\n"
