"""Root with sudo: without a password, with a right one, with a wrong one, which is one failed attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from codesmith.errors import AuthenticationFailed, SecretNeeded, SecretRefused
from codesmith.lab import LabNode
from codesmith.secrets import SecretRequest, Secrets
from codesmith.ssh.connection import Connection
from codesmith.ssh.script import run_script
from codesmith.ssh.sudo import RULES
from tests.kinds import FABRIC_FIRST
from tests.ssh.remote_logins import add_login

Open = Callable[..., Connection]
PASSWORD = "correct horse % 'ä\" $(id) \\"
PAYLOAD = bytes(range(256)) * 2000
# What somebody finds who looks into every process while the script runs; the words to look for come as input.
SEARCH = """exec /usr/bin/python3 -c '
import glob, sys
word = sys.stdin.buffer.read()
for name in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
    try:
        if word in open(name, "rb").read(): print(name)
    except OSError: pass
print("looked")'
"""


class Answers:
    """A person who gives the same answer to every question, and counts them."""

    def __init__(self, answer: str | None) -> None:
        self.answer, self.asked = answer, list[SecretRequest]()

    def __call__(self, wanted: SecretRequest) -> str | None:
        self.asked.append(wanted)
        return self.answer


@pytest.fixture(scope="module")
def careful(node: LabNode) -> str:
    """A login whose sudo wants a password."""
    return add_login(node, "careful", sudo="password", password=PASSWORD)


@pytest.fixture
def defaults(node: LabNode) -> Iterator[Callable[[str], None]]:
    """Set `Defaults` of sudo for one test."""
    file = node.root / "etc/sudoers.d/zz-test"

    def put(text: str) -> None:
        file.write_text(text + "\n")
        file.chmod(0o440)
        node.run(["visudo", "--check", "--quiet"])

    yield put
    file.unlink(missing_ok=True)


@pytest.fixture
def sudo_log(node: LabNode) -> Callable[[], str]:
    """Return what was written to the journal since the test began."""
    cursor = node.run(["journalctl", "--lines=0", "--show-cursor", "--quiet"]).stdout.split("-- cursor: ")[-1].strip()

    def read() -> str:
        node.run(["journalctl", "--sync"])
        # Not of one unit or program: journald may find no process any more to ask which it was.
        return node.run(["journalctl", f"--after-cursor={cursor}", "--output=cat"]).stdout

    return read


def with_answers(open_to: Open, user: str, answer: str | None) -> tuple[Connection, Answers]:
    person = Answers(answer)
    connection = open_to(user=user)
    connection.secrets = Secrets(person)
    return connection, person


@pytest.mark.parametrize("setting", ["", "Defaults use_pty, lecture=always, timestamp_timeout=0, passwd_tries=1"])
def test_a_password_is_asked_for_once_and_every_byte_arrives(
    open_to: Open, careful: str, defaults: Callable[[str], None], sudo_log: Callable[[], str], setting: str
) -> None:
    defaults(setting)
    connection, person = with_answers(open_to, careful, PASSWORD)
    for _ in range(2):
        done = run_script(connection, 'id -u; echo "$LOGIN $HOME"; echo problem >&2; cat', PAYLOAD, root=True)
        assert done.stdout == b"0\ncareful /root\n" + PAYLOAD
        assert (done.status, done.stderr) == (0, "problem")
    assert [one.prompt for one in person.asked] == [f"{connection.target.name}: sudo password of careful: "]
    assert "authentication failure" not in sudo_log()


def test_only_the_first_script_finds_out_that_a_password_is_wanted(
    open_to: Open, careful: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, _ = with_answers(open_to, careful, PASSWORD)
    opened = []
    open_session = connection.transport.open_session

    def counted(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        return open_session(*args, **kwargs)

    monkeypatch.setattr(connection.transport, "open_session", counted)
    run_script(connection, "true", root=True)
    assert len(opened) == 2
    run_script(connection, "true", root=True)
    assert len(opened) == 3


def test_where_no_password_is_wanted_none_is_asked_for(node: LabNode, open_to: Open) -> None:
    add_login(node, "trusted", sudo="nopasswd")
    for user in ("trusted", "root"):
        connection, person = with_answers(open_to, user, "never given")
        assert run_script(connection, "id -u", root=True).stdout == b"0\n"
        assert not person.asked


def test_a_wrong_password_is_one_failed_attempt(open_to: Open, careful: str, sudo_log: Callable[[], str]) -> None:
    connection, person = with_answers(open_to, careful, "wrong")
    refused = pytest.raises(
        SecretRefused, match=r"careful cannot become root: sudo refused the password \(tried once\)"
    )
    with refused as error:
        run_script(connection, "cat >/root/should-not-be", b"wrong too\n" * 9, root=True)
    assert error.value.hint == "try again: inv ..."  # the command line writes out what was typed
    said = sudo_log()
    assert said.count("authentication failure") == 1
    assert said.count("incorrect password attempt") == 1
    assert "1 incorrect password attempt" in said
    assert len(person.asked) == 1
    person.answer = PASSWORD  # what was refused is not kept
    assert run_script(connection, "ls /root/should-not-be; id -u", root=True).stdout == b"0\n"


def test_without_a_password_nothing_is_attempted(open_to: Open, careful: str, sudo_log: Callable[[], str]) -> None:
    for answer in (None, ""):
        connection, _ = with_answers(open_to, careful, answer)
        with pytest.raises(SecretNeeded, match="careful cannot become root without a password") as error:
            run_script(connection, "id", root=True)
        assert "--sudo-password-file" in error.value.hint
    assert "authentication failure" not in sudo_log()
    assert "incorrect password" not in sudo_log()


@pytest.mark.parametrize("password", ["x" * 512, "two\nlines"])
def test_what_cannot_be_a_password_is_not_tried(
    open_to: Open, careful: str, sudo_log: Callable[[], str], password: str
) -> None:
    connection, _ = with_answers(open_to, careful, password)
    with pytest.raises(AuthenticationFailed, match="that is no password"):
        run_script(connection, "id", root=True)
    assert "authentication failure" not in sudo_log()


def test_the_password_is_seen_nowhere_on_the_node(node: LabNode, open_to: Open, careful: str) -> None:
    connection, _ = with_answers(open_to, careful, PASSWORD)
    assert run_script(connection, SEARCH, PASSWORD.encode(), root=True).stdout == b"looked\n"
    assert PASSWORD not in node.run(["journalctl", "--output=cat", "--no-pager"]).stdout
    files = node.run(
        ["grep", "-rlF", "-e", PASSWORD, "/tmp", "/var/log", "/var/lib/sudo", "/run/sudo", "/home"], check=False
    )
    assert files.stdout == ""


def test_a_sudo_that_wants_a_terminal_is_named(
    open_to: Open, careful: str, defaults: Callable[[str], None], sudo_log: Callable[[], str]
) -> None:
    defaults("Defaults requiretty")
    connection, person = with_answers(open_to, careful, PASSWORD)
    with pytest.raises(AuthenticationFailed, match="wants a terminal") as error:
        run_script(connection, "id", root=True)
    assert "!requiretty" in error.value.hint
    assert not person.asked
    assert "authentication failure" not in sudo_log()


def test_a_login_that_sudo_does_not_know_is_named(node: LabNode, open_to: Open, sudo_log: Callable[[], str]) -> None:
    add_login(node, "stranger", password=PASSWORD)
    connection, _ = with_answers(open_to, "stranger", PASSWORD)
    with pytest.raises(AuthenticationFailed, match="sudo there does not allow stranger"):
        run_script(connection, "id", root=True)
    assert "authentication failure" not in sudo_log()


def test_a_login_that_may_do_other_things_only_is_named(node: LabNode, open_to: Open) -> None:
    add_login(node, "narrow", password=PASSWORD)
    (node.root / "etc/sudoers.d/codesmith-operators").unlink(missing_ok=True)  # of the other carrier's turn
    file = node.root / "etc/sudoers.d/narrow"
    file.write_text("narrow ALL=(ALL) NOPASSWD: /usr/bin/id\n")
    file.chmod(0o440)
    connection, _ = with_answers(open_to, "narrow", PASSWORD)
    with pytest.raises(AuthenticationFailed, match="sudo there does not allow narrow") as error:
        run_script(connection, "id", root=True)
    # What the hint does on the node adds to its rules, and changes none that are there.
    command = error.value.hint.partition("on the node, as root: ")[2].partition("; or log in")[0]
    try:
        for _ in range(2):
            node.run(["/bin/sh", "-c", command])
        node.run(["visudo", "-c"])
        assert file.read_text() == "narrow ALL=(ALL) NOPASSWD: /usr/bin/id\n"
        assert run_script(connection, "id -u", root=True).stdout == b"0\n"
    finally:  # the other carrier has the same node
        (node.root / RULES.lstrip("/")).unlink()


def test_a_node_without_sudo_is_named(node: LabNode, open_to: Open, careful: str) -> None:
    node.run(["mv", "/usr/bin/sudo", "/usr/bin/sudo.gone"])
    try:
        connection, _ = with_answers(open_to, careful, PASSWORD)
        with pytest.raises(AuthenticationFailed, match="there is no sudo"):
            run_script(connection, "id", root=True)
    finally:
        node.run(["mv", "/usr/bin/sudo.gone", "/usr/bin/sudo"])


@FABRIC_FIRST
def test_another_question_than_the_password_is_not_answered(
    node: LabNode, open_to: Open, carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codesmith.ssh.sudo.ANSWERS_WITHIN_S", 2.0)
    late = add_login(node, f"late-{carrier}", sudo="password", password=PASSWORD)
    connection, _ = with_answers(open_to, late, PASSWORD)
    node.run(["chage", "--lastday", "0", late])
    with pytest.raises(AuthenticationFailed, match=r"something else than a password; it said: (?s:.*)expired"):
        run_script(connection, "id", root=True)
