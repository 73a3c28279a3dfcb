"""workspace.assign on a real node: what the previous owner kept is no way back in."""

from __future__ import annotations

import json

import pytest

from tests.agent.on_node.web1 import BOTH_RELEASES, Web1

pytestmark = [pytest.mark.lab, BOTH_RELEASES]
# A process of the previous owner whose first thread has ended ("zombie"), with a descriptor hidden in a socket's queue.
HOLDER = """
import array, ctypes, os, socket, threading, time
os.chdir(os.environ["TREE"])
there, here = socket.socketpair()
file = os.open("data/file", os.O_RDWR | os.O_CREAT, 0o666)
there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
os.close(file)
def write():
    time.sleep(float(os.environ["WAIT"]))
    file = array.array("i", here.recvmsg(1, 64)[1][0][2])[0]
    os.write(file, b"poison")
threading.Thread(target=write).start()
ctypes.CDLL(None).pthread_exit(None)
"""

# Gives ACLs and a capability to the files of a tree; without a uid it only lists the attributes.
WIDEN = """
import os, struct, sys
top, nobody = sys.argv[1], 2**32 - 1
if len(sys.argv) > 2:
    entries = (1, 7, nobody, 2, 7, int(sys.argv[2]), 4, 7, nobody, 16, 7, nobody, 32, 5, nobody)
    access = struct.pack("<I" + "HHI" * 5, 2, *entries)
    os.setxattr(f"{top}/code/open", "system.posix_acl_access", access)
    os.setxattr(f"{top}/code/open", "system.posix_acl_default", access)
    os.setxattr(f"{top}/code/open", "user.note", b"kept")
    os.setxattr(f"{top}/code/cap", "security.capability", struct.pack("<IIIII", 0x02000001, 1, 0, 0, 0))
for folder, folders, files in os.walk(top):
    for name in folders + files:
        print(name, *os.listxattr(os.path.join(folder, name), follow_symlinks=False))
"""


# A third login keeps what it can of a tree, prints what it got, and again after it reads a line.
THIRD = """
import os, sys
top = os.environ["TREE"]
path = os.open(top + "/data/db", os.O_PATH)
folder = os.open(top + "/code", os.O_RDONLY)
print("ready", flush=True)
sys.stdin.readline()
for look in (lambda: open(f"/proc/self/fd/{path}").read(), lambda: os.listdir(folder),
             lambda: os.readlink(f"/proc/self/fd/{path}"), lambda: os.readlink(f"/proc/self/fd/{folder}")):
    try:
        print(look())
    except OSError as error:
        print(error)
"""


def become(web1: Web1, login: str) -> str:
    return f"setpriv --reuid={login} --regid={login} --clear-groups"


def test_assign_ends_what_the_previous_owner_had_running(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="given")
    client.user.create(name="heir")
    path = client.workspace.get(name="given").path
    client.workspace.exec(name="given", argv=["sh", "-c", "echo mine >data/file; cat >holder.py"], stdin=HOLDER)
    old = become(web1, "cs-given")
    web1.on(f"TREE={path} WAIT=20 {old} python3 -I {path}/holder.py >/dev/null 2>&1 & sleep 0.5")
    web1.on(f"{old} sh -c 'cd {path}/data && exec 7<>file && exec sleep 1000' >/dev/null 2>&1 & sleep 0.2")
    web1.on("systemd-run --quiet --unit=codesmith-job@given@x --uid=cs-given sleep 1000")
    assert web1.on("ps -Lu cs-given -o pid=").out
    assigned = client.workspace.assign(name="given", user="heir")
    assert (assigned.user, assigned.login, assigned.state) == ("heir", "cs-heir", "ready")
    assert not web1.on("ps -Lu cs-given -o pid=", check=False).out.strip()
    assert client.workspace.exec(name="given", argv=["cat", "data/file"]).stdout == "mine\n"
    assert not web1.on(f"{old} ls {path}", check=False).ok
    assert web1.on(f"find {path} ! -user cs-heir -o ! -group cs-heir").out == ""
    # The dedicated user stays.
    assert client.user.get(name="given").workspaces == []
    facts = json.loads(client.workspace.exec(name="given", argv=["cat", ".codesmith/workspace.json"]).stdout)
    assert (facts["user"], facts["login"]) == ("heir", "cs-heir")
    assert "`cs-heir`" in client.workspace.exec(name="given", argv=["cat", "AGENTS.md"]).stdout


