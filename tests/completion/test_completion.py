"""TAB: what is offered, in the real shells, and what it costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from codesmith.completion import answer, scripts, table
from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from codesmith.tasks import root
from tests.agent.on_node.terminal import Terminal
from tests.person import TOP, Person

pytestmark = pytest.mark.slow

ROOM = TOP / "codesmith" / "completion"
BIN = Path(sys.executable).parent
STARTS = {"bash": ["--norc", "-i"], "zsh": ["-f", "-i"], "fish": ["--no-config", "-i"]}


class Typist:
    """Somebody whose home, state and nodes.yaml are their own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**environment, "HOME": str(folder), "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "xterm"}

    def offered(self, *words: str, shell: str = "fish") -> list[str]:
        """Return the words that are offered, without their descriptions."""
        typed = ["inv " + " ".join(words)] if shell == "bash" else ["inv", *words]
        return [line.partition("\t")[0] for line in self.answer(shell, typed).splitlines()]

    def answer(self, shell: str, typed: list[str], *python: str) -> str:
        argv = [sys.executable, "-IS", *python, ROOM / "answer.py", shell, ROOM, self.cache, sys.executable, *typed]
        done = subprocess.run(argv, cwd=TOP, env=self.environment, capture_output=True, text=True, check=True)
        self.said = done.stderr
        return done.stdout

    @property
    def cache(self) -> Path:
        return Path(self.environment["CODESMITH_HOME"]) / "completion"

    def inv(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        argv = [BIN / "inv", *words]
        return subprocess.run(argv, cwd=TOP, env=self.environment, input=typed, capture_output=True, text=True)


@pytest.fixture
def typist(tmp_path: Path) -> Typist:
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text("nodes:\n  web1: {host: web1.example.org, tags: [eu, big]}\n  web2: {host: 198.18.0.9}\n")
    known = {key: value for key, value in os.environ.items() if not key.startswith("CODESMITH_")}
    home = {"CODESMITH_HOME": str(tmp_path / "home"), "CODESMITH_NODES": str(nodes), "SHELL": "/bin/bash"}
    return Typist(tmp_path, {**known, **home})


def test_tasks_options_choices_and_nodes(typist: Typist) -> None:
    assert typist.offered("workspace.u") == [
        "workspace.unshare", "workspace.update", "workspace.usage",
    ]  # fmt: skip
    assert typist.offered("wor") == [name for name in table.build(root()) if name.startswith("workspace.")]
    assert "node." in typist.offered("")
    assert typist.offered("workspace.open", "demo", "--editor", "c") == ["code", "cursor"]
    assert typist.offered("workspace.open", "demo", "--sh") == ["--shell"]
    assert typist.offered("workspace.open", "--editor=z") == ["--editor=zed"]
    assert typist.offered("node.info", "--node", "") == ["web1", "web2"]
    assert typist.offered("node.info", "--tag", "") == ["big", "eu"]
    assert typist.offered("node.info", "--node", "web1", "--no") == []
    assert typist.offered("workspace.exec", "demo", "--", "ma") == [answer.FILES]
    assert typist.offered("user.create", "ada", "--ssh-key", "") == [answer.FILES]
    for words in (
        "file.write demo a --from",
        "token.create demo --out",
        "mcp.config demo --write",
        "ui.serve --socket",
    ):
        assert typist.offered(*words.split(), "") == [answer.FILES], words
    assert typist.offered("workspace.create", "") == []


def test_templates_are_offered_by_the_names_of_their_files(typist: Typist) -> None:
    assert typist.offered("workspace.create", "demo", "--template", "") == []
    (typist.folder / "templates").mkdir()
    for name in ("python.yaml", "node.yaml", "notes.txt"):
        (typist.folder / "templates" / name).touch()
    assert typist.offered("workspace.create", "demo", "--template", "") == ["node", "python"]
    assert typist.offered("workspace.create", "demo", "--template=p") == ["--template=python"]
    assert typist.offered("template.get", "") == ["node", "python"]


def test_the_committed_table_is_what_the_tasks_say() -> None:
    assert json.loads((ROOM / "table.json").read_text()) == table.build(root()), "stale: run `make api`"


def test_what_is_offered_is_a_plain_word() -> None:
    found = [("good", "a\x1b[31mred\nline"), ("bad\x1b[2J", ""), ("bad\nline", ""), ("other", "")]
    assert answer.shown(found, "", "zsh") == ["good\ta?[31mred?line", "other"]
    assert answer.shown(found, "g", "bash") == ["good"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("inv node.info ", ["inv", "node.info", ""]),
        ("inv  node.info --no", ["inv", "node.info", "--no"]),
        ("inv job.start d --name 'my j", ["inv", "job.start", "d", "--name", "my j"]),
        ('inv a "b c" d\\ e', ["inv", "a", "b c", "d e"]),
    ],
)
def test_a_line_of_bash_is_split_as_bash_does(line: str, words: list[str]) -> None:
    assert answer.split(line) == words


