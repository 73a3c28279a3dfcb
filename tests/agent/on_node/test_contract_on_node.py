"""Every example of the contract, results and errors, said to a real agent over the real socket."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.on_node.forge import SERVER
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]
DOCUMENT = json.loads((Path(__file__).parents[3] / "agent" / "openrpc.json").read_text())
# What another node or another moment has otherwise; of these the type is compared.
UNDETERMINED = {
    "id", "uid", "gid", "created_at", "opened_at", "time", "duration_s", "commit", "peer_uid", "peer_login",
    "host_hint", "stdout", "cursor", "since", "idle_stop_at", "disk_bytes", "files",
    "token", "expires_at", "host_keys", "modified_at", "etag",
    "started_at", "ended_at", "by",
}  # fmt: skip
# The job of the examples; its true id is known when it was started.
JOB = "4be1f0c29a77"
# What changes nothing that is stored, but starts the runtime.
STARTS = ("workspace.dial",)
SERVE = SERVER.replace("8443", "443")
FORGE = """
set -e
mkdir /srv/git; cp /tmp/forge.pem /srv/git
sed -n '/BEGIN CERT/,$p' /tmp/forge.pem >> /etc/ssl/certs/ca-certificates.crt
echo 127.0.0.1 git.example.org >> /etc/hosts
echo git.example.org > /etc/codesmith/git_hosts
git init -q -b main /srv/seed; cd /srv/seed
git -c user.name=a -c user.email=a@b commit -q --allow-empty -m one
git clone -q --bare . /srv/git/team/site.git
systemd-run --quiet --unit=forge python3 /tmp/serve.py git.example.org no-password
"""
STATE = "/var/lib/codesmith"
AGENT = "codesmith-agent.service"
DAMAGE = f"systemctl stop {AGENT}; mkdir {STATE}/whole; mv {STATE}/state.db* {STATE}/whole; echo no database it is"
# What an example says of the node: how it comes about, and how it ends.
BY_HAND = {
    "somebody removed the Unix account cs-ada": ("userdel cs-ada", ""),
    "somebody made the Unix account cs-ada": ("useradd cs-ada", "userdel cs-ada"),
    "somebody made the directory of workspace demo": (
        "mkdir /srv/codesmith/workspaces/demo",
        "rmdir /srv/codesmith/workspaces/demo",
    ),
    "somebody mounted a file system at data in workspace demo": (
        "mount -t tmpfs tmpfs /srv/codesmith/workspaces/demo/data",
        "umount /srv/codesmith/workspaces/demo/data",
    ),
    "the agent's store is damaged": (
        f"{DAMAGE} > {STATE}/state.db; chown codesmith: {STATE}/state.db",
        f"systemctl stop {AGENT}; rm {STATE}/state.db*; mv {STATE}/whole/* {STATE}; rmdir {STATE}/whole",
    ),
    "https://git.example.org/team/site.git is reached from it and has a branch main": ("systemctl is-active forge", ""),
}


class Example:
    """One example of the document: what is said, when, and what the answer must be like."""

    def __init__(self, method: dict[str, Any], pairing: dict[str, Any], given: list[dict[str, Any]]) -> None:
        self.method, self.given = method["name"], given
        self.params = {one["name"]: one["value"] for one in pairing["params"]}
        self.error = pairing.get("error")
        self.result = None if self.error else pairing["result"]["value"]
        self.changes = (method["x-mutates"] or self.method in STARTS) and not self.error


def examples(document: dict[str, Any]) -> Iterator[Example]:
    for method in document["methods"]:
        yield from (Example(method, one, method["x-example-given"]) for one in method["examples"])
        yield from (Example(method, one, one["given"]) for one in method["x-error-examples"])


def worlds(document: dict[str, Any]) -> Iterator[tuple[list[dict[str, Any]], list[Example]]]:
    """Give what is given and the examples that are replayed there: those that change nothing, and one that does."""

    def key(example: Example) -> str:
        return json.dumps(example.given)

    for _, found in itertools.groupby(sorted(examples(document), key=key), key):
        here = sorted(found, key=lambda example: (example.error is not None, example.method))
        changing = [example for example in here if example.changes]
        yield here[0].given, [example for example in here if not example.changes] + changing[:1]
        for example in changing[1:]:
            yield example.given, [example]


class Agent:
    """Calls the agent as any program can: JSON-RPC over HTTP over the endpoint's socket."""

    def __init__(self, web1: Web1) -> None:
        self.web1, self._path = web1, str(web1.person.endpoint())
        self._job = JOB

    def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return the whole answer to one call, with the job of this world for that of the examples."""
        params = {key: self._job if value == JOB else value for key, value in params.items()}
        connection = http.client.HTTPConnection("node", timeout=60)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(60)
        try:
            connection.sock.connect(self._path)
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            connection.request("POST", "/", json.dumps(request), {"Content-Type": "application/json"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def call(self, method: str, **params: Any) -> Any:
        """Return the result of a call that must succeed."""
        answer = self.answer(method, params)
        assert "result" in answer, (method, params, answer)
        return answer["result"]

    @contextmanager
    def world(self, given: list[dict[str, Any]]) -> Iterator[None]:
        """Bring about what is given, in an empty world; empty it afterwards."""
        with ExitStack() as undone:
            undone.callback(self.clear)
            for one in given:
                if "node" in one:
                    do, undo = BY_HAND[one["node"]]
                    self.web1.on(do)
                    undone.callback(self.web1.on, undo)
                else:
                    made = self.call(one["method"], **one["params"])
                    self._job = made["id"] if one["method"] == "job.start" else self._job
            yield

    def clear(self) -> None:
        """Delete all workspaces and users."""
        for workspace in self.call("workspace.list"):
            self.call("workspace.delete", name=workspace["name"])
        for user in self.call("user.list"):
            self.call("user.delete", name=user["name"])


@pytest.fixture(scope="module")
def agent(web1: Web1, tmp_path_factory: pytest.TempPathFactory) -> Agent:
    folder = tmp_path_factory.mktemp("forge")
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=forge",
        "-keyout",
        "key",
        "-out",
        "cert",
    ]
    words += ["-addext", "subjectAltName=DNS:git.example.org"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    pem = (folder / "key").read_text() + (folder / "cert").read_text()
    web1.on(f"cat >/tmp/serve.py <<'E'\n{SERVE}E\ncat >/tmp/forge.pem <<'E'\n{pem}E\nchmod 600 /tmp/forge.pem")
    web1.on(FORGE)
    is_open = "bash -c 'exec 3<>/dev/tcp/127.0.0.1/443'"
    web1.person.wait_until(lambda: web1.on(is_open, check=False).ok, within_s=20)
    return Agent(web1)


def test_what_the_agent_serves_is_what_is_replayed_here(agent: Agent) -> None:
    assert agent.call("rpc.discover") == DOCUMENT


@pytest.mark.parametrize(
    ("given", "here"),
    [
        pytest.param(given, here, id=f"{number}-{here[-1].method}")
        for number, (given, here) in enumerate(worlds(DOCUMENT))
    ],
)
def test_examples_are_true(agent: Agent, given: list[dict[str, Any]], here: list[Example]) -> None:
    with agent.world(given):
        for example in here:
            answer = agent.answer(example.method, example.params)
            said = (example.method, example.params, answer)
            if example.error:
                assert answer.get("error") == example.error, said
            else:
                assert "result" in answer, said
                compare(example.method)(answer["result"], example.result, "result")


def compare(method: str) -> Callable[[Any, Any, str], None]:
    """Return what compares a result of a method with its example."""
    if method == "rpc.discover":
        return lambda found, example, path: compare_values({key: found[key] for key in example}, example, path)
    return compare_shapes if method.startswith("node.") else compare_values


def compare_values(found: Any, example: Any, path: str) -> None:
    """Look for the same values, and for the same types where the example cannot know the value."""
    compare_shapes(found, example, path, compare_values)
    if not isinstance(example, dict | list) and path.rpartition(".")[2].partition("[")[0] not in UNDETERMINED:
        assert found == example, path
    if isinstance(example, list):
        assert len(found) == len(example), path


def compare_shapes(found: Any, example: Any, path: str, inner: Callable[[Any, Any, str], None] | None = None) -> None:
    """Look for the same keys and types; every item of a list is like the example's first."""
    inner = inner or compare_shapes
    assert type(found) is type(example), path
    if isinstance(example, dict):
        assert set(found) == set(example), path
        for key, value in example.items():
            inner(found[key], value, f"{path}.{key}")
    elif isinstance(example, list) and example:
        for number, item in enumerate(found):
            inner(item, example[min(number, len(example) - 1)], f"{path}[{number}]")
