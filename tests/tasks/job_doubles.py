"""What a stand-in answers about one job, and the pieces and frames of its log."""

from __future__ import annotations

from tests.sdk.stream_doubles import JOB, POSITION, Frames

ID = JOB["id"]
ENDED = {**JOB, "state": "exited", "exit_code": 3, "ended_at": "2026-11-23T00:00:05.000Z"}


def piece(data: str, offset: int = 0, *, eof: bool = False, encoding: str = "text", size: int | None = None):
    size = len(data) if size is None else size
    return {"data": data, "encoding": encoding, "offset": offset, "next_offset": offset + size, "eof": eof}


def plays(offset: int, *pieces: tuple[int, bytes], cut: bool = False):
    def play(frames: Frames) -> None:
        frames.send(POSITION, {"offset": offset})
        for kind, data in pieces:
            frames.send(kind, data)
        if not cut:
            frames.end(3)

    return play


def in_turn(*answers):
    rest = list(answers)
    return lambda _: rest.pop(0) if len(rest) > 1 else rest[0]
