"""ssh.config: what ssh makes of it, the one line in ~/.ssh/config, and that nothing of it stays after --remove."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import threading

import pytest

from codesmith.errors import CodeSmithError
from codesmith.nodes.registry import Registry
from codesmith.workspace import ssh_include
from codesmith.workspace.ssh_config import SshConfig

pytestmark = pytest.mark.slow

OWN = "# mine\r\nHost *\n  User root\n  ServerAliveInterval 7\n"
OWN += "  SendEnv MINE\n  ProxyJump gate\n  ControlPath ~/cm-%h\n"


@pytest.fixture
def operator(place, tmp_path, monkeypatch):
    """The operator's home; `ssh` reads its configuration, which ssh itself looks for in the home of the login."""
    home = tmp_path / "operator"
    (home / ".ssh").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {home}/.ssh/config "$@"\n')
    ssh.chmod(0o755)
    place.environment.update(HOME=str(home), PATH=f"{ssh.parent}:{os.environ['PATH']}")
    (home / ".ssh" / "config").write_bytes(OWN.encode())
    return home / ".ssh" / "config"


def install(place, *words: str, code: int = 0):
    done = place.inv("ssh.config", "--install", *words)
    assert done.returncode == code, done.stderr
    return done


def settings(place, alias: str = "demo.web1.codesmith") -> dict[str, str]:
    """Return what ssh makes of an alias."""
    done = place.run(["ssh", "-G", alias])
    assert done.returncode == 0, done.stderr
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ssh_config_alone_changes_nothing_and_says_how_to_install_it(place, operator):
    done = place.inv("ssh.config", "--json")
    row = json.loads(done.stdout)
    assert row["hosts"] == ["*.web1.codesmith"] and row["installed"] is False
    assert "inv ssh.config --install" in done.stderr
    assert operator.read_bytes() == OWN.encode()
    assert not (place.home / "ssh").exists()


def test_an_alias_leads_through_the_endpoint(place, operator):
    install(place, "--yes")
    found = settings(place)
    assert (found["user"], found["port"], found["hostname"]) == ("workspace", "22", "demo.web1.codesmith")
    assert " -IS " in found["proxycommand"]
    assert str(place.endpoint()) in found["proxycommand"] and found["proxycommand"].endswith(" web1 '%n'")
    assert "proxyjump" not in found
    assert found["kexalgorithms"].startswith("curve25519-sha256,") and "aes128-gcm" in found["ciphers"].split(",")[0]
    assert found["identityfile"] == f"{place.home}/ssh/id_ed25519"
    assert (found["identitiesonly"], found["stricthostkeychecking"], found["controlmaster"]) == ("yes", "true", "false")
    assert found["userknownhostsfile"].startswith(f"{place.home}/ssh/") and found["globalknownhostsfile"] == "/dev/null"


def test_other_settings_of_the_operator_stay(place, operator):
    install(place, "--yes")
    found = settings(place)
    assert (found["serveraliveinterval"], found["sendenv"]) == ("7", "MINE")
    other = settings(place, "elsewhere")
    assert (other["user"], other.get("proxyjump")) == ("root", "gate")


def test_files_are_private_and_there_is_one_key(place, operator):
    install(place, "--yes")
    key = (place.home / "ssh" / "id_ed25519").read_bytes()
    for path in [place.home, *(place.home / "ssh").rglob("*")]:
        mode = path.stat().st_mode & 0o777
        assert mode == (0o700 if path.is_dir() else 0o600) or path.suffix == ".pub", path
    install(place, "--yes")
    assert (place.home / "ssh" / "id_ed25519").read_bytes() == key


