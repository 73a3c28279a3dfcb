"""Pull, push and fetch on a real node, from a real forge: what moves, what is refused, and who gets the credential."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.on_node.forge import PASSWORD, Forge, make
from tests.agent.on_node.web1 import Web1
from tests.releases import BOOKWORM_BEFORE_TRIXIE
from tests.ssh_agent import running_agent

pytestmark = [pytest.mark.lab, BOOKWORM_BEFORE_TRIXIE]
TOKEN = {"token": PASSWORD}
HOME = "/srv/codesmith/home/cs-{}"
# Everything that could run a program, or send git elsewhere, in a repository's own settings.
TRAPS = """
cd code/{repo}
ran=/srv/codesmith/workspaces/{workspace}/ran
touch_it="!touch $ran; echo username=x; echo password=y"
git config credential.helper "$touch_it"; git config "credential.https://{host}:8443.helper" "$touch_it"
git config core.sshCommand "touch $ran"; git config core.fsmonitor "touch $ran"; git config core.askPass "touch $ran"
git config core.gitProxy "touch $ran"; git config core.alternateRefsCommand "touch $ran"
git config remote.origin.uploadpack "touch $ran"; git config remote.origin.receivepack "touch $ran"
git config remote.origin.pushurl https://{host}:8444/private.git; git config remote.origin.proxy http://{host}:8444
git config url.https://{host}:8444/.insteadOf https://{host}:8443/
git config url.https://{host}:8444/.pushInsteadOf https://{host}:8443/
git config http.proxy http://{host}:8444; git config http.sslVerify false
git config http.extraHeader "X-Trap: yes"; git config "http.https://{host}:8443.proxy" http://{host}:8444
git config core.hooksPath hooks; mkdir -p hooks
for hook in pre-push reference-transaction post-checkout pre-auto-gc; do
  printf '#!/bin/sh\\ntouch %s\\n' "$ran" > hooks/$hook; chmod 755 hooks/$hook; cp hooks/$hook .git/hooks/ 2>/dev/null
done
git init -q ../other; git -C ../other config core.sshCommand "touch $ran"
git -C ../other config core.fsmonitor "touch $ran"; git -C ../other config core.alternateRefsCommand "touch $ran"
realpath ../other/.git/objects > .git/objects/info/alternates
rm -f $ran
"""


@pytest.fixture
def web1(two: tuple[Web1, Forge]) -> Web1:
    return two[0]


def cloned(web1: Web1, forge: Forge, name: str, **more: Any) -> str:
    """Make a workspace with a clone of a private repository of its own name; return the clone's directory."""
    forge.keep(f"private-{name}")
    code = make(web1, name)
    url = f"{forge.https}/private-{name}.git"
    web1.client.repo.clone(workspace=name, url=url, name="site", credential=TOKEN, **more)
    return f"{code}/site"


def inside(web1: Web1, workspace: str, script: str) -> str:
    """Run a script as the workspace's login, in its clone; return its output."""
    settings = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; "
    done = web1.client.workspace.exec(name=workspace, argv=["sh", "-ec", settings + script], cwd="code/site")
    assert done.exit_code == 0, done
    return done.stdout.strip()


def wanted(workspace: str, **more: Any) -> dict[str, Any]:
    return {"workspace": workspace, "name": "site", "credential": TOKEN, **more}


def test_a_pull_moves_forward_and_a_push_arrives(web1: Web1, forge: Forge) -> None:
    repo, path = web1.client.repo, cloned(web1, forge, "forward")
    tip = forge.add("private-forward", "three", "three")
    fetched = repo.fetch(**wanted("forward"))
    assert fetched.commit != tip
    assert (fetched.updated, fetched.ahead, fetched.behind) == (True, 0, 1)
    assert inside(web1, "forward", "git rev-parse origin/main") == tip
    pulled = repo.pull(**wanted("forward"))
    assert (pulled.name, pulled.branch, pulled.commit, pulled.left_out) == ("site", "main", tip, [])
    assert (pulled.updated, pulled.new_commits, pulled.behind) == (True, 1, 0)
    assert web1.on(f"cat {path}/three").out == "three\n"
    again = repo.pull(**wanted("forward"))
    assert (again.commit, again.updated, again.new_commits) == (tip, False, 0)
    assert inside(web1, "forward", "git status --porcelain; git stash list") == ""
    mine = inside(web1, "forward", "echo 4 > four; git add .; git commit -qm four; git rev-parse HEAD")
    assert repo.pull(**wanted("forward")).commit == mine, "it has all that is there"
    pushed = repo.push(**wanted("forward"))
    assert (pushed.commit, pushed.updated, pushed.new_commits, pushed.ahead) == (mine, True, 1, 0)
    assert repo.push(**wanted("forward")).updated is False
    assert forge.tip("private-forward") == mine == inside(web1, "forward", "git rev-parse origin/main")
    web1.refuses(repo.pull, "command_failed", **wanted("forward", credential=None))
    assert web1.on(f"find {path}/.git -name '*.lock'; ls -d /tmp/codesmith-*", check=False).out == ""


