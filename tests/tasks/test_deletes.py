"""What destroys says what would be lost and asks on a terminal; elsewhere it wants --yes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from codesmith.workspace.losses import LOOK
from tests.agent.on_node.terminal import Terminal
from tests.sdk.sdk_doubles import USER
from tests.sdk.stream_doubles import JOB, stand_in
from tests.tasks.conftest import INV

pytestmark = pytest.mark.slow

WORKSPACE = {
    "id": "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0001", "name": "demo", "path": "/srv/codesmith/workspaces/demo",
    "home": "/srv/codesmith/home/cs-demo", "user": "demo", "shared_with": [], "uid": 70000, "gid": 70000,
    "mode": "0700", "state": "ready", "labels": {}, "repos": ["site"], "login": "cs-demo",
    "sandbox": None, "runtime": {"state": "stopped", "since": None, "idle_stop_at": None},
    "created_at": "2026-11-23T00:00:00.000Z", "opened_at": None,
}  # fmt: skip
USAGE = {
    "memory_bytes": 0, "memory_peak_bytes": None, "memory_limit_bytes": None, "cpu_s": 0.0, "tasks": 0,
    "disk_bytes": 3 << 20, "files": 41, "disk_limit_bytes": None, "network": {"allowed": [], "denied": []},
}  # fmt: skip
LOOKED = {
    "exit_code": 0, "signal": None,
    "stdout": "2 1 1 ./code/site\0000 0 1 ./code/ok\0000 0 0 /home/x\x1b[2J\0not a repo\0",
    "stdout_encoding": "text", "stderr": "", "stderr_encoding": "text", "omitted_bytes": {"stdout": 0, "stderr": 0},
    "truncated": False, "duration_s": 0.1, "killed_by": None,
}  # fmt: skip
REPO = {
    "name": "site", "path": "/srv/codesmith/workspaces/demo/code/site", "url": None, "branch": "main", "commit": None,
    "left_out": [], "ahead": None, "behind": None, "updated": None, "new_commits": None,
}  # fmt: skip
REFUSED = {"error": {"code": 1005, "message": "user 'demo' is disabled", "data": {"kind": "disabled"}}}
MISSING = {"error": {"code": 1001, "message": "no workspace 'demo'", "data": {"kind": "not_found"}}}
ANSWERS = {
    "workspace_get": WORKSPACE, "workspace_usage": USAGE, "workspace_exec": LOOKED, "job_list": [JOB],
    "job_get": {**JOB, "state": "exited", "exit_code": 0, "stdout_bytes": 2048},
    "user_get": {**USER, "workspaces": [], "drift": []}, "repo_get": REPO,
    "workspace_delete": {"name": "demo", "deleted": True, "user_deleted": True, "leftovers": []},
    "user_delete": {"name": "ada", "deleted": True, "leftovers": []},
    "repo_delete": {"workspace": "demo", "name": "site", "deleted": True},
    "job_delete": {"id": JOB["id"], "deleted": True},
}  # fmt: skip
DELETES = [
    (("workspace.delete", "demo"), "workspace demo"),
    (("repo.delete", "demo", "site"), "repository site"),
    (("user.delete", "ada"), "user ada"),
    (("job.delete", "demo", JOB["id"]), f"job {JOB['id']}"),
]


def deleted(server) -> bool:
    return any(method.endswith(".delete") for method, _ in server.calls)


@pytest.mark.parametrize(("words", "what"), DELETES)
def test_without_a_terminal_yes_is_needed(place, words, what):
    with stand_in(place.endpoint(), **ANSWERS) as server:
        done = place.inv(*words)
        assert (done.returncode, done.stdout, deleted(server)) == (2, "", False)
        assert place.inv(*words, "--yes").returncode == 0
        assert [method for method, _ in server.calls][-1] == words[0]
    assert done.stderr.startswith(f"deleting {what} loses:\n  ")
    typed = " ".join(words)
    assert done.stderr.endswith(
        f"error: {what} is not deleted: there is no terminal to ask on\nhint: inv {typed} --yes\n"
    )


@pytest.mark.parametrize(("words", "what"), DELETES)
def test_a_terminal_is_asked(place, words, what):
    for answer, code in (("n", 2), ("", 2), ("y", 0)):
        with (
            stand_in(place.endpoint(), **ANSWERS) as server,
            Terminal([INV, *words], {**place.environment, "TERM": "dumb"}, rows=40, columns=200) as terminal,
        ):
            terminal.wait_for(rf"deleting {what} loses:")
            terminal.wait_for(r"delete it\? \[y/N\] ")
            terminal.types(f"{answer}\n")
            assert terminal.wait_for_end() == code
            assert deleted(server) is (code == 0)


NODES = """\
nodes:
  # at the office
  web1: {host: web1.invalid, tags: [eu]}
  web2: {host: web2.invalid}
