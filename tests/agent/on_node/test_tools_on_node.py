"""Tools over the network, in workspaces of a node that has an internet beside it: listed hosts are reached alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest

from codesmith.sdk.api import Execution
from tests import npm_programs
from tests.agent.on_node import tools
from tests.agent.on_node.internet import NAMES, Internet
from tests.agent.on_node.web1 import Web1, calling
from tests.kinds import some_names_of
from tests.person import Person
from tests.releases import TRIXIE_FIRST

pytestmark = [pytest.mark.lab, TRIXIE_FIRST]
Place = tuple[Web1, Internet]
CURL = "curl --silent --show-error --fail --location --max-time 30 "
LISTED = ("git.test", "git.test:22", "web.test", "pypi.test", "npm.test")
# Names of the node itself and of what no workspace may reach, and where they lead.
BAD_NAMES = {"meta.test": "169.254.169.254", "home.test": "127.0.0.1", "six.test": "::1"}
TOOLS = {**tools.TOOLS, **tools.NEW_NODES, tools.SSH_NAME: tools.SSH}
# Takes no notice of a proxy, and so of no list.
WITH_FETCH = {**TOOLS, "Node's fetch": tools.NODE_FETCH}
# Notes every connection to the web's ports of the node itself.
LISTENER = """
import select, socket
there = [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in (80, 443)]
while True:
    for one in select.select(there, [], [])[0]:
        one.accept()[0].close()
        open("/tmp/heard", "a").write("heard")
"""
every_tool = pytest.mark.parametrize("tool", TOOLS)


@pytest.fixture(scope="module")
def place(make_internet: Callable[..., tuple[Person, Internet]], release: str) -> Iterator[Place]:
    """A prepared node with tools, an internet on the same bridge, and two workspaces with lists that differ."""
    person, internet = make_internet(release, packages=tools.PACKAGES)
    put_new_node(person)
    own = person.lab_node("web1")
    bad = {**BAD_NAMES, "self.test": own.bridge_host, "near.test": own.record.host}
    lines = "".join(f"{address} {name}\n" for name, address in bad.items())
    person.on("web1", f"cat >> /etc/hosts <<'END'\n{lines}END")
    person.on("web1", f"systemd-run --quiet --unit=heard python3 -c '{LISTENER}'")
    is_heard = "curl --silent http://127.0.0.1/; curl --silent http://[::1]:443/; grep heardheard /tmp/heard"
    person.wait_until(lambda: person.on("web1", is_heard, check=False).ok, within_s=20)
    person.on("web1", "truncate --size=0 /tmp/heard")
    with calling(person) as web1:
        for name, allow in (("agent", (*LISTED, *bad)), ("beside", ("other.test",))):
            web1.client.workspace.create(name=name)
            web1.client.sandbox.create(workspace=name, network={"allow": list(allow)})
            put_key(web1, internet, name)
        yield web1, internet


@pytest.fixture(scope="module")
def open_place(place: Place) -> Place:
    """The same with a workspace that has the whole network: it shows that tools and servers work."""
    web1, internet = place
    web1.client.workspace.create(name="open")
    put_key(web1, internet, "open")
    return place


@pytest.fixture(autouse=True)
def unheard(place: Place) -> Iterator[None]:
    """No test of these reaches the node itself."""
    yield
    assert place[0].on("cat /tmp/heard").out == "", "the node itself was reached"


def put_new_node(person: Person) -> None:
    """Put a Node on the node that takes notice of proxies."""
    place = person.lab_node("web1").root / tools.NEW_NODE.lstrip("/")
    shutil.copy(npm_programs.install().node, place)
    place.chmod(0o755)


def put_key(web1: Web1, internet: Internet, workspace: str) -> None:
    """Give a workspace the deploy key of the internet's git, and the host key of every name of it."""
    key = internet.known_host.partition(" ")[2]
    known = "".join(f"{name} {key}\n" for name in NAMES)
    script = 'umask 077; mkdir -p ~/.ssh; cd ~/.ssh; cat > id_ed25519; printf %s "$KNOWN" > known_hosts'
    done = run(web1, workspace, script, stdin=internet.key, env={"KNOWN": known})
    assert done.exit_code == 0, done.stderr


def run(web1: Web1, workspace: str, script: str, **more: object) -> Execution:
    return web1.client.workspace.exec(name=workspace, argv=["bash", "-c", script], timeout_s=100.0, **more)


def asked(internet: Internet, name: str) -> list[str]:
    """Return what reached the web server under a name."""
    return [line for line in internet.asked() if line.split()[1] == name]


@pytest.mark.parametrize(
    "tool", some_names_of(WITH_FETCH, "git over https", tools.SSH_NAME, "curl http", "Node's fetch")
)
def test_every_tool_works_where_the_network_is_open(open_place: Place, tool: str) -> None:
    web1, _ = open_place
    known = WITH_FETCH[tool]
    done = run(web1, "open", tools.script(known, "web.test"))
    assert done.stdout.strip() == tools.wanted(known, "web.test"), done.stderr


@every_tool
def test_every_tool_reaches_a_listed_host_by_itself(place: Place, tool: str) -> None:
    web1, _ = place
    host = tools.HOSTS.get(tool, "web.test")
    done = run(web1, "agent", tools.script(TOOLS[tool], host))
    assert done.stdout.strip() == tools.wanted(TOOLS[tool], host), done.stderr


