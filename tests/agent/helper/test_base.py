"""The path to the base may have links that belong to root; everything else is refused."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.helper.trees import trees
from agent.shared import names, needs
from agent.shared.errors import NotManaged

OTHER = 98765


@pytest.fixture
def top(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of root with `srv/base/home` below `real` (not in /tmp: anyone may write there)."""
    folder = Path(f"/run/codesmith-test-{secrets.token_hex(4)}")
    (folder / "real/base/home").mkdir(parents=True)
    monkeypatch.setattr(names, "BASE", f"{folder}/srv/base")
    monkeypatch.setattr(needs, "BASE", f"{folder}/srv/base")
    monkeypatch.setattr(needs, "HIDDEN", ("/home",))
    yield folder
    subprocess.run(["rm", "-rf", "--", folder], check=True)


def lead(top: Path, target: str, name: str = "srv") -> None:
    (top / name).parent.mkdir(exist_ok=True)
    (top / name).symlink_to(target)


def opens(top: Path) -> bool:
    with trees.open_base(f"{top}/srv/base/home") as found:
        return os.path.samestat(os.fstat(found), os.stat(top / "real/base/home"))


@pytest.mark.parametrize("target", ["{top}/real", "real", "./real", "../{name}/real", "real/../real/"])
def test_a_link_of_root_is_followed(top: Path, target: str) -> None:
    lead(top, target.format(top=top, name=top.name))
    assert opens(top)
    assert needs.base()[0] == "ok"
    assert trees.real_path(f"{top}/srv/base/home/x") == f"{top}/real/base/home/x"


def test_the_base_may_be_a_link_and_a_link_may_lead_to_a_link(top: Path) -> None:
    lead(top, "../real/base", "srv/base")
    assert opens(top)
    (top / "srv/base").unlink()
    lead(top, "../other", "srv/base")
    lead(top, "real/base", "other")
    assert opens(top)


def test_below_the_base_no_link_is_followed(top: Path) -> None:
    lead(top, "real")
    (top / "real/base/home").rmdir()
    (top / "real/elsewhere").mkdir()
    lead(top, "../elsewhere", "real/base/home")
    with pytest.raises(NotManaged):
        opens(top)


@pytest.mark.parametrize("wrong", ["link", "target", "above", "writable", "circle", "gone"])
def test_what_is_not_roots_alone_is_refused(top: Path, wrong: str) -> None:
    lead(top, "srv" if wrong == "circle" else "gone" if wrong == "gone" else "real")
    if wrong == "link":
        os.chown(top / "srv", OTHER, OTHER, follow_symlinks=False)
    elif wrong in ("target", "above"):
        os.chown(top / ("real/base" if wrong == "target" else "real"), OTHER, OTHER)
    elif wrong == "writable":
        (top / "real").chmod(0o775)
    with pytest.raises(NotManaged):
        opens(top)
    status, detail, fix = needs.base()
    assert status == "fail"
    assert detail
    assert fix


def test_other_places_are_never_reached_by_links(top: Path) -> None:
    lead(top, "real", "other")
    with pytest.raises(NotManaged), trees.open_base(f"{top}/other/base"):
        pass
