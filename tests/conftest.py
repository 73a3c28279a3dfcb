"""Fixtures for all tests: real nodes, a registry that names them, and nothing left behind."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import pytest

from codesmith.lab import Lab, LabNode
from codesmith.lab.images import RELEASES
from codesmith.tunnel import control
from tests import forwarders
from tests.agent.on_node.internet import Internet
from tests.person import Person
from tests.waiting import LOOK_AGAIN_S

NO_LAB = "CODESMITH_NO_LAB"
NUMBERS = itertools.count(1)
# How long something may take to go by itself on a busy machine.
PATIENCE_S = 5.0
# Fixtures of tests that prepare nodes, or type commands.
PREPARE = {"agent_copy", "make_person"}


def pytest_configure(config: pytest.Config) -> None:
    """Take Ctrl-C as from a terminal: nohup and a background job of a shell leave it ignored, for children too.

    Hundreds of programs are started here: they are compiled once, also where the environment forbids bytecode files.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if not hasattr(config, "workerinput"):  # one of several processes has the mark of the whole run
        forwarders.mark_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End what runs in the background, also where Ctrl-C, or the end of one of several processes, left it behind."""
    if not hasattr(config, "workerinput"):
        forwarders.end_all()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    """Mark what boots nodes; such a test fails on a machine that cannot, unless CODESMITH_NO_LAB=1 says to skip it.

    Where several processes run tests, each takes the longest file that is left, so that they end together.
    """
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()) or item.get_closest_marker("lab"):
            item.add_marker(pytest.mark.lab)
            if os.environ.get(NO_LAB) == "1":
                item.add_marker(pytest.mark.skip(reason=f"{NO_LAB}=1"))
    yield  # `-m` has its choice made
    if hasattr(config, "workerinput"):
        longest_files_first(items)


def pytest_collection_finish() -> None:
    """Spare the collector the thousands of tests that stay: looking through them takes longer than many a test."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write a name that is no UTF-8 with escapes: half a surrogate in a report ends the run of several processes."""
    report = yield
    if report.longrepr and not isinstance(report.longrepr, tuple):  # a tuple says why a test was skipped
        text = str(report.longrepr)
        if text != (sendable := text.encode(errors="backslashreplace").decode()):
            report.longrepr = sendable
    return report


def longest_files_first(items: list[pytest.Item]) -> None:
    """Sort tests by about how long all those of their file take; those of one file keep their order."""
    files: dict[Path, float] = {}
    for item in items:
        files[item.path] = files.get(item.path, 0.0) + about_s(item)
    items.sort(key=lambda item: (-files[item.path], str(item.path)))


def about_s(item: pytest.Item) -> float:
    """Return about how long a test takes: storms have a time limit of their own; preparing takes longer than calls."""
    limit = item.get_closest_marker("timeout")
    if limit is not None:
        return float(limit.args[0]) / 20
    if item.get_closest_marker("lab"):
        return 2.5 if PREPARE & set(getattr(item, "fixturenames", ())) else 0.8
    return 1.0 if item.get_closest_marker("slow") else 0.1


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab of this machine. What a test boots in it is gone at the end, whatever happens to the tests."""
    with Lab() as laboratory:
        yield laboratory


@pytest.fixture(scope="session")
def new_name() -> Callable[[str], str]:
    """Give names that no other test run on this machine uses: `new_name("web")`."""
    return lambda word="node": f"{word}-{os.getpid()}-{next(NUMBERS)}"


@pytest.fixture(scope="module")
def boot(lab: Lab, new_name: Callable[[str], str]) -> Iterator[Callable[..., LabNode]]:
    """Boot fresh nodes: `web = boot("web", release="trixie")`. They are thrown away after the module."""
    booted: list[str] = []

    def boot_one(word: str = "node", release: str = "bookworm", bridge: str = "") -> LabNode:
        name = new_name(word)
        booted.append(name)
        return lab.up(name, release, bridge=bridge)

    yield boot_one
    for name in booted:
        lab.down(name)


@pytest.fixture(scope="module")
def node(boot: Callable[..., LabNode]) -> LabNode:
    """A fresh Debian 12 for this module."""
    return boot("node")


@pytest.fixture(scope="module", params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """Each Debian release that nodes may run."""
    return str(request.param)


@pytest.fixture(scope="module")
def any_node(boot: Callable[..., LabNode], release: str) -> LabNode:
    """A fresh node of each release in turn, for this module."""
    return boot(release, release=release)


@pytest.fixture
def codesmith_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """State and sockets for this test alone; a forwarder that it started ends with it."""
    # Not tmp_path, whose long name would not fit into a socket's.
    with tempfile.TemporaryDirectory(prefix="codesmith-") as folder:
        monkeypatch.setenv("CODESMITH_HOME", folder)
        yield Path(folder)
        control.stop()


@pytest.fixture
def nodes_yaml(codesmith_home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the registry that this test works with: `nodes_yaml(web, db)`; its nodes are booted lab nodes."""

    def write(*nodes: LabNode) -> Path:
        path = codesmith_home / "nodes.yaml"
        entries = [f"  {node.name}:\n    lab: {node.release}\n" for node in nodes]
        path.write_text("nodes:\n" + "".join(entries))
        monkeypatch.setenv("CODESMITH_NODES", str(path))
        return path

    return write


