"""--resume: which nodes of a fleet command are done, after whatever ended it."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from codesmith.errors import BadArgument, CodeSmithError, StepFailed, Unproven, Unreachable
from codesmith.fleet import parallel, runs

PLACES = {"web1": "a.invalid", "web2": "b.invalid", "web3": "c.invalid"}


@dataclass(frozen=True)
class Step:
    phase: str


class Fleet:
    """A nodes.yaml, and what was said."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "nodes.yaml"
        self.write(PLACES)

    def write(self, places) -> None:
        nodes = {name: {"host": host} for name, host in places.items()}
        self.file.write_text(json.dumps({"nodes": nodes}))

    def begin(self, task="node.prepare", *, settings=None, build="b1", is_repeatable=True, **options):
        options = {"file": str(self.file), **options}
        return runs.begin(
            task, options, settings, build=build, is_repeatable=is_repeatable, all_by_default=True
        )  # fmt: skip

    def work(self, run, *bad, error=Unreachable, steps=()):
        """Work on the nodes of a run, of which some fail; return those that were worked on."""
        worked = []

        def one(node, tell):
            worked.append(node.name)
            for phase in steps:
                tell(Step(phase))
            if node.name in bad:
                raise error(f"{node.name} failed")

        with run:
            follow = run.follow_steps(one)
            parallel.each(run.chosen.nodes, lambda node: follow(node, lambda _: None), 1)
        return worked


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "home"))
    return Fleet(tmp_path)


def files():
    from codesmith import paths

    return sorted((paths.state_dir() / "runs").glob("*.json"))


def test_only_what_is_not_done_is_worked_on_again(fleet, capsys):
    assert fleet.work(fleet.begin(), "web2", "web3") == ["web1", "web2", "web3"]
    said = capsys.readouterr().err
    assert said == f"2 of 3 nodes are not done; to go on with them: inv node.prepare --file {fleet.file} --resume\n"
    assert fleet.work(fleet.begin(resume=True), "web3") == ["web2", "web3"]
    assert capsys.readouterr().err.startswith("node.prepare of 20")
    assert fleet.work(fleet.begin(resume=True)) == ["web3"]
    assert files() == []
    with pytest.raises(CodeSmithError, match=r"no node.prepare of .*nodes.yaml was cut off"):
        fleet.begin(resume=True)


def test_a_process_that_was_killed_leaves_what_it_had_done(fleet):
    reading, writing = os.pipe()
    child = os.fork()
    if not child:  # as by kill -9, in the middle of the second node

        def one(node, _):
            if node.name == "web2":
                os.write(writing, b"x")
                os._exit(9)

        with fleet.begin() as run:
            parallel.each(run.chosen.nodes, lambda node: run.follow_steps(one)(node, lambda _: None), 1)
        os._exit(1)
    assert os.read(reading, 1) == b"x"
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)
    assert fleet.work(fleet.begin(resume=True)) == ["web2", "web3"]


def test_the_file_is_private_and_whole_at_any_time(fleet):
    def look(node, _):
        (file,) = files()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert json.loads(file.read_text())["nodes"][node.name]["state"] == "begun"

    with fleet.begin() as run:
        follow = run.follow_steps(look)
        outcomes = parallel.each(run.chosen.nodes, lambda node: follow(node, lambda _: None))
    assert [one.error for one in outcomes] == [None] * 3
    assert stat.S_IMODE(files_folder().stat().st_mode) == 0o700


def files_folder():
    from codesmith import paths

    return paths.state_dir() / "runs"


def test_a_node_that_is_another_one_now_is_not_done_and_one_that_is_gone_is_left_out(fleet, capsys):
    fleet.work(fleet.begin(), "web3")
    fleet.write({"web1": "elsewhere.invalid", "web3": PLACES["web3"], "web4": "d.invalid"})
    assert fleet.work(fleet.begin(resume=True)) == ["web1", "web3"]
    said = capsys.readouterr().err
    assert "web1 has changed in nodes.yaml: it is not done any more\n" in said
    assert "web2 is not in nodes.yaml any more: left out\n" in said
    assert files() == []


def test_another_agent_or_other_options_do_not_go_on(fleet):
    fleet.work(fleet.begin(settings={"purge": True}), "web2")
    with pytest.raises(CodeSmithError, match="the agent of this CodeSmith has changed") as changed:
        fleet.begin(settings={"purge": True}, build="b2", resume=True)
    assert changed.value.hint == "all of them again: inv node.prepare --node web1 --node web2 --node web3"
    with pytest.raises(BadArgument, match=r"the node\.prepare that was cut off began with --purge"):
        fleet.begin(settings={"purge": False}, resume=True)
    with pytest.raises(BadArgument, match="--resume takes its nodes from the run"):
        fleet.begin(settings={"purge": True}, resume=True, node=["web1"])
    assert fleet.work(fleet.begin(settings={"purge": True}, resume=True)) == ["web2"]


