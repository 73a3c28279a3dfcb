"""Build hook of the wheel: adds agent.pyz to it, and `inv` to an editable one. Not used at run time.

pyproject.toml names this file; hatchling loads it by path, also when it builds from the sdist.
"""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path("codesmith") / "bootstrap"


class AgentInWheel(BuildHookInterface[Any]):
    """Packs agent/ into codesmith/bootstrap/agent.pyz of the wheel; leaves no file in the source tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Pack before the wheel is written; an editable one uses agent/ as it is, and has the `inv` of a checkout."""
        if self.target_name != "wheel":
            return
        top = Path(self.root)
        if version == "editable":
            build_data["shared_scripts"][str(top / "codesmith" / "cli" / "inv.py")] = "inv"
            return
        self._folder = tempfile.TemporaryDirectory()
        packed = Path(self._folder.name) / "agent.pyz"
        packed.write_bytes(_zipapp(top).build(top / "agent"))
        build_data["force_include"][str(packed)] = str(HERE / "agent.pyz")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the packed file once the wheel holds it."""
        folder = getattr(self, "_folder", None)
        if folder is not None:
            folder.cleanup()


def _zipapp(top: Path) -> ModuleType:
    # By path: importing the package would need everything that CodeSmith needs at run time.
    spec = importlib.util.spec_from_file_location("codesmith_zipapp", top / HERE / "zipapp.py")
    if spec is None or spec.loader is None:
        raise ImportError(f"{top / HERE / 'zipapp.py'} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
