"""Two agents with two allow-lists and a colleague with only a key work at once; one gets a host more for a while.

The colleague enters the workspace of the first, and is behind the same list.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

import anyio
import pytest

from tests.agent.on_node.internet import Internet
from tests.mcp.scripted_agent import CURL, Agent, agent
from tests.person import Person
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]
LISTS = {"one": "web.test", "two": "git.test"}
# What the operator opens for the first and closes again.
OPENED = "https://pypi.test/hello"
# The colleague's ssh, on the node itself: no CodeSmith and no operator's key.
VISIT = (
    "ssh -F none -i /root/ann -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o LogLevel=ERROR cs-ann@127.0.0.1"
)
# Holds a connection through the proxy, and says when it ends.
HOLD = """
import socket
with socket.create_connection(("127.0.0.1", 3128)) as held:
    held.sendall(b"CONNECT pypi.test:443 HTTP/1.1\\r\\nHost: pypi.test:443\\r\\n\\r\\n")
    print(held.recv(4096).split()[1].decode(), flush=True)
    held.recv(1)
print("cut", flush=True)
"""


@pytest.fixture(scope="module")
def person(make_internet: Callable[..., tuple[Person, Internet]], release: str) -> Person:
    """An operator with a node, an internet beside it, and two workspaces with lists that differ."""
    made, _ = make_internet(release)
    for name, host in LISTS.items():
        made.runs(f"inv workspace.create {name} --node web1 && inv sandbox.create {name} --allow {host} --node web1")
    key = made.on(
        "web1", "mkdir -p -m 700 /root/.ssh; ssh-keygen -q -N '' -t ed25519 -f /root/ann; cat /root/ann.pub"
    ).out
    made.runs(f"inv user.create ann --ssh-key '{key.strip()}' --node web1 && inv workspace.share one ann --node web1")
    return made


class Story:
    """All who act, each with what it sees; another one is a method more and a line in `tell`."""

    def __init__(self, person: Person) -> None:
        self.person, self.is_over = person, anyio.Event()
        # Of each agent: whether its own host and the opened one came, each time that it asked.
        self.seen: dict[str, list[tuple[bool, bool]]] = {name: [] for name in LISTS}
        self.visited: list[tuple[bool, bool]] = []
        self.held = ""

    async def tell(self) -> None:
        """Have all of them act at once."""
        node = ("--node", "web1")
        async with (
            agent(self.person.environment, "mcp.serve", "one", *node) as one,
            agent(self.person.environment, "mcp.serve", "two", *node) as two,
            anyio.create_task_group() as group,
        ):
            for act, who in ((self.work, one), (self.work, two), (self.operate, one)):
                group.start_soon(act, who, "two" if who is two else "one")
            group.start_soon(self.visit)

    async def work(self, who: Agent, name: str) -> None:
        """Fetch again and again: the host of its own list, and the one that the operator opens for one of them."""
        while not self.is_over.is_set():
            own = await who.fetches(f"https://{LISTS[name]}/hello")
            self.seen[name].append((own, await who.fetches(OPENED)))

    async def visit(self) -> None:
        """Enter by ssh again and again, as the login of the workspace, and fetch what the agent in it fetches."""
        fetch = "{} && own=yes; {} && opened=yes; id -un; echo $own $opened"
        script = fetch.format(
            *(shlex.join([*CURL, url]) + " >/dev/null" for url in (f"https://{LISTS['one']}/hello", OPENED))
        )
        while not self.is_over.is_set():
            said = await anyio.to_thread.run_sync(self.person.on, "web1", f"{VISIT} {shlex.quote(script)}")
            login, fetched = said.out.splitlines()
            assert login == "cs-one"
            self.visited.append((fetched.startswith("yes"), fetched == "yes yes"))

    async def operate(self, one: Agent, name: str) -> None:
        """Open the host for one of them, see that it comes, and close it again."""
        await self.until(lambda: min(len(self.visited), *(len(seen) for seen in self.seen.values())) > 0)
        await self.types(f"codesmith sandbox.update {name} --allow pypi.test --node web1")
        await self.until(lambda: self.seen["one"][-1][1] and self.visited[-1][1])
        assert "pypi.test" in (await one.facts())["network"]["allow"]
        job = await one.call("job_start", argv=["python3", "-c", HOLD])
        while "200" not in (await one.call("job_output", id=job["id"]))["data"]:
            await anyio.sleep(0.05)
        await self.types(f"codesmith sandbox.update {name} --drop pypi.test --node web1")
        self.held = await one.follow(job["id"])
        await self.until(lambda: not self.seen["one"][-1][1] and not self.visited[-1][1])
        assert (await one.facts())["network"] == {"allow": [LISTS["one"]], "deny": []}
        self.is_over.set()

    async def types(self, command: str) -> None:
        await anyio.to_thread.run_sync(self.person.runs, command)

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await anyio.sleep(0.02)


def test_a_host_opens_and_closes_for_one_agent_while_all_work(person: Person) -> None:
    async def all_of_it() -> Story:
        story = Story(person)
        with anyio.fail_after(240):
            await story.tell()
        return story

    story = anyio.run(all_of_it)
    # The first and who visits it: closed, open, closed, and what was open is cut. Their own host and the other agent
    # notice nothing.
    for seen in (story.seen["one"], story.visited):
        opened = [came for _, came in seen]
        assert [came for number, came in enumerate(opened) if number == 0 or came != opened[number - 1]] == [
            False,
            True,
            False,
        ]
    assert story.held == "200\ncut\n"
    assert all(own for seen in (*story.seen.values(), story.visited) for own, _ in seen)
    assert not any(came for _, came in story.seen["two"])
    for name in LISTS:
        box = person.runs(f"inv sandbox.get {name} --node web1 --json").json
        assert {one["host"] for one in box["denied"]} == {"pypi.test"}, name
        assert person.runs(f"inv workspace.get {name} --node web1 --json").json["runtime"]["state"] == "running"
