"""Unpack and compile the agent of a release."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import py_compile
import shutil
import stat
import struct
import zipfile
import zlib
from typing import Any

from codesmith.bootstrap.on_node.commands import Failed, run
from codesmith.bootstrap.on_node.files import TEMPORARY, install_file, remove_acls, sync_folder
from codesmith.bootstrap.on_node.programs import COMPILED, compiled_names, folders_of, program_of, sum_of

AGENT = "agent.pyz"
# What reading a damaged zip file raises.
DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, struct.error, zlib.error)
UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def do_program(order: dict[str, Any]) -> None:
    """Unpack and compile the agent of a release; what does not belong into its program is removed.

    `compiled.json` comes last, when all the rest is on disk: a program that has it is whole.
    """
    release = os.path.dirname(order["path"])
    program, files = program_of(release), _shipped(release)
    compiled = compiled_names(files)
    _clear(program, {*files, *compiled.values()})
    for folder in ("", *sorted(folders_of([*files, *compiled.values()]))):
        os.makedirs(os.path.join(program, folder), exist_ok=True)
        _give_to_root(os.path.join(program, folder), 0o755)
    for name, data in files.items():
        _write(f"{program}/{name}", data)
    for source, target in compiled.items():
        _compile(f"{program}/{source}", f"{program}/{target}")
    run(["sync", "--file-system", "--", program])
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    sums.update({name: sum_of(f"{program}/{name}") for name in compiled.values()})
    text = (json.dumps(sums, indent=1, sort_keys=True) + "\n").encode()
    install_file(f"{program}/{COMPILED}", text, hashlib.sha256(text).hexdigest(), 0o644)
    sync_folder(release)


def _shipped(release: str) -> dict[str, bytes]:
    """Return the files in a release's agent.pyz by their names; OSError if it cannot be read."""
    path = f"{release}/{AGENT}"
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except DAMAGED as error:
        raise OSError(errno.EIO, f"it is damaged ({error})", path) from error


def _clear(program: str, files: set[str]) -> None:
    """Remove what is neither a file nor a folder of the program; its files are replaced later, each in one step."""
    if os.path.islink(program) or os.path.isfile(program):
        os.unlink(program)
    folders = folders_of(files)
    for folder, inner_folders, names in os.walk(program, topdown=False):
        inside = os.path.relpath(folder, program)
        for name in inner_folders + names:
            path, full = os.path.normpath(os.path.join(inside, name)), os.path.join(folder, name)
            mode = os.lstat(full).st_mode
            if stat.S_ISDIR(mode) and path not in folders:
                shutil.rmtree(full)
            elif not stat.S_ISDIR(mode) and not (stat.S_ISREG(mode) and path in files):
                os.unlink(full)


def _give_to_root(path: str, mode: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, 0, 0)
        remove_acls(descriptor)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _write(path: str, data: bytes) -> None:
    temporary = os.path.join(os.path.dirname(path), TEMPORARY + os.path.basename(path))
    with open(temporary, "wb") as file:
        file.write(data)
    _give_to_root(temporary, 0o644)
    os.replace(temporary, path)


def _compile(source: str, target: str) -> None:
    try:
        py_compile.compile(source, target, doraise=True, optimize=0, invalidation_mode=UNCHECKED)
    except py_compile.PyCompileError as error:
        raise Failed(f"{source} cannot be compiled: {error}") from error
    _give_to_root(target, 0o644)
