"""Networks by name on real nodes: what the list has is reached, nothing else, by no trick; the operator's clones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from agent.git import grammar
from agent.shared.egress_paths import LIVE, POLICIES
from tests.agent.on_node.allow_lists import CURL, await_denied, code, moded, put, said
from tests.agent.on_node.forge import Forge, make
from tests.agent.on_node.web1 import Web1
from tests.kinds import some_names_of
from tests.releases import BOOKWORM_BEFORE_TRIXIE, BOOKWORM_FIRST

pytestmark = pytest.mark.lab
UNITS = "systemctl list-units --all --plain --no-legend 'codesmith-egress@*' | cut -d' ' -f1"
MODES = dict.fromkeys(("full", "none", "list"))
# A try takes a while, as on a busy node.
SLOW_TO_FAIL = """
mkdir -p /run/systemd/system/codesmith-egress@stuck.service.d
cat >/run/systemd/system/codesmith-egress@stuck.service.d/slow.conf <<'END'
[Service]
ExecStartPre=/bin/sh -c "sleep 0.25; false"
END
systemctl daemon-reload
"""
# Writes down every connection to this port of the node.
LISTENER = """
import socket
with socket.create_server(("", 8999)) as listening:
    while True:
        listening.accept()[0].close()
        open("/tmp/heard", "a").write("heard")
"""
ABSTRACT = """
import socket
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind("\\0codesmith-test")
    listening.listen()
    while True:
        listening.accept()[0].close()
"""
# A connection that goes past the variables of the proxy.
DIRECT = """
import socket, sys
for host, port in (one.rsplit(":", 1) for one in sys.argv[1:]):
    try:
        socket.create_connection((host, int(port)), 5)
        print("reached", host, port)
    except OSError:
        pass
"""


@pytest.fixture
def web1(two: tuple[Web1, Forge]) -> Iterator[Web1]:
    yield two[0]
    two[0].on("rm -f /etc/codesmith/git_hosts")
    two[0].client.close()


@contextmanager
def listener(web1: Web1) -> Iterator[None]:
    """Listen on the node's own addresses, and see that nobody comes."""
    web1.on("touch /tmp/heard; systemd-run --quiet --collect --unit=heard python3 -c '" + LISTENER + "'")
    web1.person.wait_until(lambda: web1.on("ss -Hltn sport = :8999").out != "", within_s=20)
    try:
        yield
        assert web1.on("cat /tmp/heard").out == ""
    finally:
        web1.on("systemctl stop heard; rm /tmp/heard")


@BOOKWORM_FIRST
def test_a_listed_host_is_reached_and_no_other(web1: Web1, forge: Forge) -> None:
    lists = (f"{forge.host}:8443", "*.Example.ORG.:443", f"{forge.host}:22")
    made = put(web1, "by", *lists)
    assert made.enforced["network"] is True
    wanted = [f"{forge.host}:8443", "*.example.org:443", f"{forge.host}:22"]
    assert made.network == {"allow": wanted, "deny": []}
    assert made.denied == []
    url = f"{forge.https}/public.git"
    assert said(web1, "by", f"git -c http.sslVerify=false clone -q {url} by-git && ls by-git") == "one\ntwo"
    assert code(web1, "by", f"https://{forge.host}:9443/") == "000"
    # ssh, for everybody in it, goes through the proxy too.
    known = f"mkdir -p ~/.ssh; echo '{forge.known_host}' > ~/.ssh/known_hosts"
    assert "Permission denied" in said(web1, "by", f"{known}; ssh -o BatchMode=yes nobody-here@{forge.host}")
    assert f"inv sandbox.update by --allow {forge.host}:2222" in said(web1, "by", f"ssh -p 2222 nobody@{forge.host}")
    assert "denied" not in said(web1, "by", "ssh -o BatchMode=yes nobody@127.0.0.1")
    assert code(web1, "by", "http://no.other.org/") == "403"
    text = said(web1, "by", CURL.replace("--output /dev/null", "") + "http://no.test/")
    assert "inv sandbox.update by --allow no.test" in text
    got = await_denied(web1, "by", "no.test", "no.other.org", forge.host, forge.host)
    assert [(one.port, one.count) for one in got.denied] == [(80, 1), (80, 1), (2222, 1), (9443, 1)]
    used = web1.client.workspace.usage(name="by").network
    assert used.allowed == wanted
    assert used.denied == got.denied


