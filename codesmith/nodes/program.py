"""Programs that print nodes: run with a time limit, and what they printed kept for the completion of command lines."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

from codesmith import paths
from codesmith.errors import BadRegistry, CodeSmithError

TIMEOUT_S = 30.0
BYTES_MAX = 8 << 20
# A process that reads nodes.yaml again and again, as the admin UI does, runs a program only this often.
FRESH_S = 10.0
_outputs: dict[Path, tuple[float, str]] = {}


def output(path: Path, *, timeout_s: float = TIMEOUT_S) -> str:
    """Run a program in its folder and return what it prints; BadRegistry with its standard error if it fails."""
    known = _outputs.get(path)
    if known is not None and time.monotonic() - known[0] < FRESH_S:
        return known[1]
    code, stdout, stderr = _run(path, timeout_s)
    if code != 0:
        raise _failed(path, f"has ended with {f'exit code {code}' if code > 0 else f'signal {-code}'}", stderr)
    if len(stdout) > BYTES_MAX:
        raise _failed(path, f"printed more than {BYTES_MAX >> 20} MiB", b"")
    try:
        text = stdout.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _failed(path, "printed what is not UTF-8 text", stderr) from None
    _outputs[path] = time.monotonic(), text
    with contextlib.suppress(CodeSmithError, OSError):
        _keep(path, text)
    return text


def _run(path: Path, timeout_s: float) -> tuple[int, bytes, bytes]:
    """Return exit code and outputs of a program; it ends with all it started when its time is over."""
    try:
        process = subprocess.Popen(
            [str(path)], cwd=path.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        problem = f"the program {path}, which nodes.yaml includes, cannot be run: {error.strerror}"
        hint = f"if it is to be read instead: chmod -x {shlex.quote(str(path))}"
        raise BadRegistry(problem, hint=hint) from None
    with process:
        try:
            stdout, stderr = process.communicate(timeout=timeout_s)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            stderr = process.communicate()[1]
            raise _failed(path, f"gave no answer within {timeout_s:g} s", stderr) from None
    return process.returncode, stdout, stderr


def kept(path: Path) -> str:
    """Return what a program printed when it ran last; "" if nobody knows."""
    try:
        return kept_file(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def kept_file(path: Path) -> Path:
    """Return the file that has what a program printed last."""
    return paths.state_place() / "includes" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.yaml"


def _keep(path: Path, text: str) -> None:
    if kept(path) == text:
        return
    paths.state_dir()
    file = paths.ensure_private(kept_file(path).parent) / kept_file(path).name
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(file)


def _failed(path: Path, problem: str, stderr: bytes) -> BadRegistry:
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()][-5:]
    said = "".join(f"\n  {line}" for line in lines)
    return BadRegistry(
        f"the program {path}, which nodes.yaml includes, {problem}{':' if said else ''}{said}", hint=str(path)
    )
