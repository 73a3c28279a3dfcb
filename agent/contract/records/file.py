"""Files of a workspace."""

from __future__ import annotations

from typing import Annotated, Literal, Optional, TypedDict

from agent.contract.fields import Bytes, Etag, FilePath, Keywords, Mode, OutputEncoding, Time


class File(TypedDict):
    """A file, directory or other entry in a workspace; of a link itself, not of what it leads to."""

    path: FilePath
    type: Literal["file", "directory", "link", "fifo", "socket", "device"]
    size_bytes: Annotated[Bytes, Keywords({"description": "Of its contents; 0 for a directory."})]
    mode: Mode
    modified_at: Time
    target: Annotated[Optional[str], Keywords({"description": "Where a link leads; null for all others."})]
    etag: Etag


class FileContents(TypedDict):
    """A piece of a file."""

    data: str
    encoding: OutputEncoding
    size_bytes: Annotated[Bytes, Keywords({"description": "Of the whole file."})]
    next_offset: Annotated[Bytes, Keywords({"description": "Where to read on."})]
    eof: bool
    etag: Etag


class FileRemoved(TypedDict):
    """The result of file.remove."""

    path: FilePath
    removed: Literal[True]


class FileMatch(TypedDict):
    """A line that a search found; of a long line, the part around it."""

    path: FilePath
    line: Annotated[int, Keywords({"minimum": 1})]
    text: str