def test_an_answer_imports_little(typist: Typist) -> None:
    typist.offered("node.info", "--node", "")  # nodes.yaml is read
    typist.answer("fish", ["inv", "node.info", "--node", ""], "-X", "importtime")
    imported = {line.rpartition("|")[2].strip() for line in typist.said.splitlines()}
    assert "json" in imported
    assert not imported & {"codesmith", "invoke", "yaml", "pathlib", "subprocess", "socket", "typing"}


def test_nodes_are_read_again_only_when_they_changed(typist: Typist) -> None:
    assert typist.offered("node.info", "--node", "") == ["web1", "web2"]
    (kept,) = typist.cache.glob("*.json")
    first = kept.stat()
    assert typist.offered("node.info", "--node", "") == ["web1", "web2"]
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    Path(typist.environment["CODESMITH_NODES"]).write_text("nodes:\n  web3: {host: web3.example.org}\n")
    assert typist.offered("node.info", "--node", "") == ["web3"]


def test_included_nodes_are_offered_and_no_program_is_run(typist: Typist) -> None:
    nodes = Path(typist.environment["CODESMITH_NODES"])
    nodes.write_text("include: [hosts, cloud]\nnodes:\n  web1: {host: web1.example.org}\n")
    (typist.folder / "hosts").write_text("[eu]\nweb2\n")
    cloud = typist.folder / "cloud"
    cloud.write_text("#!/bin/sh\necho run >>runs\necho 'nodes: {cloud1: {host: a}}'\n")
    cloud.chmod(0o755)
    assert typist.offered("node.info", "--node", "") == ["web1", "web2"]
    assert typist.offered("node.info", "--tag", "") == ["eu"]
    assert not (typist.folder / "runs").exists()
    assert typist.inv("node.list").returncode == 0  # what it prints is known from then on
    assert typist.offered("node.info", "--node", "") == ["web1", "web2", "cloud1"]
    (typist.folder / "hosts").write_text("web3\n")
    assert typist.offered("node.info", "--node", "") == ["web1", "web3", "cloud1"]
    assert (typist.folder / "runs").read_text() == "run\n"


def test_a_broken_registry_offers_nothing(typist: Typist) -> None:
    Path(typist.environment["CODESMITH_NODES"]).write_text("nodes: [")
    assert typist.offered("node.info", "--node", "") == []
    assert typist.offered("workspace.get", "") == []
    assert typist.said == ""


def test_an_endpoint_that_is_down_is_left_alone(typist: Typist) -> None:
    assert typist.offered("workspace.get", "--node", "web1", "") == []
    assert typist.said == ""
    assert not [path for path in Path(typist.environment["CODESMITH_HOME"]).rglob("*") if path.is_socket()]


@pytest.mark.parametrize("shell", STARTS)
def test_real_shells(typist: Typist, shell: str) -> None:
    script = typist.folder / "script"
    script.write_text(typist.inv("completion", shell).stdout)
    typist.offered("node.info", "--node", "")
    argv = ["env", "-C", str(TOP), shell, *STARTS[shell]]
    with Terminal(argv, typist.environment, rows=24, columns=100) as terminal:
        terminal.types(f"source {script}; echo rea''dy\n")
        terminal.wait_for("ready")
        terminal.types("inv workspace.cr\t")
        terminal.wait_for("eate|workspace.create")
        terminal.types("demo --no\t")
        terminal.wait_for("--node")
        terminal.types("web\t\t")
        terminal.wait_for("web2")
        terminal.types("\x15exit\n")


