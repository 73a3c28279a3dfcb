"""A change of a text file of the operator's own: shown first, then made whole or not at all."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from codesmith.cli import output
from codesmith.cli.cells import escape
from codesmith.errors import Cancelled, CodeSmithError


@dataclass(frozen=True)
class Edit:
    """A change of a text file; nothing to do if both texts are equal."""

    path: Path
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change as a unified diff."""
        before, after = (text.splitlines(keepends=True) for text in (self.before, self.after))
        lines = difflib.unified_diff(before, after, str(self.path), str(self.path), n=1)
        return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)

    def apply_if_wanted(self, *, yes: bool) -> None:
        """Show the change, ask unless `yes`, and make it; Cancelled if it is not wanted."""
        self.ask(yes=yes)
        self.apply()

    def ask(self, *, yes: bool) -> None:
        """Show the change and ask unless `yes`; Cancelled if it is not wanted."""
        sys.stderr.write(escape(self.diff, keep="\n\t"))
        sys.stderr.flush()
        if not yes and not output.confirm("write it?"):
            raise Cancelled(f"{self.path} stays as it is", hint="without a question: --yes")

    def apply(self) -> None:
        """Write the new text in place of the old one; a symbolic link stays one, and the mode stays."""
        path = Path(os.path.realpath(self.path))
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
            fresh = path.with_name(f".{path.name}.codesmith.{os.getpid()}")
            fresh.unlink(missing_ok=True)
            with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(self.after.encode("utf-8", "surrogateescape"))
            fresh.chmod(mode)
            fresh.replace(path)
        except OSError as error:
            raise CodeSmithError(
                f"cannot write {self.path}: {error.strerror}", hint=f"ls -ld {self.path} {self.path.parent}"
            ) from error


def read(path: Path) -> str:
    """Return the text of a file, "" if it is missing; bytes that are not UTF-8 stay as they are."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise CodeSmithError(f"cannot read {path}: {error.strerror}", hint=f"ls -l {path}") from error
