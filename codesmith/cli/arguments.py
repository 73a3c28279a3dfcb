"""Turn the words of a command line into parameters of the RPC methods."""

from __future__ import annotations

import base64
import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, TypedDict

from codesmith import paths
from codesmith.cli import output
from codesmith.errors import BadArgument

SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
KEY_TYPES = ("ssh-", "ecdsa-", "sk-")


class ExchangeOptions(TypedDict, total=False):
    """The options of what reaches the URL of a repository."""

    ref: str | None
    credential_file: str | None
    forward_agent: bool
    username: str | None
    known_hosts: str | None
    timeout: float | None


class CloneOptions(ExchangeOptions, total=False):
    """The options of `repo.clone` and of `workspace.create --repo`."""

    depth: int | None


CLONE_HELP = {
    "ref": "A branch, a tag or a full commit hash (default: the remote's default branch).",
    "depth": "How many commits to fetch (default: all).",
    "credential_file": "A file with a token, or with a private key for ssh; - is standard input (default: none).",
    "forward_agent": "Forward this machine's ssh agent to the clone (default: use the keys of the workspace's user).",
    "username": "The user name for the token (default: x-access-token).",
    "known_hosts": "A file with the ssh host's key, as ssh-keyscan prints it (default: the user's known_hosts).",
    "timeout": "Seconds after which the clone is ended (default: 600).",
}
EXCHANGE_HELP = {
    **{option: text for option, text in CLONE_HELP.items() if option != "depth"},
    "forward_agent": "Forward this machine's ssh agent to git (default: use the keys of the workspace's user).",
    "timeout": "Seconds after which git is ended (default: 600).",
}


def parse_pairs(words: Sequence[str], option: str) -> dict[str, str] | None:
    """Return KEY=VALUE words as a mapping; None if there are no words."""
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BadArgument(f"{option} takes KEY=VALUE, not {word!r}")
        if not value:
            hint = f"for an empty variable: -- env {word} COMMAND ..." if option == "--env" else ""
            raise BadArgument(f"{option}: {key} has no value", hint=hint)
        pairs[key] = value
    return pairs or None


def parse_size(word: str | None, option: str) -> int | None:
    """Return a size in bytes: 512M is 512 times 1024 times 1024. None if there is no word."""
    if word is None:
        return None
    number, unit = (word[:-1], word[-1].upper()) if word[-1:].isalpha() else (word, "")
    if not number.isdecimal() or unit not in SIZES:
        raise BadArgument(f"{option} takes a size such as 512M or 2G, not {word!r}")
    return int(number) * SIZES[unit]


def read_public_keys(words: Sequence[str]) -> list[str] | None:
    """Return public keys; each word is a key or the path of a file of keys. None if there are no words."""
    keys: list[str] = []
    for word in words:
        if word.startswith(KEY_TYPES):
            keys.append(word)
        else:
            keys += _lines(word, "--ssh-key", "no public key")
    for key in keys:
        if "PRIVATE KEY" in key:
            raise BadArgument("this is a private key; keep it to yourself", hint="give the file that ends in .pub")
    return keys or None


def read_text(path: str, option: str) -> str:
    """Return the text of a file (UTF-8); `-` is standard input."""
    try:
        return read_bytes(path, option).decode()
    except UnicodeDecodeError:
        raise BadArgument(f"{option}: {path} is not UTF-8 text") from None


def read_bytes(path: str, option: str) -> bytes:
    """Return the bytes of a file; `-` is standard input."""
    try:
        return sys.stdin.buffer.read() if path == "-" else paths.expanded(path).read_bytes()
    except OSError as error:
        raise BadArgument(f"{option}: cannot read {path}: {error.strerror}") from None


@contextlib.contextmanager
def opened(path: str, option: str) -> Iterator[BinaryIO]:
    """Open a file to be read in pieces; `-` is standard input."""
    if path == "-":
        if sys.stdin.isatty():
            output.say("reading standard input; Ctrl-D ends it")
        yield sys.stdin.buffer
        return
    try:
        file = paths.expanded(path).open("rb")
    except OSError as error:
        raise BadArgument(f"{option}: cannot read {path}: {error.strerror}") from None
    with file:
        yield file


