"""Breaks each thing that node.doctor checks on a real node, and looks at the finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codesmith.bootstrap import layout
from tests.person import Person

Row = dict[str, str]


@pytest.fixture(scope="module")
def ops(make_person: Callable[..., Person]) -> Person:
    """A person with one prepared and one bare node, and a login without sudo on the first."""
    person = make_person({"web1": "bookworm", "bare": "bookworm"})
    person.prepare("web1")
    person.lab_node("web1").add_login("plain")
    return person


def examine(person: Person, node: str = "web1", *, code: int) -> dict[str, Row]:
    """Return the doctor's findings about a node, by code."""
    rows = person.runs(f"inv node.doctor --node {node} --json", code=code).json
    return {row["code"]: row for row in rows if row["node"] == node}


def told(row: Row) -> tuple[str, str]:
    return row["status"], row["next"]


@contextmanager
def entry(person: Person, **changes: Any) -> Iterator[None]:
    """Change the entry of web1 in nodes.yaml."""
    true = {name: person.lab_entry(name) for name in ("web1", "bare")}
    person.write_registry({**true, "web1": {**true["web1"], **changes}})
    try:
        yield
    finally:
        person.write_registry(true)


def test_nothing_is_wrong_with_a_prepared_node(ops: Person) -> None:
    rows = ops.runs("inv node.doctor --node web1 --json").json
    assert {row["status"] for row in rows} == {"ok"}, [row for row in rows if row["status"] != "ok"]
    assert {row["node"] for row in rows} == {"controller", "web1"}
    assert not any(row["next"] for row in rows)


def test_it_changes_nothing_on_the_node(ops: Person) -> None:
    # Without the helper's folder: node.health calls the helper, and SQLite makes temporary files there.
    helper, ledger = "/var/lib/codesmith-helper", "/var/lib/codesmith-helper/ledger.db"
    places = f"/etc /usr/lib/codesmith /srv /var/lib/codesmith* {ledger} /root"
    listing = f"find {places} -xdev -path {helper} -prune -o -printf '%p %m %u %T@ %s\\n' | sort"
    before = ops.on("web1", listing).out
    examine(ops, code=0)
    assert ops.on("web1", listing).out == before


def test_without_a_choice_it_looks_at_every_node_and_a_node_without_agent_fails(ops: Person) -> None:
    said = ops.runs("inv node.doctor --json", code=1)
    assert [row["node"] for row in said.json if row["code"] == "ssh.login"] == ["web1", "bare"]
    bare = {row["code"]: row for row in said.json if row["node"] == "bare"}
    assert told(bare["agent.installed"]) == ("fail", "inv node.prepare --node bare")
    assert "agent.answers" not in bare
    assert said.err == ""


def test_people_get_a_line_per_finding(ops: Person) -> None:
    lines = ops.runs("inv node.doctor --node web1").out.splitlines()
    assert ["web1", "agent.answers", "ok"] in [line.split("\t")[:3] for line in lines]
    assert all(len(line.split("\t")) == 5 for line in lines)


# Knocks at every socket of the node, as somebody without any rights.
KNOCK = """\
cd /run; for path in codesmith/agent.sock codesmith/door.sock codesmith/scoped.sock codesmith-helper/helper.sock; do
    setpriv --reuid=nobody --regid=nogroup --clear-groups python3 -c '
import socket, sys
sys.exit(socket.socket(socket.AF_UNIX).connect_ex(sys.argv[1]) != 0)' $path && echo $path
done; systemctl is-active codesmith-agent.service"""


def test_a_stopped_agent_stays_stopped_whoever_knocks_and_is_found_over_ssh(ops: Person) -> None:
    assert ops.on("web1", KNOCK, check=False).out.split() == ["codesmith/door.sock", "active"]
    ops.runs("inv node.stop --node web1")
    try:
        assert ops.on("web1", KNOCK, check=False).out.split() == ["inactive"]
        found = examine(ops, code=1)
        assert set(layout.ENABLED) <= set(found["agent.units"]["detail"].replace(",", "").split())
    finally:
        ops.runs("inv node.start --node web1")
    assert ops.on("web1", KNOCK, check=False).out.split() == ["codesmith/door.sock", "active"]
    assert told(found["agent.units"]) == ("fail", "inv node.start --node web1; inv node.logs --node web1")
    assert told(found["agent.answers"]) == ("fail", "inv node.restart --node web1; inv node.logs --node web1")
    assert told(found["agent.drift"]) == ("warn", "inv node.prepare --node web1 --plan")
    assert found["ssh.shell"]["status"] == "ok"