"""


def test_a_node_says_what_its_entry_has_and_that_its_agent_stays(place):
    place.write(NODES)
    done = place.inv("node.remove", "web1")
    assert (done.returncode, place.nodes.read_text()) == (2, NODES)
    assert done.stderr == (
        "web1 itself does not change: its agent and its workspaces stay; to remove them first: "
        "inv node.uninstall --node web1\n"
        "deleting the entry of web1 loses:\n"
        f"  its lines in {place.nodes}:\n"
        "      # at the office\n"
        "      web1: {host: web1.invalid, tags: [eu]}\n"
        "error: the entry of web1 is not deleted: there is no terminal to ask on\nhint: inv node.remove web1 --yes\n"
    )
    assert place.inv("node.remove", "web1", "--yes").returncode == 0
    assert place.nodes.read_text() == "nodes:\n  web2: {host: web2.invalid}\n"


def test_a_terminal_is_asked_about_a_node(place):
    for answer, code in (("n", 2), ("y", 0)):
        place.write(NODES)
        with Terminal(
            [INV, "node.remove", "web1"], {**place.environment, "TERM": "dumb"}, rows=40, columns=200
        ) as terminal:
            terminal.wait_for(r"delete it\? \[y/N\] ")
            terminal.types(f"{answer}\n")
            assert terminal.wait_for_end() == code
        assert ("web1" in place.nodes.read_text()) is (code == 2)


def test_a_question_that_nobody_sees_is_not_asked(place):
    """Standard error goes to a file, standard input is a terminal."""
    with (
        stand_in(place.endpoint(), **ANSWERS) as server,
        Terminal(
            ["sh", "-c", f"{INV} user.delete ada 2>{place.home.parent}/said"], place.environment, rows=40, columns=200
        ) as terminal,
    ):
        assert terminal.wait_for_end() == 2
        assert not deleted(server)


def test_yes_looks_at_nothing(place):
    with stand_in(place.endpoint(), **ANSWERS) as server:
        assert place.inv("workspace.delete", "demo", "--yes", "--keep-user").returncode == 0
    assert [method for method, _ in server.calls] == ["workspace.delete"]


def test_a_workspace_says_files_commands_repositories_and_user(place):
    with stand_in(place.endpoint(), **ANSWERS):
        done = place.inv("workspace.delete", "demo")
    assert done.stderr.splitlines()[:7] == [
        "deleting workspace demo loses:",
        "  all files in /srv/codesmith/workspaces/demo and /srv/codesmith/home/cs-demo: 3.0 MiB in 41 files",
        "  1 running command: make",
        "  code/site: 1 commit that no remote has, 2 changed files",
        "  /home/x\\x1b[2J: it has no remote",
        "  1 repository of which a remote has everything",
        "  its user demo, unless that owns other workspaces; --keep-user keeps it",
    ]


def test_what_cannot_be_looked_at_is_said_and_hinders_nothing(place):
    answers = {**ANSWERS, "workspace_usage": REFUSED, "workspace_exec": REFUSED, "job_list": REFUSED}
    with stand_in(place.endpoint(), **answers):
        done = place.inv("workspace.delete", "demo")
    assert done.stderr.count("(user 'demo' is disabled)") == 3
    assert done.returncode == 2


def test_an_unknown_name_is_no_question(place):
    with stand_in(place.endpoint(), **{**ANSWERS, "workspace_get": MISSING}):
        done = place.inv("workspace.delete", "demo")
    assert (done.returncode, done.stderr) == (3, "error: no workspace 'demo'\n")


def git(folder: Path, *words: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@h.invalid", "-C", str(folder), *words]
    subprocess.run(command, check=True, capture_output=True)


def test_the_look_counts_commits_changes_and_remotes(tmp_path):
    """A stash and a commit on no branch count; what a remote has does not."""
    origin, site, fresh = (tmp_path / name for name in ("origin", "code/site", "code/odd name"))
    for folder in (origin, fresh):
        folder.mkdir(parents=True)
        git(folder, "init", "-q")
    (origin / "a").write_text("a\n")
    git(origin, "add", "a")
    git(origin, "commit", "-q", "-m", "a")
    git(tmp_path, "clone", "-q", str(origin), str(site))
    look = ["sh", "-c", LOOK, "sh", "code"]
    assert rows(look, tmp_path) == {"0 0 0 code/odd name", "0 0 1 code/site"}
    git(site, "checkout", "-q", "--detach")
    git(site, "commit", "-q", "--allow-empty", "-m", "on no branch")
    (site / "a").write_text("b\n")
    git(site, "stash")
    (site / "new").touch()
    # A stash has two commits: the files, and the index.
    assert rows(look, tmp_path) == {"0 0 0 code/odd name", "1 3 1 code/site"}


def rows(look: list[str], folder: Path) -> set[str]:
    done = subprocess.run(look, cwd=folder, check=True, capture_output=True, text=True)
    return set(done.stdout.split("\0")) - {""}
