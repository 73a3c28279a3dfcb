"""Any login, any shell, any environment: prepare, connect, create and exec do what they do for root with bash."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import codesmith
from codesmith.errors import SecretRefused
from codesmith.nodes.registry import Registry
from codesmith.secrets import SHARED, SecretRequest
from codesmith.tunnel import control
from tests.person import Person

PASSWORD, SUDO_HINT = "a pässword of 'ops'", "--sudo-password-file"
PASSPHRASE = "a pässphrase"
BAD_ENVIRONMENT = {
    "PATH": "/nowhere",
    "LC_ALL": "xx_YY",
    "PYTHONPATH": "/nowhere",
    "PYTHONHOME": "/nowhere",
    "PYTHONSTARTUP": "/nowhere",
    "TMPDIR": "/tmp",
}
SETENV = "".join(f"setenv {name} {value}\n" for name, value in BAD_ENVIRONMENT.items())
EXPORT = "".join(f"export {name}={value}\n" for name, value in BAD_ENVIRONMENT.items())
SET_X = "".join(f"set -x {name} {value}\n" for name, value in BAD_ENVIRONMENT.items())
# Shell: where it is, the file it reads for a command over ssh, and what stands there.
SHELLS = {
    "dash": ("/bin/dash", ".profile", ""),
    "fish": ("/usr/bin/fish", ".config/fish/config.fish", f"echo -n password:\nread line\numask 077\n{SET_X}"),
    "tcsh": ("/bin/tcsh", ".tcshrc", f'echo -n password:\nset line = "$<"\nset noclobber\numask 077\n{SETENV}'),
    "zsh": ("/usr/bin/zsh", ".zshenv", f"echo -n password:\nread line\nsetopt noclobber\numask 077\n{EXPORT}"),
}
# /etc/environment reaches every login, through PAM.
HOSTILE = r"""
echo 'Last login. password:' >/etc/motd
echo 'password:' >/etc/issue.net
sed -i '/^Subsystem/d' /etc/ssh/sshd_config
printf 'Banner /etc/issue.net\nPrintMotd yes\n' >/etc/ssh/sshd_config.d/00-hostile.conf
mount -t tmpfs -o noexec,nosuid,mode=1777 tmpfs /tmp
cat >/etc/environment
systemctl reset-failed ssh
systemctl restart ssh
"""


class Logins:
    """One node, entered by logins with different shells and rights; each is a node of its own name in nodes.yaml."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.lab_node = person.lab_node("web1")
        self.entries: dict[str, dict[str, object]] = {}

    def on(self, script: str, text: str = "") -> str:
        """Run a script on the node as root, past CodeSmith."""
        return self.lab_node.run(["/bin/sh", "-euc", script], input=text).stdout

    def add(self, name: str, **entry: object) -> None:
        """Write a node into nodes.yaml that leads to the node by this login."""
        self.entries[name] = {**self.person.lab_entry("web1"), "user": name, **entry}
        known = {key: {field: value for field, value in one.items() if value} for key, one in self.entries.items()}
        self.person.registry.write_text(json.dumps({"nodes": known}, indent=2))

    def add_shell(self, name: str) -> None:
        """Make a login with this shell, whose rc file does everything that it should not."""
        path, file, text = SHELLS[name]
        self.lab_node.add_login(name, sudo="nopasswd", shell=path)
        where = f"/home/{name}/{file}"
        self.on(f'mkdir -p "$(dirname {where})"; cat >{where}; chown -R {name}: /home/{name}', text)
        self.add(name)

    def works(self, name: str, workspace: str) -> None:
        """Create a workspace and run something in it."""
        with codesmith.connect(name) as client:
            client.workspace.create(name=workspace)
            done = client.workspace.exec(name=workspace, argv=["sh", "-c", "id -un; exit 3"])
            assert (done.exit_code, done.stdout[:3]) == (3, "cs-")

    def set_sshd(self, *lines: str) -> None:
        """Give sshd further settings; none takes them back."""
        text = "".join(f"{line}\n" for line in lines)
        self.on("cat >/etc/ssh/sshd_config.d/00-test.conf; systemctl reset-failed ssh; systemctl restart ssh", text)


