"""file.*: files of a workspace, as its login and inside its runtime."""

from __future__ import annotations

from typing import Annotated, Iterator, List, Literal, Optional

from agent.contract.fields import FileData, FilePath, Keywords, Mode, Name, RequestId
from agent.contract.method import BY_HELPER, method
from agent.contract.records.file import File, FileContents, FileMatch, FileRemoved
from agent.frontend import file_answers, files
from agent.frontend.context import Context
from agent.shared.errors import AlreadyExists, Disabled, NotFound

LOOKS = (NotFound, Disabled, *BY_HELPER)
CHANGES = (NotFound, AlreadyExists, Disabled, *BY_HELPER)
# What one call returns at most.
READ_BYTES_MAX = 1 << 19
# Of each of two texts that one request holds, which has 256 KiB.
TEXT_MAX = 1 << 17
MATCHES, MATCHES_MAX = 100, 1000
Encoding = Annotated[Optional[Literal["text", "base64"]], Keywords({"description": "Default: text."})]
IfEtag = Annotated[
    Optional[str],
    Keywords(
        {"maxLength": 64, "description": "InUse unless the file still has this etag; `absent`: unless there is none."}
    ),
]


@method("file.list", scope="read", errors=LOOKS)
def list_(context: Context, *, workspace: Name, path: Optional[FilePath] = None) -> Iterator[File]:
    """Return the entries of a directory, by name, up to 10000; default: the workspace. Links are not followed."""
    return file_answers.files(files.call(context, workspace, "list", path=path or "."))


@method("file.stat", scope="read", errors=LOOKS)
def stat(context: Context, *, workspace: Name, path: FilePath) -> File:
    """Return one entry. A link is not followed."""
    return file_answers.file(files.call(context, workspace, "stat", path=path))


@method("file.read", scope="read", errors=LOOKS)
def read(
    context: Context,
    *,
    workspace: Name,
    path: FilePath,
    offset: Annotated[Optional[int], Keywords({"minimum": 0})] = None,
    limit: Annotated[Optional[int], Keywords({"minimum": 1, "maximum": READ_BYTES_MAX})] = None,
    encoding: Encoding = None,
) -> FileContents:
    """Return bytes of a regular file, up to 512 KiB a call; links inside the workspace are followed.

    With text, a piece ends at a whole character; a piece that is not UTF-8 is base64.
    """
    return files.read(context, workspace, path, offset or 0, limit or READ_BYTES_MAX, encoding or "text")


@method("file.write", scope="work", errors=LOOKS, mutates=True, is_resumable=False)
def write(
    context: Context,
    *,
    workspace: Name,
    path: FilePath,
    data: FileData,
    encoding: Encoding = None,
    mode: Annotated[Optional[Mode], Keywords({"description": "Default: as it is, or 0644 for a new file."})] = None,
    append: bool = False,
    if_etag: IfEtag = None,
    request_id: Optional[RequestId] = None,
) -> File:
    """Write a file, whole or not at all: readers see what was there or all of `data`. With `append`, add to its end.

    A request has 256 KiB at most. A longer file goes in pieces of up to 168 KiB: the first to a new name beside it,
    `.codesmith-upload-` and something random (if_etag: absent), more with append and the etag of the last answer, and
    at the end file.move with replace, which has them on disk. Only the first piece and the move are audited.
    """
    return file_answers.file(
        files.call(
            context, workspace, "write", path=path, data=files.encoded("data", data, encoding or "text"),
            mode=files.parse_mode(mode), append=append, if_etag=if_etag,
        )
    )  # fmt: skip


@method("file.edit", scope="work", errors=LOOKS, mutates=True, is_resumable=False)
def edit(
    context: Context,
    *,
    workspace: Name,
    path: FilePath,
    old: Annotated[str, Keywords({"minLength": 1, "maxLength": TEXT_MAX})],
    new: Annotated[str, Keywords({"maxLength": TEXT_MAX})],
    if_etag: IfEtag = None,
    request_id: Optional[RequestId] = None,
) -> File:
    """Replace `old`, which must occur exactly once in the file, by `new`. A file of up to 16 MiB, text or not."""
    return file_answers.file(
        files.call(
            context, workspace, "edit", path=path, old=files.encoded("old", old, "text"),
            new=files.encoded("new", new, "text"), if_etag=if_etag,
        )
    )  # fmt: skip


@method("file.search", scope="read", errors=LOOKS)
def search(
    context: Context,
    *,
    workspace: Name,
    pattern: Annotated[
        str, Keywords({"minLength": 1, "maxLength": 1000, "description": "A regular expression of Python."})
    ],
    path: Optional[FilePath] = None,
    limit: Annotated[Optional[int], Keywords({"minimum": 1, "maximum": MATCHES_MAX})] = None,
) -> List[FileMatch]:
    """Return lines of text files that match, below `path` (default: the workspace), up to `limit` (default 100).

    In the order of their names; without .git, .codesmith, binary files and what links lead to. It ends within 8 s.
    """
    found = files.call(context, workspace, "search", pattern=pattern, path=path or ".", limit=limit or MATCHES)
    return file_answers.matches(found)


@method("file.move", scope="work", errors=CHANGES, mutates=True, is_resumable=False)
def move(
    context: Context,
    *,
    workspace: Name,
    path: FilePath,
    new_path: FilePath,
    replace: bool = False,
    if_etag: Annotated[
        Optional[str],
        Keywords(
            {
                "maxLength": 64,
                "description": "InUse unless what is at new_path has this etag; `absent`: unless nothing is there.",
            }
        ),
    ] = None,
    request_id: Optional[RequestId] = None,
) -> File:
    """Move or rename an entry; AlreadyExists when there is something at `new_path`, unless `replace`."""
    moved = files.call(context, workspace, "move", path=path, new_path=new_path, replace=replace, if_etag=if_etag)
    return file_answers.file(moved)


@method("file.remove", scope="work", errors=LOOKS, mutates=True, is_resumable=False, makes_room=True)
def remove(
    context: Context,
    *,
    workspace: Name,
    path: FilePath,
    recursive: bool = False,
    request_id: Optional[RequestId] = None,
) -> FileRemoved:
    """Remove an entry; a directory that is not empty only with `recursive`. A link is removed, not what it leads to."""
    return file_answers.removed(files.call(context, workspace, "remove", path=path, recursive=recursive))


@method("file.make_directory", scope="work", errors=CHANGES, mutates=True, is_resumable=False)
def make_directory(
    context: Context,
    *,
    workspace: Name,
    path: FilePath,
    parents: Annotated[
        bool, Keywords({"description": "Make those above it too; one that is there is no error."})
    ] = False,
    mode: Annotated[Optional[Mode], Keywords({"description": "Default: 0755."})] = None,
    request_id: Optional[RequestId] = None,
) -> File:
    """Make a directory."""
    made = files.call(context, workspace, "make_directory", path=path, parents=parents, mode=files.parse_mode(mode))
    return file_answers.file(made)
