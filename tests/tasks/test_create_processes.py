"""Real `inv` processes that create workspaces of templates, against a stand-in."""

from __future__ import annotations

import json
import signal
import subprocess
import threading

import pytest
from invoke.context import Context

from codesmith.tasks import workspace
from tests.sdk.stream_doubles import JOB, STDERR, STDOUT, Frames, stand_in
from tests.tasks.conftest import INV, PATIENCE_S, TOP
from tests.tasks.test_deletes import MISSING, REPO, WORKSPACE

pytestmark = pytest.mark.slow

TEMPLATE = """\
repo: {url: https://git.example.org/team/site.git, ref: main}
sandbox: {memory: 2G}
network: none
labels: {team: red, stage: dev}
files: {config/app.toml: {text: "a = 1"}}
env: {STAGE: dev, PORT: 8000}
setup: [make deps, make]
ports: [8000, 18001:8001]
"""
WRITTEN = {
    "path": "x", "type": "file", "size_bytes": 1, "mode": "0644", "modified_at": "2026-11-23T00:00:00.000Z",
    "target": None, "etag": "e",
}  # fmt: skip
SANDBOX = {
    "workspace": "demo", "limits": {}, "network": "none", "enforced": {}, "state": "active", "denied": [],
    "created_at": "2026-11-23T00:00:00.000Z",
}  # fmt: skip
DELETED = {"name": "demo", "deleted": True, "user_deleted": True, "leftovers": []}
REFUSED = {"error": {"code": 1006, "message": "no limits here", "data": {"kind": "unsupported"}}}
BUSY = {"error": {"code": 1004, "message": "busy", "data": {"kind": "in_use"}}}


def answers(**others):
    known = {
        "user_get": MISSING, "workspace_create": lambda params: {**WORKSPACE, "labels": params.get("labels", {})},
        "workspace_get": {**WORKSPACE, "labels": {"ports": "8000,18001:8001"}}, "workspace_delete": DELETED,
        "sandbox_create": SANDBOX, "file_write": WRITTEN, "file_make_directory": {**WRITTEN, "type": "directory"},
        "job_start": {**JOB, "name": "setup", "stream": None},
        "job_get": {**JOB, "state": "exited", "exit_code": 0}, "repo_list": [REPO],
    }  # fmt: skip
    return {**known, **others}


def setup_ends(code: int):
    def play(frames: Frames) -> None:
        frames.send(STDERR, b"+ make deps\n")
        frames.send(STDOUT, b"deps are made\n")
        frames.end(code)

    return play


@pytest.fixture
def templates(place):
    folder = place.nodes.parent / "templates"
    folder.mkdir()
    (folder / "site.yaml").write_text(TEMPLATE)
    return folder


def test_a_template_fills_a_workspace_in_this_order(place, templates):
    with stand_in(place.endpoint(), setup_ends(0), **answers()) as server:
        done = place.inv("workspace.create", "demo", "--template", "site", "--json")
    calls = dict(server.calls)
    order = [method for method, _ in server.calls if method not in ("user.get", "workspace.get", "job.get")]
    assert (done.returncode, json.loads(done.stdout)["name"]) == (0, "demo"), done.stderr
    assert order == [
        "workspace.create", "sandbox.create", "file.make_directory", "file.write", "file.write", "job.start",
        "job.attach", "repo.list",
    ]  # fmt: skip
    assert calls["workspace.create"]["repo"] == {"url": "https://git.example.org/team/site.git", "ref": "main"}
    assert calls["workspace.create"]["labels"] == {
        "template": "site", "ports": "8000,18001:8001", "team": "red", "stage": "dev",
    }  # fmt: skip
    assert (calls["sandbox.create"]["limits"], calls["sandbox.create"]["network"]) == (
        {"memory_bytes": 2 << 30},
        "none",
    )
    assert (calls["job.start"]["name"], calls["job.start"]["argv"][-2:]) == ("setup", ["make deps", "make"])
    assert "+ make deps\ndeps are made\n" in done.stderr
    assert "its ports 8000, 18001:8001, forwarded to this machine: inv workspace.forward demo\n" in done.stderr