@pytest.mark.parametrize("path", ["/run/codesmith/agent.sock", pytest.param("/run/codesmith", marks=pytest.mark.long)])
def test_a_socket_that_somebody_removed_is_told_and_comes_back(ops: Person, path: str) -> None:
    ops.on("web1", f"rm -r {path}")
    ops.runs("inv node.disconnect --node web1", check=False)
    said = ops.fails("inv workspace.list --node web1", code=5).err
    assert "the agent on web1 runs, but somebody has removed its socket /run/codesmith/agent.sock" in said
    assert "hint: inv node.start --node web1" in said
    found = examine(ops, code=1)
    assert found["agent.answers"]["detail"] == "no: /run/codesmith/agent.sock: No such file or directory"
    assert told(found["agent.answers"]) == ("fail", "inv node.restart --node web1; inv node.logs --node web1")
    ops.runs("inv node.start --node web1")
    ops.runs("inv workspace.list --node web1")


def test_a_helpers_socket_that_somebody_removed_comes_back(ops: Person) -> None:
    ops.on("web1", "rm /run/codesmith-helper/helper.sock")
    assert "does not answer" in ops.fails("inv user.create nobody --node web1", code=6).err
    ops.runs("inv node.restart --node web1")
    ops.runs("inv user.create somebody --node web1")


def test_a_unit_that_does_not_start_at_boot_is_a_warning(ops: Person) -> None:
    wants, reload = "/etc/systemd/system/multi-user.target.wants/codesmith-agent.service", "systemctl daemon-reload"
    with ops.meanwhile("web1", f"mv {wants} /root/wants; {reload}", f"mv /root/wants {wants}; {reload}"):
        found = examine(ops, code=0)
    assert told(found["agent.units"]) == ("warn", "inv node.prepare --node web1")
    assert "codesmith-agent.service" in found["agent.units"]["detail"]


@pytest.mark.long
def test_an_agent_that_is_alive_and_silent_fails(ops: Person) -> None:
    stop = "systemctl kill --signal=STOP codesmith-agent.service"
    with ops.meanwhile("web1", stop, "systemctl kill --signal=CONT codesmith-agent.service"):
        found = examine(ops, code=1)
    assert found["agent.answers"]["status"] == "fail"
    assert found["agent.units"]["status"] == "ok"


def test_what_the_agent_finds_itself_is_passed_on(ops: Person) -> None:
    with ops.meanwhile("web1", "chmod 777 /srv/codesmith/home", "chmod 711 /srv/codesmith/home"):
        found = examine(ops, code=1)
    assert told(found["agent.health"]) == ("fail", "inv node.health --node web1")
    assert "/srv/codesmith/home must be" in found["agent.health"]["detail"]
    assert told(found["agent.drift"]) == ("warn", "inv node.prepare --node web1 --plan")


def test_another_agent_than_ours_is_an_upgrade(ops: Person) -> None:
    agent = "/usr/lib/codesmith/current/agent.pyz"
    restart = "systemctl restart codesmith-agent.service"
    longer = f"cp -p {agent} /root/kept; printf 'x' | cat - /root/kept > {agent}; {restart}"
    # A zip may begin with anything, and the build is the digest of the file.
    with ops.meanwhile("web1", longer, f"cat /root/kept > {agent}; rm /root/kept; {restart}"):
        found = examine(ops, code=0)
    assert told(found["agent.version"]) == ("warn", "inv node.prepare --node web1")


def test_little_room_is_a_warning_and_none_a_failure(ops: Person) -> None:
    for size, status, code in (("100m", "warn", 1), ("4m", "fail", 1)):
        with ops.meanwhile("web1", f"mount -t tmpfs -o size={size} tmpfs /var/tmp && mount --bind /var/tmp /srv",
                     "umount /srv; umount /var/tmp"):  # fmt: skip
            found = examine(ops, code=code)
        assert told(found["disk.srv"]) == (status, "on the node: df -h /srv")
        assert found["disk.usr"]["status"] == "ok"
    assert "/srv has 4 MiB free" in found["node.system"]["detail"]
    assert found["node.system"]["status"] == "fail"


