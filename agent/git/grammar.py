"""The grammars of what git is given: URLs, refs, depths, credentials, host keys; and the names of what is unfinished.

Nothing here touches the system. Front end and helper both use them: the helper checks again everything that the front
end sends.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional
from urllib.parse import unquote

from agent.shared.errors import InvalidParams
from agent.shared.names import NAME, parse_name

URL_MAX = 2048
REF_MAX = 255
DEPTH_MAX = 1_000_000
SECRET_MAX = 8192
SSH_KEY_MAX = 16384
KNOWN_HOSTS_MAX = 32
# Most forges accept any user name with a token; GitHub requires this one for its app tokens.
NAME_BESIDE_TOKEN = "x-access-token"  # noqa: S105  a name

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])"
_PORT = r"(?::[1-9][0-9]{0,4})?"
_USER = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
_PATH = r"[A-Za-z0-9._~/+@%=,-]*"
# Hosts accept a token in place of the user name. A URL is stored, so a name that looks like a token is refused.
_PLAIN_NAME = r"(?!gh[a-z]_|github_pat_|glpat-|[A-Za-z0-9]{32,}@)"
_HTTPS_USER = rf"{_PLAIN_NAME}[A-Za-z0-9_](?:[A-Za-z0-9._+-]|%40){{0,63}}"
URL = (
    rf"https://(?:{_HTTPS_USER}@)?{_HOST}{_PORT}/{_PATH}"
    rf"|ssh://(?:{_USER}@)?{_HOST}{_PORT}/{_PATH}"
    rf"|{_USER}@[A-Za-z0-9](?:[A-Za-z0-9.-]{{0,251}}[A-Za-z0-9])?:[A-Za-z0-9._~/]{_PATH}"
)
# A file in .git that names the call which created the repository.
MARK = "codesmith"
COMMIT = "[0-9a-f]{40}(?:[0-9a-f]{24})?"
URL_HINT = "https://[USER@]HOST[:PORT]/PATH, ssh://[USER@]HOST[:PORT]/PATH or USER@HOST:PATH, without password or token"
CREDENTIAL_FIELDS = ("agent", "password", "ssh_key", "token", "username")
_REF_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\ud800-\udfff]|\.\.|@\{|//|/\.|\.lock/")
_KNOWN_HOST = r"[!-~][!-~]{0,2000} (?:ssh|ecdsa|sk)-[a-z0-9@.-]{3,60} [A-Za-z0-9+/]{20,4000}={0,2}(?: [ -~]{0,200})?"


def parse_url(value: object) -> str:
    """Return `value` if a clone may use it as a URL: https or ssh, without credentials; InvalidParams otherwise."""
    if not isinstance(value, str) or len(value) > URL_MAX or not re.fullmatch(URL, value):
        raise InvalidParams.of("url", f"must be {URL_HINT}")
    # git's credential protocol consists of lines.
    if re.search("%(?:[01].|7[fF])", value):
        raise InvalidParams.of("url", "must not hold control characters")
    port = re.match(r"[a-z]+://[^/]*:([0-9]+)/", value)
    if port and int(port.group(1)) > 65535:
        raise InvalidParams.of("url", "must have a port below 65536")
    return value


def parse_ref(value: object, field: str = "ref") -> str:
    """Return `value` if it can name a branch or tag by the rules of git check-ref-format, and cannot be an option."""
    if not isinstance(value, str) or not 1 <= len(value) <= REF_MAX:
        raise InvalidParams.of(field, f"must be a branch, a tag or a commit hash, of 1 to {REF_MAX} characters")
    if _REF_FORBIDDEN.search(value) or value.startswith(("-", "/", ".")) or value.endswith(("/", ".", ".lock")):
        raise InvalidParams.of(field, "is not a name that git allows for a branch or tag")
    if value in ("@", "HEAD"):
        raise InvalidParams.of(field, "must be a branch or tag")
    return value


def parse_branch(value: object, field: str) -> str:
    """Return `value` if it can name a branch; a commit hash is refused, because such a branch would hide the commit."""
    branch = parse_ref(value, field)
    if is_commit(branch):
        raise InvalidParams.of(field, "must be a branch, not a commit hash")
    return branch


def is_commit(ref: str) -> bool:
    """Return whether a ref is a whole commit hash; it is then never read as the name of a branch or tag."""
    return bool(re.fullmatch(COMMIT, ref))


def parse_depth(value: object) -> Optional[int]:
    """Return `value` if it is a depth (1 to DEPTH_MAX commits) or None."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= DEPTH_MAX:
        raise InvalidParams.of("depth", f"must be 1 to {DEPTH_MAX}")
    return value


