"""Proxies of the node for commands and clones: from /etc/environment, overridden by a file of CodeSmith's."""

from __future__ import annotations

import re
from typing import Dict

# Both have the same format; the later file overrides the earlier one.
FILES = ("/etc/environment", "/etc/codesmith/environment")
NAMES = ("all_proxy", "ftp_proxy", "http_proxy", "https_proxy", "no_proxy")
BYTES_MAX = 65536


def environment() -> Dict[str, str]:
    """Return the proxy variables of the node, each in lower and in upper case: programs differ in which they read."""
    proxies: Dict[str, str] = {}
    for path in FILES:
        proxies.update(_read(path))
    return {spelling: value for name, value in proxies.items() if value for spelling in (name, name.upper())}


def upstream() -> str:
    """Return the variable that names a proxy of the node for http or https; empty when it has none."""
    return next((name for name in ("https_proxy", "http_proxy", "all_proxy") if environment().get(name)), "")


def _read(path: str) -> Dict[str, str]:
    """Return the proxies in a file of NAME=VALUE lines, parsed as pam_env does; {} if the file is missing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(BYTES_MAX).splitlines()
    except OSError:
        return {}
    pairs = [match.groups() for match in (re.match(r"\s*(?:export\s+)?(\w+)=(.*)", line) for line in lines) if match]
    # Lower case wins where both are set: some programs read no other.
    pairs.sort(key=lambda pair: pair[0].islower())
    return {name.lower(): _unquoted(value) for name, value in pairs if name.lower() in NAMES and value.isprintable()}


def _unquoted(value: str) -> str:
    value = value.strip()
    return value[1:].rstrip(value[0]) if value[:1] in ("'", '"') else value
