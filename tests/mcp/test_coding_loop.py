"""A coding loop over MCP on a real node with an internet beside it, and what a second agent gains there: nothing."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.agent.on_node.internet import Internet
from tests.mcp.scripted_agent import CURL, Agent, agent
from tests.person import BIN, Person
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]
LISTS = {"maker": ("git.test", "web.test"), "beside": ("other.test",)}
URL = "https://git.test/git/app.git"
# A program with a mistake, its test, and a page.
PROJECT = """
set -e; mkdir /srv/git/app; cd /srv/git/app; export HOME=/root; git init -q -b main
printf 'def add(a, b):\\n    return a - b\\n' > app.py
printf 'import unittest\\nimport app\\nclass Adds(unittest.TestCase):\\n' > test_app.py
printf '    def test_add(self):\\n        self.assertEqual(app.add(2, 3), 5)\\n' >> test_app.py
echo '<h1>made by an agent</h1>' > index.html
git add .; git -c user.name=a -c user.email=a@b commit -qm app; git clone -q --bare . ../app.git; chown -R git: /srv/git
"""
COMMIT = "git -c user.name=agent -c user.email=agent@example.org commit -qam 'add() adds'"
MAKER = "/srv/codesmith/workspaces/maker"
PATHS = (MAKER, f"{MAKER}/code/app/app.py", "/srv/codesmith/home/cs-maker", "/run/codesmith", "/run/codesmith-helper",
         "/var/lib/codesmith", "/etc/shadow", "/run/codesmith/workspaces/maker.facts")  # fmt: skip
SOCKETS = ("/run/codesmith/agent.sock", "/run/codesmith/scoped.sock", "/run/codesmith/door.sock",
           "/run/codesmith/workspaces/maker.sock", "/run/codesmith-helper/helper.sock",
           "/srv/codesmith/home/cs-maker/.local/state/codesmith/job.sock")  # fmt: skip
# What one workspace tries to get of the other and of the node; it prints what it got.
GRAB = """
import os, signal, socket, sys
for path in sys.argv[1].split(","):
    try:
        print("got", path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(100))
    except OSError:
        pass
for path in sys.argv[2].split(","):
    with socket.socket(socket.AF_UNIX) as one:
        try:
            one.connect(path)
            print("connected", path)
        except OSError:
            pass
for place in sys.argv[3].split(","):
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 5)
        print("reached", place)
    except OSError:
        pass