@pytest.fixture
def ssh_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty ssh configuration for this test: every ssh that it starts reads this one, and no other."""
    config, programs = tmp_path / "ssh_config", tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    config.touch()
    return config


@pytest.fixture(scope="module")
def make_person(lab: Lab, new_name: Callable[[str], str]) -> Iterator[Callable[..., Person]]:
    """Give somebody fresh nodes and a terminal: `ada = make_person({"web1": "bookworm"})`; `bridge=True` joins them."""
    there: list[Person] = []
    with tempfile.TemporaryDirectory(prefix="codesmith-") as folder:

        def make(nodes: dict[str, str], *, bridge: bool = False, packages: Sequence[str] = ()) -> Person:
            name = new_name("p")
            asked = {"bridge": name if bridge else "", "packages": packages}
            person = Person(Path(folder, str(len(there))), lab, nodes, name, **asked)
            there.append(person)
            return person

        yield make
        for person in there:
            person.leave()


@pytest.fixture(scope="module")
def make_internet(
    make_person: Callable[..., Person], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[Person, Internet]]:
    """Give a prepared node, `web1`, with an internet beside it: `person, internet = make_internet("trixie")`."""

    def make(release: str, *, packages: Sequence[str] = ()) -> tuple[Person, Internet]:
        # Both boot from one image.
        nodes = {"web1": release, "net": release if packages else "bookworm"}
        person = make_person(nodes, bridge=True, packages=packages)
        internet = Internet(person, "net", tmp_path_factory.mktemp("internet"))
        internet.meets("web1")
        person.prepare("web1")
        return person, internet

    return make


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a child process, a thread or a socket; fixtures of the module may keep theirs."""
    before = left_open()
    yield
    deadline = time.monotonic() + PATIENCE_S
    looks = itertools.count()
    while new := left_open() - before:
        # Most of it is about to end by itself; what nobody can reach any more ends with the collector.
        if next(looks) % 10 == 1:
            gc.collect()
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(new))}", pytrace=False)
        time.sleep(LOOK_AGAIN_S)


def left_open() -> set[str]:
    """Name the children, threads and sockets of this process."""
    return {*_children(), *(f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate()), *_sockets()}


def _children() -> Iterator[str]:
    for task in Path("/proc/self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue  # a thread that ended meanwhile
        for pid in children:
            with_words = Path("/proc", pid, "cmdline")
            try:
                words = with_words.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            yield f"process {pid} {words or '(ended, not waited for)'}"


def _sockets() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found = os.fstat(int(descriptor))
        except OSError:
            continue
        if stat.S_ISSOCK(found.st_mode):
            yield f"socket:[{found.st_ino}] (descriptor {descriptor})"