def test_a_file_that_is_damaged_is_named_and_hinders_no_new_run(fleet):
    fleet.work(fleet.begin(), "web2")
    (file,) = files()
    for text in ("", "[]", '{"nodes": {"web1": {"state": 1, "entry": "x"}}}'):
        file.write_text(text)
        with pytest.raises(CodeSmithError, match="is damaged") as damaged:
            fleet.begin(resume=True)
        assert damaged.value.hint == f"rm {file}  # then without --resume"
        assert fleet.work(fleet.begin(node=["web1"])) == ["web1"]
    assert fleet.work(fleet.begin()) == ["web1", "web2", "web3"]


def test_what_cannot_be_written_keeps_no_node_from_being_worked_on(fleet, capsys):
    fleet.work(fleet.begin(), "web2")
    (file,) = files()
    file.unlink()
    file.mkdir()
    capsys.readouterr()
    assert fleet.work(fleet.begin(), "web2") == ["web1", "web2", "web3"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: --resume will not know how far this came: cannot write ")
    file.rmdir()
    (files_folder() / f"{file.stem}.lock").unlink()
    files_folder().rmdir()
    files_folder().touch()
    assert fleet.work(fleet.begin(), "web2") == ["web1", "web2", "web3"]
    assert capsys.readouterr().err.startswith("warning: --resume will not know how far this came: ")
    assert fleet.work(fleet.begin(node=["web1"])) == ["web1"]
    assert capsys.readouterr().err == ""


def test_one_node_by_itself_is_noted_and_begins_no_run(fleet, capsys):
    fleet.work(fleet.begin(node=["web2"]), "web2")
    assert (files(), capsys.readouterr().err) == ([], "")
    fleet.work(fleet.begin(), "web2", "web3")
    capsys.readouterr()
    fleet.work(fleet.begin(node=["web2"]))
    assert capsys.readouterr().err == ""
    assert fleet.work(fleet.begin(resume=True)) == ["web3"]


def test_tasks_and_registries_have_files_of_their_own(fleet, tmp_path):
    fleet.work(fleet.begin(), "web1")
    fleet.work(fleet.begin("node.restart"), "web2")
    assert fleet.work(fleet.begin(resume=True)) == ["web1"]
    assert fleet.work(fleet.begin("node.restart", resume=True)) == ["web2"]


def test_what_may_not_be_done_twice_is_left_out_where_nobody_knows(fleet, capsys):
    rollback = {"task": "node.rollback", "is_repeatable": False}
    fleet.work(fleet.begin(**rollback), "web1", steps=("connect",))
    assert fleet.work(fleet.begin(**rollback, resume=True), steps=("connect", "probe")) == ["web1"]
    fleet.work(fleet.begin(**rollback), "web1", "web2", steps=("connect", "probe"))
    capsys.readouterr()
    assert fleet.work(fleet.begin(**rollback, resume=True)) == []
    assert (
        "web2 was being changed, and may be done: left out; see how it is: "
        f"inv node.version --node web2 --file {fleet.file}\n"
    ) in capsys.readouterr().err
    # Its steps are done, and then the connection broke; or another rollback has changed it.
    fleet.work(fleet.begin(**rollback), "web1", steps=("connect", "probe", "step"), error=Unproven)
    assert fleet.work(fleet.begin(**rollback, resume=True)) == []
    assert "web1 was being changed, and may be done: left out" in capsys.readouterr().err
    # The node has said itself that it was not done.
    fleet.work(fleet.begin(**rollback), "web1", steps=("connect", "probe"), error=StepFailed)
    assert fleet.work(fleet.begin(**rollback, resume=True)) == ["web1"]


def test_a_run_that_still_goes_on_is_not_resumed(fleet):
    entered, go_on = threading.Event(), threading.Event()

    def wait(node):
        entered.set()
        assert go_on.wait(30)

    def work():
        with fleet.begin() as run:
            parallel.each(run.chosen.nodes, run.follow(wait), 1)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(30)
    with pytest.raises(CodeSmithError, match=r"another node.prepare .* is running"):
        fleet.work(fleet.begin(resume=True))
    assert fleet.work(fleet.begin(node=["web2", "web3"])) == ["web2", "web3"]  # a new one needs no file
    go_on.set()
    thread.join()


def test_what_has_gone_on_while_a_command_asked_is_not_taken_back(fleet):
    fleet.work(fleet.begin(), "web2", "web3")
    asking = [fleet.begin(node=["web1"]), fleet.begin(node=["web3"])]
    resumed = fleet.begin(resume=True)
    assert fleet.work(fleet.begin(resume=True), "web3") == ["web2", "web3"]
    fleet.work(asking[0])
    with pytest.raises(CodeSmithError, match=r"another node.prepare of these nodes has run meanwhile") as refused:
        fleet.work(resumed)
    assert refused.value.hint == f"inv node.prepare --file {fleet.file} --resume"
    assert fleet.work(fleet.begin(resume=True)) == ["web3"]
    assert fleet.work(asking[1]) == ["web3"]
    assert files() == []