def test_a_push_names_its_branch_and_sets_what_it_follows(web1: Web1, forge: Forge) -> None:
    repo = web1.client.repo
    cloned(web1, forge, "named")
    script = "git switch -qc topic; git commit -q --allow-empty -m t; git tag v9; git rev-parse HEAD"
    topic = inside(web1, "named", script)
    inside(web1, "named", "git switch -q main")
    assert repo.push(**wanted("named", ref="topic")).branch == "main"
    assert forge.tip("private-named", "topic") == topic
    follows = "git rev-parse --abbrev-ref topic@{upstream}"
    assert inside(web1, "named", follows) == "origin/topic"
    assert repo.push(**wanted("named", ref="v9")).branch == "main"
    assert forge.tip("private-named", "v9") == topic
    web1.refuses(repo.push, "not_found", **wanted("named", ref="nothing"))
    inside(web1, "named", "git switch -q --detach")
    web1.refuses(repo.push, "command_failed", **wanted("named"))
    assert "on no branch" in str(web1.refuses(repo.pull, "command_failed", **wanted("named")))
    # A branch that follows another one is pulled from there, a tag is fetched by its name.
    inside(web1, "named", "git switch -qc work --track origin/topic")
    tip = forge.add("private-named", "more", "more", branch="topic")
    assert repo.pull(**wanted("named")).commit == tip
    assert inside(web1, "named", "git tag -d v9 >/dev/null; git tag --list v9") == ""
    repo.fetch(**wanted("named", ref="v9"))
    assert inside(web1, "named", "git rev-parse v9") == topic


def test_a_pull_that_would_lose_something_changes_nothing(web1: Web1, forge: Forge) -> None:
    repo, path = web1.client.repo, cloned(web1, forge, "kept")
    state = f"cd {path}; cat .git/refs/heads/main; git -c safe.directory='*' status --porcelain; cat two new || true"
    forge.add("private-kept", "two", "theirs")
    forge.add("private-kept", "new", "theirs")
    inside(web1, "kept", "echo mine > two; echo mine > new")
    before = web1.on(state).out
    refusal = web1.refuses(repo.pull, "command_failed", **wanted("kept"))
    assert "two" in str(refusal)
    assert "nothing was changed" in str(refusal)
    assert "stash" in refusal.data["hint"]
    assert web1.on(state).out == before
    inside(web1, "kept", "git add .; git commit -qm mine")
    before = web1.on(state).out
    refusal = web1.refuses(repo.pull, "command_failed", **wanted("kept"))
    assert "diverged (commits here: 1, there: 2); nothing was changed" in str(refusal)
    assert web1.on(state).out == before
    tip = forge.tip("private-kept")
    refusal = web1.refuses(repo.push, "command_failed", **wanted("kept"))
    assert "does not have" in str(refusal)
    assert refusal.data["hint"].startswith("inv repo.pull kept site; if both have commits")
    assert forge.tip("private-kept") == tip
    hook = "printf '#!/bin/sh\\necho no pushes on Sundays >&2; exit 1\\n'"
    web1.person.on("forge", f"cd /srv/git/private-kept.git/hooks; {hook} > pre-receive; chmod 755 pre-receive")
    inside(web1, "kept", "git reset -q --hard origin/main; git commit -q --allow-empty -m again")
    refusal = web1.refuses(repo.push, "command_failed", **wanted("kept"))
    assert "no pushes on Sundays" in str(refusal)
    assert forge.tip("private-kept") == tip