def parse_credential(value: object, url: str) -> Dict[str, str]:
    """Return {username, password} for https, {ssh_key} or {agent} for ssh, {} for None; no error holds the secret."""
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise InvalidParams.of("credential", "must be an object of strings")
    fields = set(value)
    if url.startswith("https:"):
        secret = value.get("password", value.get("token"))
        if secret is None or len(fields & {"password", "token"}) != 1 or fields - {"username", "password", "token"}:
            raise InvalidParams.of("credential", "for https it is {username?, password} or {username?, token}")
        username = value.get("username", user_of(url) or NAME_BESIDE_TOKEN)
        if username != (user_of(url) or username):
            raise InvalidParams.of("credential", "username must be the same as in the URL")
        if not re.fullmatch("[^\x00-\x1f\x7f\ud800-\udfff]{1,256}", username):
            raise InvalidParams.of("credential", "username must be 1 to 256 characters of one line")
        if not re.fullmatch(f"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{SECRET_MAX}}}", secret):
            raise InvalidParams.of("credential", f"the secret must be 1 to {SECRET_MAX} characters of one line")
        return {"username": username, "password": secret}
    if fields == {"agent"}:
        if not re.fullmatch("[0-9a-f]{64}", value["agent"]):
            raise InvalidParams.of("credential", "agent must be the token of a forwarded agent: 64 hexadecimal digits")
        return {"agent": value["agent"]}
    if fields != {"ssh_key"}:
        raise InvalidParams.of("credential", "for ssh it is {ssh_key}, a private key without passphrase, or {agent}")
    key = value["ssh_key"]
    if len(key) > SSH_KEY_MAX or not re.fullmatch(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----\r?\n[\t\r\n -~]+", key):
        raise InvalidParams.of("credential", "ssh_key must be the text of a private key file")
    return {"ssh_key": key.replace("\r", "").rstrip("\n") + "\n"}


def parse_known_hosts(value: object) -> List[str]:
    """Return lines for known_hosts, each a host and its key. Markers such as @cert-authority are refused."""
    if not isinstance(value, list) or len(value) > KNOWN_HOSTS_MAX:
        raise InvalidParams.of("known_hosts", f"must be at most {KNOWN_HOSTS_MAX} lines")
    for index, line in enumerate(value):
        if not isinstance(line, str) or line.startswith(("@", "#")) or not re.fullmatch(_KNOWN_HOST, line):
            raise InvalidParams.of(f"known_hosts[{index}]", "must be `HOST KEYTYPE KEY`, as ssh-keyscan prints it")
    return list(value)


def host_of(url: str) -> str:
    """Return `https://HOST[:PORT]` of an https URL: its credential may only be sent there."""
    return "https://" + url.split("/", 3)[2].rpartition("@")[2]


def user_of(url: str) -> str:
    """Return the user name in an https URL; empty when it has none."""
    return unquote(url.split("/", 3)[2].rpartition("@")[0])


def name_from_url(url: str) -> str:
    """Return the Name made of the last part of a URL; InvalidParams when that is not a Name."""
    last = re.split("[/:]", url.rstrip("/"))[-1]
    name = re.sub(r"\.git$", "", last).lower()
    if not re.fullmatch(NAME, name):
        raise InvalidParams.of("name", "cannot be derived from the URL: give one")
    return name


def parse_token(value: object) -> str:
    """Return `value` if it can be the token of a call that creates a repository: 32 hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch("[0-9a-f]{32}", value):
        raise InvalidParams.of("token", "must be 32 hexadecimal digits")
    return value


def parse_names(value: Any) -> List[str]:
    """Return `value` if it is a list of Names."""
    if not isinstance(value, list) or len(value) > 10_000:
        raise InvalidParams.of("names", "must be a list of names")
    return [parse_name(name, "names") for name in value]


def temporary_name(token: str) -> str:
    """Return the name in code/ that a repository has until it is whole; no Name begins with a full stop."""
    return f".codesmith-{token}"