def test_a_node_that_became_another_fails(ops: Person) -> None:
    ops.runs("inv node.version --node web1")
    node_json = "/etc/codesmith/node.json"
    other = f'cp -p {node_json} /root/kept; sed -i \'s/"node_id": *"..../"node_id": "0000/\' {node_json}'
    with ops.meanwhile("web1", other, f"cp -p /root/kept {node_json}; rm /root/kept"):
        found = examine(ops, code=1)
    assert told(found["agent.node-id"]) == ("fail", "if that is right: inv node.prepare --node web1")


def test_a_login_without_sudo_sees_what_it_can(ops: Person) -> None:
    with entry(ops, user="plain"):
        found = examine(ops, code=1)
        assert found["node.root"]["status"] == "warn"
        assert "NOPASSWD" in found["node.root"]["next"]
        assert found["agent.units"]["status"] == "ok"
        # It is not in the clients' group, and the doctor calls the agent as a client.
        assert found["agent.answers"]["status"] == "fail"
        assert found["agent.answers"]["detail"] == "no: /run/codesmith/agent.sock: Permission denied"
        assert told(found["agent.answers"]) == ("fail", "inv node.prepare --node web1; inv node.logs --node web1")
        ops.on("web1", "gpasswd -a plain codesmith-clients")
        found = examine(ops, code=0)
    assert found["agent.answers"]["status"] == "ok"
    assert told(found["agent.drift"]) == ("warn", "inv node.prepare --node web1 --plan")
    assert "authentication failure" not in ops.on("web1", "journalctl -q --no-pager").out


@pytest.mark.parametrize(
    ("wrong", "right", "detail", "next_"),
    [
        ("true", "true", "sudo asks for the password of", "inv node.verify --node web1 --sudo-password-file PATH"),
        (
            "echo 'Defaults requiretty' >/etc/sudoers.d/zz-test", "rm /etc/sudoers.d/zz-test",
            "wants a terminal", "!requiretty",
        ),
        ("cd /usr/bin; mv sudo sudo.gone", "cd /usr/bin; mv sudo.gone sudo", "there is no sudo", "user: root"),
    ],
)  # fmt: skip
def test_each_sudo_has_its_own_advice(ops: Person, wrong: str, right: str, detail: str, next_: str) -> None:
    if not ops.on("web1", "id asked", check=False).ok:
        ops.lab_node("web1").add_login("asked", sudo="password", password="secret")
    with entry(ops, user="asked"), ops.meanwhile("web1", wrong, right):
        found = examine(ops, code=1)
    assert found["node.root"]["status"] == "warn"
    assert detail in found["node.root"]["detail"] and next_ in found["node.root"]["next"]
    assert "authentication failure" not in ops.on("web1", "journalctl -q --no-pager").out


@pytest.mark.parametrize("left", ["", ".pub"])
def test_an_identity_that_is_not_there_fails(ops: Person, tmp_path: Path, left: str) -> None:
    """The public half of a key is enough if an ssh agent has the private half; here none has it."""
    if left:
        public = Path(f"{ops.lab_entry('web1')['identity']}.pub")
        (tmp_path / "key.pub").write_text(public.read_text())
    with entry(ops, identity=str(tmp_path / "key")):
        found = examine(ops, code=1)
    assert found["ssh.identity"]["status"] == ("ok" if left else "fail")
    assert found["ssh.login"]["status"] == "fail" and "identity" in found["ssh.login"]["detail"]


def test_a_login_whose_shell_runs_nothing_fails(ops: Person) -> None:
    ops.on("web1", "usermod -s /usr/sbin/nologin plain")
    with entry(ops, user="plain"):
        found = examine(ops, code=1)
    assert found["ssh.shell"]["status"] == "fail"
    assert found["ssh.shell"]["next"].startswith("ssh plain@")


def test_a_changed_and_an_unknown_host_key_fail_with_the_errors_hint(ops: Person) -> None:
    with ops.changed_host_key("web1"):
        found = examine(ops, code=1)
    assert found["ssh.host-key"]["status"] == "fail"
    assert "ssh-keygen -R" in found["ssh.host-key"]["next"]
    assert found["ssh.reach"]["status"] == "ok"
    assert "ssh.login" not in found
    pins = ops.registry.parent / "known_hosts"
    true = pins.read_text()
    pins.write_text("")
    found = examine(ops, code=1)
    pins.write_text(true)
    assert found["ssh.host-key"]["next"].endswith("inv node.trust web1")