def test_options_win_over_the_template(place, templates):
    words = ["--label", "stage=test", "--env", "STAGE=test", "--ref", "next", "--repo-name", "other", "--depth", "1"]
    with stand_in(place.endpoint(), setup_ends(0), **answers()) as server:
        done = place.inv("workspace.create", "demo", "--template", "site", *words)
    calls = dict(server.calls)  # the last write is that of the variables
    assert done.returncode == 0, done.stderr
    assert (
        calls["workspace.create"]["labels"]["stage"] == "test" and calls["workspace.create"]["labels"]["team"] == "red"
    )
    assert calls["workspace.create"]["repo"] == {
        "url": "https://git.example.org/team/site.git", "ref": "next", "name": "other", "depth": 1,
    }  # fmt: skip
    assert (calls["file.write"]["path"], calls["file.write"]["mode"]) == ("config/environment", "0600")
    with stand_in(place.endpoint(), setup_ends(0), **answers()) as server:
        assert (
            place.inv("workspace.create", "demo", "--template", "site", "--repo", "https://a.example/b.git").returncode
            == 0
        )
    assert server.calls[1][1]["repo"] == {"url": "https://a.example/b.git"}


LIMITS = ["--memory", "512M", "--cpus", "1.5", "--tasks", "50", "--runtime", "60", "--disk", "1G"]


def test_options_give_it_limits_and_a_network(place):
    with stand_in(place.endpoint(), **answers()) as server:
        done = place.inv("workspace.create", "demo", *LIMITS, "--allow", "pypi.org", "--deny", "evil.example.org")
    assert done.returncode == 0, done.stderr
    (given,) = [params for method, params in server.calls if method == "sandbox.create"]
    assert given["limits"] == {
        "memory_bytes": 512 << 20, "cpus": 1.5, "tasks": 50, "runtime_s": 60.0, "disk_bytes": 1 << 30,
    }  # fmt: skip
    assert given["network"] == {"allow": ["pypi.org"], "deny": ["evil.example.org"]}


@pytest.mark.parametrize(
    ("words", "limits", "network"),
    [
        (["--cpus", "2"], {"memory_bytes": 2 << 30, "cpus": 2.0}, "none"),
        (["--memory", "1G", "--network", "full"], {"memory_bytes": 1 << 30}, "full"),
    ],
)
def test_limits_of_the_command_line_win_one_by_one(place, templates, words, limits, network):
    with stand_in(place.endpoint(), setup_ends(0), **answers()) as server:
        done = place.inv("workspace.create", "demo", "--template", "site", *words)
    assert done.returncode == 0, done.stderr
    (given,) = [params for method, params in server.calls if method == "sandbox.create"]
    assert (given["limits"], given["network"]) == (limits, network)


def test_limits_that_are_refused_leave_no_workspace(place):
    with stand_in(place.endpoint(), **answers(sandbox_create=REFUSED)) as server:
        done = place.inv("workspace.create", "demo", "--memory", "2G")
    assert (done.returncode, done.stdout, server.calls[-1][0]) == (6, "", "workspace.delete")
    assert "note: workspace demo is deleted again\nerror: no limits here\n" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--memory", "2X"), 1, "--memory takes a size such as 512M or 2G, not '2X'"),
        (("--network", "none", "--allow", "pypi.org"), 1, "--network none has no lists"),
        (("--template", "sit"), 3, "no template 'sit': "),
        (("--template", "bad"), 1, "templates/bad.yaml:1: port: no such key, did you mean `ports`?"),
        (("--template", "site", "--env", "HOME=/x"), 1, "--env cannot set 'HOME'"),
        (("--env", 'A="b"'), 1, "--env A takes a value of one line"),
        (("--tag", "eu"), 1, "--tag needs --any"),
        (("--any", "--node", "web1"), 1, "--any and --node exclude each other"),
        (("--any", "--tag", "mars"), 3, "has the tag 'mars' (tags there: eu)"),
    ],
)
def test_what_is_wrong_is_found_before_anything_happens(place, templates, words, code, message):
    (templates / "bad.yaml").write_text("port: 1\n")
    with stand_in(place.endpoint(), **answers()) as server:
        done = place.inv("workspace.create", "demo", *words)
    assert (done.returncode, server.calls) == (code, [])
    assert message in done.stderr and "hint:" in done.stderr


