"""A copy by rsync: its command line, what it prints while it works, and what its errors mean."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from codesmith.errors import CodeSmithError, Unreachable
from codesmith.workspace.copy_place import Place
from codesmith.workspace.copy_result import PARTIAL, Copied, failure

# Ends of rsync: some files could not be copied; files vanished meanwhile; the connection was lost.
VANISHED, LOST = 24, (12, 30, 255)
OWN = ("rsync error:", "rsync warning:")
OF_SOURCE = re.compile(r"rsync: (\[sender\]|link_stat|change_dir|send_files|opendir)")
OF_SYSTEM = re.compile(r"\(\d+\)$")
PROGRESS = re.compile(rb"\s*([\d,]+)\s+(\d+)%\s+(\S+/s)\s+(\d+:\d+:\d+)")


def command(
    shell: Sequence[str], alias: str, source: Place, destination: Place, *, delete: bool, watched: bool, named: bool
) -> list[str]:
    """Return the rsync that copies, with `shell` in place of ssh; `watched` is for a terminal, which is shown how far.

    `named`: it reads what to copy of the source from its standard input (see `names`), into a directory that is there
    and that it leaves as it is: neither mode nor times are sent for it.
    """
    options = ["--recursive", "--links", "--perms", "--times", "--protect-args", "--stats", f"--partial-dir={PARTIAL}"]
    # A file of root's that was set-uid for a workspace's login would be so for root.
    options += ["--chmod=u-s,g-s", f"--rsh={shlex.join(shell)}"]
    options += ["--delete-delay"] if delete else []
    options += ["--info=progress2", "--no-inc-recursive"] if watched else []
    options += ["--files-from=-", "--from0", "--no-implied-dirs"] if named else []
    return ["rsync", *options, "--", *_words(alias, source, destination, named=named)]


def names(found: Sequence[bytes]) -> bytes:
    """Return names as `--files-from` takes them: with a slash, none is a comment, and none the directory itself."""
    return b"".join(b"/" + name + b"\0" for name in found)


def deletion(shell: Sequence[str], alias: str, source: Place, destination: Place) -> list[str]:
    """Return the rsync that only deletes in the destination's top directory what is not in the source's."""
    options = ["--dirs", "--delete", "--existing", "--ignore-existing", "--protect-args", "--stats"]
    options += [f"--partial-dir={PARTIAL}", f"--rsh={shlex.join(shell)}"]
    return ["rsync", *options, "--", *_words(alias, source, destination, named=True)]


def _words(alias: str, *places: Place, named: bool) -> list[str]:
    paths = [place.plain.rstrip("/") + "/" if named else place.plain for place in places]
    return [f"{alias}:{path}" if place.workspace else path for place, path in zip(places, paths, strict=True)]


def read_progress(line: bytes) -> tuple[int, int, str, str] | None:
    """Return bytes, percent, rate and time left of a line; None if it says something else."""
    match = PROGRESS.match(line)
    if match is None:
        return None
    return int(match[1].replace(b",", b"")), int(match[2]), match[3].decode(), match[4].decode()


def read_stats(text: str) -> Copied:
    """Return the numbers of --stats."""

    def number(name: str) -> int:
        match = re.search(rf"^{name}: ([\d,.]+)", text, re.MULTILINE)
        return int(re.sub(r"[,.]", "", match[1])) if match else 0

    files, size = number("Number of regular files transferred"), number("Total transferred file size")
    return Copied(files, size, number("Number of deleted files"))


def skipped(text: str) -> list[str]:
    """Return the names that rsync did not copy because they are neither files, directories nor links."""
    return re.findall(r'^skipping non-regular file "(.*)"$', text, re.MULTILINE)


def read_end(code: int, stderr: str, source: Place, destination: Place) -> tuple[CodeSmithError | None, list[str]]:
    """Return the error that an exit code and stderr of rsync mean, and the lines beside it."""
    of_source = {_plain(line) for line in stderr.splitlines() if OF_SOURCE.match(line.strip())}
    said = [_plain(line) for line in stderr.splitlines() if line.strip() and not line.startswith(OWN)]
    if code in (0, VANISHED):
        return None, said
    of_system = [line for line in said if OF_SYSTEM.search(line) and "Broken pipe" not in line]
    if code in LOST and not any("No space left" in line for line in said):
        problem = said[-1] if said else "the connection to the workspace ended"
        return Unreachable(problem, hint="inv node.status  # then the same again"), said[:-1]
    first = next(iter(of_system or said), f"rsync ended with {code}")
    return failure(first, source, destination, is_source=first in of_source), [
        line for line in said if line != first and "Broken pipe" not in line
    ]


def _plain(line: str) -> str:
    """Return a line of rsync as others write it: the path, then what is wrong with it."""
    bare = re.sub(r"^rsync: (\[\w+\] )?", "", line.strip())
    return re.sub(
        r'^(?:link_stat|mkstemp|change_dir\S*|mkdir|send_files failed to open|opendir) "(.*)"(?: failed)?: ',
        r"\1: ",
        bare,
    )