def test_commands_at_once_make_one_key_and_disturb_each_other_in_nothing(place, monkeypatch):
    """A second command begins while the first one makes the key."""
    config, run, flock = SshConfig(Registry.load(place.nodes)), subprocess.run, fcntl.flock
    made, meets, errors = [], threading.Event(), []

    def write():
        try:
            config.write()
        except (CodeSmithError, OSError) as error:
            errors.append(error)

    second = threading.Thread(target=write)

    def run_here(command, **options):
        if command[0].endswith("ssh-keygen"):
            made.append(command)
            if len(made) == 1:
                second.start()
                assert meets.wait(30)
            meets.set()
        return run(command, **options)

    def lock(descriptor, how):
        if made:
            meets.set()
        return flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", lock)
    monkeypatch.setattr(subprocess, "run", run_here)
    write()
    second.join()
    assert (len(made), errors) == (1, [])
    names = [config.folder.name, f"{config.folder.name}/config", f"{config.folder.name}/web1.json"]
    names += ["id_ed25519", "id_ed25519.pub"]
    ssh = place.home / "ssh"
    assert sorted(str(path.relative_to(ssh)) for path in ssh.rglob("*")) == sorted(names)


@pytest.mark.parametrize("first", ["write", "remove"])
def test_a_removal_and_a_command_that_writes_wait_for_each_other(place, operator, monkeypatch, first):
    """The second one begins in the middle of the first one."""
    monkeypatch.setenv("HOME", place.environment["HOME"])
    config, run, rmtree, flock = SshConfig(Registry.load(place.nodes)), subprocess.run, shutil.rmtree, fcntl.flock
    works = {"write": config.write, "remove": lambda: ssh_include.remove(config, yes=True)}
    begun, waits_or_done, errors = threading.Event(), threading.Event(), []
    config.write()
    if first == "write":
        rmtree(place.home / "ssh")

    def do_second():
        try:
            works["remove" if first == "write" else "write"]()
        except (CodeSmithError, OSError) as error:
            errors.append(error)
        waits_or_done.set()

    second = threading.Thread(target=do_second)

    def meet():
        if not begun.is_set():
            begun.set()
            second.start()
            assert waits_or_done.wait(30)

    def lock(descriptor, how):
        try:
            flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            waits_or_done.set()
            flock(descriptor, how)

    def run_here(command, **options):
        if command[0].endswith("ssh-keygen"):
            meet()
        return run(command, **options)

    def remove_here(folder, **options):
        meet()
        rmtree(folder, **options)

    monkeypatch.setattr(fcntl, "flock", lock)
    monkeypatch.setattr(subprocess, "run", run_here)
    monkeypatch.setattr(shutil, "rmtree", remove_here)
    works[first]()
    second.join()
    found = sorted(path.name for path in place.home.rglob("ssh/**/*") if path.is_file())
    assert errors == []
    assert found == ([] if first == "write" else ["config", "id_ed25519", "id_ed25519.pub", "web1.json"])


def test_install_asks_and_shows_the_change(place, operator):
    done = install(place, code=2)
    assert operator.read_bytes() == OWN.encode()
    line = f'Include "{place.home}/ssh/*/config"'
    assert f"+{line}\n" in done.stderr and "hint: without a question: --yes" in done.stderr
    install(place, "--yes")
    assert operator.read_bytes() == f"{line}\n{OWN}".encode()


def test_install_may_be_repeated(place, operator):
    assert "changed\ttrue" in install(place, "--yes").stdout
    before = operator.read_bytes()
    again = install(place)
    assert ("changed\tfalse" in again.stdout, again.stderr) == (True, "")
    assert operator.read_bytes() == before


def test_a_line_that_came_too_late_moves_up(place, operator):
    line = f'Include "{place.home}/ssh/*/config"\n'
    operator.write_bytes(f"{OWN}{line}".encode())
    install(place, "--yes")
    assert operator.read_bytes() == f"{line}{OWN}".encode()


def test_a_configuration_that_is_a_link_stays_one(place, operator, tmp_path):
    dotfiles = tmp_path / "dotfiles"
    operator.rename(dotfiles)
    dotfiles.chmod(0o640)
    operator.symlink_to(dotfiles)
    install(place, "--yes")
    assert operator.is_symlink() and dotfiles.read_bytes().endswith(OWN.encode())
    assert dotfiles.stat().st_mode & 0o777 == 0o640
    assert place.inv("ssh.config", "--remove", "--yes").returncode == 0
    assert operator.is_symlink() and dotfiles.read_bytes() == OWN.encode()