def test_install_and_remove(typist: Typist) -> None:
    start = typist.folder / ".bashrc"
    start.write_text("alias ll='ls -l'")
    said = typist.inv("completion", "bash", "--install")
    assert said.returncode == 2, said
    assert start.read_text() == "alias ll='ls -l'"
    assert typist.inv("completion", "bash", "--install", "--yes").returncode == 0
    assert start.read_text().splitlines()[0] == "alias ll='ls -l'"
    assert len(start.read_text().splitlines()) == 2
    assert subprocess.run(["bash", "-c", f". {start}; complete -p inv"], env=typist.environment).returncode == 0
    typist.inv("completion", "bash", "--install", "--yes")
    assert len(start.read_text().splitlines()) == 2
    assert typist.inv("completion", "bash", "--remove", "--yes").returncode == 0
    assert start.read_text() == "alias ll='ls -l'\n"
    refused = typist.inv("completion", "tcsh")
    assert refused.returncode == 1
    assert "bash, zsh, fish" in refused.stderr


def test_inv_of_another_project(typist: Typist) -> None:
    project = typist.folder / "other"
    project.mkdir()
    (project / "tasks.py").write_text("from invoke import task\n\n@task\ndef brew(c): pass\n")
    script = typist.folder / "script"
    script.write_text(scripts.script("bash"))
    line = "COMP_LINE='inv br' COMP_POINT=6 COMP_WORDS=(inv br) COMP_CWORD=1; _codesmith inv; echo ${COMPREPLY[@]}"
    argv = ["bash", "-c", f"cd {project}; . {script}; {line}"]
    assert subprocess.run(argv, env=typist.environment, capture_output=True, text=True).stdout == "brew\n"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["node.prepare", "--"], {"--node", "--plan"}),
        (["workspace.get", "--js"], {"--node", "--json"}),  # the name may follow
        (["node.list", "--output", "nonsense", "--"], {"--file"}),
    ],
)
def test_the_completion_script_of_invoke_gets_its_answer(typist: Typist, words: list[str], offered: set[str]) -> None:
    """Somebody has `inv --print-completion-script bash` in a file of theirs."""
    asked = ["inv", "--complete", "--", "inv", *words]
    done = subprocess.run(asked, cwd=TOP, env=typist.environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert offered <= set(done.stdout.split())


@pytest.fixture(scope="module")
def ada(make_person: Callable[..., Person]) -> Iterator[Person]:
    """Somebody with a node that has a workspace and a user, and is connected."""
    person = make_person({"web1": "bookworm"})
    person.prepare()
    with person.here(), Client(Registry.load(person.registry).get("web1")) as client:
        client.workspace.create(name="demo")
        client.user.create(name="bob")
    yield person


def test_names_come_from_the_node(ada: Person, tmp_path: Path) -> None:
    typist = Typist(tmp_path, ada.environment)
    assert typist.offered("workspace.get", "") == ["demo"]
    assert typist.offered("workspace.assign", "demo", "b") == ["bob"]
    assert typist.offered("workspace.copy", "d") == ["demo:", answer.FILES]
    assert typist.offered("workspace.copy", "./x", "d") == ["demo:", answer.FILES]
    assert typist.offered("file.read", "demo", "") == []
    with ada.here(), Client(Registry.load(ada.registry).get("web1")) as client:
        assert client.workspace.get(name="demo").runtime.state == "stopped"
        client.repo.init(workspace="demo", name="site")
        job = client.job.start(workspace="demo", name="web", argv=["sleep", "1000"])
    assert typist.offered("job.logs", "demo", "") == ["web"]
    assert typist.offered("repo.get", "demo", "") == ["site"]
    assert typist.offered("file.read", "demo", "co") == ["code/", "config/"]
    assert typist.offered("file.read", "demo", "code/") == ["code/site/"]
    assert typist.offered("workspace.copy", "de", shell="bash") == ["demo:", answer.FILES]
    with ada.here(), Client(Registry.load(ada.registry).get("web1")) as client:
        client.job.stop(workspace="demo", id=job.id)
