"""Sentences of docs/security.md that no other test shows: what a workspace is not, and who is trusted."""

from __future__ import annotations

import json
import shlex

import pytest

from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
JSON = "Content-Type:application/json"
LISTEN = "import socket; s = socket.create_server(('127.0.0.1', 8765)); [s.accept()[0].close() for _ in iter(int, 1)]"
REACH = "import socket; socket.create_connection(('127.0.0.1', 8765), 10); print('reached')"
# A namespace of users, in which it asks for two of them.
TWO_USERS = """
import ctypes, os
ready, go = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    ctypes.CDLL(None).unshare(0x10000000)
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os._exit(0)
os.read(ready[0], 1)
try:
    with open(f"/proc/{child}/uid_map", "w") as file:
        file.write(WANTED)
    print("mapped")
except PermissionError:
    print("refused")
os.write(go[1], b"x")
os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def node(web1: Web1) -> Web1:
    for name in ("one", "two"):
        web1.client.workspace.create(name=name)
    return web1


def output(web1: Web1, *argv: str, name: str = "one") -> str:
    return web1.client.workspace.exec(name=name, argv=list(argv)).stdout


def test_no_program_makes_anybody_root_inside(node: Web1) -> None:
    uid = str(node.client.workspace.get(name="one").uid)
    # Even one of root's that gives its rights to whoever starts it.
    node.on("cp /usr/bin/id /usr/local/bin/id-of-root; chmod 4755 /usr/local/bin/id-of-root")
    assert output(node, "/usr/local/bin/id-of-root", "-u") == f"{uid}\n"
    assert node.on("runuser -u nobody -- /usr/local/bin/id-of-root -u").out == "0\n"
    node.on("printf 'ALL ALL=(ALL) NOPASSWD: ALL\\n' >/etc/sudoers.d/all")
    for command in (["sudo", "-n", "id", "-u"], ["su", "-c", "id -u"]):
        done = node.client.workspace.exec(name="one", argv=command)
        assert (done.stdout, done.exit_code != 0) == ("", True), done
    node.on("rm /etc/sudoers.d/all /usr/local/bin/id-of-root")


def test_a_workspace_has_one_uid_so_containers_do_not_run_in_it(node: Web1) -> None:
    uid = node.client.workspace.get(name="one").uid
    assert output(node, "python3", "-c", f"WANTED = '0 {uid} 1'\n{TWO_USERS}") == "mapped\n"
    for wanted in (f"0 {uid} 2", "0 0 1", f"0 {uid} 1\\n1 {uid + 1} 1"):
        assert output(node, "python3", "-c", f"WANTED = '{wanted}'\n{TWO_USERS}") == "refused\n"
    assert output(node, "sh", "-c", "touch file; unshare -r chown 1:1 file || echo refused") == "refused\n"


def test_the_loopback_of_the_node_is_shared_with_the_whole_network_alone(node: Web1) -> None:
    client = node.client
    node.on(f"systemd-run --quiet --unit=listens python3 -c {shlex.quote(LISTEN)}")
    node.person.wait_until(lambda: node.on("ss -Hltn sport = 8765").out != "", within_s=20)
    assert output(node, "python3", "-c", REACH) == "reached\n"
    for network in ("none", {"allow": ["pypi.org"]}):
        client.sandbox.create(workspace="one", network=network)
        assert output(node, "python3", "-c", REACH) == ""
        client.sandbox.delete(workspace="one")
    node.on("systemctl stop listens")


def test_all_workspaces_have_the_kernel_of_the_node(node: Web1) -> None:
    assert output(node, "uname", "-rv") == output(node, "uname", "-rv", name="two") == node.on("uname -rv").out


def test_a_client_of_the_node_may_do_all_in_every_workspace_and_leaves_records(node: Web1) -> None:
    node.on("useradd --groups codesmith-clients friend")
    for number, name in enumerate(("one", "two")):
        node.on(f"echo secret >/srv/codesmith/workspaces/{name}/data/file")
        call = {"jsonrpc": "2.0", "id": number, "method": "workspace.exec"}
        asked = json.dumps({**call, "params": {"name": name, "argv": ["id", "-un"]}})
        curl = f"curl -sS --unix-socket /run/codesmith/agent.sock -H {JSON} -d {shlex.quote(asked)}"
        answer = json.loads(node.on(f"runuser -u friend -- {curl} http://node/").out)
        assert answer["result"]["stdout"] == f"cs-{name}\n"
        records = [one for one in node.client.audit.list(workspace=name) if one.method == "workspace.exec"]
        assert records[0].peer_login == "friend"
    # Root of the node needs no leave.
    assert node.on("cat /srv/codesmith/workspaces/one/data/file").out == "secret\n"