@every_tool
def test_no_tool_reaches_a_host_that_is_not_listed(place: Place, tool: str) -> None:
    web1, internet = place
    before = asked(internet, "other.test")
    done = run(web1, "agent", tools.script(TOOLS[tool], "other.test"))
    assert (done.exit_code != 0, done.stdout.strip()) == (True, ""), done.stderr
    assert asked(internet, "other.test") == before
    port = {"http": 80, "ssh": 22}.get(tool.rpartition(" ")[2], 443)

    def is_told() -> bool:
        denied = web1.client.sandbox.get(workspace="agent").denied
        return ("other.test", port) in {(one.host, one.port) for one in denied}

    web1.person.wait_until(is_told, within_s=20)


def test_the_refusal_names_the_command_that_allows_the_host(place: Place) -> None:
    web1, _ = place
    wanted = "inv sandbox.update agent --allow other.test"
    assert wanted in run(web1, "agent", "curl --silent http://other.test/hello").stdout


def test_what_a_workspace_asks_for_is_asked_by_its_own_proxy_alone(place: Place) -> None:
    web1, internet = place
    assert run(web1, "beside", f"{CURL} https://other.test/hello").stdout == "hello from other.test by https\n"
    before = len(asked(internet, "web.test"))
    for words in ("", "--proxy http://127.0.0.1:3128", "--proxy socks5h://127.0.0.1:3128", "--noproxy '*'"):
        done = run(web1, "beside", f"{CURL} {words} https://web.test/hello")
        assert (done.exit_code != 0, done.stdout) == (True, ""), words
    assert len(asked(internet, "web.test")) == before
    # The way out of another is in a namespace of its own: nothing of it is to be seen here.
    ports = run(web1, "beside", "cat /proc/net/tcp | grep -c ' 0A '; ls /run/codesmith 2>&1").stdout
    assert ports.splitlines()[0] == "1", ports


def test_a_redirect_leads_only_where_the_list_does(place: Place) -> None:
    web1, internet = place
    to, before = "https://web.test/to?", asked(internet, "other.test")
    assert run(web1, "agent", f"{CURL} '{to}https://git.test/hello'").stdout == "hello from git.test by https\n"
    assert run(web1, "agent", f"{CURL} '{to}http://git.test/hello'").stdout == "hello from git.test by http\n"
    own = web1.person.lab_node("web1")
    for host in ("other.test", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "169.254.169.254", "localhost",
                 own.bridge_host, own.record.host, f"[{own.bridge_ipv6}]", internet.host):  # fmt: skip
        for scheme in ("http", "https"):
            done = run(web1, "agent", f"{CURL} --noproxy '' '{to}{scheme}://{host}/hello'")
            assert (done.exit_code != 0, done.stdout) == (True, ""), (scheme, host)
    assert asked(internet, "other.test") == before


@pytest.mark.parametrize("name", [*BAD_NAMES, "self.test", "near.test"])
def test_a_listed_name_of_the_node_itself_or_of_its_cloud_leads_nowhere(place: Place, name: str) -> None:
    web1, _ = place
    for url in (f"http://{name}/", f"https://{name}/"):
        for words in ("", "--proxy socks5h://127.0.0.1:3128", "--proxy socks5://127.0.0.1:3128"):
            done = run(web1, "agent", f"curl --silent --fail --max-time 30 {words} {url}")
            assert (done.exit_code != 0, done.stdout) == (True, ""), (url, words)


def test_past_the_proxy_nothing_is_reached(place: Place) -> None:
    web1, internet = place
    before = len(internet.asked())
    own = web1.person.lab_node("web1")
    fetch = tools.script(tools.NODE_FETCH, "web.test")
    for script in (fetch, *(f"{CURL} --noproxy '*' --insecure https://{host}/hello" for host in (
        "web.test", internet.host, f"[{internet.ipv6}]", own.bridge_host, own.record.host))):  # fmt: skip
        done = run(web1, "agent", script)
        assert (done.exit_code != 0, done.stdout) == (True, ""), script
    assert len(internet.asked()) == before


def test_private_addresses_are_reached_by_their_address_alone(place: Place) -> None:
    web1, internet = place
    web1.client.workspace.create(name="six")
    (_, name) = web1.person.lab_node("net").bridge_names
    web1.client.sandbox.create(workspace="six", network={"allow": [name, f"[{internet.ipv6}]:443"]})
    hello = f"hello from [{internet.ipv6}] by https\n"
    assert run(web1, "six", f"{CURL} https://[{internet.ipv6}]/hello").stdout == hello
    assert run(web1, "six", f"{CURL} http://[{internet.ipv6}]/hello").exit_code != 0, "port 80 is not listed"
    assert run(web1, "six", f"{CURL} http://{name}/hello").exit_code != 0, "a name that leads to a private address"


def test_without_its_proxy_a_workspace_has_no_way_out(place: Place) -> None:
    web1, internet = place
    units = "codesmith-egress@agent.socket codesmith-egress@agent.service"
    assert run(web1, "agent", f"{CURL} https://web.test/hello").exit_code == 0
    job = web1.client.job.start(workspace="agent", argv=["sleep", "600"])
    before = len(internet.asked())
    web1.on(f"systemctl stop {units}")
    for script in (f"{CURL} https://web.test/hello", f"{CURL} --noproxy '*' https://web.test/hello"):
        assert run(web1, "agent", script).exit_code != 0
    assert len(internet.asked()) == before
    assert web1.client.job.get(workspace="agent", id=job.id).state == "running"
    # The next runtime has a way out again.
    web1.client.workspace.stop(name="agent")
    assert run(web1, "agent", f"{CURL} https://web.test/hello").exit_code == 0
