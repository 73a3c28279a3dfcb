"""Pull, push and fetch, apart from a forge: what is read of a repository's settings, locks, and known_hosts."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.git import clone, command, job, known_hosts, locks, own_directory, repository

LINES = ["forge ssh-ed25519 AAAAC3Nz", "[forge]:2222 ssh-ed25519 AAAAC3Nz"]


@pytest.fixture
def path(tmp_path: Path) -> str:
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", tmp_path / "site"], check=True)
    return str(tmp_path / "site" / ".git")


def configure(path: str, *settings: str) -> None:
    for setting in settings:
        key, _, value = setting.partition("=")
        subprocess.run(["git", f"--git-dir={path}", "config", "--add", key, value], check=True)


def test_the_settings_of_a_repository_are_not_those_of_its_exchange(path: str) -> None:
    configure(path, "core.sshCommand=touch ran", "url.https://thief/.insteadOf=https://forge/")
    with own_directory.made(path, "https://forge/site.git") as directory:
        listed = command.git(f"--git-dir={directory}", "config", "--local", "--list")
        assert (
            command.git(f"--git-dir={directory}", "remote", "get-url", "--push", "origin") == "https://forge/site.git"
        )
        assert not os.path.exists(f"{directory}/hooks")
    assert "thief" not in listed
    assert "sshcommand" not in listed
    assert not os.path.exists(directory)


def test_a_repository_without_reflogs_is_exchanged_too(path: str) -> None:
    tree = command.git(f"--git-dir={path}", "hash-object", "-w", "-t", "tree", "/dev/null")
    words = ["git", "-c", "user.name=a", "-c", "user.email=a@b", f"--git-dir={path}", "commit-tree", "-m", "x", tree]
    commit = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    for has_logs in (False, True):
        if has_logs:
            os.mkdir(f"{path}/logs")
        with own_directory.made(path, "https://forge/site.git") as directory:
            ref = f"refs/remotes/origin/{has_logs}"
            command.git(f"--git-dir={directory}", "update-ref", ref, commit)
        assert command.git(f"--git-dir={path}", "rev-parse", ref) == commit
        assert os.path.exists(f"{path}/logs/{ref}") == has_logs


def test_what_a_branch_follows_is_read_as_a_name_alone(path: str) -> None:
    with own_directory.made(path, "https://forge/site.git") as directory:
        assert own_directory.upstream_of(directory, path, "main") == "main"
        assert own_directory.refspecs_of(directory, path) == [own_directory.EVERY_BRANCH]
        configure(path, "branch.main.remote=origin", "branch.main.merge=refs/heads/trunk")
        configure(path, "remote.origin.fetch=+refs/heads/trunk:refs/remotes/origin/trunk")
        assert own_directory.upstream_of(directory, path, "main") == "trunk"
        assert own_directory.refspecs_of(directory, path) == ["+refs/heads/trunk:refs/remotes/origin/trunk"]
        configure(path, "branch.other.remote=origin", "branch.other.merge=--upload-pack=touch ran")
        configure(path, "remote.origin.fetch=+refs/heads/*:refs/heads/*")
        assert own_directory.upstream_of(directory, path, "other") == "other"
        assert own_directory.refspecs_of(directory, path) == [own_directory.EVERY_BRANCH]


@pytest.mark.parametrize("head", ["ref: refs/remotes/origin/main", "ref: refs/heads/../../x", "", "x" * 5000])
def test_a_head_that_names_no_branch_is_no_repository(path: str, head: str) -> None:
    Path(path, "HEAD").write_text(head)
    with pytest.raises(own_directory.NoRepository):
        own_directory.head(path)


def test_without_a_url_git_reaches_nothing() -> None:
    with pytest.raises(command.GitFailed) as failure:
        command.git("ls-remote", "https://127.0.0.1:1/x.git")
    assert "not allowed" in failure.value.stderr


def test_what_an_interrupted_exchange_locked_is_unlocked_before_the_next(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "git_runs", lambda: False)
    before, lock = Path(path, "index.lock"), Path(path, "refs", "heads", "main.lock")
    before.write_text("")
    os.utime(before, ns=(0, 0))
    with pytest.raises(KeyboardInterrupt), locks.held(path):
        with pytest.raises(locks.Busy), locks.held(path):
            pass
        lock.write_text("")
        raise KeyboardInterrupt
    assert (before.exists(), lock.exists()) == (True, False)
    lock.write_text("")
    Path(path, locks.FILE).write_text("1\n")
    os.utime(Path(path, locks.FILE), ns=(1, 1))
    monkeypatch.setattr(locks, "git_runs", lambda: True)
    with locks.held(path):
        assert lock.exists(), "it may be of the git that runs"
    monkeypatch.setattr(locks, "git_runs", lambda: False)
    with locks.held(path):
        assert not lock.exists()
    assert before.exists()


def test_host_keys_are_added_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=str(tmp_path)))
    file = tmp_path / ".ssh" / "known_hosts"
    known_hosts.keep([])
    assert not file.parent.exists()
    known_hosts.keep(LINES[:1])
    assert (file.read_text(), file.stat().st_mode & 0o777) == (f"{LINES[0]}\n", 0o600)
    file.write_text(f"# mine\n{LINES[0]}")
    known_hosts.keep(LINES)
    known_hosts.keep(LINES)
    assert file.read_text() == f"# mine\n{LINES[0]}\n{LINES[1]}\n"
    file.unlink()
    os.mkfifo(file)
    known_hosts.keep(LINES)
    file.unlink()
    file.mkdir()
    known_hosts.keep(LINES)


# What came and what went


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """A repository and its clone in code/site, and what exchanges them as a runtime does; `file:` for a URL."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"NAME": "a", "EMAIL": "a@b"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    run(
        "git init -q -b main theirs; git -C theirs commit -q --allow-empty -m one; git clone -q --bare theirs forge.git"
    )
    run("git clone -q forge.git code/site; git -C theirs remote add origin ../forge.git")
    monkeypatch.setattr(known_hosts, "keep", lambda lines: None)
    # What reaches a URL may reach a directory here.
    monkeypatch.setattr(clone, "git", lambda *words, setup, is_watched: local(*words))

    def exchanged(kind: str, ref: str | None = None) -> dict[str, Any]:
        request = {
            "workspace": "demo", "name": "site", "kind": kind, "url": str(tmp_path / "forge.git"), "ref": ref,
            "credential": {}, "known_hosts": [], "host": "", "programs": [],
        }  # fmt: skip
        found = job.answer({**request, "action": "transfer"})
        if "problem" in found:
            return found
        return {**found["transferred"], **job.answer({**request, **found["transferred"], "action": "settle"})["repo"]}

    return exchanged


