"""The agent is one file, with the same bytes from a checkout and from a wheel, at any time."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from codesmith import paths
from codesmith.bootstrap import pack as packing
from codesmith.bootstrap import zipapp
from codesmith.bootstrap.pack import pack

TOP = Path(paths.__file__).resolve().parent.parent


@pytest.fixture
def stub(tmp_path: Path) -> Path:
    """A small agent."""
    folder = tmp_path / "agent"
    (folder / "methods").mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Stub."""\n\n__version__ = "9.8.7"\n')
    (folder / "main.py").write_text("def main(argv):\n    print(argv)\n    return 3\n")
    (folder / "methods" / "__init__.py").write_text("")
    (folder / "openrpc.json").write_text("{}")
    return folder


def names(data: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(data)).namelist()


def test_the_same_sources_give_the_same_bytes(stub: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(stub, tmp_path / "elsewhere" / "agent"))
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "main.cpython-311.pyc").write_bytes(b"x")
    (copy / "README.md").write_text("not for nodes")
    (copy / "main.py").chmod(0o600)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    assert zipapp.build(stub) == zipapp.build(copy)


def test_it_holds_code_and_licences_and_nothing_else(agent_copy: Path) -> None:
    found = names(zipapp.build(agent_copy))
    assert found == sorted(found)
    assert {"__main__.py", "agent/main.py", "agent/openrpc.json", "jsonrpclib/jsonrpc.py"} <= set(found)
    assert {"licenses/jsonrpclib-pelix/LICENSE", "licenses/fastjsonschema/LICENSE"} <= set(found)
    assert not [name for name in found if name.endswith((".pyc", ".md")) or "test" in name]


def test_it_runs_isolated_and_returns_the_exit_code(stub: Path, tmp_path: Path) -> None:
    file = tmp_path / "agent.pyz"
    file.write_bytes(zipapp.build(stub))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(file), "a", "b"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "['a', 'b']\n")


@pytest.mark.slow
def test_the_packed_agent_knows_its_own_build(agent_copy: Path, tmp_path: Path) -> None:
    packed = pack(agent_copy)
    (tmp_path / "agent.pyz").write_bytes(packed.data)
    command = [sys.executable, "-I", "-S", str(tmp_path / "agent.pyz"), "version"]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    zipfile.ZipFile(tmp_path / "agent.pyz").extractall(tmp_path / "program")
    unpacked = [*command[:3], str(tmp_path / "program"), "version"]
    assert json.loads(subprocess.run(unpacked, capture_output=True, check=True).stdout) == said
    assert said["build"] == packed.sha256 == hashlib.sha256(packed.data).hexdigest()
    assert said["agent"] == packed.version
    assert said["formats"] == {"state": 2, "helper": 2}


def test_it_is_packed_once_and_again_after_an_edit(stub: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = pack(stub)
    assert first.version == "9.8.7"
    built: list[Path] = []
    build = zipapp.build
    monkeypatch.setattr(zipapp, "build", lambda agent: built.append(agent) or build(agent))
    assert pack(stub) == first
    assert built == []
    (stub / "main.py").write_text("def main(argv):\n    return 4\n")
    assert pack(stub).sha256 != first.sha256
    assert built == [stub]
    assert len(list((home / "pack").iterdir())) == 1


def test_a_damaged_cache_is_packed_again(stub: Path, home: Path) -> None:
    first = pack(stub)
    (cached,) = (home / "pack").iterdir()
    cached.write_bytes(cached.read_bytes()[:-100])
    assert pack(stub) == first


def test_an_installation_without_the_agent_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packing.paths, "checkout", lambda: None)
    monkeypatch.setattr(packing, "SHIPPED", tmp_path / "agent.pyz")
    with pytest.raises(packing.Unsupported, match="brought no agent"):
        pack()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of a checkout that a build needs."""
    folder = tmp_path_factory.mktemp("build") / "checkout"
    ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in ("codesmith", "agent", "man"):
        shutil.copytree(TOP / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", "SPECIFICATIONS.md", "CHANGELOG.md", "tasks.py", "Makefile"):
        if (TOP / name).exists():
            shutil.copy(TOP / name, folder / name)
    for name in ("README.md", "LICENSE"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "through_sdist",
    [pytest.param(False, id="from the checkout", marks=pytest.mark.long), pytest.param(True, id="from the sdist")],
)
@pytest.mark.slow
def test_a_wheel_ships_the_same_bytes(source: Path, tmp_path: Path, through_sdist: bool) -> None:
    options = [] if through_sdist else ["--wheel"]
    build = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("*.whl"))
    shipped = [name for name in names(wheel.read_bytes()) if name.endswith("agent.pyz")]
    assert shipped == ["codesmith/bootstrap/agent.pyz"]
    venv.create(tmp_path / "venv", with_pip=False)
    packages = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(packages), str(wheel)],
        check=True,
        capture_output=True,
    )
    # The libraries of this environment, without its installation of CodeSmith.
    (packages / "libraries.pth").write_text(
        os.path.dirname(os.path.dirname(sys.modules["pytest"].__file__ or "")) + "\n"
    )
    program = "from codesmith.bootstrap import pack; p = pack.pack(); print(pack.__file__, p.sha256, p.version)"
    done = subprocess.run(
        [str(tmp_path / "venv/bin/python"), "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    where, sha256, version = done.stdout.split()
    assert where.startswith(str(packages))
    assert sha256 == hashlib.sha256(zipapp.build(source / "agent")).hexdigest()
    assert version == zipapp.version(source / "agent")