@BOOKWORM_BEFORE_TRIXIE
def test_no_trick_from_inside_leads_past_the_list(web1: Web1, forge: Forge) -> None:
    own = own_address(web1)
    # Listed all the same: never by anybody.
    never = (f"{own}:*", "127.0.0.1:*", "169.254.169.254:*", "localhost:*", "[::1]:*")
    put(web1, "trick", f"{forge.host}:8443", *never)
    file = f"{forge.https}/public.git/HEAD"
    assert code(web1, "trick", file) == "200"
    wanted = (f"{forge.host}:8443", f"{own}:22", "127.0.0.1:22", "127.0.0.1:8999", "169.254.169.254:80", "::1:22",
              "8.8.8.8:53", f"{own}:3128")  # fmt: skip
    run = web1.client.workspace.exec
    with listener(web1):
        assert run(name="trick", argv=["python3", "-c", DIRECT, *wanted]).stdout == ""
        # Variables are for those who want them: without the proxy there is nothing.
        for words in ("NO_PROXY=* no_proxy=*", "https_proxy= HTTPS_PROXY= all_proxy= ALL_PROXY="):
            assert said(web1, "trick", f"env {words} {CURL} {file}")[-3:] == "000", words
        for host in (own, "127.0.0.1", "localhost", "169.254.169.254", "[::1]", "2130706433", "[::ffff:127.0.0.1]",
                     "0.0.0.0"):  # fmt: skip
            for proxy in ("http://127.0.0.1:3128", "socks5h://127.0.0.1:3128"):
                found = code(
                    web1, "trick", f"'http://{host}:8999/'", "--noproxy ''", "--proxytunnel", f"--proxy {proxy}"
                )
                assert found in ("000", "403"), (host, proxy)
    # Names are looked up outside alone, and abstract sockets are of the namespace.
    assert said(web1, "trick", "getent hosts pypi.org || echo none") == "none"
    web1.on(f"systemd-run --quiet --collect --unit=abstract python3 -c '{ABSTRACT}'")
    web1.person.wait_until(lambda: "codesmith-test" in web1.on("cat /proc/net/unix").out, within_s=20)
    reach = 'import socket; socket.socket(socket.AF_UNIX).connect("\\0codesmith-test")'
    assert run(name="trick", argv=["python3", "-c", reach]).exit_code != 0
    make(web1, "whole")
    assert run(name="whole", argv=["python3", "-c", reach]).exit_code == 0
    web1.on("systemctl stop abstract")
    # The proxy is of another uid, and outside.
    pid = web1.on("systemctl show --property=MainPID --value codesmith-egress@trick.service").out.strip()
    assert int(web1.on(f"stat -c %u /proc/{pid}").out) not in (0, web1.client.workspace.get(name="trick").uid)
    assert "200" not in said(web1, "trick", f"kill -9 {pid} && echo 200; cat /proc/{pid}/environ; ls /run")
    assert code(web1, "trick", file) == "200"


@pytest.mark.long
@BOOKWORM_BEFORE_TRIXIE
def test_each_workspace_has_its_own_way_out(web1: Web1, forge: Forge) -> None:
    put(web1, "one", f"{forge.host}:8443")
    put(web1, "two", "example.org")
    make(web1, "shut")
    web1.client.sandbox.create(workspace="shut", network="none")
    file = f"{forge.https}/public.git/HEAD"
    assert code(web1, "one", file) == "200"
    assert code(web1, "two", file) == "000"
    assert code(web1, "shut", file, "--proxy http://127.0.0.1:3128") == "000"
    await_denied(web1, "two", forge.host)
    assert web1.client.sandbox.get(workspace="one").denied == []
    assert web1.client.sandbox.list()[0].denied == []