def test_a_failed_setup_leaves_nothing(place, templates):
    ended = {**JOB, "state": "exited", "exit_code": 2}
    with stand_in(place.endpoint(), setup_ends(2), **answers(job_get=ended)) as server:
        done = place.inv("workspace.create", "demo", "--template", "site")
    assert (done.returncode, done.stdout) == (1, "")
    assert server.calls[-1][0] == "workspace.delete" and server.calls[-1][1]["keep_user"] is False
    assert "note: workspace demo is deleted again\n" in done.stderr
    assert "error: the setup of demo has ended with exit code 2\n" in done.stderr
    assert done.stderr.endswith("inv workspace.create demo --template site --keep\n")


def test_keep_leaves_what_is_there(place, templates):
    ended = {**JOB, "state": "exited", "exit_code": 2}
    with stand_in(place.endpoint(), setup_ends(2), **answers(job_get=ended)) as server:
        done = place.inv("workspace.create", "demo", "--template", "site", "--keep", "--node", "web1")
    assert done.returncode == 1 and "workspace.delete" not in [method for method, _ in server.calls]
    note = "note: workspace demo is there, as far as it came; to delete it: inv workspace.delete --node web1 demo\n"
    assert note in done.stderr


def test_what_cannot_be_enforced_leaves_nothing_but_a_user_that_was_there(place, templates):
    user = {**USER_DEMO, "drift": []}
    busy = iter([BUSY, BUSY])
    with stand_in(
        place.endpoint(),
        **answers(sandbox_create=REFUSED, user_get=user, workspace_delete=lambda _: next(busy, DELETED)),
    ) as server:
        done = place.inv("workspace.create", "demo", "--template", "site")
    deletes = [params for method, params in server.calls if method == "workspace.delete"]
    assert (done.returncode, len(deletes), deletes[-1]["keep_user"]) == (6, 3, True)
    assert "note: workspace demo is deleted again\nerror: no limits here\n" in done.stderr


@pytest.mark.parametrize(
    ("created_at", "stays"), [("2026-11-23T00:00:00.004Z", False), ("2026-11-22T00:00:00.000Z", True)]
)
def test_a_user_that_the_same_create_made_before_its_answer_was_lost_was_not_there_before(
    place, templates, created_at, stays
):
    user = {**USER_DEMO, "workspaces": ["demo"], "created_at": created_at, "drift": []}
    with stand_in(place.endpoint(), **answers(sandbox_create=REFUSED, user_get=user)) as server:
        done = place.inv("workspace.create", "demo", "--template", "site")
    (delete,) = [params for method, params in server.calls if method == "workspace.delete"]
    assert (done.returncode, delete["keep_user"]) == (6, stays)


def test_another_workspace_of_that_name_is_not_deleted(place, templates):
    other = {**WORKSPACE, "id": "6a7d9c1e-0b0f-4a51-8a0e-5a4a1f1f0002"}
    with stand_in(place.endpoint(), **answers(sandbox_create=REFUSED, workspace_get=other)) as server:
        assert place.inv("workspace.create", "demo", "--template", "site").returncode == 6
    assert "workspace.delete" not in [method for method, _ in server.calls]