def test_what_a_repository_is_configured_to_do_gets_no_credential(web1: Web1, forge: Forge) -> None:
    repo, path = web1.client.repo, cloned(web1, forge, "trapped")
    web1.person.on("forge", "rm -f /tmp/stolen")
    settings = TRAPS.format(repo="site", workspace="trapped", host=forge.host)
    done = web1.client.workspace.exec(name="trapped", argv=["sh", "-c", settings])
    assert done.exit_code == 0, done
    tip = forge.add("private-trapped", "three", "three")
    repo.fetch(**wanted("trapped"))
    assert not web1.on(f"ls {path}/../../ran", check=False).ok
    inside(web1, "trapped", "git branch -q mine")
    web1.on(f"rm -f {path}/../../ran")
    repo.push(**wanted("trapped", ref="mine"))
    assert repo.pull(**wanted("trapped")).commit == tip
    assert forge.stolen() == ""
    assert not web1.on(f"grep -r -a -l -F -e '{PASSWORD}' {path}/.. {HOME.format('trapped')}", check=False).out
    # Its own git is as it wants it.
    assert web1.client.workspace.exec(name="trapped", argv=["git", "fetch"], cwd="code/site").exit_code != 0
    assert web1.on(f"ls {path}/../../ran").ok


@pytest.mark.long
def test_a_workspace_without_network_is_exchanged_and_runs_nothing_with_it(web1: Web1, forge: Forge) -> None:
    repo, path = web1.client.repo, cloned(web1, forge, "closed-off")
    web1.client.sandbox.create(workspace="closed-off", network="none")
    names = "tail -n +3 /proc/net/dev | cut -d: -f1 > /srv/codesmith/workspaces/closed-off/seen"
    inside(web1, "closed-off", f"mkdir -p .git/hooks; printf '#!/bin/sh\\n{names}\\n' > .git/hooks/post-merge")
    inside(web1, "closed-off", "chmod 755 .git/hooks/post-merge; cp .git/hooks/post-merge .git/hooks/pre-push")
    tip = forge.add("private-closed-off", "three", "three")
    assert repo.pull(**wanted("closed-off")).commit == tip
    assert web1.on(f"cat {path}/../../seen").out.split() == ["lo"], "the hook of the login runs, without network"
    mine = inside(web1, "closed-off", "rm ../../seen; git commit -q --allow-empty -m mine; git rev-parse HEAD")
    assert repo.push(**wanted("closed-off")).commit == mine
    assert not web1.on(f"ls {path}/../../seen", check=False).ok
    assert inside(web1, "closed-off", "tail -n +3 /proc/net/dev | cut -d: -f1") == "lo"


class Hanging:
    """A pull from a forge that does not answer."""

    def __init__(self, web1: Web1, workspace: str, **more: Any) -> None:
        self.ended = ""
        self._web1, self._wanted = web1, wanted(workspace, **more)
        web1.person.on("forge", "systemctl kill --signal=STOP forge")
        self._thread = threading.Thread(target=self._pull)
        self._thread.start()
        web1.person.wait_until(lambda: web1.on(f"pgrep -u cs-{workspace} git", check=False).ok, within_s=20)

    def wait(self) -> str:
        """Return the error that it ended with, and let the forge answer again."""
        self._thread.join(60)
        self._web1.person.on("forge", "systemctl kill --signal=CONT forge")
        return self.ended

    def _pull(self) -> None:
        self.ended = self._web1.error_of("repo.pull", self._wanted)


END: dict[str, Callable[[Web1], object]] = {
    "time": lambda web1: None,
    "runtime": lambda web1: web1.on("systemctl kill --signal=KILL codesmith-workspace@cut.service"),
    "agent": lambda web1: web1.on("systemctl kill --signal=KILL codesmith-agent"),
}


@pytest.fixture(scope="module")
def cut(two: tuple[Web1, Forge]) -> str:
    return cloned(two[0], two[1], "cut")


@pytest.mark.parametrize("by", list(END))
def test_a_pull_that_is_cut_off_leaves_no_lock(web1: Web1, forge: Forge, cut: str, by: str) -> None:
    tip = forge.add("private-cut", by, by)
    hanging = Hanging(web1, "cut", timeout_s=4 if by == "time" else 60)
    locks = ("refs/remotes/origin/main.lock", "packed-refs.lock", "objects/pack/tmp_pack_1")
    web1.on(f"cd {cut}/.git; touch {' '.join(locks)}; touch --date='1 hour ago' index.lock; chown cs-cut: {locks[0]}")
    END[by](web1)
    assert hanging.wait()
    web1.person.wait_until(lambda: web1.client.node.health().status == "ok", within_s=60)
    left = f"cd {cut}/.git; ls {' '.join(locks)}"
    if by == "time":
        assert web1.on(left, check=False).out == ""
    web1.on(f"ls {cut}/.git/index.lock; rm {cut}/.git/index.lock")  # that of somebody else
    assert web1.client.repo.pull(**wanted("cut")).commit == tip
    assert web1.on(left, check=False).out == ""


