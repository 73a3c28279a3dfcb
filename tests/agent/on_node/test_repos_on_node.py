"""Repositories on a real node, from a real forge on another one: ssh, https, interruptions, secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.agent.on_node.forge import PASSWORD, Forge, Going, make
from tests.agent.on_node.spy import Spy
from tests.agent.on_node.web1 import Web1

pytestmark = pytest.mark.lab


@pytest.fixture
def web1(two: tuple[Web1, Forge]) -> Web1:
    return two[0]


def test_a_new_repository_is_the_users_own(web1: Web1) -> None:
    code = make(web1, "fresh")
    made = web1.client.repo.init(workspace="fresh", default_branch="trunk")
    assert (made.name, made.path, made.url, made.branch, made.commit) == ("fresh", f"{code}/fresh", None, "trunk", None)
    assert web1.on(f"stat --format=%U {code}/fresh/.git/HEAD").out == "cs-fresh\n"
    assert not web1.on(f"ls -A {code}/fresh/.git/hooks", check=False).out
    assert web1.client.workspace.get(name="fresh").repos == ["fresh"]
    web1.refuses(web1.client.repo.init, "already_exists", workspace="fresh")
    script = "git -c user.name=a -c user.email=a@b commit --allow-empty -qm x && git rev-parse HEAD"
    head = web1.client.workspace.exec(name="fresh", argv=["sh", "-c", script], cwd="code/fresh").stdout.strip()
    assert web1.client.repo.get(workspace="fresh", name="fresh").commit == head


def test_https_with_and_without_a_credential(web1: Web1, forge: Forge) -> None:
    code = make(web1, "https")
    made = web1.client.repo.clone(workspace="https", url=f"{forge.https}/public.git", ref="v1")
    assert (made.name, made.branch, len(made.commit or "")) == ("public", None, 40)
    assert web1.on(f"ls {code}/public").out == "one\n"
    url = f"{forge.https}/private.git"
    refusal = web1.refuses(web1.client.repo.clone, "command_failed", workspace="https", url=url)
    assert "could not read Username" in str(refusal)
    made = web1.client.repo.clone(workspace="https", url=url, credential={"token": PASSWORD}, depth=1)
    assert (made.name, made.url, made.branch) == ("private", url, "main")
    count = web1.client.workspace.exec(name="https", argv=["git", "rev-list", "--count", "HEAD"], cwd="code/private")
    assert count.stdout == "1\n"
    assert [repo.name for repo in web1.client.repo.list(workspace="https")] == ["private", "public"]


def test_a_credential_does_not_follow_a_redirection(web1: Web1, forge: Forge) -> None:
    make(web1, "moved")
    wanted = {"workspace": "moved", "url": f"{forge.https}/moved/private.git", "credential": {"token": PASSWORD}}
    refusal = web1.refuses(web1.client.repo.clone, "command_failed", **wanted)
    assert "Host:" in forge.stolen(), refusal
    assert "Authorization" not in forge.stolen()
    # git does not follow a redirection to another protocol either.
    for way in ("plain", "file"):
        refusal = web1.refuses(
            web1.client.repo.clone, "command_failed", **{**wanted, "url": f"{forge.https}/{way}/private.git"}
        )
        assert "rotocol" in str(refusal)


def test_ssh_with_a_deploy_key_and_pinned_hosts_only(web1: Web1, forge: Forge) -> None:
    make(web1, "ssh")
    url = f"git@{forge.host}:/srv/git/private.git"
    wanted = {"workspace": "ssh", "url": url, "credential": {"ssh_key": forge.key}}
    refusal = web1.refuses(web1.client.repo.clone, "command_failed", **wanted)
    assert "Host key verification failed" in refusal.data["stderr"]
    other = forge.known_host[:-6] + "AAAAAA"
    web1.refuses(web1.client.repo.clone, "command_failed", **wanted, known_hosts=[other])
    made = web1.client.repo.clone(**wanted, known_hosts=[forge.known_host])
    assert (made.name, made.url, made.branch) == ("private", url, "main")
    again = f"ssh://git@{forge.host}/srv/git/private.git"
    web1.refuses(web1.client.repo.clone, "command_failed", workspace="ssh", url=again, name="again")
    wanted = {**wanted, "url": again, "name": "again", "ref": "other"}
    known = "/srv/codesmith/home/cs-ssh/.ssh/known_hosts"
    web1.on(f"mv {known} {known}.kept")
    web1.refuses(web1.client.repo.clone, "command_failed", **wanted)
    web1.on(f"mv {known}.kept {known}")
    assert web1.client.repo.clone(**wanted).branch == "other"


def test_a_credential_is_written_down_nowhere(web1: Web1, forge: Forge) -> None:
    make(web1, "quiet")
    spy = Spy(web1)
    line = forge.key.splitlines()[2]
    private = f"{forge.https}/private.git"
    quiet = {"workspace": "quiet", "credential": {"token": PASSWORD}}
    for number in range(2):
        web1.client.repo.clone(**quiet, url=private, name=f"h{number}", request_id=f"quiet-{number}")
        web1.client.repo.clone(
            workspace="quiet", url=f"git@{forge.host}:/srv/git/private.git", name=f"s{number}",
            credential={"ssh_key": forge.key}, known_hosts=[forge.known_host],
        )  # fmt: skip
    wrong = {"password": PASSWORD, "username": "nobody"}
    web1.refuses(web1.client.repo.clone, "command_failed", workspace="quiet", url=private, credential=wrong)
    going = Going(web1, forge, **quiet)
    spy.wait_for("codesmith-workspace@quiet")
    spy.wait_for("slow/public.git")
    web1.on("systemctl kill --signal=KILL codesmith-agent")
    assert going.wait()
    web1.person.wait_until(lambda: web1.client.node.health().status == "ok", within_s=60)
    spied = spy.end()
    assert PASSWORD not in spied
    assert line not in spied
    places = "/var/lib /var/log /srv/codesmith /tmp /var/tmp /dev/shm /run /etc /root"
    found = web1.on(
        f"journalctl --sync; journalctl --no-pager --output=export | grep -a -F -e '{PASSWORD}' -e '{line}';"
        f"grep -r -a -l -s -D skip -F -e '{PASSWORD}' -e '{line}' {places}",
        check=False,
    )
    assert found.out == ""


def test_a_clone_that_takes_too_long_ends_and_leaves_nothing(web1: Web1, forge: Forge) -> None:
    code = make(web1, "late")
    url = f"{forge.https}/slow/public.git"
    web1.refuses(web1.client.repo.clone, "limit", workspace="late", url=url, timeout_s=0.8)
    assert web1.on(f"ls -A {code}").out == ""
    assert web1.client.workspace.get(name="late").repos == []
    assert not web1.running("late")


def test_other_changes_go_on_and_a_delete_ends_the_clone(web1: Web1, forge: Forge) -> None:
    make(web1, "long")
    going = Going(web1, forge, "long")
    # A server that sends without end takes at most half of the node's memory: git keeps what it receives.
    shown = web1.on(
        "grep 'Max data' /proc/$(pgrep -u cs-long -x git | head -1)/limits; grep MemTotal /proc/meminfo"
    ).out
    assert int(shown.split()[3]) // 1024 == int(shown.split()[7]) // 2
    web1.refuses(web1.client.repo.clone, "in_use", workspace="long", url=f"{forge.https}/public.git")
    assert web1.client.workspace.create(name="beside").state == "ready"
    assert web1.client.workspace.delete(name="long").user_deleted
    assert going.wait()
    assert web1.client.node.health().status == "ok"


def test_a_clone_that_an_assignment_ends_leaves_nothing(web1: Web1, forge: Forge) -> None:
    code, client = make(web1, "given"), web1.client
    client.user.create(name="heir")
    going = Going(web1, forge, "given", name="public")
    web1.person.wait_until(lambda: web1.on(f"ls -A {code}").out.startswith(".codesmith-"), within_s=20)
    assert client.workspace.assign(name="given", user="heir").user == "heir"
    assert going.wait()
    assert web1.on(f"ls -A {code}").out == ""
    assert client.node.health().status == "ok"
    assert client.repo.clone(workspace="given", url=f"{forge.https}/public.git").branch == "main"


def test_a_hostile_repository_gains_nothing(web1: Web1, forge: Forge) -> None:
    code = make(web1, "prim")
    forge.keep_hostile("prim")
    web1.client.repo.clone(workspace="prim", url=f"{forge.https}/hostile.git")
    found = web1.on(
        f"cd {code}/hostile; ls -A sub .git/hooks; readlink link hooks out; ls -A | grep -c -- '^--*[ru]'", check=False
    )
    assert found.out.split() == ["sub:", "/etc/passwd", ".git/hooks", "/srv/codesmith/home/cs-prim", "2"]
    for name in (".git", ".GIT"):
        wanted = {"workspace": "prim", "url": f"{forge.https}/evil{name}", "name": "evil"}
        assert "invalid path" in web1.refuses(web1.client.repo.clone, "command_failed", **wanted).data["stderr"]
    assert web1.on(f"ls -A {code}; ls {code}/../ran", check=False).out == "hostile\n"


@pytest.mark.parametrize("victim", ["agent", "runtime", pytest.param("both", marks=pytest.mark.long), "power"])
def test_a_clone_that_is_cut_off_is_gone(web1: Web1, forge: Forge, victim: str) -> None:
    workspace = f"cut-{victim}"
    code = make(web1, workspace)
    going = Going(web1, forge, workspace, credential={"token": PASSWORD})
    web1.person.wait_until(lambda: web1.on(f"ls -A {code}").out.startswith(".codesmith-"), within_s=20)
    node = web1.person.lab_node("web1")
    if victim == "power":
        node.power_cut()
        node.start()
        web1.wait_until_it_answers()
    else:
        runtime = f"codesmith-workspace@{workspace}.service"
        units = {"agent": "codesmith-agent", "runtime": runtime, "both": "codesmith-agent codesmith-helper"}[victim]
        web1.on(f"systemctl kill --signal=KILL {units}")
    assert going.wait()
    web1.person.wait_until(lambda: web1.client.node.health().status == "ok", within_s=60)
    assert web1.on(f"ls -A {code}").out == ""
    assert not web1.running(workspace)
    assert web1.client.repo.list(workspace=workspace) == []
    assert web1.client.repo.clone(workspace=workspace, url=f"{forge.https}/public.git").branch == "main"


def test_the_end_of_the_helper_ends_no_clone(web1: Web1, forge: Forge) -> None:
    code = make(web1, "goes-on")
    going = Going(web1, forge, "goes-on")
    web1.on("systemctl kill --signal=KILL codesmith-helper", check=False)
    web1.person.wait_until(lambda: web1.on(f"ls -A {code}").out.startswith(".codesmith-"), within_s=20)
    assert web1.running("goes-on")
    web1.client.workspace.stop(name="goes-on")
    assert going.wait()
    assert web1.on(f"ls -A {code}").out == ""


def test_what_the_user_made_is_left_alone_and_what_they_removed_is_told(web1: Web1, forge: Forge) -> None:
    code = make(web1, "own")
    web1.client.workspace.exec(name="own", argv=["sh", "-c", "mkdir code/public; echo x > code/public/mine"])
    web1.refuses(web1.client.repo.clone, "not_managed", workspace="own", url=f"{forge.https}/public.git")
    web1.refuses(web1.client.repo.init, "not_managed", workspace="own", name="public")
    web1.refuses(web1.client.repo.delete, "not_found", workspace="own", name="public")
    assert web1.on(f"cat {code}/public/mine").out == "x\n"
    web1.client.repo.clone(workspace="own", url=f"{forge.https}/public.git", name="gone")
    web1.client.workspace.exec(name="own", argv=["rm", "-rf", "code/gone"])
    found = web1.client.repo.get(workspace="own", name="gone")
    assert (found.branch, found.commit) == (None, None)
    assert web1.client.repo.delete(workspace="own", name="gone").deleted


TRICKS = (
    "rm -rf code/{0}; ln -s /srv/keep code/{0}",
    "chmod 0 code/{0}",
    'cd code/{0} && python3 -c \'import os\nfor _ in range(3000): os.mkdir("d"); os.chdir("d")\'',
    "mv code away; ln -s ../prey/code code",
    "rm -rf code/{0}; mkfifo code/{0}",
)


def test_a_hostile_user_gains_nothing_by_a_delete(web1: Web1) -> None:
    make(web1, "evil")
    prey = make(web1, "prey")
    web1.on(f"mkdir {prey}/r3 /srv/keep; touch {prey}/r3/precious /srv/keep/precious")
    for number, trick in enumerate(TRICKS):
        name = f"r{number}"
        web1.client.repo.init(workspace="evil", name=name)
        web1.client.workspace.exec(name="evil", argv=["sh", "-c", trick.format(name)])
        assert web1.client.repo.delete(workspace="evil", name=name).deleted
        web1.client.workspace.exec(name="evil", argv=["sh", "-c", "test -L code && rm code && mv away code"])
    assert web1.on(f"ls {prey}/r3 /srv/keep").out.count("precious") == 2
    assert web1.on("ls -A /srv/codesmith/.trash").out == ""


def test_the_helper_checks_what_git_is_given_again(web1: Web1) -> None:
    make(web1, "again")
    good = {"workspace": "again", "name": "x", "token": "0" * 32}
    for change in ({"name": "../x"}, {"name": ""}, {"token": "../../x"}, {"workspace": "../again"}, {"programs": []}):
        answer = json.loads(web1.helper({"verb": "repo.settle", "arguments": {**good, **change}}).out)
        assert answer["error"]["code"] == -32602, (change, answer)


def test_without_git_it_is_unsupported(web1: Web1) -> None:
    make(web1, "nogit")
    web1.on("mv /usr/bin/git /usr/bin/git.away")
    try:
        web1.refuses(web1.client.repo.init, "unsupported", workspace="nogit")
    finally:
        web1.on("mv /usr/bin/git.away /usr/bin/git")


def test_a_person_reads_the_credential_from_a_file(web1: Web1, forge: Forge, tmp_path: Path) -> None:
    make(web1, "person")
    (tmp_path / "token").write_text(PASSWORD + "\n")
    (tmp_path / "key").write_text(forge.key)
    (tmp_path / "known").write_text(forge.known_host + "\n")
    run, url = web1.person.runs, f"{forge.https}/private.git"
    said = run(f"inv repo.clone person {url} --credential-file {tmp_path}/token --node web1 --json")
    assert said.json["branch"] == "main"
    run(f"inv repo.clone person {url} --name two --credential-file - --node web1", typed=PASSWORD)
    run(f"inv repo.clone person git@{forge.host}:/srv/git/private.git --name three --credential-file {tmp_path}/key"
        f" --known-hosts {tmp_path}/known --node web1")  # fmt: skip
    run("inv repo.init person --name four --node web1")
    listed = run("inv repo.list person --node web1 --json").json
    assert [one["name"] for one in listed] == ["four", "private", "three", "two"]
    assert run("inv repo.get person two --node web1 --json").json["url"] == url
    run("inv repo.delete person two --yes --node web1")
    run("inv repo.get person two --node web1", code=3)
