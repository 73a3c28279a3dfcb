#!/usr/bin/python3 -IS
"""The way in for people who have only a key: sshd runs this for them, and it is the shell of their accounts.

It asks the agent's door for an entrance into a workspace, and carries bytes between sshd and what runs there. It runs
no program, reads no file, and takes nothing from its environment but the command, the terminal and the language.
"""

import ctypes
import errno
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import sys
import termios
import time
import tty
from collections.abc import Mapping
from typing import Any, Optional

OWN = "/usr/lib/codesmith/enter"
DOOR = "/run/codesmith/door.sock"
PROTOCOL = 1
# A runtime may have to start first. The door is not there for a moment while the agent is replaced.
ANSWER_S, DOOR_S, PAUSE_S = 150.0, 10.0, 0.1
ANSWER_MAX = 1 << 20
# STREAMS.md of the agent describes the frames.
INPUT, STDOUT, STDERR, END, RESIZE, SIGNAL, PING, PONG, REFUSAL = 0, 1, 2, 3, 4, 5, 6, 7, 9
INPUT_MAX, FRAME_MAX = 1 << 16, 1 << 18
CHUNK, WAITING_MAX = 1 << 18, 1 << 18
# Who is inside may cause frames (answers to pings, sizes, signals) and read none: they are left out beyond this.
FRAMES_MAX = 2 * WAITING_MAX
# The exit code that ssh has for all that is its own.
FAILED = 255
ROWS, COLUMNS = 24, 80
PR_SET_DUMPABLE = 4
PASSED_ON = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGALRM")
GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Ended(Exception):
    """The session is over; the exit code, and what to say."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code, self.text = code, text


def command_of(words: list[str], environment: Mapping[bytes, bytes]) -> Optional[str]:
    """Return the command that somebody wants to run; None: a shell."""
    if words and (len(words) != 2 or words[0] != "-c"):
        raise Ended(FAILED, "this login only enters workspaces: ssh LOGIN@NODE [WORKSPACE] [COMMAND]")
    if words and words[1].split() not in ([OWN], [OWN.rpartition("/")[2]]):
        return words[1]
    original = environment.get(b"SSH_ORIGINAL_COMMAND")
    return None if original is None else text_of(original)


def text_of(data: bytes) -> str:
    """Return bytes as text that becomes the same bytes again."""
    return data.decode("utf-8", "surrogateescape")


def size() -> dict[str, int]:
    """Return the rows and columns of the terminal."""
    try:
        rows, columns = struct.unpack("4H", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)))[:2]
    except OSError:
        rows, columns = 0, 0
    return {"rows": rows or ROWS, "cols": columns or COLUMNS}


def request_of(words: list[str], environment: Mapping[bytes, bytes], *, has_terminal: bool) -> dict[str, Any]:
    """Return what the door is asked."""
    names = [name for name in environment if re.fullmatch(b"LANG|LC_[A-Z]+", name)]
    terminal = {**size(), "term": text_of(environment.get(b"TERM", b""))} if has_terminal else None
    return {
        "protocol": PROTOCOL, "command": command_of(words, environment), "tty": terminal,
        "env": {text_of(name): text_of(environment[name]) for name in names[:32]},
    }  # fmt: skip


def connect() -> socket.socket:
    """Return a connection to the door."""
    deadline = time.monotonic() + DOOR_S
    while True:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            door.connect(DOOR)
            return door
        except OSError as error:
            door.close()
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED) or time.monotonic() > deadline:
                raise Ended(FAILED, f"the agent of this node does not answer ({error.strerror})") from None
            time.sleep(PAUSE_S)


def exactly(door: socket.socket, count: int) -> bytes:
    """Read so many bytes of the door's answer."""
    data = b""
    while len(data) < count:
        piece = door.recv(count - len(data))
        if not piece:
            raise Ended(FAILED, "the agent of this node gave no answer; try again")
        data += piece
    return data