def test_one_repository_is_exchanged_once_at_a_time(web1: Web1, forge: Forge) -> None:
    cloned(web1, forge, "once")
    hanging = Hanging(web1, "once")
    web1.refuses(web1.client.repo.fetch, "in_use", **wanted("once"))
    web1.client.workspace.stop(name="once")
    assert hanging.wait()


def test_a_plain_git_finds_the_host_key_and_says_what_is_missing(web1: Web1, forge: Forge) -> None:
    make(web1, "plain")
    folder = f"{HOME.format('plain')}/.ssh"
    web1.on(
        f"mkdir -m 700 {folder}; printf 'other ssh-ed25519 AAAA' > {folder}/known_hosts; chown -R cs-plain: {folder}"
    )
    url = f"git@{forge.host}:/srv/git/private.git"
    for number in range(2):
        web1.client.repo.clone(workspace="plain", url=url, name=f"site{number}" if number else "site",
                               credential={"ssh_key": forge.key}, known_hosts=[forge.known_host])  # fmt: skip
    assert web1.on(f"cat {folder}/known_hosts").out == f"other ssh-ed25519 AAAA\n{forge.known_host}\n"
    done = web1.client.workspace.exec(name="plain", argv=["git", "pull"], cwd="code/site")
    assert "Permission denied" in done.stderr, "the host's key is known"
    web1.on(
        f"cat > {folder}/id_ed25519 <<'END'\n{forge.key}END\nchmod 600 {folder}/id_ed25519; chown cs-plain: {folder}/*"
    )
    assert inside(web1, "plain", "git pull --quiet; git rev-parse --abbrev-ref HEAD") == "main"
    made = web1.client.repo.clone(workspace="plain", url=f"{forge.https}/private.git", name="web", credential=TOKEN)
    done = web1.client.workspace.exec(name="plain", argv=["git", "pull"], cwd="code/web")
    assert done.exit_code != 0
    assert "inv repo.pull plain web --credential-file FILE" in done.stderr
    # Helpers of the login come first.
    helper = f"!f() {{ echo username=x-access-token; echo password={PASSWORD}; }}; f"
    own = web1.client.workspace.exec(name="plain", argv=["git", "config", "--global", "credential.helper", helper])
    assert own.exit_code == 0
    done = web1.client.workspace.exec(name="plain", argv=["git", "pull"], cwd="code/web")
    assert (done.exit_code, "codesmith" in done.stderr, made.branch) == (0, False, "main"), done


def test_a_person_pulls_pushes_and_fetches(web1: Web1, forge: Forge, tmp_path: Path) -> None:
    run = web1.person.runs
    cloned(web1, forge, "typed")
    (tmp_path / "token").write_text(PASSWORD + "\n")
    (tmp_path / "known").write_text(forge.known_host + "\n")
    tip = forge.add("private-typed", "three", "three")
    how = f"--credential-file {tmp_path}/token --node web1"
    run(f"inv repo.fetch typed site {how}")
    assert run(f"inv repo.pull typed site {how} --json").json["commit"] == tip
    mine = inside(web1, "typed", "git commit -q --allow-empty -m mine; git rev-parse HEAD")
    said = web1.person.fails("inv repo.push typed site --node web1", code=6)
    assert "a token that may write to it" in said.err
    assert run(f"inv repo.push typed site {how} --json").json["commit"] == mine
    url = f"git@{forge.host}:/srv/git/private-typed.git"
    with running_agent() as agent:
        agent.add(forge.key)
        here, lent = f"SSH_AUTH_SOCK={agent.path}", "--forward-agent --node web1"
        said = run(f"{here} inv repo.clone typed {url} --name lent --known-hosts {tmp_path}/known {lent}")
        assert "inv repo.pull typed lent --forward-agent\n" in said.err
        tip = forge.add("private-typed", "four", "four")
        said = run(f"CODESMITH_DEBUG=rpc {here} inv repo.pull typed lent {lent} --json")
        assert said.json["commit"] == tip
        assert '"credential": "..."' in said.err
        script = "cd ../lent; git commit -q --allow-empty -m lent; git rev-parse HEAD"
        pushed = inside(web1, "typed", script)
        assert run(f"{here} inv repo.push typed lent {lent} --json").json["commit"] == pushed
        run(f"{here} inv repo.fetch typed lent {lent} --ref main")
    assert forge.tip("private-typed") == pushed
    records = [one for one in web1.client.audit.list(limit=20) if one.method.startswith("repo.pu")]
    assert [(one.method, one.target.get("credential")) for one in records[:2]] == [
        ("repo.push", "agent"), ("repo.pull", "agent"),
    ]  # fmt: skip
