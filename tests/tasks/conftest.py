"""For each test its own registry, state and endpoint, which a stand-in serves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from codesmith import paths

TOP = Path(__file__).parents[2]
INV = str(Path(sys.executable).parent / "inv")
# How long a process may take to do what it is about to do.
PATIENCE_S = 30


@dataclass(frozen=True)
class Place:
    """Runs the programs as a person does, and knows the path of their endpoint."""

    home: Path
    nodes: Path
    environment: dict[str, str]

    def write(self, text: str) -> None:
        self.nodes.write_text(text)

    def endpoint(self, name: str = "web1") -> Path:
        from codesmith.nodes.registry import Registry
        from codesmith.tunnel.local_endpoint import endpoint_path

        return endpoint_path(Registry.load(self.nodes).get(name))

    def inv(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return self.run([INV, *words], **options)

    def codesmith(self, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return self.run([sys.executable, "-m", "codesmith", *words], **options)

    def run(self, argv: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
        settings = {"cwd": TOP, "env": self.environment, "stdin": subprocess.DEVNULL, "timeout": 60, **options}
        return subprocess.run(argv, capture_output=True, text=True, **settings)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("CODESMITH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CODESMITH_NODES", str(tmp_path / "nodes.yaml"))
    for name in ("CODESMITH_NODE", "CODESMITH_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "nodes.yaml").write_text("nodes: {web1: {host: web1.invalid, tags: [eu]}}\n")
    yield Place(tmp_path / "home", tmp_path / "nodes.yaml", dict(os.environ))
    # The path of a test's folder is too long for a socket, so the sockets lie elsewhere.
    shutil.rmtree(paths.runtime_dir())