def ask(door: socket.socket, request: dict[str, Any]) -> str:
    """Send the request, and return what the stream is made of; Ended after an answer that is no stream."""
    body = json.dumps(request).encode()
    try:
        door.settimeout(ANSWER_S)
        door.sendall(struct.pack(">I", len(body)) + body)
    except OSError:
        pass  # the answer says why
    try:
        (count,) = struct.unpack(">I", exactly(door, 4))
        answer = json.loads(exactly(door, min(count, ANSWER_MAX)))
    except (OSError, ValueError):
        raise Ended(FAILED, "the agent of this node gave no answer; try again") from None
    if "error" in answer:
        raise Ended(FAILED, str(answer["error"]))
    if "lines" in answer:
        print("\n".join(answer["lines"]), flush=True)
        raise Ended(0)
    return str(answer.get("stream"))


class Relay:
    """Carries bytes between our descriptors and the stream until one side ends."""

    def __init__(self, door: socket.socket, kind: str, *, has_terminal: bool) -> None:
        self._door, self._has_frames, self._has_terminal = door, kind == "frames", has_terminal
        self._out = {1: bytearray(), 2: bytearray()}
        self._to_door, self._from_door = bytearray(), bytearray()
        self._reads = True
        self._ended: Optional[Ended] = None
        self._woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._wake = wake
        for name in ("SIGHUP", "SIGWINCH", *PASSED_ON):
            signal.signal(getattr(signal, name), lambda *_: None)
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)

    def run(self) -> None:
        """Carry; ends by raising Ended."""
        self._door.setblocking(False)
        # The size may have changed before somebody listened.
        self._resize()
        while True:
            self._step()

    def _step(self) -> None:
        waits = any(self._out.values())
        if self._ended is not None and not waits:
            raise self._ended
        poll = select.poll()
        # Errors are always told: the end of who reads our output is the end of the connection.
        poll.register(1, select.POLLOUT if self._out[1] else 0)
        poll.register(2, select.POLLOUT if self._out[2] else 0)
        poll.register(self._woken, select.POLLIN)
        if self._reads and len(self._to_door) < WAITING_MAX and self._ended is None:
            poll.register(0, select.POLLIN)
        if self._ended is None:
            events = (select.POLLOUT if self._to_door else 0) | (0 if waits else select.POLLIN)
            if events:
                poll.register(self._door, events)
        for number, event in poll.poll():
            if number == self._door.fileno():
                self._serve_door(event)
            elif number == self._woken:
                self._take_signals()
            elif number == 0:
                self._read_input()
            elif event & GONE:
                raise Ended(128 + signal.SIGHUP)
            else:
                self._write(number)

    def _serve_door(self, event: int) -> None:
        try:
            if event & select.POLLOUT and self._to_door:
                with memoryview(self._to_door) as view:
                    sent = self._door.send(view[:CHUNK])
                del self._to_door[:sent]
            if event & ~select.POLLOUT and not any(self._out.values()):
                data = self._door.recv(CHUNK)
                if not data:
                    raise ConnectionResetError
                self._take(data)
        except BlockingIOError:
            pass
        except OSError:
            # What it said last is still to be read, when only sending failed.
            if not self._has_frames:
                self._ended = Ended(0)
            elif self._to_door and event & select.POLLOUT:
                self._to_door.clear()
                self._reads = False
            else:
                self._ended = Ended(FAILED, "the session was ended")

    def _take(self, data: bytes) -> None:
        if not self._has_frames:
            self._out[1] += data
            return
        self._from_door += data
        while self._ended is None and len(self._from_door) >= 5:
            kind, count = struct.unpack_from(">BI", self._from_door)
            if count > FRAME_MAX:
                raise Ended(FAILED, "the workspace sends what is no stream")
            if len(self._from_door) < 5 + count:
                return
            payload = bytes(self._from_door[5 : 5 + count])
            del self._from_door[: 5 + count]
            self._take_frame(kind, payload)

    def _take_frame(self, kind: int, payload: bytes) -> None:
        if kind in (STDOUT, STDERR):
            self._out[kind] += payload
        elif kind == PING:
            self._send(PONG)
        elif kind in (END, REFUSAL):
            self._ended = ended(kind, payload)

    def _send(self, kind: int, payload: bytes = b"") -> None:
        if self._has_frames and (kind == INPUT or len(self._to_door) < FRAMES_MAX):
            self._to_door += struct.pack(">BI", kind, len(payload)) + payload

    def _read_input(self) -> None:
        try:
            data = os.read(0, INPUT_MAX)
        except BlockingIOError:
            return
        except OSError:  # a terminal that was hung up
            raise Ended(128 + signal.SIGHUP) from None
        if data and self._has_frames:
            self._send(INPUT, data)
        elif data:
            self._to_door += data
        elif self._has_frames:
            self._reads = False
            self._send(INPUT)
        else:  # ssh inside ssh has gone
            raise Ended(0)

    def _write(self, number: int) -> None:
        waiting = self._out[number]
        try:
            with memoryview(waiting) as view:
                written = os.write(number, view[:CHUNK])
        except BlockingIOError:
            return
        except OSError:
            raise Ended(128 + signal.SIGHUP) from None
        del waiting[:written]

    def _take_signals(self) -> None:
        for number in os.read(self._woken, 256):
            name = signal.Signals(number).name
            if name == "SIGHUP":
                raise Ended(128 + signal.SIGHUP)
            if name == "SIGWINCH":
                self._resize()
            elif name in PASSED_ON and self._has_frames:
                self._send(SIGNAL, name.encode())
            elif name in PASSED_ON:
                raise Ended(128 + number)

    def _resize(self) -> None:
        if self._has_terminal:
            self._send(RESIZE, json.dumps(size()).encode())


