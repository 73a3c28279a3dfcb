"""Templates as files: what they may say, what is refused, and what they become."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path

import pytest
import yaml

from codesmith.errors import BadTemplate, UnknownName
from codesmith.workspace import template

CASES = yaml.safe_load((Path(__file__).parent / "bad_templates.yaml").read_text())
GOOD = """\
description: Python with its tests
repo: {url: https://git.example.org/team/site.git, ref: main, depth: 1}
sandbox: {memory: 2G, cpus: 1.5, tasks: 512, runtime: 3600, disk: 10G}
network:
  allow: [pypi.org, "*.github.com:443", "10.0.0.0/8:*", "[2001:db8::7]:8443"]
labels: {team: red}
files:
  config/app.toml: app.toml
  code/bin: tools
  data/note: {text: "a\\nb\\n", mode: "0600"}
env: {STAGE: dev, PORT: 8000, GREETING: it's}
setup:
  - python3 -m venv code/.venv
  - |
    cd code
    make
ports: [8000, 18001:8001]
"""


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    (tmp_path / "templates" / "tools").mkdir(parents=True)
    (tmp_path / "templates" / "app.toml").write_text("a = 1\n")
    (tmp_path / "templates" / "tools" / "run").write_text("#!/bin/sh\n")
    (tmp_path / "templates" / "tools" / "run").chmod(0o755)
    (tmp_path / "templates" / "tools" / "link").symlink_to("/etc/passwd")
    return tmp_path / "nodes.yaml"


def write(registry: Path, name: str, text: str) -> Path:
    path = registry.parent / "templates" / f"{name}.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", CASES, ids=itemgetter("case"))
def test_a_bad_template_is_answered_with_file_line_key_and_what_is_expected(
    case: dict[str, str], registry: Path
) -> None:
    path = write(registry, "bad", case["text"])
    with pytest.raises(BadTemplate) as caught:
        template.load(registry, "bad")
    assert caught.value.problem.startswith(f"{path}:{case['says']}")
    assert f"+{case['says'].partition(':')[0]} " in caught.value.hint


def test_a_template_says_all_of_a_workspace(registry: Path) -> None:
    write(registry, "python", GOOD)
    found = template.load(registry, "python")
    files = {path: (content, mode) for file in found.files for path, content, mode in file.pieces()}
    folder = registry.parent / "templates"
    assert found.repo == {"url": "https://git.example.org/team/site.git", "ref": "main", "depth": 1}
    assert found.sandbox == {
        "memory_bytes": 2 << 30, "cpus": 1.5, "tasks": 512, "runtime_s": 3600.0, "disk_bytes": 10 << 30,
    }  # fmt: skip
    assert found.network["allow"][1:] == ["*.github.com:443", "10.0.0.0/8:*", "[2001:db8::7]:8443"]
    assert files == {  # links of a directory are left out
        "config/app.toml": (folder / "app.toml", "0644"),
        "code/bin/run": (folder / "tools" / "run", "0755"),
        "data/note": (b"a\nb\n", "0600"),
    }
    assert found.env == {"STAGE": "dev", "PORT": "8000", "GREETING": "it's"}
    assert found.setup == ("python3 -m venv code/.venv", "cd code\nmake")
    assert found.ports == ("8000", "18001:8001")


def test_an_empty_template_says_nothing(registry: Path) -> None:
    write(registry, "empty", "# nothing\n")
    assert template.load(registry, "empty").to_dict()["repo"] == {}


def test_an_unknown_template_is_answered_with_those_there_are(registry: Path) -> None:
    for name in ("python", "node"):
        write(registry, name, "")
    for name, hint in (("pyton", "did you mean python?"), ("../python", "inv template.list"), ("", "inv template")):
        with pytest.raises(UnknownName, match=r"templates/ has node, python") as caught:
            template.load(registry, name)
        assert hint in caught.value.hint or name == "../python"
    with pytest.raises(UnknownName, match=r"no template 'a': .*/templates/ has none"):
        template.load(registry.parent / "elsewhere" / "nodes.yaml", "a")