def test_a_third_login_that_held_a_file_and_a_directory_learns_nothing_of_what_comes(web1: Web1) -> None:
    client = web1.client
    for name in ("after", "third"):
        client.user.create(name=name)
    path = client.workspace.create(name="shared").path
    opened = "umask 0; echo old >data/db; chmod 777 . data code"
    assert client.workspace.exec(name="shared", argv=["sh", "-c", opened]).exit_code == 0
    third = f"TREE={path} {become(web1, 'cs-third')} python3 -I /tmp/third.py"
    web1.on(f"cat >/tmp/third.py <<'E'\n{THIRD}E\nmkfifo /tmp/say")
    web1.on(f"cd /; {{ {third}; }} <>/tmp/say >/tmp/third.out 2>&1 &")
    web1.on("until grep -q ready /tmp/third.out; do sleep 0.02; done")
    client.workspace.assign(name="shared", user="after")
    takes = "umask 022; echo SECRET >data/db; chmod 755 data/db; mv code takeover; echo >takeover/plan; mv data merger"
    assert client.workspace.exec(name="shared", argv=["sh", "-c", takes]).exit_code == 0
    web1.on("echo >/tmp/say; while pgrep -u cs-third python3 >/dev/null; do sleep 0.02; done")
    said = web1.on("cat /tmp/third.out; rm -f /tmp/third.* /tmp/say").out
    assert len(said.splitlines()) >= 5, said
    for word in ("SECRET", "takeover", "merger", "plan"):
        assert word not in said
    assert "[]" in said


def test_logging_in_again_and_again_does_not_hold_it_up(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="again")
    client.user.create(name="calm")
    old = become(web1, "cs-again")
    web1.on(
        f"timeout 20 sh -c 'while :; do {old} sleep 0.2 & {old} sleep 0.1; done' >/dev/null 2>&1 & echo $! >/tmp/loop"
    )
    assert client.workspace.assign(name="again", user="calm").user == "calm"
    assert web1.on("kill $(cat /tmp/loop)").ok


def test_assign_leaves_no_right_behind(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="rights")
    client.user.create(name="next")
    make = (
        "cd code && echo a >a && cp /bin/true cap && chmod 6755 cap && mkdir open && chmod 777 open && chattr +d open"
    )
    assert client.workspace.exec(name="rights", argv=["sh", "-c", make]).exit_code == 0
    path = client.workspace.get(name="rights").path
    # Past the job's mounts: a session over SSH sees both directories on one file system.
    web1.on(f"{become(web1, 'cs-rights')} ln {path}/code/a /srv/codesmith/home/cs-rights/kept")
    web1.on(
        f"cat >/tmp/widen.py <<'E'\n{WIDEN}\nE\npython3 -I /tmp/widen.py {path} {client.user.get(name='rights').uid}"
    )
    assert "posix_acl_default" in web1.on(f"python3 -I /tmp/widen.py {path}").out
    client.workspace.assign(name="rights", user="next")
    said = web1.on(f"python3 -I /tmp/widen.py {path}; rm /tmp/widen.py").out
    assert "open user.note\n" in said
    assert "posix_acl" not in said
    assert "security.capability" not in said
    assert web1.on(f"find {path} -perm /6007").out == ""
    assert "d" in web1.on(f"lsattr -d {path}/code/open").out.split()[0]
    assert web1.on(f"stat -c %h {path}/code/a; stat -c %U /srv/codesmith/home/cs-rights/kept").out == "1\ncs-rights\n"


def test_assign_is_refused_before_anything_is_touched(web1: Web1) -> None:
    client = web1.client
    client.workspace.create(name="still")
    web1.refuses(client.workspace.assign, "not_found", name="still", user="nobody")
    for verb in ({"name": "still", "user": "root"}, {"name": "etc", "user": "still"}):
        answer = json.loads(web1.helper({"verb": "workspace.assign", "arguments": verb}).out)
        assert answer["error"]["data"]["kind"] == "not_found", answer
    answer = json.loads(web1.helper({"verb": "workspace.assign", "arguments": {"name": "..", "user": "still"}}).out)
    assert answer["error"]["code"] == -32602
    client.user.create(name="late")
    web1.on("mv /srv/codesmith/workspaces/still /srv/codesmith/workspaces/moved-by-hand")
    web1.refuses(client.workspace.assign, "not_managed", name="still", user="late")
    web1.on("mv /srv/codesmith/workspaces/moved-by-hand /srv/codesmith/workspaces/still")
    assert client.workspace.get(name="still").state == "ready"
    assert client.workspace.exec(name="still", argv=["id", "-un"]).stdout == "cs-still\n"