def ended(kind: int, payload: bytes) -> Ended:
    """Return how a session ended by its last frame, which is the word of who is inside."""
    try:
        said = json.loads(payload)
        if kind == REFUSAL:
            return Ended(FAILED, str(said["message"])[:1000])
        cause = said["killed_by"]
        return Ended(int(said["exit_code"]) & 255, f"ended: {cause}"[:100] if cause else "")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Ended(FAILED, "the workspace sends what is no stream")


def enter(words: list[str], environment: Mapping[bytes, bytes]) -> None:
    """Enter; ends by raising Ended."""
    has_terminal = os.isatty(0) and os.isatty(1)
    blocking = {number: os.get_blocking(number) for number in (1, 2)}
    mode = termios.tcgetattr(0) if has_terminal else None
    try:
        if has_terminal:  # at once, and without a flush: what is typed already is for the shell inside
            tty.setraw(0, termios.TCSANOW)
        with connect() as door:
            kind = ask(door, request_of(words, environment, has_terminal=has_terminal))
            if kind == "bytes" and has_terminal:
                raise Ended(FAILED, "codesmith-dial carries ssh, not a terminal: leave out -t")
            for number in blocking:
                os.set_blocking(number, False)
            Relay(door, kind, has_terminal=has_terminal).run()
    finally:
        try:
            for number, is_blocking in blocking.items():
                os.set_blocking(number, is_blocking)
            if mode is not None:
                termios.tcsetattr(0, termios.TCSANOW, mode)
        except (OSError, termios.error):
            pass  # it was hung up


def hide() -> None:
    """Keep this process from being traced, read and dumped: what passes through it is not for its own login.

    The login may be that of a workspace, where others are who can end it by a signal that leaves a core file.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        raise Ended(FAILED, f"prctl: {os.strerror(ctypes.get_errno())}")


def main() -> None:
    """Enter, and say why not."""
    try:
        hide()
        enter(sys.argv[1:], os.environb)
    except Ended as end:
        if end.text:
            clean = "".join(one if one.isprintable() else "?" for one in end.text)
            try:
                os.write(2, f"codesmith: {clean}\n".encode("utf-8", "replace"))
            except OSError:
                pass  # nobody reads it
        # No clean-up of the interpreter's: it would wait for an output that nobody reads.
        os._exit(end.code)


if __name__ == "__main__":
    main()
