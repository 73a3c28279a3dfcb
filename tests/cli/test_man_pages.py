"""The manual: of the same tables as help, no warning of groff, found by man beside the programs of an environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from invoke.collection import Collection

from codesmith import __version__
from codesmith.cli import man_pages
from codesmith.cli.task import task
from codesmith.tasks import root

TOP = Path(__file__).parents[2]
PAGES = man_pages.pages(root(), __version__)


@task(help={"name": r".Its 'name' \n ^ ~ `x-y`."})
def odd(c, name: str) -> None:
    """Do it.

    .SH is no macro here; \\fB neither.

    Example: test_man_pages.odd 'a b'
    """


def rendered(page: str, *, columns: int = 100) -> str:
    """Return a page as man shows it; any warning fails."""
    argv = ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", f"-rLL={columns}n"]
    done = subprocess.run(argv, input=page, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_renders_without_warnings_and_without_roff_in_it(name):
    text = rendered(PAGES[name])
    assert re.search(rf"^{name[:-2].upper()}\(1\)", text)
    assert not re.search(r"\\f[BR]|\\\(|\\[e&-]|^\.[A-Z]{2}", text, flags=re.M)


@pytest.mark.parametrize("name", sorted(root().task_names))
def test_every_task_stands_in_the_manual_with_its_arguments_options_and_examples(name):
    space, _, _ = name.rpartition(".")
    text = rendered(PAGES[f"codesmith-{space}.1" if space else "codesmith.1"], columns=400)
    page = root()[name].page()
    (_, section) = re.split(rf"^ +{re.escape(page.usage.partition(' ')[2])}$", text, flags=re.M)
    section = re.split(r"^(?: {2,3}\S|[A-Z])", section, flags=re.M)[0]
    plain = " ".join(section.replace("codesmith ", "inv ").split())
    for left, right in [*page.arguments, *page.options]:
        assert f"{left} {' '.join(right.split())}".replace("`", "") in plain.replace("`", "")
    for example in page.examples:
        assert example.replace("codesmith ", "inv ") in plain
    for left, _ in page.shared:
        assert re.search(rf"^ +{re.escape(left)}(?= |$)", text, flags=re.M), left


def test_what_roff_would_take_for_its_own_is_shown_as_it_is():
    text = rendered(man_pages.pages(Collection(odd), "1.0")["codesmith.1"])
    assert ".SH is no macro here; \\fB neither." in text
    assert "   .Its 'name' \\n ^ ~ x-y." in text
    assert "  codesmith test_man_pages.odd 'a b'" in text


def test_the_manual_names_the_variables_of_the_reference():
    table = (TOP / "docs" / "reference.md").read_text().partition("Set by CodeSmith")[0]
    listed = re.findall(r"^\| `(CODESMITH_\w+)`", table, flags=re.M)
    assert [name for name, _ in man_pages.ENVIRONMENT if name.startswith("CODESMITH_")] == listed


def test_the_manual_has_every_exit_code():
    from codesmith import errors

    codes = {one.exit_code for one in vars(errors).values() if hasattr(one, "exit_code")}
    assert codes <= {int(code) for code, _ in man_pages.STATUS}


@pytest.mark.long
@pytest.mark.slow
def test_man_finds_the_manual_beside_the_programs_of_an_environment(tmp_path):
    source = tmp_path / "source"
    for name in ("codesmith", "agent", "man"):
        shutil.copytree(TOP / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TOP / name, source / name)
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    # `inv` is Invoke's, but in a checkout.
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith("scripts/inv")]
    venv.create(tmp_path / "venv", with_pip=False)
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(tmp_path / "venv/bin/python"), *install], check=True)
    environment = {name: value for name, value in os.environ.items() if name != "MANPATH"}
    environment["PATH"] = f"{tmp_path / 'venv/bin'}:{environment['PATH']}"

    def man(*words: str) -> str:
        return subprocess.run(["man", *words], env=environment, check=True, capture_output=True, text=True).stdout

    for page in ("codesmith", "codesmith-workspace"):
        assert man("--path", page).strip().startswith(str(tmp_path / "venv/share/man/man1"))
    assert "workspace.create NAME" in man("codesmith-workspace")