@pytest.mark.long
@BOOKWORM_FIRST
def test_the_proxy_comes_and_goes_with_the_runtime(web1: Web1, forge: Forge) -> None:
    put(web1, "life", f"{forge.host}:8443")
    assert "@life.probe" not in web1.on(UNITS).out
    file = f"{forge.https}/public.git/HEAD"
    assert code(web1, "life", file) == "200"
    assert code(web1, "life", "http://no.test/") == "403"
    await_denied(web1, "life", "no.test")
    uids = web1.on("ps -o uid= -p $(systemctl show -p MainPID --value codesmith-egress@life.service)").out.split()
    assert int(uids[0]) >= 61184  # DynamicUser
    active = "systemctl is-active codesmith-egress@life.service"

    def is_gone() -> bool:
        return web1.on(active, check=False).out.strip() in ("inactive", "failed")

    # An idle runtime ends by itself, a supervisor may crash: the proxy goes, what it refused stays, and all is back.
    for end in ("TERM", "KILL"):
        web1.on(f"systemctl kill --kill-who=main --signal={end} codesmith-workspace@life.service")
        web1.person.wait_until(is_gone, within_s=20)
        assert [one.host for one in web1.client.sandbox.get(workspace="life").denied] == ["no.test"]
        assert code(web1, "life", file) == "200"
    # A proxy that was killed, or is restarted by its node, or a PID 1 that starts anew.
    for command in ("systemctl kill --signal=KILL codesmith-egress@life.service", "systemctl daemon-reexec",
                    "systemctl restart codesmith-egress@life.service", "systemctl daemon-reload"):  # fmt: skip
        job = web1.client.job.start(workspace="life", argv=["sleep", "600"])
        web1.on(command)
        assert code(web1, "life", file) == "200", command
        assert web1.client.job.get(workspace="life", id=job.id).state == "running"
        assert [one.host for one in web1.client.sandbox.get(workspace="life").denied] == ["no.test"], command
        web1.client.job.stop(workspace="life", id=job.id)
    web1.client.workspace.delete(name="life")


@BOOKWORM_FIRST
def test_what_a_proxy_has_on_the_node_goes_with_the_runtime_and_with_the_user(web1: Web1, forge: Forge) -> None:
    file = f"{forge.https}/public.git/HEAD"
    put(web1, "life", f"{forge.host}:8443")
    assert code(web1, "life", "http://no.test/") == "403"
    await_denied(web1, "life", "no.test")
    web1.client.workspace.stop(name="life")
    assert "@life" not in web1.on(UNITS).out
    assert web1.on(f"ls -d {POLICIES}/life {LIVE}/life", check=False).out == ""
    assert web1.client.sandbox.get(workspace="life").denied == []
    assert code(web1, "life", file) == "200"
    web1.client.user.disable(name="life")
    assert "@life" not in web1.on(UNITS).out
    web1.client.user.enable(name="life")
    assert code(web1, "life", file) == "200"
    web1.client.workspace.delete(name="life")
    assert "@life" not in web1.on(UNITS).out
    assert web1.on(f"ls -d {POLICIES}/life {LIVE}/life", check=False).out == ""


@pytest.mark.long
@BOOKWORM_FIRST
def test_a_proxy_that_cannot_start_is_given_up_until_the_next_start_of_the_runtime(web1: Web1, forge: Forge) -> None:
    put(web1, "stuck", f"{forge.host}:8443")
    file = f"{forge.https}/public.git/HEAD"
    web1.on(SLOW_TO_FAIL)
    assert code(web1, "stuck", file) == "000"
    is_up = "systemctl is-active codesmith-egress@stuck.socket"
    web1.person.wait_until(lambda: web1.on(is_up, check=False).out != "active\n", within_s=60)
    assert code(web1, "stuck", file) == "000"
    web1.on("rm -r /run/systemd/system/codesmith-egress@stuck.service.d; systemctl daemon-reload")
    web1.client.workspace.stop(name="stuck")
    assert code(web1, "stuck", file) == "200"
    web1.client.workspace.delete(name="stuck")


@BOOKWORM_FIRST
@pytest.mark.parametrize("mode", some_names_of(MODES, "list"))
def test_the_operator_clones_in_every_mode(web1: Web1, forge: Forge, mode: str) -> None:
    name = moded(web1, mode, "clone")
    made = web1.client.repo.clone(workspace=name, url=f"{forge.https}/public.git")
    assert made.branch == "main"
    by_ssh, key = f"ssh://git@{forge.host}/srv/git/private.git", {"ssh_key": forge.key}
    made = web1.client.repo.clone(workspace=name, url=by_ssh, credential=key, known_hosts=[forge.known_host])
    assert made.branch == "main"
    assert web1.client.repo.pull(workspace=name, name="public").updated is False
    assert web1.client.repo.fetch(workspace=name, name="private", credential=key).commit
    # The commands of the workspace have gained nothing by it.
    if mode != "full":
        assert code(web1, name, f"{forge.https}/public.git/HEAD") == "000"