def test_without_a_configuration_one_is_made(place, operator):
    shutil.rmtree(operator.parent)
    install(place, "--yes")
    assert operator.stat().st_mode & 0o777 == 0o600 and operator.parent.stat().st_mode & 0o777 == 0o700
    assert settings(place)["user"] == "workspace"


def test_remove_takes_exactly_what_install_made(place, operator):
    before = tree(place.home) if place.home.exists() else {}
    install(place, "--yes")
    assert place.inv("ssh.config", "--remove").returncode == 2
    assert (place.home / "ssh" / "id_ed25519").exists()
    assert place.inv("ssh.config", "--remove", "--yes").returncode == 0
    assert operator.read_bytes() == OWN.encode()
    assert tree(place.home) == before and not (place.home / "ssh").exists()
    again = place.inv("ssh.config", "--remove", "--yes")
    assert (again.returncode, "changed\tfalse" in again.stdout) == (0, True)


def test_registries_do_not_disturb_each_other(place, operator, tmp_path):
    install(place, "--yes")
    other = tmp_path / "other.yaml"
    other.write_text("nodes: {db: {host: db.invalid}}\n")
    install(place, "--yes", "--file", str(other))
    assert settings(place)["user"] == settings(place, "x.db.codesmith")["user"] == "workspace"
    assert place.inv("ssh.config", "--remove", "--yes", "--file", str(other)).returncode == 0
    assert settings(place)["user"] == "workspace"
    assert settings(place, "x.db.codesmith")["user"] == "root"


def test_an_older_ssh_gets_no_option_that_it_refuses(place, operator, tmp_path):
    (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\necho OpenSSH_8.4p1 >&2\n")
    text = place.inv("ssh.config", "--print").stdout
    assert "Host *.web1.codesmith" in text
    for keyword in ("KnownHostsCommand", "SessionType", "StdinNull", "WarnWeakCrypto", "IgnoreUnknown"):
        assert keyword not in text


def test_print_prints_what_ssh_can_read(place, operator, tmp_path):
    done = place.inv("ssh.config", "--print")
    assert operator.read_bytes() == OWN.encode()
    (tmp_path / "printed").write_text(done.stdout)
    shown = subprocess.run(
        ["ssh", "-G", "-F", tmp_path / "printed", "demo.web1.codesmith"], check=True, capture_output=True, text=True
    ).stdout
    assert "\nuser workspace\n" in f"\n{shown}"
    assert place.inv("ssh.config", "--print", "--install").returncode == 1


def test_a_place_with_blanks_works(place, operator, tmp_path):
    place.environment["CODESMITH_HOME"] = str(tmp_path / "a state, it's mine")
    refused = place.inv("ssh.config", "--install", "--yes")
    assert refused.returncode == 0, refused.stderr
    found = settings(place)
    assert found["identityfile"] == f"{tmp_path}/a state, it's mine/ssh/id_ed25519"


@pytest.mark.parametrize("name", ['a"b', "a%b", "a*b", "a$b", "a[b]"])
def test_a_place_that_ssh_would_misread_is_refused(place, operator, tmp_path, name):
    place.environment["CODESMITH_HOME"] = str(tmp_path / name)
    refused = place.inv("ssh.config", "--install", "--yes")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: an ssh configuration cannot name ")
    assert operator.read_bytes() == OWN.encode()


@pytest.mark.parametrize("name", ["x'$(touch run)'y", "$(touch run)", "a;touch run", "a b"])
def test_the_name_of_a_host_is_never_a_command(place, operator, tmp_path, name):
    """A link or a submodule may name any host. Newer clients refuse such names, older ones hand them to a shell."""
    install(place, "--yes")
    command = settings(place)["proxycommand"]
    done = place.run(["ssh", "-G", f"{name}.web1.codesmith"])
    if "'" in name:
        assert "-IS" not in done.stdout
        # This client refuses the name anyway; for an older one the pattern must not match.
        assert 'Host *.web1.codesmith "!*\'*"\n' in place.inv("ssh.config", "--print").stdout
    else:
        shown = command.replace("%n", f"{name}.web1.codesmith")
        subprocess.run(["sh", "-c", shown], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert not (tmp_path / "run").exists()
