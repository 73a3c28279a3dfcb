"""A piece of a file."""

from __future__ import annotations

import base64
import codecs
import os
from typing import Any, Dict

from agent.files.entries import etag_of
from agent.files.errors import of_system
from agent.files.places import Tree, open_file

CHARACTER_BYTES_MAX = 4


def read(tree: Tree, request: Dict[str, Any]) -> Dict[str, Any]:
    """Return up to `limit` bytes from `offset` on; with `whole_characters` it ends at one, if it is UTF-8 at all."""
    place = tree.find(request["path"])
    offset, limit = request["offset"], request["limit"]
    descriptor = open_file(place, os.O_RDONLY)
    try:
        # A limit of less than one character must not stop a reader for ever.
        room = max(limit, CHARACTER_BYTES_MAX) if request["whole_characters"] else limit
        data = read_at(descriptor, offset, room)
        status = os.fstat(descriptor)
    except OSError as error:
        raise of_system(error, place.path, "offset") from None
    finally:
        os.close(descriptor)
    if request["whole_characters"]:
        data = _whole(data, limit, is_end=offset + len(data) >= status.st_size)
    return {
        "data": base64.b64encode(data).decode("ascii"),
        "size_bytes": status.st_size,
        "next_offset": offset + len(data),
        "eof": offset + len(data) >= status.st_size,
        "etag": etag_of(status),
    }


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Return the bytes at an offset; fewer only at the end of the file."""
    parts = []
    while size:
        part = os.pread(descriptor, size, offset)
        if not part:
            break
        parts.append(part)
        offset, size = offset + len(part), size - len(part)
    return b"".join(parts)


def _whole(data: bytes, limit: int, *, is_end: bool) -> bytes:
    """Cut UTF-8 at the end of a character: the last one within the limit, or else the first one."""
    if is_end and len(data) <= limit:
        return data
    piece, decoder = data[:limit], codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(piece)
    except UnicodeDecodeError:
        return piece  # it is not UTF-8 anyway
    whole = piece[: len(piece) - len(decoder.getstate()[0])]
    return whole or next((data[:size] for size in range(limit, len(data) + 1) if _is_text(data[:size])), piece)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
