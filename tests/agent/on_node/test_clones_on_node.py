"""What a clone may be, take and reach: commits by hash, the disk's room, the limits of its workspace's sandbox."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.forge import PASSWORD, Forge, Going, make
from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab
SMALL_DISK = """
cd /srv/codesmith && folders=$(find . -mindepth 1 -maxdepth 1 -type d -printf '%m %f ')
mount -t tmpfs -o size=64M,mode=0755 none /srv/codesmith
set -- $folders
while test $# -gt 0; do mkdir -m $1 /srv/codesmith/$2; shift 2; done
"""
HOME = "/srv/codesmith/home/cs-{}"


@pytest.fixture
def web1(two: tuple[Web1, Forge]) -> Web1:
    return two[0]


@contextmanager
def small_disk(web1: Web1) -> Iterator[None]:
    """Put a file system of 64 MiB where workspaces and homes lie; what lies there is back afterwards."""
    web1.on(f"systemctl stop codesmith-helper.service; {SMALL_DISK}")
    try:
        yield
    finally:
        web1.on("systemctl stop codesmith-helper.service; umount /srv/codesmith")


def test_a_commit_is_checked_out_by_its_hash(web1: Web1, forge: Forge) -> None:
    code, first, loose = make(web1, "hash"), forge.commit("v1"), forge.commit("loose")
    clone = web1.client.repo.clone
    for number, (way, depth) in enumerate((("", None), ("", 1), ("/old", None), ("/old", 1))):
        url = f"{forge.https}{way}/public.git"
        made = clone(workspace="hash", url=url, ref=first, depth=depth, name=f"r{number}")
        assert (made.branch, made.commit) == (None, first), (way, depth)
        assert web1.on(f"ls {code}/r{number}").out == "one\n"
    made = clone(workspace="hash", url=f"{forge.https}/public.git", ref=loose, depth=1, name="loose")
    assert (made.branch, made.commit) == (None, loose)
    names = web1.on(f"ls -A {code}").out
    for way, ref in (("/old", loose), ("", "0" * 39 + "1"), ("", first[:12]), ("", first.upper())):
        url = f"{forge.https}{way}/public.git"
        web1.refuses(clone, "command_failed", workspace="hash", url=url, ref=ref)
    assert web1.on(f"ls -A {code}").out == names


def test_a_clone_that_would_fill_the_disk_is_ended_and_leaves_nothing(web1: Web1, forge: Forge) -> None:
    url = forge.keep_large("large", 48)
    with small_disk(web1):
        code = make(web1, "room")
        refusal = web1.refuses(web1.client.repo.clone, "limit", workspace="room", url=url, name="large")
        assert "disk" in str(refusal)
        assert web1.on(f"ls -A {code}").out == ""
        assert not web1.running("room")
        wanted = {"workspace": "room", "url": f"{forge.https}/public.git"}
        web1.on(f"head -c 62M /dev/zero > {code}/../ballast")  # room enough for it, but less than must stay
        web1.refuses(web1.client.repo.clone, "limit", **wanted)
        web1.on(f"rm {code}/../ballast")
        assert web1.client.repo.clone(**wanted).branch == "main"
        web1.client.workspace.delete(name="room")


def test_a_clone_has_the_limits_of_its_workspace_and_the_network(web1: Web1, forge: Forge) -> None:
    make(web1, "tight")
    web1.client.sandbox.create(workspace="tight", limits={"tasks": 40, "memory_bytes": 40 << 20}, network="none")
    wanted = {"workspace": "tight", "url": f"{forge.https}/public.git"}
    assert web1.client.repo.clone(**wanted).branch == "main"
    going = Going(web1, forge, "tight", name="slow", timeout_s=60)
    shown = web1.on("systemctl show --property=MemoryMax,TasksMax,PrivateNetwork codesmith-workspace@tight.service").out
    # A namespace of its own, with a proxy that leads everywhere but to the node.
    assert sorted(shown.split()) == [f"MemoryMax={40 << 20}", "PrivateNetwork=yes", "TasksMax=40"]
    # One login: a command in there could make the clone's processes do its bidding.
    web1.refuses(web1.client.workspace.exec, "in_use", name="tight", argv=["true"])
    web1.on("systemctl kill --signal=KILL codesmith-workspace@tight.service")
    assert going.wait()
    wanted = {"workspace": "tight", "url": forge.keep_large("heavy", 64), "name": "heavy"}
    refusal = web1.refuses(web1.client.repo.clone, "limit", **wanted)
    assert "memory" in str(refusal)
    assert [repo.name for repo in web1.client.repo.list(workspace="tight")] == ["public"]


def test_no_clone_while_a_command_without_network_runs(web1: Web1, forge: Forge) -> None:
    code = make(web1, "apart")
    web1.client.sandbox.create(workspace="apart", limits={"runtime_s": 30}, network="none")

    def run() -> None:
        with Client(Registry.load(web1.person.registry).get("web1")) as client:
            client.workspace.exec(name="apart", argv=["sh", "-c", "mkfifo code/gate; read word < code/gate"])

    command = threading.Thread(target=run)
    command.start()
    web1.person.wait_until(lambda: web1.on(f"test -p {code}/gate", check=False).ok, within_s=20)
    wanted = {"workspace": "apart", "url": f"{forge.https}/public.git"}
    web1.refuses(web1.client.repo.clone, "in_use", **wanted)
    web1.on(f"echo > {code}/gate")
    command.join(30)
    assert web1.client.repo.clone(**wanted).branch == "main"


def test_a_sandboxs_time_is_a_clones_too(web1: Web1, forge: Forge) -> None:
    make(web1, "brief")
    web1.client.sandbox.create(workspace="brief", limits={"runtime_s": 1})
    web1.refuses(web1.client.repo.clone, "limit", workspace="brief", url=f"{forge.https}/slow/public.git")


def test_a_login_cannot_make_a_clone_run_something(web1: Web1, forge: Forge) -> None:
    make(web1, "sly")
    home, ran = HOME.format("sly"), "/srv/codesmith/workspaces/sly/ran"
    settings = (
        (f"{home}/.ssh/config", f"Host *\nProxyCommand touch {ran}"),
        (f"{home}/.gitconfig", f"[core]\nsshCommand = touch {ran}\nfsmonitor = touch {ran}"),
        (f"{home}/.config/git/config", f'[filter "x"]\nsmudge = touch {ran}'),
        (f"{home}/.config/git/attributes", "* filter=x"),
    )
    for path, text in settings:
        script = f"mkdir -p $(dirname {path}); echo '{text}' > {path}; chown -R cs-sly: {home}"
        web1.on(script)
    web1.client.repo.clone(
        workspace="sly", url=f"git@{forge.host}:/srv/git/private.git", credential={"ssh_key": forge.key},
        known_hosts=[forge.known_host],
    )  # fmt: skip
    assert not web1.on(f"test -e {ran}", check=False).ok


def test_a_workspace_begins_with_a_repository_or_not_at_all(web1: Web1, forge: Forge) -> None:
    create, url = web1.client.workspace.create, f"{forge.https}/private.git"
    first = forge.commit("v1")
    repo = {"url": url, "ref": first, "credential": {"token": PASSWORD}, "name": "site"}
    made = create(name="begun", labels={"a": "b"}, repo=repo)
    assert (made.state, made.repos, made.labels) == ("ready", ["site"], {"a": "b"})
    assert web1.client.repo.get(workspace="begun", name="site").commit == first
    web1.refuses(create, "command_failed", name="never", repo={"url": url})
    assert gone(web1, "never")
    web1.client.user.create(name="hers")
    web1.refuses(create, "limit", name="never", user="hers",
                 repo={"url": f"{forge.https}/slow/public.git", "timeout_s": 0.8})  # fmt: skip
    assert not web1.on("test -e /srv/codesmith/workspaces/never", check=False).ok
    assert web1.client.user.get(name="hers").workspaces == []
    records = [one for one in web1.client.audit.list(limit=20) if one.method == "workspace.create"]
    assert [one.outcome for one in records[:3]] == ["limit", "command_failed", "ok"]


@pytest.mark.parametrize("victim", ["agent", "runtime", "power"])
def test_a_workspace_that_is_cut_off_while_it_clones_is_gone(web1: Web1, forge: Forge, victim: str) -> None:
    name = f"half-{victim}"
    going = Going(web1, forge, name, is_creating=True, credential={"token": PASSWORD})
    assert web1.client.workspace.get(name=name).state == "pending"
    if victim == "power":
        web1.person.lab_node("web1").power_cut()
        web1.person.lab_node("web1").start()
        web1.wait_until_it_answers()
    else:
        unit = f"codesmith-workspace@{name}.service" if victim == "runtime" else "codesmith-agent"
        web1.on(f"systemctl kill --signal=KILL {unit}")
    assert going.wait()
    web1.person.wait_until(lambda: web1.client.node.health().status == "ok", within_s=60)
    assert gone(web1, name)
    if victim == "agent":
        assert web1.client.workspace.create(name=name, repo={"url": f"{forge.https}/public.git"}).repos == ["public"]


def gone(web1: Web1, name: str) -> bool:
    """Tell whether nothing is left of a workspace and its user."""
    web1.refuses(web1.client.workspace.get, "not_found", name=name)
    web1.refuses(web1.client.user.get, "not_found", name=name)
    left = f"id cs-{name} || ls -d /srv/codesmith/workspaces/{name} || ls -d /srv/codesmith/home/cs-{name}"
    return not web1.on(left, check=False).ok


def test_a_person_makes_a_workspace_of_a_repository(web1: Web1, forge: Forge, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(PASSWORD + "\n")
    run, url = web1.person, f"{forge.https}/private.git"
    said = run.runs(f"CODESMITH_DEBUG=rpc inv workspace.create typed --repo {url} --ref other --depth 1"
                    f" --credential-file {tmp_path}/token --node web1 --json")  # fmt: skip
    assert (said.json["repos"], said.json["state"]) == (["private"], "ready")
    assert "rpc web1 workspace.create" in said.err
    assert PASSWORD not in said.err
    said = run.runs(f"inv workspace.create lost --repo {url} --node web1", code=6)
    assert "workspace 'lost' was removed again" in said.err
    assert "--ref needs --repo" in run.runs("inv workspace.create lost --ref main --node web1", code=1).err


def test_a_template_brings_its_repository(web1: Web1, forge: Forge, tmp_path: Path) -> None:
    folder = web1.person.registry.parent / "templates"
    folder.mkdir(exist_ok=True)
    (folder / "code.yaml").write_text(
        f"repo: {{url: 'git@{forge.host}:/srv/git/private.git', ref: other, name: site}}\n"
        "sandbox: {tasks: 200}\n"
        "setup: [ls code/site > data/listed]\n"
    )
    (tmp_path / "key").write_text(forge.key)
    (tmp_path / "hosts").write_text(f"{forge.known_host}\n")
    options = f"--node web1 --template code --credential-file {tmp_path}/key --known-hosts {tmp_path}/hosts"
    web1.person.runs(f"inv workspace.create tpl {options} --runtime 60")
    repo = web1.client.repo.get(workspace="tpl", name="site")
    assert (repo.branch, repo.commit) == ("other", forge.commit("other"))
    assert web1.client.workspace.exec(name="tpl", argv=["cat", "data/listed"]).stdout == "one\n"
    sandbox = web1.client.workspace.get(name="tpl").sandbox
    assert sandbox is not None and sandbox.limits == {"tasks": 200, "runtime_s": 60.0}
    said = web1.person.fails(f"inv workspace.create none {options} --ref gone", code=6)
    assert "gone" in said.err and "none" not in [one.name for one in web1.client.workspace.list()]