def disconnect_all() -> None:
    """Take every endpoint down; none accepts any more afterwards."""
    for node in Registry.load().nodes.values():
        control.disconnect(node)


@pytest.fixture(scope="module")
def logins(make_person: Callable[..., Person]) -> Iterator[Logins]:
    found = Logins(make_person({"web1": "bookworm"}))
    found.on(HOSTILE, "".join(f"{name}={value}\n" for name, value in BAD_ENVIRONMENT.items()))
    with pytest.MonkeyPatch.context() as patch:
        for key in ("CODESMITH_HOME", "CODESMITH_NODES"):
            patch.setenv(key, found.person.environment[key])
        yield found


@pytest.fixture(scope="module")
def shells(logins: Logins) -> Logins:
    """Logins with all shells, and the node prepared by each of them."""
    for name in SHELLS:
        logins.add_shell(name)
    rows = logins.person.runs("inv node.prepare --all --jobs 2 --json").json
    assert [row["node"] for row in rows] == list(SHELLS)
    return logins


@pytest.mark.parametrize("shell", sorted(SHELLS))
def test_every_shell_and_environment_will_do(shells: Logins, shell: str) -> None:
    shells.works(shell, f"ws-{shell}")


def test_every_shell_will_do_where_calls_pass_it(shells: Logins) -> None:
    """Without stream-local forwarding each stream is a command of the login shell."""
    shells.set_sshd("AllowStreamLocalForwarding no")
    disconnect_all()
    text = "0123456789" * 9_000
    try:
        for shell in SHELLS:
            # Two connections: the first takes the stream of the proof, the other one that nobody has read from yet.
            with codesmith.connect(shell) as one, codesmith.connect(shell) as other:
                for client in (one, other):
                    client.node.version()
                done = other.workspace.exec(name=f"ws-{shell}", argv=["printf", "%s", text])
            assert done.stdout == text
        assert [state.via for state in control.status()] == ["dial"] * len(SHELLS)
    finally:
        shells.set_sshd()
        disconnect_all()


def test_after_prepare_neither_sudo_nor_root_is_needed(shells: Logins) -> None:
    shells.on("chmod 0 /usr/bin/sudo")
    shells.set_sshd("PermitRootLogin no")
    disconnect_all()
    try:
        shells.works("zsh", "steady")
        assert "there is no sudo" in shells.person.fails("inv node.restart --node zsh", code=4).err
    finally:
        shells.on("chmod 4755 /usr/bin/sudo")
        shells.set_sshd()


# Passwords


@pytest.fixture(scope="module")
def typist(shells: Logins) -> Logins:
    """A login without a key, whose sudo wants a password."""
    shells.lab_node.add_login("typist", sudo="password", password=PASSWORD)
    shells.on("rm -r /home/typist/.ssh")
    shells.add("typist", identity=None)
    return shells


def test_passwords_are_asked_for_on_the_terminal(typist: Logins) -> None:
    person, host = typist.person, typist.entries["typist"]["host"]
    login = (f"typist: password of typist ({host}:22): ", PASSWORD)
    sudo = ("typist: sudo password of typist: ", PASSWORD)
    shown = person.types("inv node.prepare --node typist", login, sudo)
    assert "answers on node" in shown
    assert PASSWORD not in shown
    person.types("inv node.connect --node typist", login)
    pid = control.ping()
    typist.works("typist", "typed")

    # The forwarder logs in again by itself, and has the password nowhere but in its memory.
    before = connections(typist)
    typist.on("loginctl terminate-user typist")
    person.wait_until(lambda: connections(typist) > before and is_ready(), within_s=30)
    word = PASSWORD.encode()
    assert not [file for file in person.home.rglob("*") if file.is_file() and word in file.read_bytes()]
    assert word not in Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()

    # Forgotten with the endpoint; where nobody can be asked it is said what is missing, and nothing is tried.
    person.runs("inv node.disconnect --node typist")
    said = person.fails("inv node.connect --node typist", code=4).err
    assert "sshd accepts a password, but none was given" in said