@BOOKWORM_FIRST
@pytest.mark.parametrize("mode", some_names_of(MODES, "full", "list"))
def test_no_clone_reaches_the_node_itself(web1: Web1, forge: Forge, mode: str) -> None:
    own = own_address(web1)
    hosts = ("127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0",
             "169.254.169.254", own, f"[::ffff:{own}]")  # fmt: skip
    clone = web1.client.repo.clone
    name = moded(web1, mode, "self")
    with listener(web1):
        # Which way a clone takes depends on the mode, what it refuses does not.
        for number, host in enumerate(hosts if mode == "full" else hosts[:1]):
            both = (f"https://{host}:8999/x.git", f"ssh://git@{host}:8999/x.git")
            # Each by one of the two programs in turn; what is the node's own by both.
            for url in both if host in (hosts[0], own) else both[number % 2 :][:1]:
                if not re.fullmatch(grammar.URL, url):
                    continue
                refusal = web1.refuses(clone, "command_failed", workspace=name, url=url, name="x")
                assert "/etc/codesmith/git_hosts" in refusal.hint, (url, refusal)
        web1.refuses(clone, "invalid_params", workspace=name, url="http://127.0.0.1/x.git")
        # Nor where a redirect leads to.
        web1.refuses(clone, "command_failed", workspace=name, url=f"{forge.https}/home/public.git", timeout_s=60.0)


@BOOKWORM_BEFORE_TRIXIE
@pytest.mark.parametrize("mode", some_names_of(MODES, "list"))
def test_a_node_may_serve_git_to_its_own_workspaces(web1: Web1, mode: str) -> None:
    own = own_address(web1)
    key = " ".join(web1.on("cat /etc/ssh/ssh_host_ed25519_key.pub").out.split()[:2])
    web1.on(f"printf '# ours\\n{own}\\nnonsense//\\n127.0.0.1:22\\n' > /etc/codesmith/git_hosts")
    name = moded(web1, mode, "served")
    for host in (own, "127.0.0.1"):
        wanted = {"workspace": name, "url": f"ssh://nobody-here@{host}/x.git", "known_hosts": [f"{host} {key}"]}
        refusal = web1.refuses(web1.client.repo.clone, "command_failed", **wanted, name="x")
        # Its sshd has answered.
        assert "Permission denied" in refusal.problem, host


def own_address(web1: Web1) -> str:
    """Return an address of the node's own."""
    return web1.on("hostname -I").out.split()[0]


@BOOKWORM_BEFORE_TRIXIE
@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"allow": ["https://pypi.org/simple"]}, "network.allow[0]"),
        ({"allow": ["a.org", "*"]}, "network.allow[1]"),
        ({"allow": [], "deny": ["10.0.0.0/99"]}, "network.deny[0]"),
        ({"deny": []}, "network"),
        ({"allow": [], "more": []}, "network"),
        (
            {"allow": [f"h{number}.org" for number in range(200)], "deny": [f"h{number}.org" for number in range(100)]},
            "256",
        ),
        ({"allow": [7]}, "network.allow[0]"),
    ],
)
def test_the_helper_refuses_lists_that_are_none(web1: Web1, network: Any, said: str) -> None:
    make(web1, "box") if not web1.on("id cs-box", check=False).ok else None
    message = {"verb": "sandbox.ensure", "arguments": {"workspace": "box", "limits": {}, "network": network}}
    error = json.loads(web1.helper(message).out)["error"]
    assert error["code"] == -32602
    assert said in error["message"]


@BOOKWORM_BEFORE_TRIXIE
def test_behind_a_proxy_of_the_node_lists_are_refused(web1: Web1) -> None:
    make(web1, "behind")
    web1.on("echo 'https_proxy=http://10.1.2.3:3128' > /etc/codesmith/environment")
    try:
        refusal = web1.refuses(
            web1.client.sandbox.create, "unsupported", workspace="behind", network={"allow": ["a.org"]}
        )
        assert "cannot be checked" in refusal.problem
        assert web1.client.workspace.get(name="behind").sandbox is None
    finally:
        web1.on("rm /etc/codesmith/environment")
