"""A script means the same on every node, whatever the login shell and its rc files are."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from codesmith.bootstrap import probe
from codesmith.errors import AuthenticationFailed, CodeSmithError, Unreachable
from codesmith.lab import LabNode
from codesmith.ssh.connection import Connection
from codesmith.ssh.fabric_connection import connect
from codesmith.ssh.script import ScriptGarbled, ScriptTimeout, run_script
from codesmith.ssh.target import Target
from tests.kinds import FABRIC_FIRST
from tests.ssh.remote_logins import add_login

Open = Callable[..., Connection]
ALL_BYTES = bytes(range(256)) * 40
NOISE = (
    "echo hello from the rc file; echo and from its errors >&2; printf no-line-end; set -C; umask 777; cd /tmp; "
    "read line\n"
)
NOISY_SHELLS = {
    "/bin/bash": (".bashrc", NOISE + "export LC_ALL=xx_YY PATH=/nowhere SHELLOPTS; set -f; alias cat=false\n"),
    "/usr/bin/fish": (
        ".config/fish/config.fish",
        "echo hello; echo errors >&2; set -x PATH /nowhere; umask 777; read line\n",
    ),
    "/bin/tcsh": (
        ".tcshrc",
        'echo hello; set line = "$<"; set noclobber; setenv PATH /nowhere; umask 777; alias cat false\n',
    ),
    "/usr/bin/zsh": (".zshenv", NOISE + "export LC_ALL=xx_YY PATH=/nowhere; setopt noclobber; alias cat=false\n"),
}


@pytest.fixture(params=sorted(NOISY_SHELLS))
def noisy_login(request: pytest.FixtureRequest, node: LabNode) -> str:
    """A login whose rc file prints, reads and changes the environment."""
    shell = str(request.param)
    name = "noisy-" + shell.rsplit("/", 1)[-1]
    if not (node.root / "home" / name).exists():
        node.add_login(name, sudo="nopasswd", shell=shell)
        file, text = NOISY_SHELLS[shell]
        where = f"/home/{name}/{file}"
        node.run(
            ["/bin/sh", "-c", f'mkdir -p "$(dirname {where})"; cat >{where}; chown -R {name}: /home/{name}'], input=text
        )
    return name


def test_input_output_and_status_are_exact_under_noisy_shells(open_to: Open, noisy_login: str) -> None:
    done = run_script(open_to(user=noisy_login), "cat; echo problem >&2; exit 7", ALL_BYTES)
    assert (done.status, done.stdout, done.stderr) == (7, ALL_BYTES, "problem")


def test_the_environment_is_the_same_under_noisy_shells(open_to: Open, noisy_login: str) -> None:
    done = run_script(
        open_to(user=noisy_login), 'umask; echo "$LC_ALL $LOGIN"; echo x >/tmp/x-$LOGIN; echo y >/tmp/x-$LOGIN'
    )
    assert done.stdout.decode().splitlines() == ["0022", f"C.UTF-8 {noisy_login}"]
    assert (done.status, done.stderr) == (0, "")


def test_debugging_shows_the_way_without_what_goes_over_it(
    target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODESMITH_DEBUG", "ssh,rpc")
    with connect(target) as connection:
        run_script(connection, "cat >/dev/null; echo gone", b"hush", root=True)
    opened, ran = capsys.readouterr().err.splitlines()
    assert opened.startswith(f"ssh {target} connect -> SSH-2.0-") and opened.endswith(" ms")
    assert ran.startswith(f"ssh {target} script as root 'cat >/dev/null; echo gone', 4 bytes of input -> status 0, 5 ")
    assert "hush" not in ran


def test_root_is_reached_with_sudo(open_to: Open, noisy_login: str) -> None:
    done = run_script(open_to(user=noisy_login), 'id -u; echo "$LOGIN $HOME"; cat', b"input", root=True)
    assert done.stdout.decode() == f"0\n{noisy_login} /root\ninput"


def test_a_node_that_prints_without_end_is_cut_off(node: LabNode, open_to: Open) -> None:
    node.run(
        [
            "/bin/sh",
            "-c",
            "printf '#!/bin/sh\\nexec cat /dev/zero\\n' >/usr/local/bin/endless; chmod 755 /usr/local/bin/*",
        ]
    )
    login = add_login(node, "endless", shell="/usr/local/bin/endless")
    with pytest.raises(Unreachable, match="more than 16 MiB"):
        run_script(open_to(user=login), "true")


def test_sudo_with_a_password_is_a_clear_error(node: LabNode, open_to: Open) -> None:
    add_login(node, "careful", sudo="password", password="secret")
    with pytest.raises(AuthenticationFailed, match="careful cannot become root without a password"):
        run_script(open_to(user="careful"), "id", root=True)


def test_a_shell_that_runs_nothing_is_named(node: LabNode, open_to: Open) -> None:
    add_login(node, "nobody-home", shell="/usr/sbin/nologin")
    with pytest.raises(ScriptGarbled, match="did not run the script; it said: This account"):
        run_script(open_to(user="nobody-home"), "id")


@FABRIC_FIRST
def test_a_script_that_hangs_ends_at_its_deadline(open_to: Open) -> None:
    connection = open_to()
    # On a busy machine a second may be over before the script has begun.
    with pytest.raises(ScriptTimeout, match="did not end within 5 s"):
        run_script(connection, "exec sleep 600", timeout_s=5)
    assert run_script(connection, "echo alive").stdout == b"alive\n"


def test_much_output_on_both_streams_does_not_stall(open_to: Open) -> None:
    script = "head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2; head -c 10 /dev/zero"
    done = run_script(open_to(), script, timeout_s=30)
    assert (len(done.stdout), len(done.stderr)) == (5000010, 5000000)


def test_a_large_input_that_nobody_reads_is_no_error(open_to: Open) -> None:
    assert run_script(open_to(), "exit 3", b"x" * 8_000_000, timeout_s=30).status == 3


def test_lines_arrive_while_the_script_runs(open_to: Open) -> None:
    connection, seen = open_to(), []

    def take(line: bytes) -> None:
        seen.append((line, time.monotonic()))

    run_script(connection, "echo one; sleep 0.5; echo two", on_line=take)
    assert [line for line, _ in seen if line] == [b"one", b"two"]
    assert seen[1][1] - seen[0][1] > 0.3


def test_a_script_is_one_exec(open_to: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, opened = open_to(), []
    open_session = connection.transport.open_session

    def counted(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        return open_session(*args, **kwargs)

    monkeypatch.setattr(connection.transport, "open_session", counted)
    run_script(connection, "cat", b"x" * 100_000, root=True)
    assert len(opened) == 1


def test_a_line_without_end_is_a_lost_connection_and_not_a_full_memory(open_to: Open) -> None:
    heard: list[bytes] = []
    endless = "echo first; printf sec; sleep 0.1; echo ond; tr '\\0' x </dev/zero"
    with pytest.raises(Unreachable, match="the connection was lost: it printed a line of more than 4 MiB"):
        run_script(open_to(), endless, on_line=heard.append)
    assert heard == [b"first", b"second"]


@pytest.mark.parametrize("said", ['{"login": 5', "{]", '{"python": 3}'])
def test_nonsense_of_a_node_is_an_error_with_its_name(said):
    with pytest.raises(CodeSmithError, match="node web1: the answer to the probe is incomplete"):
        probe.parse("web1", said, 0, "")
