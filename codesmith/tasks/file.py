"""Files in workspaces: read, written and changed as the workspace's login."""
# ruff: noqa: ARG001  Invoke passes a context to every task

from __future__ import annotations

from typing import Any, Unpack

from invoke.context import Context

from codesmith.cli import arguments, output
from codesmith.cli.task import task
from codesmith.errors import BadArgument
from codesmith.fleet import one_node
from codesmith.fleet.one_node import OneNode
from codesmith.sdk.api import File, FileMatch, FileRemoved
from codesmith.workspace import file_pieces

COLUMNS = ("path", "type", "size_bytes", "mode", "modified_at", "target")
MATCH_COLUMNS = ("path", "line", "text")
WORKSPACE = "The workspace's name."
PATH = "A path in the workspace, relative to it; none leads out of it."
IF_ETAG = "Only if it still has this etag (file.stat shows it); `absent`: only if nothing is there (default: any)."


@task(name="list", help={"workspace": WORKSPACE, "path": "A directory (default: the workspace)."}, harmless=True)
def list_(c: Context, workspace: str, path: str | None = None, **where: Unpack[OneNode]) -> list[File]:
    """Show the entries of a directory.

    Example: file.list shop code
    """
    return one_node.call(where, lambda client: client.file.list(workspace=workspace, path=path), COLUMNS)


@task(help={"workspace": WORKSPACE, "path": PATH}, harmless=True)
def stat(c: Context, workspace: str, path: str, **where: Unpack[OneNode]) -> File:
    """Show one entry; of a link itself, not of what it leads to.

    Example: file.stat shop code/site/README.md
    """
    return one_node.call(where, lambda client: client.file.stat(workspace=workspace, path=path))


@task(
    help={
        "workspace": WORKSPACE,
        "path": PATH,
        "offset": "Where to begin, in bytes (default: at the beginning).",
        "limit": "How many bytes (default: all; with --json up to 512 KiB).",
    },
    harmless=True,
)
def read(
    c: Context,
    workspace: str,
    path: str,
    offset: int | None = None,
    limit: int | None = None,
    **where: Unpack[OneNode],
) -> dict[str, Any]:
    """Write a file to stdout, byte for byte, of any size; --json shows one piece, and where the next one begins.

    Example: file.read demo logs/build.log --offset 1000000 | less
    """
    arguments.check_count(offset, "--offset", least=0)
    arguments.check_count(limit, "--limit", least=1)
    with one_node.connect(where) as client:
        if where.get("json", False):
            size = None if limit is None else min(limit, file_pieces.READ_BYTES)
            piece = client.file.read(workspace=workspace, path=path, offset=offset, limit=size)
            one_node.show(where, piece)
            return piece.to_dict()
        written = 0
        for data in file_pieces.read(client, workspace, path, offset=offset or 0, limit=limit):
            if not output.write_bytes(data):
                break
            written += len(data)
    return {"path": path, "bytes": written}


@task(
    help={
        "workspace": WORKSPACE,
        "path": PATH,
        "from_": "A file of this machine; - is standard input (default: standard input).",
        "append": "Add to the end of the file (default: replace all of it).",
        "mode": "Its mode, like 0755 (default: as it is, or 0644 for a new file).",
        "if_etag": IF_ETAG,
    }
)
def write(
    c: Context,
    workspace: str,
    path: str,
    from_: str | None = None,
    append: bool = False,
    mode: str | None = None,
    if_etag: str | None = None,
    **where: Unpack[OneNode],
) -> File:
    """Write a file, of any size, whole or not at all; links inside the workspace are followed.

    Example: file.write demo config/app.toml --from app.toml
    """
    with arguments.opened(from_ or "-", "--from") as source, one_node.connect(where) as client:
        upload = file_pieces.Upload(client, workspace, path)
        way = upload.append if append else upload.write
        written = way(source, mode=mode, if_etag=if_etag)
    one_node.show(where, written, COLUMNS)
    return written