uid, own = os.getuid(), str(os.getpid())
for pid in filter(lambda one: one.isdigit() and one != own, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read()
        if "http.server" in words or "maker" in words:
            print("saw", words)
        if os.stat(f"/proc/{pid}").st_uid != uid:
            os.kill(int(pid), signal.SIGKILL)
            print("killed", pid)
    except OSError:
        pass
"""


@pytest.fixture(scope="module")
def place(make_internet: Callable[..., tuple[Person, Internet]], release: str) -> tuple[Person, Internet]:
    """An operator with a node, an internet beside it, and two workspaces with lists that differ."""
    person, internet = make_internet(release)
    person.on("net", PROJECT)
    for name, hosts in LISTS.items():
        person.runs(f"inv workspace.create {name} --node web1")
        person.runs(f"inv sandbox.create {name} --node web1 {' '.join(f'--allow {host}' for host in hosts)}")
    return person, internet


def together(work: Callable[[Agent, Agent], Any], person: Person) -> None:
    """Have two agents at once, each with a server, a token and a workspace of its own."""

    async def both() -> None:
        with anyio.fail_after(240):
            one, other = (("mcp.serve", name, "--node", "web1") for name in LISTS)
            async with agent(person.environment, *one) as maker, agent(person.environment, *other) as beside:
                await work(maker, beside)

    anyio.run(both)


async def types(person: Person, command: str) -> Any:
    """Have the operator type a command, while agents work."""
    return await anyio.to_thread.run_sync(person.runs, command)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_an_agent_clones_mends_tests_serves_and_pushes(place: tuple[Person, Internet]) -> None:
    person, internet = place
    tip = internet.tip("app")

    async def work(maker: Agent, beside: Agent) -> None:
        made = await maker.call("repo_clone", url=URL)
        code = f"code/{made['name']}"
        facts = await maker.facts()
        assert (facts["name"], facts["network"]) == ("maker", {"allow": list(LISTS["maker"]), "deny": []})
        assert ".codesmith" not in await maker.says("git status --short --ignored", cwd=code)
        await maker.call("file_edit", path=f"{code}/app.py", old="a - b", new="a + b")
        job = await maker.call("job_start", argv=["python3", "-m", "unittest", "-v"], cwd=code, name="tests")
        assert "test_add" in (log := await maker.follow(job["id"])) and log.rstrip().endswith("OK"), log
        await check_denied(maker)
        assert await maker.says(COMMIT, cwd=code) == ""
        await maker.call("repo_sync", name=made["name"], direction="push")
        assert (await maker.says("git rev-parse HEAD", cwd=code)).strip() == internet.tip("app") != tip
        await check_page(maker, facts, code)
        # While something runs there, git is a command like others, and goes by the list.
        assert await maker.is_refused("repo_sync", name=made["name"], direction="push")
        await maker.says(f"echo more >> index.html; {COMMIT}; git push", cwd=code)
        assert (await maker.says("git rev-parse HEAD", cwd=code)).strip() == internet.tip("app")
        await check_gains_nothing(maker, beside)

    async def check_denied(maker: Agent) -> None:
        """The refusal names the command; typed by the operator it opens the host, for this one alone."""
        await check_denied_job(maker)
        refused = await maker.run(*CURL, "https://pypi.test/hello")
        assert refused.structured_content and refused.structured_content["denied"] == ["pypi.test:443"]
        (command,) = re.findall(r"operator allows it with: (codesmith [^\]]+)\]", refused.content[0].text)
        assert command.startswith(f"{(await maker.facts())['operator']['allow_host'].removesuffix('HOST')}pypi.test")
        await types(person, f"{command} --node web1")
        assert await maker.fetches("https://pypi.test/hello")
        assert "pypi.test" in (await maker.facts())["network"]["allow"]
        await types(person, "codesmith sandbox.update maker --drop pypi.test --node web1")

    async def check_denied_job(maker: Agent) -> None:
        """What kept a job from a host is told with its output and in the list, to the operator too."""
        job = (await maker.call("job_start", argv=[*CURL, "https://npm.test/hello"], name="fetch"))["id"]
        await maker.follow(job)
        told = "[denied: npm.test:443; the operator allows it with: codesmith sandbox.update maker --allow npm.test]"
        for tool, arguments in (("job_output", {"id": job}), ("job_list", {})):
            answer = await maker.client.call_tool(tool, arguments)
            assert answer.content[0].text.splitlines()[-1] == told
        listed = {one["name"]: one for one in (await maker.call("job_list"))["items"]}
        assert (listed["fetch"]["denied"], "denied" in listed["tests"]) == (["npm.test:443"], False)
        jobs = [
            f"inv {one} maker {job} --node web1" for one in ("job.logs", "job.logs --follow", "job.get", "job.wait")
        ]
        for command in (*jobs, f"inv workspace.exec maker --node web1 -- {shlex.join(CURL)} https://npm.test/hello"):
            said = await anyio.to_thread.run_sync(partial(person.runs, command, check=False))
            assert "to allow it: inv sandbox.update maker --allow npm.test" in said.err, command
        assert "npm.test" not in (await types(person, "inv job.logs maker tests --node web1")).err

    async def check_page(maker: Agent, facts: Any, code: str) -> None:
        """A page that the agent serves is in the operator's browser, by the command of the facts."""
        local, argv = free_port(), ["python3", "-m", "http.server", "8000", "--bind", "127.0.0.1"]
        await maker.call("job_start", argv=argv, cwd=code, name="page")
        command = facts["operator"]["forward"].replace("PORT", f"{local}:8000")
        await types(person, f"{command} --background --node web1")
        while "8000" not in await maker.says("ss -Hltn"):
            await anyio.sleep(0.05)
        page = await anyio.to_thread.run_sync(partial(read, f"http://127.0.0.1:{local}/"))
        assert page == "<h1>made by an agent</h1>\n"

    async def check_gains_nothing(maker: Agent, beside: Agent) -> None:
        node = person.lab_node("web1")
        ports = ("127.0.0.1:8000", "127.0.0.1:22", f"{node.bridge_host}:22", f"{node.record.host}:22",
                 f"{internet.host}:443")  # fmt: skip
        tried = await beside.call(
            "run", argv=["python3", "-c", GRAB, *(",".join(one) for one in (PATHS, SOCKETS, ports))]
        )
        assert (tried["stdout"], tried["exit_code"]) == ("", 0), tried
        for path in ("../maker/code/app/app.py", f"{MAKER}/code/app/app.py"):
            assert await beside.is_refused("file_read", path=path)
        assert await beside.is_refused("run", argv=["true"], workspace="maker")
        # Its way out has its own list, and leads to no port of the node.
        for url in ("https://git.test/git/app.git/HEAD", f"http://{node.bridge_host}:22/", "http://127.0.0.1:8000/"):
            assert not await beside.fetches(url), url
            tunnel = "curl -s -o /dev/null -w '%{http_connect}' -p -x 127.0.0.1:3128 "
            assert await beside.says(tunnel + url) != "200", url
        assert await beside.fetches("https://other.test/hello")
        # What it was refused is counted for it alone.
        denied = {
            name: (await types(person, f"inv sandbox.get {name} --node web1 --json")).json["denied"] for name in LISTS
        }
        assert denied["maker"] == []
        assert "git.test" in [one["host"] for one in denied["beside"]]
        # The first one has felt nothing of it.
        jobs = {one["name"]: one["state"] for one in (await maker.call("job_list"))["items"]}
        assert (jobs["page"], jobs["tests"]) == ("running", "exited")

    together(work, person)
    person.runs("inv workspace.forward maker --stop --node web1")
    # Each came with a token of its own, which is gone.
    for name in LISTS:
        records = person.runs(f"inv audit.list --workspace {name} --node web1 --json").json
        ids = {one["token"]["id"] for one in records if one["token"]}
        assert len(ids) == 1, records
    assert person.runs("inv token.list --node web1 --json").json == []


@pytest.mark.long
def test_a_token_of_one_workspace_opens_no_other_and_no_port_of_the_node(place: tuple[Person, Internet]) -> None:
    person, _ = place
    made = person.runs("inv token.create beside --endpoint --node web1 --json").json
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CODESMITH_")}
    clean |= {"CODESMITH_ENDPOINT": made["endpoint"], "CODESMITH_TOKEN_FILE": made["token_file"]}
    clean["HOME"] = str(Path(made["token_file"]).parent)

    def holder(*words: str, data: str = "") -> subprocess.CompletedProcess[str]:
        argv = [str(BIN / "codesmith"), *words]
        return subprocess.run(argv, env=clean, input=data, capture_output=True, text=True, timeout=60)

    assert holder("workspace.exec", "beside", "--", "id", "-un").stdout == "cs-beside\n"
    assert holder("file.write", "beside", "data/by-token", data="written\n").returncode == 0
    assert holder("file.read", "beside", "data/by-token").stdout == "written\n"
    for words in (("workspace.exec", "maker", "--", "true"), ("file.write", "maker", "data/x"), ("job.list", "maker"),
                  ("sandbox.update", "beside", "--allow", "git.test"), ("token.create", "maker"),
                  ("workspace.forward", "beside", "22"), ("user.list",)):  # fmt: skip
        assert holder(*words, data="x").returncode != 0, words

    async def serve(workspace: str) -> bool:
        async with agent(clean, "mcp.serve", workspace) as one:
            return await one.is_refused("run", argv=["true"])

    assert (anyio.run(serve, "maker"), anyio.run(serve, "beside")) == (True, False)
    person.runs(f"inv token.revoke {made['id']} --node web1")
    assert holder("workspace.exec", "beside", "--", "true").returncode != 0


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())