def run(script: str) -> None:
    subprocess.run(["sh", "-ec", script], check=True, capture_output=True)


def local(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise command.GitFailed("git", done.returncode, done.stderr)
    return done.stdout.strip()


def said(answer: dict[str, Any]) -> tuple[object, ...]:
    return tuple(answer.get(key) for key in ("updated", "new_commits", "ahead", "behind"))


@pytest.mark.slow
def test_an_exchange_says_what_came_and_went(forge: Callable[..., dict[str, Any]]) -> None:
    assert said(forge("fetch")) == (False, None, 0, 0)
    assert said(forge("pull")) == (False, 0, 0, 0)
    assert said(forge("push")) == (False, 0, 0, 0)
    run("cd theirs; git commit -q --allow-empty -m two; git commit -q --allow-empty -m three; git push -q origin main")
    assert said(forge("fetch")) == (True, None, 0, 2)
    assert said(forge("fetch")) == (False, None, 0, 2)
    assert said(forge("pull")) == (True, 2, 0, 0)
    run("cd code/site; for n in 1 2 3; do git commit -q --allow-empty -m $n; done")
    assert said(forge("pull")) == (False, 0, 3, 0)
    assert said(forge("push")) == (True, 3, 0, 0)
    run("cd code/site; git switch -qc topic; git commit -q --allow-empty -m t; git tag v1")
    assert repository.distance("code/site") == (None, None), "it follows nothing"
    assert said(forge("push")) == (True, 1, 0, 0)
    assert said(forge("push", "v1"))[:2] == (None, None)
    run("cd theirs; git tag v2; git push -q origin v2")
    assert said(forge("fetch", "v2"))[0] is True
    run("mv code/site kept; git init -q -b main code/site")
    came = forge("pull", "main")
    assert (came["updated"], came["new_commits"]) == (True, 6)