@task(
    help={
        "workspace": WORKSPACE,
        "path": PATH,
        "old": "What to replace; it must occur exactly once (needed, or --old-from).",
        "new": "What to put there; may be empty (needed, or --new-from).",
        "old_from": "A file with what to replace, byte for byte; - is standard input (default: --old).",
        "new_from": "A file with what to put there; - is standard input (default: --new).",
        "if_etag": IF_ETAG,
    },
    verbatim=("old", "new"),
)
def edit(
    c: Context,
    workspace: str,
    path: str,
    old: str | None = None,
    new: str | None = None,
    old_from: str | None = None,
    new_from: str | None = None,
    if_etag: str | None = None,
    **where: Unpack[OneNode],
) -> File:
    """Replace a text that occurs exactly once in a file of up to 16 MiB.

    Example: file.edit demo code/app.py --old 'debug = True' --new 'debug = False'
    """
    if old_from == new_from == "-":
        raise BadArgument("--old-from and --new-from cannot both be standard input")
    before, after = arguments.one_text(old, old_from, "--old"), arguments.one_text(new, new_from, "--new")
    if not before:
        raise BadArgument("--old is empty", hint=f"to write a whole file: inv file.write {workspace} PATH --from FILE")

    return one_node.call(
        where,
        lambda client: client.file.edit(workspace=workspace, path=path, old=before, new=after, if_etag=if_etag),
        COLUMNS,
    )


@task(
    help={
        "workspace": WORKSPACE,
        "pattern": "A regular expression of Python; (?i) at its beginning ignores case.",
        "path": "A file, or a directory with all below it (default: the workspace).",
        "limit": "How many lines to show, up to 1000 (default: 100).",
    },
    harmless=True,
)
def search(
    c: Context,
    workspace: str,
    pattern: str,
    path: str | None = None,
    limit: int | None = None,
    **where: Unpack[OneNode],
) -> list[FileMatch]:
    """Show lines of text files that match; without .git, .codesmith, binary files and what links lead to.

    Example: file.search demo 'def \\w+_token' --path code
    """
    return one_node.call(
        where,
        lambda client: client.file.search(workspace=workspace, pattern=pattern, path=path, limit=limit),
        MATCH_COLUMNS,
    )


@task(
    help={
        "workspace": WORKSPACE,
        "path": PATH,
        "new_path": "Its new path, with its name: not only the directory to put it in.",
        "replace": "Replace the file or the empty directory that is there (default: refuse).",
    }
)
def move(c: Context, workspace: str, path: str, new_path: str, replace: bool = False, **where: Unpack[OneNode]) -> File:
    """Move or rename an entry.

    Example: file.move demo data/new.csv data/all.csv --replace
    """
    return one_node.call(
        where,
        lambda client: client.file.move(workspace=workspace, path=path, new_path=new_path, replace=replace),
        COLUMNS,
    )


@task(
    help={
        "workspace": WORKSPACE,
        "path": PATH,
        "recursive": "A directory with all that is in it (default: an empty one only).",
    }
)
def remove(c: Context, workspace: str, path: str, recursive: bool = False, **where: Unpack[OneNode]) -> FileRemoved:
    """Remove an entry; a link itself, not what it leads to.

    Example: file.remove shop tmp/old --recursive
    """
    return one_node.call(where, lambda client: client.file.remove(workspace=workspace, path=path, recursive=recursive))


@task(
    help={
        "workspace": WORKSPACE,
        "path": PATH,
        "parents": "Make those above it too; one that is there is no error (default: refuse).",
        "mode": "Its mode, like 0700 (default: 0755).",
    }
)
def make_directory(
    c: Context,
    workspace: str,
    path: str,
    parents: bool = False,
    mode: str | None = None,
    **where: Unpack[OneNode],
) -> File:
    """Make a directory.

    Example: file.make-directory shop data/reports
    """
    return one_node.call(
        where,
        lambda client: client.file.make_directory(workspace=workspace, path=path, parents=parents, mode=mode),
        COLUMNS,
    )
