"""One line in the operator's own ssh configuration, which includes that for workspaces: put it there, take it away."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from codesmith.cli.text_edit import Edit, read
from codesmith.errors import CodeSmithError
from codesmith.paths import locked, state_dir
from codesmith.workspace import ssh_config
from codesmith.workspace.ssh_config import SshConfig

BEGINS_BLOCK = r"\s*(host|match)\b"


def own_file() -> Path:
    """Return the path of the operator's ssh configuration."""
    return Path.home() / ".ssh" / "config"


def line() -> str:
    """Return the line that includes the configuration of every registry."""
    return f'Include "{ssh_config.place()}/*/config"'


def plan_install(path: Path) -> Edit:
    """Plan the line as the first one, unless it is there already and before any Host or Match."""
    before = read(path)
    for one in before.splitlines():
        if one.strip() == line():
            return Edit(path, before, before)
        if re.match(BEGINS_BLOCK, one, re.IGNORECASE):
            break
    return Edit(path, before, f"{line()}\n{_without_line(before)}")


def plan_removal(path: Path) -> Edit:
    """Plan the file without the line."""
    before = read(path)
    return Edit(path, before, _without_line(before))


def install(config: SshConfig, *, yes: bool) -> bool:
    """Write the configuration and include it, after the operator has seen the change; return whether it changed."""
    config.write()
    edit = plan_install(own_file())
    if edit.before != edit.after:
        edit.apply_if_wanted(yes=yes)
    for node in config.registry.nodes.values():
        if not ssh_config.is_in_effect(config, node):
            raise CodeSmithError(
                f"{edit.path} includes {config.path}, but ssh has other values for {ssh_config.alias_of('x', node)}",
                hint=f"ssh -G {ssh_config.alias_of('x', node)}",
            )
    return edit.before != edit.after


def remove(config: SshConfig, *, yes: bool) -> bool:
    """Remove the files of this registry; with the last registry's, the line and the key too. Return what changed."""
    place, edit = ssh_config.place(), plan_removal(own_file())
    if _is_last(config) and edit.before != edit.after:
        edit.ask(yes=yes)
    # Others write meanwhile, until the answer is there: what it means is looked up again.
    with locked(state_dir()):
        was_there = config.folder.is_dir()
        shutil.rmtree(config.folder, ignore_errors=True)
        if _is_last(config):
            edit = plan_removal(own_file())
            if edit.before != edit.after:
                edit.apply()
                was_there = True
            for path in (ssh_config.key_path(), ssh_config.key_path().with_suffix(".pub")):
                path.unlink(missing_ok=True)
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
    return was_there


def _is_last(config: SshConfig) -> bool:
    """Return whether no other registry has a configuration here."""
    return all(path == config.path for path in ssh_config.place().glob("*/config"))


def is_installed(config: SshConfig) -> bool:
    """Return whether ssh reaches the workspaces of every node by the configuration."""
    nodes = config.registry.nodes.values()
    return config.path.is_file() and all(ssh_config.is_in_effect(config, node) for node in nodes)


def _without_line(text: str) -> str:
    return "".join(one for one in text.splitlines(keepends=True) if one.strip() != line())
