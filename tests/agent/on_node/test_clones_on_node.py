"""What a clone may be, take and reach: commits, room, limits, errors, and an ssh agent that stays here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from codesmith.nodes.registry import Registry
from codesmith.sdk.client import Client
from tests.agent.on_node.forge import PASSWORD, Forge, Going, make
from tests.agent.on_node.lending import LEFT, Lending
from tests.agent.on_node.web1 import Web1
from tests.ssh_agent import SshAgent, running_agent

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


@pytest.fixture
def ssh_agent(forge: Forge) -> Iterator[SshAgent]:
    """The operator's own, with the key of the forge."""
    with running_agent() as started:
        started.add(forge.key)
        yield started


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


@pytest.mark.parametrize(
    "victim",
    ["agent", pytest.param("runtime", marks=pytest.mark.long), pytest.param("power", marks=pytest.mark.long)],
)
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


@pytest.mark.long  # test_templates_on_node.py has templates, the tests above clones that begin a workspace
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


def test_a_name_in_an_https_url_is_no_secret(web1: Web1, forge: Forge) -> None:
    make(web1, "named")
    clone = web1.client.repo.clone
    url = f"{forge.https}/private.git".replace("://", "://x-access-token@")
    assert clone(workspace="named", url=url, credential={"token": PASSWORD}).url == url
    public = f"{forge.https}/public.git".replace("://", "://ada@")
    assert clone(workspace="named", url=public).branch == "main"
    for bad in ("ada:word@", "ada:@", "ghp_0123456789@"):
        refusal = web1.refuses(clone, "invalid_params", workspace="named", url=public.replace("ada@", bad), name="bad")
        assert "without password or token" in str(refusal)
    assert "word@" not in web1.on("journalctl --no-pager; cat /var/lib/codesmith/*").out


def test_what_a_clone_leaves_out_is_said(web1: Web1, forge: Forge) -> None:
    url = forge.keep_parts()
    make(web1, "parts")
    for ref, left in (("same", ["submodules"]), ("lfs", ["lfs"]), ("whole", [])):
        made = web1.client.repo.clone(workspace="parts", url=url, name=ref, ref=ref)
        assert (made.left_out, made.branch) == (left, ref)
        assert web1.client.repo.get(workspace="parts", name=ref) == made
    web1.client.workspace.exec(name="parts", argv=["mkdir", "-p", "code/same/.git/modules/s"])
    assert web1.client.repo.get(workspace="parts", name="same").left_out == []


def test_a_clone_that_fails_says_which_line_decided_and_what_helps(web1: Web1, forge: Forge) -> None:
    """All the others: test_clone_errors_on_node.py."""
    make(web1, "why")
    url, known = f"git@{forge.host}:/srv/git/private.git", {"known_hosts": [forge.known_host]}
    for line, help_, wanted in (
        ("host key is known for", f"ssh-keyscan -p 22 {forge.host} > known_hosts", {"url": url}),
        ("Permission denied (publickey", "--forward-agent", {"url": url, **known}),
        ("could not read Username", "--credential-file", {"url": f"{forge.https}/private.git"}),
    ):
        refusal = web1.refuses(web1.client.repo.clone, "command_failed", workspace="why", name="x", **wanted)
        assert line in refusal.problem and help_ in refusal.hint, refusal


def test_a_person_clones_with_the_keys_of_their_ssh_agent(
    web1: Web1, forge: Forge, ssh_agent: SshAgent, tmp_path: Path
) -> None:
    make(web1, "lent")
    (tmp_path / "known").write_text(forge.known_host + "\n")
    url, known = f"git@{forge.host}:/srv/git/private.git", f"--known-hosts {tmp_path}/known --node web1"
    web1.person.runs(f"inv repo.clone lent {url} {known}", code=6)
    here = f"SSH_AUTH_SOCK={ssh_agent.path}"
    said = web1.person.runs(f"CODESMITH_DEBUG=rpc {here} inv repo.clone lent {url} {known} --forward-agent --json")
    assert said.json["branch"] == "main"
    assert '"credential": "..."' in said.err
    first = forge.commit("v1")
    said = web1.person.runs(f"{here} inv workspace.create lent2 --repo {url} --ref {first} {known} --forward-agent")
    assert web1.client.repo.get(workspace="lent2", name="private").commit == first
    records = [one for one in web1.client.audit.list(limit=10) if one.method in ("repo.clone", "workspace.create")]
    assert [one.target.get("credential") for one in records[:2]] == ["agent", "agent"]
    assert web1.on(LEFT.format("lent"), check=False).out == ""
    none = web1.person.fails(f"env -u SSH_AUTH_SOCK inv repo.clone lent {url} --name x {known} --forward-agent", code=1)
    assert "SSH_AUTH_SOCK" in none.err
    for wrong in (f"{forge.https}/private.git {known}", f"{url} --credential-file /dev/null {known}"):
        web1.person.runs(f"{here} inv repo.clone lent {wrong} --name x --forward-agent", code=1)


def test_another_process_of_the_login_gets_nothing_of_a_lent_agent(
    web1: Web1, forge: Forge, ssh_agent: SshAgent
) -> None:
    make(web1, "mine")
    ssh_agent.halt()
    lending = Lending(web1, forge, ssh_agent, "mine")
    become = "setpriv --reuid=cs-mine --regid=cs-mine --clear-groups"
    assert web1.on(f"stat --format=%a {lending.socket} $(dirname {lending.socket})").out.split() == ["600", "700"]
    ssh_agent.go_on()
    assert lending.wait() == "main"
    ssh_agent.halt()
    web1.client.repo.delete(workspace="mine", name="private")
    lending = Lending(web1, forge, ssh_agent, "mine")
    # It does not even wait for the agent, which answers nobody now (124 would be the end of the wait); whether ssh-add
    # reads the end of the connection or trips over it while it writes (141) is a matter of who was faster.
    tried = web1.on(f"{become} env SSH_AUTH_SOCK={lending.socket} timeout 20 ssh-add -l", check=False)
    assert tried.code not in (0, 124), tried
    assert tried.out == "", tried
    # Nor does a command of the workspace itself, beside the clone.
    tried = "SSH_AUTH_SOCK=$(ls -d /tmp/codesmith-*/agent) timeout 20 ssh-add -l"
    ended = web1.client.workspace.exec(name="mine", argv=["sh", "-c", tried])
    assert (ended.exit_code not in (0, 124), ended.stdout) == (True, ""), ended
    ssh_agent.go_on()
    assert lending.wait() == "main"
    assert web1.on(LEFT.format("mine"), check=False).out == ""


def test_a_clone_ends_with_the_ssh_agent_it_borrowed(web1: Web1, forge: Forge, ssh_agent: SshAgent) -> None:
    code = make(web1, "left")
    ssh_agent.halt()
    lending = Lending(web1, forge, ssh_agent, "left")
    ssh_agent.end()
    assert lending.wait() == "command_failed"
    assert web1.on(f"ls -A {code}").out == ""
    assert web1.on(LEFT.format("left"), check=False).out == ""