def one_text(text: str | None, path: str | None, option: str) -> str:
    """Return the text that was given, by itself or in a file of OPTION-from; exactly one of them is needed."""
    if (text is None) == (path is None):
        raise BadArgument(f"either {option} or {option}-from is needed" + (", not both" if text is not None else ""))
    return read_text(path, f"{option}-from") if path is not None else str(text)


def check_count(number: int | None, option: str, *, least: int) -> None:
    """Refuse a number that is too small."""
    if number is not None and number < least:
        raise BadArgument(f"{option} takes a whole number from {least} on, not {number}")


def read_input(path: str | None) -> dict[str, str]:
    """Return a command's standard input as parameters of workspace.exec: text, or base64 if the file is not text."""
    return as_input(None if path is None else read_bytes(path, "--stdin"))


def as_input(data: bytes | None) -> dict[str, str]:
    """Return bytes as the parameters of workspace.exec for a command's standard input; {} for None."""
    if data is None:
        return {}
    try:
        if b"\0" not in data:
            return {"stdin": data.decode()}
    except UnicodeDecodeError:
        pass
    return {"stdin": base64.b64encode(data).decode(), "encoding": "base64"}


def read_password(path: str | None, option: str) -> str | None:
    """Return the first line of a file; `-` is standard input. None without a path."""
    if path is None:
        return None
    password = read_text(path, option).partition("\n")[0].rstrip("\r")
    if not password:
        raise BadArgument(f"{option}: the first line of {_place(path)} is empty", hint="write the password there")
    return password


def read_credential(path: str | None, username: str | None, url: str) -> dict[str, str] | None:
    """Return the credential for git, read from a file (`-`: standard input): a token for https, else a private key."""
    if path is None:
        if username is not None:
            raise BadArgument("--username needs --credential-file")
        return None
    text = read_text(path, "--credential-file")
    if not text.strip():
        raise BadArgument(f"--credential-file: {_place(path)} is empty")
    if not url.startswith("https:"):
        return {"ssh_key": text}
    user = {} if username is None else {"username": username}
    return {"token": text.strip("\r\n"), **user}


def read_repo(url: str | None, name: str | None, how: CloneOptions) -> dict[str, Any] | None:
    """Return what to clone as the methods take it; None without a URL, which then allows no other option."""
    if url is None:
        clone = {key: value for key, value in how.items() if key in CloneOptions.__annotations__}
        given = [option for option, value in {"repo_name": name, **clone}.items() if value not in (None, False)]
        if given:
            raise BadArgument(f"--{given[0].replace('_', '-')} needs --repo")
        return None
    source = {
        "url": url,
        "name": name,
        "ref": how.get("ref"),
        "depth": how.get("depth"),
        "timeout_s": how.get("timeout"),
        "credential": read_credential(how.get("credential_file"), how.get("username"), url),
        "known_hosts": read_lines(how.get("known_hosts"), "--known-hosts"),
    }
    return {key: value for key, value in source.items() if value is not None}


def read_exchange(url: str | None, how: ExchangeOptions) -> dict[str, Any]:
    """Return how a pull, push or fetch reaches the URL of a repository, as the methods take it."""
    given = {
        "ref": how.get("ref"),
        "timeout_s": how.get("timeout"),
        "credential": read_credential(how.get("credential_file"), how.get("username"), url or ""),
        "known_hosts": read_lines(how.get("known_hosts"), "--known-hosts"),
    }
    return {key: value for key, value in given.items() if value is not None}


def read_lines(path: str | None, option: str) -> list[str] | None:
    """Return the lines of a file that are neither empty nor a comment, at least one; None without a path."""
    if path is None:
        return None
    return _lines(path, option, "no line")


def _lines(path: str, option: str, nothing: str) -> list[str]:
    """Return the lines that are neither empty nor a comment; refuse a file without any."""
    lines = [line.strip() for line in read_text(path, option).splitlines()]
    kept = [line for line in lines if line and not line.startswith("#")]
    if not kept:
        raise BadArgument(f"{option}: there is {nothing} in {_place(path)}")
    return kept


def _place(path: str) -> str:
    return "standard input" if path == "-" else path