@pytest.mark.long
def test_what_holds_the_connection_is_shown_and_why(ops: Person) -> None:
    assert examine(ops, code=0)["ssh.carrier"]["detail"] == "fabric"
    with entry(ops, ssh="openssh"):
        assert examine(ops, code=0)["ssh.carrier"]["detail"] == "openssh, as nodes.yaml says"
        assert [row["carrier"] for row in ops.runs("inv node.connect --node web1 --json").json] == ["openssh"]
        assert [row["carrier"] for row in ops.runs("inv node.status --node web1 --json").json] == ["openssh"]
        ops.runs("inv node.disconnect --node web1")
    conf = "/etc/ssh/sshd_config.d/00-carrier.conf"
    with ops.meanwhile(
        "web1",
        f"echo Ciphers chacha20-poly1305@openssh.com >{conf}; systemctl restart ssh",
        f"rm {conf}; systemctl restart ssh",
    ):
        detail = examine(ops, code=0)["ssh.carrier"]["detail"]
    assert detail.startswith("openssh; fabric ended with: ")
    assert "no common algorithm" in detail


def test_a_refused_login_fails(ops: Person) -> None:
    with entry(ops, user="nobody-of-that-name"):
        found = examine(ops, code=1)
    assert found["ssh.login"]["status"] == "fail"
    assert "ssh-copy-id" in found["ssh.login"]["next"]
    assert found["ssh.host-key"]["status"] == "ok"


def test_no_way_to_the_node_fails(ops: Person) -> None:
    for changes in ({"port": 1}, {"host": "nowhere.invalid"}):
        with entry(ops, **changes):
            found = examine(ops, code=1)
        assert found["ssh.reach"]["status"] == "fail"
        assert found["ssh.reach"]["next"].startswith("ssh -v")
        assert "ssh.host-key" not in found


def test_a_node_of_which_nobody_knows_where_it_is_fails(ops: Person) -> None:
    true = ops.registry.read_text()
    ops.registry.write_text("nodes: {off1: {lab: bookworm}}")
    found = examine(ops, "off1", code=1)
    ops.registry.write_text(true)
    assert told(found["ssh.config"]) == ("fail", "inv lab.up --node off1")
    assert "ssh.reach" not in found


def test_the_private_key_of_nodes_yaml_is_looked_at(ops: Person, tmp_path: Path) -> None:
    key = tmp_path / "id"
    key.write_bytes(Path(ops.lab_entry("web1")["identity"]).read_bytes())
    key.chmod(0o644)
    with entry(ops, identity=str(key)):
        found = examine(ops, code=0)
        assert told(found["ssh.identity"]) == ("warn", f"chmod 600 {key}")
        key.unlink()
        found = examine(ops, code=1)
    assert found["ssh.identity"]["status"] == "fail"


@pytest.mark.long
def test_an_endpoint_that_lost_its_node_is_a_warning(ops: Person) -> None:
    ops.runs("inv node.connect --node web1")
    assert examine(ops, code=0)["endpoint.state"]["detail"].startswith("ready: ")
    ops.runs("inv node.stop --node web1")
    try:
        ops.runs("inv node.version --node web1", code=5)
        found = examine(ops, code=1)
    finally:
        ops.runs("inv node.start --node web1")
        ops.runs("inv node.disconnect --node web1")
    assert told(found["endpoint.state"]) == ("warn", "inv node.start --node web1")
    assert found["endpoint.state"]["detail"].startswith("degraded: the agent on web1 is stopped")


def test_an_endpoint_of_an_entry_that_was_changed_is_a_warning(ops: Person) -> None:
    ops.runs("inv node.connect --node web1")
    try:
        with entry(ops, tags=["eu"], port=22, user="plain"):
            found = examine(ops, code=1)
    finally:
        ops.runs("inv node.disconnect --node web1")
    assert told(found["endpoint.state"]) == ("warn", "inv node.connect --node web1")


def test_a_name_that_is_not_there_is_an_error_as_everywhere(ops: Person) -> None:
    ops.fails("inv node.doctor --node nope", code=3)
