"""The proxies of the node, which commands and clones use: what /etc/environment names, and a file of ours before it."""

from __future__ import annotations

import re
from typing import Dict, List
from urllib.parse import unquote

# The same lines in both; the later file counts.
FILES = ("/etc/environment", "/etc/codesmith/environment")
NAMES = ("all_proxy", "ftp_proxy", "http_proxy", "https_proxy", "no_proxy")
BYTES_MAX = 65536


def environment() -> Dict[str, str]:
    """Return the variables of the node's proxies, each in small and in capital letters: programs differ."""
    found: Dict[str, str] = {}
    for path in FILES:
        found.update(_read(path))
    return {spelling: value for name, value in found.items() if value for spelling in (name, name.upper())}


def secrets() -> List[str]:
    """Return what no message may show: the passwords of the proxies, whole and as one is cut where it breaks a URL."""
    found = []
    for value in environment().values():
        password = value.rpartition("@")[0].rpartition("://")[2].partition(":")[2]
        found += [password, unquote(password), *re.split("[/?#@]", password)]
    return [secret for secret in found if secret]


def _read(path: str) -> Dict[str, str]:
    """Return the proxies that a file of NAME=VALUE lines names, as pam_env reads it; {} for one that is not there."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(BYTES_MAX).splitlines()
    except OSError:
        return {}
    pairs = [match.groups() for match in (re.match(r"\s*(?:export\s+)?(\w+)=(.*)", line) for line in lines) if match]
    # Small letters count where both are there: some programs read no others.
    pairs.sort(key=lambda pair: pair[0].islower())
    return {name.lower(): _unquoted(value) for name, value in pairs if name.lower() in NAMES and value.isprintable()}


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:].rstrip(value[0]) if value[:1] in ("'", '"') else value
