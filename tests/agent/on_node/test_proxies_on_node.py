"""The node's proxies reach commands and clones, and the password of a proxy is never shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from codesmith.sdk.api import Repo
from tests.agent.on_node.forge import Forge, make
from tests.agent.on_node.spy import Spy
from tests.agent.on_node.web1 import Web1
from tests.kinds import some_of
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]
PROXY = Path(__file__).with_name("forge_proxy.py").read_text()
PASSWORD = "pr0xy-w0rd-5d2e"
OURS = "/etc/codesmith/environment"


@pytest.fixture(scope="module")
def proxy(two: tuple[Web1, Forge]) -> str:
    """A proxy beside the node, as host and port."""
    web1, forge = two
    web1.person.on("forge", f"cat > /root/proxy.py <<'END'\n{PROXY}END\n"
                            f"systemd-run --quiet --unit=proxy python3 /root/proxy.py {PASSWORD}")  # fmt: skip
    is_open = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/8445'"
    web1.person.wait_until(lambda: web1.person.on("forge", is_open, check=False).ok, within_s=20)
    return f"{forge.host}:8445"


@pytest.fixture
def web1(two: tuple[Web1, Forge]) -> Iterator[Web1]:
    yield two[0]
    two[0].on(f"rm -f {OURS}; : > /etc/environment")
    two[0].client.close()


def proxied(web1: Web1) -> str:
    """Return the requests that the proxy got, and clear them."""
    return web1.person.on("forge", "cat /tmp/proxied; rm -f /tmp/proxied", check=False).out


def seen(web1: Web1, workspace: str, **more: str) -> dict[str, str]:
    """Return the proxy variables of a command in a runtime that starts anew."""
    web1.client.workspace.stop(name=workspace)
    show = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.lower().endswith('_proxy')}))"
    done = web1.client.workspace.exec(name=workspace, argv=["python3", "-c", show], env=more or None)
    return dict(json.loads(done.stdout))


def test_a_clone_goes_by_the_nodes_proxy(web1: Web1, forge: Forge, proxy: str) -> None:
    make(web1, "by")
    url = f"{forge.https}/public.git"

    def clone(**wanted: str) -> Repo:
        web1.client.workspace.stop(name="by")  # proxies count from its next start
        return web1.client.repo.clone(**wanted)

    web1.on(f"echo 'export HTTPS_PROXY=\"http://ada:{PASSWORD}@{proxy}\"' > /etc/environment")
    assert clone(workspace="by", url=url, name="a").branch == "main"
    assert f"{forge.host}:8443 let\n" in proxied(web1)
    web1.on(f"echo 'no_proxy={forge.host}' >> /etc/environment")
    assert clone(workspace="by", url=url, name="b").branch == "main"
    assert proxied(web1) == ""
    # CodeSmith's file overrides the node's, also with an empty value.
    web1.on(f"echo 'https_proxy=http://{proxy}' > /etc/environment; echo 'https_proxy=' > {OURS}")
    assert clone(workspace="by", url=url, name="c").branch == "main"
    web1.on(f"echo 'https_proxy=http://ada:{PASSWORD}@{proxy}' > {OURS}; chmod 600 {OURS}")
    assert clone(workspace="by", url=url, name="d").branch == "main"
    assert "let" in proxied(web1)
    web1.client.workspace.stop(name="by")


def test_commands_see_the_nodes_proxies_in_both_spellings(web1: Web1) -> None:
    make(web1, "see")
    assert seen(web1, "see") == {}
    web1.on("printf '# mine\\nhttp_proxy=http://a:1\\nHTTP_PROXY=http://b:1\\n  NO_PROXY = x\\nNO_PROXY=\"h, .i\" \\n"
            "PATH=/evil\\nLD_PRELOAD=/evil\\nall_proxy=a\\033b\\n' > /etc/environment")  # fmt: skip
    found = {"http_proxy": "http://a:1", "HTTP_PROXY": "http://a:1", "no_proxy": "h, .i", "NO_PROXY": "h, .i"}
    assert seen(web1, "see") == found
    assert seen(web1, "see", http_proxy="http://mine:2") == {**found, "http_proxy": "http://mine:2"}
    path = web1.client.workspace.exec(name="see", argv=["sh", "-c", "echo $PATH$LD_PRELOAD"]).stdout
    assert "evil" not in path
    web1.on("rm /etc/environment; mkdir /etc/environment")
    assert seen(web1, "see") == {}
    web1.on("rmdir /etc/environment; touch /etc/environment")


# Proxies that do not let a clone through, or are none; the first says that the password is wrong.
WRONG = [
    "http://ada:x{password}@{proxy}", "socks5://ada:{password}@{host}:9", "http://ada:{password}@nowhere.invalid:1",
    "http://ada:{password}/@{proxy}", "ada:{password}@{proxy} x",
]  # fmt: skip


@pytest.mark.parametrize("values", some_of({"some": WRONG[::4], "all": WRONG}, "some"))
def test_the_password_of_a_proxy_is_told_to_nobody(web1: Web1, forge: Forge, proxy: str, values: list[str]) -> None:
    name = f"hush{len(values)}"
    make(web1, name)
    wanted = {"workspace": name, "url": f"{forge.https}/public.git"}
    web1.on(f"touch {OURS}; chmod 600 {OURS}")
    spy = Spy(web1)
    clone = web1.client.repo.clone
    write = f"cat > {OURS}"  # the spy reads the command line of this test's own writer too
    web1.on(write, typed=f"https_proxy=http://ada:{PASSWORD}@{proxy}\n")
    assert clone(**wanted).branch == "main"
    spy.wait_for(f"codesmith-workspace@{name}")
    for number, pattern in enumerate(values):
        value = pattern.format(password=PASSWORD, proxy=proxy, host=forge.host)
        web1.on(write, typed=f"https_proxy={value}\n")
        web1.client.workspace.stop(name=name)
        refusal = web1.refuses(clone, "command_failed", **wanted, name=f"n{number}", timeout_s=20)
        assert PASSWORD not in str(refusal) + json.dumps(refusal.data), value
        if number == 0:
            assert "407" in refusal.problem
            assert "/etc/codesmith/environment" in refusal.hint
    web1.client.workspace.stop(name=name)
    assert PASSWORD not in spy.end()
    found = web1.on(
        f"rm {OURS}; journalctl --sync; journalctl --no-pager --output=export | grep -a -F -e {PASSWORD};"
        f"grep -r -a -l -s -D skip -F -e {PASSWORD} /var/lib /var/log /srv/codesmith /tmp /run /etc",
        check=False,
    )
    assert found.out == ""