def test_a_delete_that_fails_says_what_is_there(place, templates):
    refused = {"error": {"code": 1009, "message": "the store is damaged", "data": {"kind": "read_only"}}}
    with stand_in(place.endpoint(), **answers(sandbox_create=REFUSED, workspace_delete=refused)):
        done = place.inv("workspace.create", "demo", "--template", "site")
    assert done.returncode == 6
    problem = (
        "note: workspace demo could not be deleted again: the store is damaged; to delete it: inv workspace.delete demo"
    )
    assert problem in done.stderr


def test_ctrl_c_during_the_setup_leaves_nothing(place, templates):
    is_running, is_over = threading.Event(), threading.Event()

    def play(frames: Frames) -> None:
        frames.send(STDERR, b"+ make deps\n")
        is_running.set()
        frames.await_drop()
        is_over.set()

    with stand_in(place.endpoint(), play, **answers()) as server:
        argv = [INV, "workspace.create", "demo", "--template", "site"]
        with subprocess.Popen(
            argv, cwd=TOP, env=place.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert is_running.wait(PATIENCE_S)
            while "+ make deps" not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(PATIENCE_S) == 2
        assert is_over.wait(PATIENCE_S)
    assert server.calls[-1][0] == "workspace.delete"
    assert said == "error: cancelled: workspace demo is deleted again\n"


@pytest.mark.parametrize(
    ("again", "said"),
    [
        ("", "workspace demo is deleted again"),
        (
            "workspace_get",
            "web1 goes on with sandbox.create; workspace demo may still be there\nhint: inv workspace.delete demo",
        ),
        ("workspace_delete", "web1 goes on with workspace.delete of demo\nhint: inv workspace.list"),
    ],
)
def test_ctrl_c_during_a_call_leaves_nothing_and_a_second_one_says_so(place, templates, again, said):
    is_called, is_called_again, is_over = threading.Event(), threading.Event(), threading.Event()

    def waits(event, answer):
        def wait(_):
            event.set()
            is_over.wait(PATIENCE_S)
            return answer

        return wait

    others = {"sandbox_create": waits(is_called, SANDBOX)}
    if again:
        others[again] = waits(is_called_again, WORKSPACE)
    with stand_in(place.endpoint(), **answers(**others)):
        argv = [INV, "workspace.create", "demo", "--template", "site"]
        with subprocess.Popen(
            argv, cwd=TOP, env=place.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert is_called.wait(PATIENCE_S)
            process.send_signal(signal.SIGINT)
            if again:
                assert is_called_again.wait(PATIENCE_S)
                process.send_signal(signal.SIGINT)
            assert process.stderr.read() == f"error: cancelled: {said}\n"
        is_over.set()
    assert process.returncode == 2


def test_python_callers_take_templates_too(place, templates, capsys):
    with stand_in(place.endpoint(), setup_ends(0), **answers()):
        made = workspace.create(Context(), "demo", template="site")
    assert made.name == "demo" and "deps are made" in capsys.readouterr().err


def test_templates_are_listed_with_their_mistakes(place, templates):
    (templates / "bad.yaml").write_text("port: 1\n")
    done = place.inv("template.list", "--json")
    bad, site = json.loads(done.stdout)
    assert (done.returncode, bad["name"], site["name"]) == (1, "bad", "site")
    assert "bad.yaml:1: port: no such key" in bad["error"] and site["ports"] == ["8000", "18001:8001"]
    shown = place.inv("template.get", "site", "--json")
    assert json.loads(shown.stdout) == site
    assert place.inv("template.get", "other").returncode == 3


USER_DEMO = {
    "name": "demo", "login": "cs-demo", "uid": 70000, "gid": 70000, "home": "/srv/codesmith/home/cs-demo",
    "shell": "/bin/bash", "state": "active", "ssh_keys": [], "workspaces": [], "created_at": "2026-11-23T00:00:00.000Z",
}  # fmt: skip