def connections(logins: Logins) -> int:
    return next(state.counts["ssh_connections"] for state in control.status() if state.name == "typist")


def is_ready() -> bool:
    return next(state.state for state in control.status() if state.name == "typist") == "ready"


def test_ctrl_c_at_a_question_leaves_a_terminal_that_shows_what_is_typed(typist: Logins) -> None:
    typist.add("typist2", user="typist", identity=None)
    command = "inv node.connect --node typist --node typist2; code=$?; stty -a; exit $code"
    shown = typist.person.types(command, ("password of typist", "\x03"), code=2)
    assert "error: cancelled" in shown
    assert " echo " in shown


@pytest.mark.long  # tests/ssh/test_ssh_secrets.py has a wrong word that is not kept
def test_a_refused_password_is_forgotten_by_all(typist: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(wanted: SecretRequest) -> str:
        asked.append(wanted.kind)
        return "wrong" if len(asked) == 1 else PASSWORD

    monkeypatch.setattr(SHARED, "ask", answer)
    node = Registry.load(typist.person.registry).get("typist")
    with pytest.raises(SecretRefused, match=r"the password was refused \(tried once\)"):
        control.connect(node)
    assert control.connect(node).state == "ready"
    assert asked == ["password", "password"]
    SHARED.forget(next(iter(SHARED.known())), PASSWORD)


@pytest.fixture
def keyed(typist: Logins) -> Logins:
    """The same login, with the lab's key from now on."""
    typist.add("typist")
    keys = (typist.lab_node.root / "root/.ssh/authorized_keys").read_text()
    typist.on(
        "umask 077; mkdir -p /home/typist/.ssh; cat >/home/typist/.ssh/authorized_keys; chown -R typist: /home/typist",
        keys,
    )
    return typist


def test_the_password_of_sudo_comes_from_a_file(keyed: Logins, tmp_path: Path) -> None:
    person = keyed.person
    said = person.fails("inv node.restart --node typist", code=4).err
    assert "typist cannot become root without a password" in said
    assert SUDO_HINT in said
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\nsecond line\n")
    person.runs(f"inv node.restart --node typist {SUDO_HINT} {file}")
    file.write_text("wrong\n")
    assert "sudo refused the password" in person.fails(f"inv node.stop --node typist {SUDO_HINT} {file}", code=4).err
    keyed.works("zsh", "still-there")


@pytest.mark.long
def test_the_password_of_sudo_comes_from_a_pipe(keyed: Logins) -> None:
    person = keyed.person
    person.environment["WORD"] = PASSWORD
    person.runs(f"inv node.logs --node typist {SUDO_HINT} <(printenv WORD)")
    person.runs(f"inv node.restart --node typist {SUDO_HINT} -", typed=f"{PASSWORD}\n")


@pytest.mark.long
def test_a_passphrase_opens_every_node_of_a_command(typist: Logins, tmp_path: Path) -> None:
    person, key = typist.person, tmp_path / "id_locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-f", str(key)], check=True)
    for name in ("locked1", "locked2"):
        typist.add(name, user="root", identity=str(key))
    typist.on("cat >>/root/.ssh/authorized_keys", key.with_suffix(".pub").read_text())
    asked = f"passphrase of the key {key}: "
    shown = person.types("inv node.version --node locked1 --node locked2", (asked, PASSPHRASE))
    assert shown.count(asked) == 1
    assert PASSPHRASE not in shown
    disconnect_all()
    said = person.fails("inv node.connect --node locked1", code=4).err
    assert f"ssh-add {key}" in said
