"""`inv repo.*` as real processes, against a scripted node: what people are told about what was done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sdk.sdk_doubles import result, scripted
from tests.tasks.conftest import Place

REPO: dict[str, Any] = {
    "name": "site", "path": "/srv/codesmith/workspaces/demo/code/site", "url": "https://h.invalid/a/site.git",
    "branch": "main", "commit": "9fceb02d0ae598e95dc970b74767f19372d61af8", "left_out": [], "ahead": 0, "behind": 0,
    "updated": None, "new_commits": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("task", "came", "said"),
    [
        ("pull", {"updated": False, "new_commits": 0}, "up to date: nothing was pulled"),
        ("pull", {"updated": True, "new_commits": 2}, "pulled: 2 commits"),
        ("push", {"updated": False, "new_commits": 0}, "up to date: nothing was pushed"),
        ("push", {"updated": True, "new_commits": 1}, "pushed: 1 commit"),
        ("push", {}, "pushed"),
        ("fetch", {"updated": False}, "up to date: nothing was fetched"),
        ("fetch", {"updated": True, "behind": 3}, "fetched"),
    ],
)
def test_an_exchange_says_what_it_did(place: Place, task: str, came: dict[str, Any], said: str) -> None:
    with scripted(place.endpoint(), result(REPO), result({**REPO, **came})):
        done = place.inv(f"repo.{task}", "demo", "site")
    assert (done.returncode, done.stderr.splitlines()) == (0, [said])
    assert done.stdout.splitlines()[-1].split() == ["behind", str({**REPO, **came}["behind"])]


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (["--credential-file", "{}"], " --credential-file {}"),
        (["--credential-file", "{}", "--username", "ada"], " --credential-file {} --username ada"),
    ],
)
def test_a_clone_says_how_its_credential_is_given_again(
    place: Place, tmp_path: Path, words: list[str], again: str
) -> None:
    token = tmp_path / "my token"
    token.write_text("geheim\n")
    with scripted(place.endpoint(), result(REPO)):
        done = place.inv("repo.clone", "demo", REPO["url"], *(word.format(token) for word in words))
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "not kept" in line]
    assert "repo.pull" in said
    assert said.endswith(f"demo site{again.format(repr(str(token)))}")
