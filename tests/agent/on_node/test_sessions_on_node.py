"""Sessions at the node's sshd, outside of every workspace: what somebody who has a key can take of the node there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.helper.accounts import session_limits
from tests.agent.on_node.test_keys_on_node import ENTER, OPTIONS, access_of, health
from tests.agent.on_node.web1 import Web1
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
# How many more than the bound allows, a few at once: sshd refuses more than ten that are not yet let in.
TOO_MANY, AT_ONCE = 8, 8
# What a person with a key can do: begin sessions that stay, each of which is three processes.
MANY = f"""
cat >/root/one <<'END'
ssh {OPTIONS} -i /root/.ssh/ann cs-ann@127.0.0.1 'echo up; exec sleep 1000' >/root/said.$1 2>&1 </dev/null &
i=0; until test -s /root/said.$1 || test $i -gt 400 || ! kill -0 $! 2>/dev/null; do sleep 0.05; i=$((i+1)); done
END
rm -f /root/said.*
seq "$sessions" | setsid xargs -P {AT_ONCE} -I% sh /root/one %
grep -lx up /root/said.* | wc -l
"""


@pytest.fixture(scope="module", autouse=True)
def people(web1: Web1) -> Iterator[None]:
    """Ann and bob, with a key and a workspace each; sshd counts no attempts."""
    penalties = "if sshd -T | grep -qi persourcepenalties; then echo PerSourcePenalties no >>$file; fi"
    web1.on(f"file=/etc/ssh/sshd_config.d/00-tests.conf; echo MaxStartups 60 >$file; {penalties}; systemctl reload ssh")
    web1.person.wait_until(lambda: web1.on("ssh-keyscan 127.0.0.1", check=False).out != "", within_s=20)
    for name in ("ann", "bob"):
        web1.on(f"mkdir -p -m 700 /root/.ssh; ssh-keygen -q -N '' -t ed25519 -f /root/.ssh/{name}")
        line = web1.on(f"cat /root/.ssh/{name}.pub").out.strip()
        web1.client.user.create(name=name, ssh_keys=[line])
        web1.client.workspace.create(name=f"{name}-site", user=name)
    yield


def unit(web1: Web1, name: str) -> str:
    return f"user-{web1.client.user.get(name=name).uid}.slice"


def of_group(web1: Web1, name: str, *files: str) -> int:
    """Return a number of the control group of a login's sessions; files of version 2, or of version 1."""
    place = f"/sys/fs/cgroup/{{pids/,memory/,}}user.slice/{unit(web1, name)}"
    paths = " ".join(f"{place}/{file}" for file in files)
    return int(web1.on(f"bash -c 'cat {paths} 2>/dev/null | head -1'").out)


def folder(web1: Web1, name: str) -> str:
    return f"{session_limits.UNITS}/{unit(web1, name)}.d"


@pytest.mark.parametrize("tasks", [36, pytest.param(session_limits.TASKS, marks=pytest.mark.long)])
def test_who_opens_many_sessions_is_bounded_and_hurts_nobody_else(web1: Web1, tasks: int) -> None:
    # A lower bound of an administrator's, which is reached sooner; or ours, written once more.
    lower = f"{folder(web1, 'ann')}/90-lower.conf"
    web1.on(f"printf '[Slice]\\nTasksMax={tasks}\\n' >{lower}; systemctl daemon-reload")
    there = int(web1.on(f"sessions={tasks // 3 + TOO_MANY}\n{MANY}").out)
    assert there == tasks // 3
    assert of_group(web1, "ann", "pids.max") == tasks
    assert of_group(web1, "ann", "memory.max", "memory.limit_in_bytes") == 512 << 20
    assert of_group(web1, "ann", "pids.current") <= tasks
    assert web1.on(f"ssh {OPTIONS} -i /root/.ssh/bob cs-bob@127.0.0.1 id -un").out == "cs-bob-site\n"
    assert web1.client.workspace.exec(name="ann-site", argv=["id", "-un"]).stdout == "cs-ann-site\n"
    assert not web1.on(f"ssh {OPTIONS} -i /root/.ssh/ann cs-ann@127.0.0.1 true", check=False).ok
    # Whoever is put out leaves room again.
    web1.client.user.disable(name="ann")
    web1.client.user.enable(name="ann")
    assert web1.on(f"ssh {OPTIONS} -i /root/.ssh/ann cs-ann@127.0.0.1 id -un").out == "cs-ann-site\n"
    web1.on(f"rm {lower}; systemctl daemon-reload")


def test_what_a_session_holds_of_the_nodes_memory_ends_at_the_bound(web1: Web1) -> None:
    """No program of hers can do this; what is behind the door takes all that it gets."""
    hog = "#!/usr/bin/python3 -IS\nx = bytearray(800 << 20)\nprint(len(x))\n"
    web1.on(f"cp -p {ENTER} /root/enter.kept; printf '{hog}' >{ENTER}".replace("\n", "\\n"))
    said = web1.on(f"ssh {OPTIONS} -i /root/.ssh/ann cs-ann@127.0.0.1", check=False)
    web1.on(f"mv /root/enter.kept {ENTER}")
    assert (said.out, said.ok) == ("", False)
    assert web1.on(f"ssh {OPTIONS} -i /root/.ssh/bob cs-bob@127.0.0.1 id -un").out == "cs-bob-site\n"


def test_the_bounds_are_there_before_an_account_is_open_and_go_with_it(web1: Web1) -> None:
    user = web1.client.user
    place = f"{session_limits.UNITS}/user-{user.create(name='new').uid}.slice.d"
    assert not web1.on(f"ls {place}", check=False).ok, "nobody can begin a session"
    user.add_keys(name="new", ssh_keys=[web1.on("cat /root/.ssh/bob.pub").out.strip()])
    assert web1.on(f"ls {place}; stat -c '%U %a' {place} {place}/*").out.split() == [
        session_limits.FILE, "root", "755", "root", "644",
    ]  # fmt: skip
    web1.on(f"sed -i s/={session_limits.TASKS}/=infinity/ {place}/*")
    assert user.get(name="new").drift == ["its sessions at sshd have no bounds"]
    user.enable(name="new")
    assert web1.on(f"cat {place}/*").out == session_limits.TEXT
    web1.on(f"rm -r {place}")
    assert "its sessions at sshd have no bounds" in health(web1, "policy")
    web1.person.runs("inv node.prepare")
    assert user.get(name="new").drift == []
    # What an administrator puts beside it is the administrator's.
    web1.on(f"printf '[Slice]\\nTasksMax=50\\n' >{place}/50-mine.conf")
    web1.on(f"touch {place}/.{session_limits.FILE}.new")
    assert user.delete(name="new").leftovers == [place]
    assert web1.on(f"ls {place}").out == "50-mine.conf\n"
    web1.on(f"rm -r {place}")
    assert access_of(web1, "bob")[2] == ENTER


def test_the_bounds_of_a_login_that_stays_with_its_workspace_go_with_the_user(web1: Web1) -> None:
    line = web1.on("cat /root/.ssh/bob.pub").out.strip()
    web1.client.workspace.create(name="both", ssh_keys=[line])
    place = folder(web1, "both")
    web1.client.workspace.assign(name="both", user="bob")
    assert web1.on(f"ls {place}").out == f"{session_limits.FILE}\n"
    web1.client.user.delete(name="both")
    assert not web1.on(f"ls {place}", check=False).ok
    web1.client.workspace.delete(name="both")
