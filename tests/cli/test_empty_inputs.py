"""An empty value or file is an error before anything is sent; it never means "none" or "all"."""

from __future__ import annotations

import pytest

from codesmith.errors import CodeSmithError
from codesmith.nodes.lab_home import lab_home
from tests.sdk.sdk_doubles import USER, result, scripted

pytestmark = pytest.mark.slow

EMPTY = {"nothing": "", "newlines": "\n \n"}
COMMENTS = "# mine\n\n  # yours\n"


@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY)
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("user.set-keys ada --ssh-key", "--ssh-key: there is no public key in "),
        ("user.create ada --ssh-key", "--ssh-key: there is no public key in "),
        ("workspace.create demo --ssh-key", "--ssh-key: there is no public key in "),
        ("repo.clone demo git@h.invalid:a --known-hosts", "--known-hosts: there is no line in "),
        ("workspace.create demo --repo git@h.invalid:a --known-hosts", "--known-hosts: there is no line in "),
        ("repo.clone demo https://h.invalid/a --credential-file", "--credential-file: "),
        ("repo.clone demo git@h.invalid:a --credential-file", "--credential-file: "),
        ("node.stop --sudo-password-file", "--sudo-password-file: the first line of "),
    ],
)
def test_a_file_with_nothing_in_it_is_an_error(place, tmp_path, words, says, text):
    (tmp_path / "file").write_text(text)
    with scripted(place.endpoint()) as server:
        named = place.inv(*words.split(), str(tmp_path / "file"))
        piped = place.inv(*words.split(), "-", stdin=None, input=text)
        assert server.requests == []
    assert [(done.returncode, done.stdout) for done in (named, piped)] == [(1, "")] * 2
    for done, where in ((named, str(tmp_path / "file")), (piped, "standard input")):
        assert done.stderr.startswith(f"error: {says}")
        assert where in done.stderr.splitlines()[0] and "hint: " in done.stderr


@pytest.mark.parametrize("words", ["user.set-keys ada --ssh-key", "repo.clone demo git@h.invalid:a --known-hosts"])
def test_a_file_with_only_comments_is_an_error(place, words):
    with scripted(place.endpoint()) as server:
        done = place.inv(*words.split(), "-", stdin=None, input=COMMENTS)
        assert (done.returncode, server.requests) == (1, [])


def test_one_empty_file_among_keys_is_an_error(place):
    with scripted(place.endpoint()) as server:
        done = place.inv("user.set-keys", "ada", "--ssh-key", "ssh-rsa CCCC", "--ssh-key", "/dev/null")
        assert (done.returncode, server.requests) == (1, [])


def test_taking_all_keys_away_is_asked_for_by_name(place):
    with scripted(place.endpoint(), result(USER)) as server:
        assert place.inv("user.set-keys", "ada").returncode == 1
        assert place.inv("user.set-keys", "ada", "--no-keys", "--ssh-key", "ssh-rsa CCCC").returncode == 1
        assert place.inv("user.set-keys", "ada", "--no-keys").returncode == 0
        assert [request["params"]["ssh_keys"] for request in server.requests] == [[]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("workspace.exec demo --env X= -- true", "error: --env: X has no value\nhint: for an empty variable: -- env"),
        ("workspace.exec demo --", "error: no command to run\nhint: "),
        ("workspace.update demo --label team=", "error: --label: team has no value\nhint: "),
        ("workspace.list --label team=", "error: --label: team has no value\nhint: "),
        ("workspace.list --label =a", "error: --label takes KEY=VALUE, not '=a'\nhint: "),
        ("user.list --node=", "error: --node is empty\nhint: "),
        ("user.list --file=", "error: --file is empty\nhint: "),
        ("node.info --tag=", "error: --tag is empty\nhint: "),
        ("audit.list --before=", "error: --before is empty\nhint: "),
        ("lab.down --node=", "error: --node is empty\nhint: "),
    ],
)
def test_an_option_with_nothing_in_it_is_an_error(place, words, says):
    for run in (place.inv, place.codesmith):
        with scripted(place.endpoint()) as server:
            done = run(*words.split())
            assert (done.returncode, done.stdout, server.requests) == (1, "", [])
        assert done.stderr.startswith(says)


def test_an_empty_word_is_no_command(place):
    with scripted(place.endpoint()) as server:
        done = place.inv("workspace.exec", "demo", "--", "", "x")
        assert (done.returncode, server.requests) == (1, [])
    assert done.stderr.startswith("error: no command to run\nhint: ")


def test_an_empty_place_for_the_lab_is_an_error(monkeypatch):
    # Asked for without a command: with `lab.down --all` a mistake here would throw other people's nodes away.
    monkeypatch.setenv("CODESMITH_LAB_HOME", "")
    with pytest.raises(CodeSmithError, match="CODESMITH_LAB_HOME is set and empty"):
        lab_home()


@pytest.mark.parametrize("name", ["CODESMITH_NODE", "CODESMITH_NODES", "CODESMITH_HOME", "CODESMITH_REQUEST_ID"])
def test_a_variable_of_ours_that_is_set_and_empty_is_an_error(place, name):
    with scripted(place.endpoint()) as server:
        done = place.inv("user.delete", "ada", env={**place.environment, name: ""})
        assert server.requests == []
    said = f"error: the environment variable {name} is set and empty\nhint: unset {name}\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
