"""A refused caller leaves a record; a lock that the helper cannot open is reported without a traceback."""

from __future__ import annotations

import json

import pytest

from tests.agent.on_node.test_users_on_node import as_user
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
CALL = r"""
import socket, sys
def call():
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        body = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"user.create\",\"params\":{\"name\":\"eve\"}}"
        connection.sendall(b"POST / HTTP/1.1\r\nHost: node\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return connection.recv(100)
for _ in range(int(sys.argv[2])):
    try:
        said = call()
    except ConnectionError:
        said = b"hung up"
print(said[:16].decode())
"""
HELPER_STATE = "/var/lib/codesmith-helper"


def knock(web1: Web1, uid: int, group: str, path: str, times: int) -> str:
    """Connect as a user whose processes kept a group that the user has left."""
    become = f"setpriv --reuid={uid} --regid=$(getent group {group} | cut -d: -f3) --clear-groups"
    web1.on(f"cat > /tmp/knock.py <<'E'\n{CALL}\nE\nchmod 644 /tmp/knock.py")
    return web1.on(f"{become} python3 -I /tmp/knock.py {path} {times}").out


def is_refused(said: str) -> bool:
    """Tell whether the front end refused; its answer may get lost, because it closes with our request unread."""
    return "403" in said or said == "hung up\n"


def test_who_may_not_call_leaves_a_record_and_a_line_however_often_it_knocks(web1: Web1) -> None:
    assert is_refused(knock(web1, 65534, "codesmith-clients", "/run/codesmith/agent.sock", 200))
    found = [one for one in web1.client.audit.list(limit=1000) if one.method == "connect"]
    assert [(one.peer_uid, one.peer_login, one.outcome) for one in found] == [(65534, "nobody", "forbidden")]
    journal = "journalctl --no-pager -o cat -u codesmith-agent.service"
    assert web1.on(f"{journal} | grep -c forbidden").out == "1\n"
    # The next line says how many were omitted.
    assert is_refused(knock(web1, 65533, "codesmith-clients", "/run/codesmith/agent.sock", 1))
    (newest, _) = [one for one in web1.client.audit.list(limit=1000) if one.method == "connect"]
    assert (newest.peer_uid, newest.target["more"]) == (65533, "199")
    # Many callers together are limited too.
    for uid in range(65000, 65020):
        knock(web1, uid, "codesmith-clients", "/run/codesmith/agent.sock", 3)
    assert len([one for one in web1.client.audit.list(limit=1000) if one.method == "connect"]) <= 10
    web1.refuses(web1.client.user.get, "not_found", name="eve")


def test_who_may_not_call_the_root_half_leaves_a_line(web1: Web1) -> None:
    knock(web1, 65534, "codesmith", "/run/codesmith-helper/helper.sock", 50)
    said = web1.on("journalctl --sync; journalctl --no-pager -o cat -u codesmith-helper.service | grep refused").out
    assert said == "refused: uid 65534 is not codesmith; 0 more since the last such line\n"
    # A complete request is not carried out either.
    verb = {"verb": "user.ensure", "arguments": {"name": "eve"}}
    command = web1.helper_command(verb).replace("--reuid=codesmith", "--reuid=65534")
    answer = web1.on(command, check=False)
    assert not answer.ok and answer.out == "" and not web1.on("getent passwd cs-eve", check=False).ok


LOCKS = ("lock", "sweep.lock")


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("harm", ["mkdir {0}", "ln -s /etc/passwd {0}", "touch {0}; chattr +i {0}"])
def test_a_lock_that_cannot_be_opened_is_told_without_a_traceback(web1: Web1, name: str, harm: str) -> None:
    web1.client.workspace.create(name="locked")
    path = f"{HELPER_STATE}/{name}"
    since = web1.on("date +%s").out.strip()
    web1.on(f"systemctl stop codesmith-helper.service; rm -rf {path}; {harm.format(path)}")
    if name != "sweep.lock":
        refusal = web1.refuses(web1.client.workspace.delete, "command_failed", name="locked")
    else:
        web1.client.workspace.delete(name="locked")
        web1.person.wait_until(lambda: "cannot be searched" in journal(web1, since), within_s=30)
        refusal = None
    if refusal is not None:
        assert path in str(refusal) and f"ls -ld {path}" in str(refusal.hint)
    assert "Traceback" not in journal(web1, since)
    assert path in journal(web1, since) or refusal is not None
    web1.on(f"chattr -i {path}; rm -rf {path}; systemctl stop codesmith-helper.service", check=False)
    if name != "sweep.lock":
        web1.client.workspace.delete(name="locked")


def journal(web1: Web1, since: str) -> str:
    return web1.on(f"journalctl --no-pager -o cat -u codesmith-helper.service --since=@{since}").out


LEAVE = """
echo > /var/crash/core.left; mkdir /var/crash/folder; echo > /var/crash/folder/file
echo > /var/spool/open/left; mkdir -p /var/spool/open/inner/deep; echo > /var/spool/open/inner/deep/left
echo > /var/spool/nested/world/left
"""


def test_what_a_deleted_user_left_in_spools_and_crash_reports_goes(web1: Web1) -> None:
    web1.on("mkdir -p -m 755 /var/spool/nested; mkdir -p -m 1777 /var/crash /var/spool/open /var/spool/nested/world")
    web1.on("echo mine > /var/spool/open/of-root; echo mine > /var/crash/of-root")
    web1.on("systemctl stop codesmith-helper.service")
    uid = web1.client.workspace.create(name="left").uid
    as_user(web1, "cs-left", LEAVE)
    owned = f"find /var/crash /var/spool -uid {uid} -print"
    assert web1.on(owned).out.count("\n") == 8
    assert web1.client.workspace.delete(name="left").leftovers == []
    assert web1.on(owned).out == ""
    assert web1.on("cat /var/spool/open/of-root /var/crash/of-root").out == "mine\nmine\n"
    # What cannot be removed is named.
    web1.client.workspace.create(name="left")
    as_user(web1, "cs-left", "echo > /var/crash/stays")
    web1.on("chattr +i /var/crash/stays")
    (named,) = web1.client.workspace.delete(name="left").leftovers
    assert named.startswith("/var/crash/stays")
    web1.on("chattr -i /var/crash/stays; rm /var/crash/stays")


def test_the_audit_record_of_a_stranger_is_a_record_like_others(web1: Web1) -> None:
    lines = web1.on("grep connect /var/log/codesmith/audit.jsonl").out.splitlines()
    assert lines and all(json.loads(line)["target"]["name"] == "agent.sock" for line in lines)
